"""GGUF models on llama.cpp: runs everywhere, reads every quantisation, tells top-k log-probabilities."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from baimo.core.call import FinishReason, TokenLogprob, Usage
from baimo.errors import BadReply, BaimoError, ProviderError, RateLimited, RequestRefused
from baimo.providers import json_grammar
from baimo.providers.engine import Job, Piece, problem, room
from baimo.providers.llamacpp_server import LlamaCppOptions, LlamaCppServer, parsed, version


class LlamaCppEngine:
    """One model on llama.cpp.

    Args:
        path: GGUF file in any quantisation.
        options: see there.
    """

    def __init__(self, path: Path, options: LlamaCppOptions) -> None:
        self._options = options
        self._server = LlamaCppServer(path, options)
        self._workers = ThreadPoolExecutor(options.max_batch, thread_name_prefix="baimo-llamacpp")
        self._count = threading.Lock()
        self._inside = 0
        self._closed = False

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `Engine.facts`."""
        return {"engine": "llamacpp", "version": version()}

    @property
    def running(self) -> int:
        """Requests waiting or being computed."""
        return self._inside

    @property
    def address(self) -> str:
        """Where the library's server listens."""
        return self._server.address

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """See `Engine.generate`.

        Raises:
            RequestRefused: the prompt fills the window, or the schema cannot be enforced.
            RateLimited: the queue is full.
            ProviderError: the engine failed or was closed.
        """
        self._enter()
        call = _Call(job, asyncio.get_running_loop(), self._server, self._options.window)
        try:
            self._workers.submit(self._work, call)
        except RuntimeError as error:
            self._leave()
            raise ProviderError("local.closed") from error
        try:
            while True:
                item = await call.inbox.get()
                if isinstance(item, BaimoError):
                    raise item
                yield item
                if item.finish_reason is not None:
                    return
        finally:
            call.cancelled = True

    def count(self, text: str) -> int:
        """See `Engine.count`."""
        return len(self._server.encode(text))

    def close(self) -> None:
        """See `Engine.close`."""
        with self._count:
            if self._closed:
                return
            self._closed = True
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._server.close()

    def _work(self, call: _Call) -> None:
        try:
            if self._closed:
                raise ProviderError("local.closed")
            if not call.cancelled:
                call.run()
        except BaimoError as error:
            call.send(error)
        except Exception as error:
            call.send(BadReply("local.engine_failed", problem=problem(error)))
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._count:
            if self._closed:
                raise ProviderError("local.closed")
            if self._inside >= self._options.max_waiting + self._options.max_batch:
                raise RateLimited("local.queue_full", waiting=self._inside)
            self._inside += 1

    def _leave(self) -> None:
        with self._count:
            self._inside -= 1


class _Call:
    """One request on a worker thread, its pieces going to the caller's event loop."""

    def __init__(
        self, job: Job, loop: asyncio.AbstractEventLoop, server: LlamaCppServer, window: int
    ) -> None:
        self.job = job
        self.loop = loop
        self.inbox: asyncio.Queue[Piece | BaimoError] = asyncio.Queue()
        self.cancelled = False
        self._server = server
        self._window = window
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._done = False

    def send(self, item: Piece | BaimoError) -> None:
        if not self.cancelled and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.inbox.put_nowait, item)

    def run(self) -> None:
        prompt = self._server.encode(self.job.prompt)
        body = _body(self.job, prompt, room(self.job, len(prompt), self._window))
        body["lora"] = self._server.strengths(self.job.adapter)
        self._server.complete(body, self._receive)
        if not self._done and not self.cancelled:
            raise BadReply("local.engine_failed", problem="end of stream")

    def _receive(self, chunk: Any) -> bool:
        """Returns True to end the request: the caller is gone."""
        if self.cancelled or self._done:
            return True
        data = parsed(chunk)
        if "error" in data:
            self._done = True
            self.send(_refusal(data["error"]))
            return True
        choice: dict[str, Any] = data["choices"][0] if data.get("choices") else {}
        self._text.append(choice.get("text") or "")
        self._logprobs += _logprobs(choice, self.job.top_logprobs)
        reason = cast("FinishReason | None", choice.get("finish_reason"))
        if reason is not None:
            self._done = True
            self.send(self._piece(reason, _usage(data)))
        elif self.job.stream and (self._text[-1] or self._logprobs):
            self.send(self._piece(None, None))
        return False

    def _piece(self, reason: FinishReason | None, usage: Usage | None) -> Piece:
        piece = Piece(
            text="".join(self._text), finish_reason=reason, usage=usage, logprobs=tuple(self._logprobs)
        )
        self._text, self._logprobs = [], []
        return piece


def _body(job: Job, prompt: list[int], max_tokens: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prompt": prompt,
        "n_predict": max_tokens,
        "temperature": job.temperature,
        "top_p": job.top_p,
        "top_k": 0,  # the library's own defaults would cut the distribution further
        "min_p": 0.0,
        "seed": secrets.randbits(31) if job.seed is None else job.seed % (1 << 31),
        "stop": list(job.stop),
        "cache_prompt": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if job.schema is not None:
        compact = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        body["json_schema"] = {**json_grammar.closed(json.loads(job.schema)), "x-guidance": compact}
    if job.top_logprobs is not None:
        body["logprobs"] = max(1, job.top_logprobs)
    return body


def _usage(data: Mapping[str, Any]) -> Usage:
    usage: dict[str, Any] = data.get("usage") or {}
    details: dict[str, Any] = usage.get("prompt_tokens_details") or {}
    return Usage(
        tokens_in=usage.get("prompt_tokens"),
        tokens_out=usage.get("completion_tokens"),
        tokens_cached=details.get("cached_tokens"),
    )


def _logprobs(choice: Mapping[str, Any], wanted: int | None) -> list[TokenLogprob]:
    if wanted is None or not choice.get("logprobs"):
        return []
    return [
        TokenLogprob(
            token=token["token"],
            logprob=token["logprob"],
            top=tuple((other["token"], other["logprob"]) for other in token["top_logprobs"][:wanted]),
        )
        for token in choice["logprobs"]["content"]
    ]


def _refusal(error: Mapping[str, Any]) -> ProviderError:
    said = str(error.get("message", error)).splitlines()[0]
    if error.get("code") == 400:
        return RequestRefused("local.refused", problem=said)
    return BadReply("local.engine_failed", problem=said)
