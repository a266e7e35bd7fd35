"""llama.cpp's own server in this process (xllamacpp), and the ways into it.

Prevents an open door: the library always starts an HTTP server. Here it listens on a Unix socket in a folder of
its own user (on Windows: on loopback) and wants a random key, so no other user and no web page can reach it.

API: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, cast

from baimo.core.registry import require
from baimo.errors import BadReply, ProviderError
from baimo.providers.engine import problem

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
        # answered by its loop: a server that is ended before its loop has begun never ends
        self._asked("GET", "/slots")

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self._server.listening_address)

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered prompt, nothing added."""
        body = json.dumps({"content": text, "add_special": False, "parse_special": True})
        answer = self._asked("POST", "/tokenize", body)
        try:
            return list(answer["tokens"])
        except (KeyError, TypeError) as error:
            raise BadReply("local.engine_failed", problem=answer) from error

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
            chunks.append(parsed(chunk))
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

    def _asked(self, method: str, path: str, body: str | None = None) -> Any:
        connection = self._connection()
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise BadReply("local.engine_failed", problem=error) from error
        finally:
            connection.close()

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


def parsed(chunk: Any) -> dict[str, Any]:
    """A chunk as `complete` gives it out."""
    return cast("dict[str, Any]", chunk) if isinstance(chunk, dict) else json.loads(chunk)
