"""GGUF models on llama.cpp (xllamacpp): runs everywhere, reads every quantisation, tells top-k log-probabilities.

Prevents an open door: the library always starts an HTTP server. Here it listens on a Unix socket in a folder of
its own user (on Windows: on loopback) and wants a random key, so no other user and no web page can reach it.

API: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, cast

from baimo.core.call import FinishReason, TokenLogprob, Usage
from baimo.core.registry import require
from baimo.errors import BadReply, BaimoError, ProviderError, RateLimited, RequestRefused
from baimo.providers import json_grammar
from baimo.providers.engine import Job, Piece, problem, room

_ERROR = -1  # llama.cpp's log levels below warnings; a library does not talk to the terminal


def version() -> str:
    """Version of the library, without importing it; empty = not installed."""
    try:
        return metadata.version("xllamacpp")
    except metadata.PackageNotFoundError:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCppOptions:
    """How the server is built."""

    threads: int = 0
    """0 = all cores. Threads spin while they wait: on a busy machine fewer are faster."""
    max_batch: int = 4
    """Requests computed together; more was not faster on CPU."""
    max_waiting: int = 4096
    """Most requests in the queue."""
    window: int
    """Tokens of prompt and answer together."""
    adapters: tuple[Path, ...] = ()
    """LoRA in GGUF form that requests may name by place."""


class Step(NamedTuple):
    """One greedy token, for comparisons between engines."""

    token: int
    logprob: float
    top: Mapping[int, float]


class LlamaCppServer:
    """The library's server and the two ways into it. Loading and calls block: use them from threads.

    Args:
        path: GGUF file.
        options: see there.

    Raises:
        MissingExtra: the library is not installed.
        ProviderError: it cannot load the file.
    """

    def __init__(self, path: Path, options: LlamaCppOptions) -> None:
        library = require("xllamacpp", "local", "local.purpose")
        self._folder = tempfile.mkdtemp(prefix="baimo-")  # mode 0700
        self._key = secrets.token_urlsafe(24)
        parameters = library.CommonParams()
        parameters.model.path = str(path)
        parameters.n_parallel = options.max_batch
        parameters.kv_unified = True
        parameters.n_ctx = options.window * min(2, options.max_batch)
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = (
            options.threads or os.cpu_count() or 1
        )
        parameters.verbosity = _ERROR
        parameters.warmup = False
        parameters.ui = False
        parameters.n_threads_http = 1
        parameters.api_keys = [self._key]
        parameters.lora_adapters = [library.CommonAdapterLoraInfo(str(one), 1.0) for one in options.adapters]
        if options.adapters:
            # what it has computed of earlier prompts is found again by their tokens alone, whatever adapter was on:
            # a slot forgets when its adapter changes, this cache beside the slots does not
            parameters.cache_ram_mib = 0
        self._adapters = len(options.adapters)
        self._socket = str(Path(self._folder) / "engine.sock")
        if sys.platform != "win32":
            parameters.hostnames = [self._socket]
        try:
            self._server = library.Server(parameters)
        except RuntimeError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise ProviderError("local.cannot_load", path=path, problem=problem(error)) from error

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self._server.listening_address)

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered prompt, nothing added."""
        body = json.dumps({"content": text, "add_special": False, "parse_special": True})
        connection = self._connection()
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request("POST", "/tokenize", body, headers)
            return list(json.loads(connection.getresponse().read())["tokens"])
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise BadReply("local.engine_failed", problem=error) from error
        finally:
            connection.close()

    def complete(self, body: Mapping[str, Any], receive: Any) -> None:
        """Run one request; `receive` gets every chunk as JSON text and ends the request by returning True.

        An adapter that is loaded counts wherever it is not said how much: `lora` names all of them.
        """
        self._server.handle_completions(json.dumps(body, ensure_ascii=False), receive)

    def strengths(self, adapter: int | None) -> list[dict[str, float]]:
        """The field `lora` of a request: one adapter, or none, and never what another request had."""
        return [{"id": place, "scale": float(place == adapter)} for place in range(self._adapters)]

    def greedy(
        self, prompt: Sequence[int], count: int, alternatives: int = 20, adapter: int | None = None
    ) -> list[Step]:
        """Greedy tokens with log-probabilities of the alternatives, at most `count`.

        The library tells them by the character: where characters are spread over several tokens, only the first
        token is returned, and where that one is no whole character, none.
        """
        answer = self._once(prompt, count, adapter, logprobs=alternatives)
        choice = answer["choices"][0]
        told: Any = choice.get("logprobs")
        tokens: list[Any] = (told and told.get("content")) or []
        made = answer["usage"]["completion_tokens"] - (choice["finish_reason"] == "stop")
        if len(tokens) < made:
            return self.greedy(prompt, 1, alternatives, adapter) if count > 1 else []
        return [
            Step(t["id"], t["logprob"], {o["id"]: o["logprob"] for o in t["top_logprobs"]}) for t in tokens
        ]

    def answered(self, prompt: Sequence[int], count: int, adapter: int | None = None) -> tuple[str, bool]:
        """The greedy text of at most `count` tokens, and whether it ended by itself."""
        choice = self._once(prompt, count, adapter)["choices"][0]
        return str(choice["text"]), choice["finish_reason"] == "stop"

    def _once(self, prompt: Sequence[int], count: int, adapter: int | None, **more: Any) -> dict[str, Any]:
        chunks: list[dict[str, Any]] = []

        def receive(chunk: Any) -> bool:
            chunks.append(_parsed(chunk))
            return False

        body: dict[str, Any] = {"prompt": list(prompt), "temperature": 0, "n_predict": count, **more}
        body |= {"cache_prompt": False, "stream": False, "lora": self.strengths(adapter)}
        self.complete(body, receive)
        if failure := chunks[0].get("error"):
            raise BadReply("local.engine_failed", problem=failure.get("message", failure))
        return chunks[0]

    def close(self) -> None:
        """End the server and its threads."""
        del self._server  # its destructor joins the loop
        shutil.rmtree(self._folder, ignore_errors=True)

    def _connection(self) -> http.client.HTTPConnection:
        if sys.platform == "win32":
            host, _, port = self.address.rpartition("/")[2].partition(":")
            return http.client.HTTPConnection(host, int(port))
        return _UnixConnection(self._socket)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


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
        data = _parsed(chunk)
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


def _parsed(chunk: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", chunk) if isinstance(chunk, dict) else json.loads(chunk)


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
