"""Models that run in this process: the provider that chooses the engine and keeps what is loaded.

A model is loaded on first use and shared by all providers of the process. OpenVINO answers where it runs (x86-64 on
Linux and Windows); llama.cpp answers elsewhere and whenever log-probabilities of alternatives are wanted. No engine
library is imported before the first answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from baimo.core.call import Completion, Delta, JsonFormat, Request, TokenLogprob
from baimo.core.ids import digest
from baimo.core.model import Vendor
from baimo.core.registry import Spec
from baimo.errors import BadReply, ProviderError, RequestRefused, UnknownModel
from baimo.providers import chat_template, gguf
from baimo.providers.engine import DEFAULT_MAX_TOKENS, DEFAULT_TEMPERATURE, Engine, Job, Piece
from baimo.providers.loading import engine_of
from baimo.providers.local_options import LocalOptions
from baimo.providers.shelf import SHELF
from baimo.providers.tools import ToolReader
from baimo.providers.weights import Located, Weights, weights_of
from baimo.settings import ProviderSettings

if TYPE_CHECKING:
    from baimo.providers.tools import Spoken


class LocalProvider:
    """Models of this process as a `Provider`.

    Args:
        vendor: of the catalogue.
        settings: its options are `LocalOptions`.
        weights: by the model's upstream name: the GGUF file of a pulled model, or what was tuned.

    Raises:
        ConfigError: an option that does not exist or has a bad value.
    """

    def __init__(self, vendor: Vendor, settings: ProviderSettings, *, weights: Located | None = None) -> None:
        self._vendor = vendor
        self._options = LocalOptions.read(settings.options)
        self._weights = weights
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="baimo-load")
        self._loaded: dict[tuple[str, bool], _Loaded] = {}
        self._lock = threading.RLock()
        self._closed = False

    @property
    def spec(self) -> Spec:
        """The preferred engine, its version and precision; `spec_of` tells them for one model, with its file."""
        return self._spec(self._options.preferred)

    def spec_of(self, model: str) -> Spec:
        """What answers for a model: engine, version, precision and the SHA-256 of the file; may take a second.

        Raises:
            UnknownModel, PullError: as `weights` does.
            ProviderError: the file cannot be read.
        """
        weights = self._found(model)
        spec = self._spec(self._chosen(gguf.read(weights.path), weights, logprobs=False))
        args = {**spec.args, "file": gguf.file_hash(weights.path)}
        if weights.adapter is not None:
            args["adapter"] = gguf.file_hash(weights.adapter)
        if weights.put_hash:
            args["prompt"] = weights.put_hash
        return dataclasses.replace(spec, args=args)

    def _spec(self, engine: str) -> Spec:
        from baimo.providers import llamacpp, openvino

        options = self._options
        args: dict[str, Any] = {"vendor": self._vendor.name, "engine": engine, "context": options.context}
        if engine == "openvino":
            args |= {"precision": options.precision, "weights_format": options.weights_format}
        version = openvino.version() if engine == "openvino" else llamacpp.version()
        return Spec(name="local", args=args, version=f"{engine} {version}, conversion {gguf.CONVERTER}")

    async def complete(self, request: Request) -> Completion:
        """See `Provider.complete`.

        Raises:
            RequestRefused: too long, not text, or something that the engine cannot do.
            RateLimited: too many requests wait.
            ProviderError: the model cannot be loaded, or the engine failed.
        """
        reader = ToolReader(request)
        logprobs: list[TokenLogprob] = []
        last = Piece()
        spoken: list[Spoken] = []
        async with self._using(request) as loaded:
            began = time.perf_counter()  # loading is not part of the answer's latency
            async with aclosing(loaded.engine.generate(loaded.job(request, stream=False))) as pieces:
                async for last in pieces:
                    spoken.append(reader.feed(last.text))
                    logprobs += last.logprobs
        spoken.append(reader.rest())
        text = "".join(part.text for part in spoken)
        calls = tuple(call for part in spoken for call in part.calls)
        _check_form(request, text, last)
        return Completion(
            text=text,
            tool_calls=calls,
            finish_reason="tool_calls" if calls else last.finish_reason or "unknown",
            usage=last.usage or Completion(text="").usage,
            model=request.model,
            logprobs=tuple(logprobs) if request.top_logprobs is not None else None,
            latency_ms=(time.perf_counter() - began) * 1000,
        )

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        """See `Provider.stream`; raises as `complete` does."""
        reader = ToolReader(request)
        called = False
        shown: list[str] = []
        async with (
            self._using(request) as loaded,
            aclosing(loaded.engine.generate(loaded.job(request, stream=True))) as pieces,
        ):
            async for piece in pieces:
                spoken = reader.feed(piece.text)
                if piece.finish_reason is not None:
                    spoken = spoken.joined(reader.rest())
                shown.append(spoken.text)
                called = called or bool(spoken.calls)
                if piece.finish_reason is not None:
                    _check_form(request, "".join(shown), piece)
                    reason = "tool_calls" if called else piece.finish_reason
                    yield Delta(
                        text=spoken.text, tool_calls=spoken.calls, finish_reason=reason, usage=piece.usage
                    )
                elif spoken.text or spoken.calls:
                    yield Delta(text=spoken.text, tool_calls=spoken.calls)

    async def count_tokens(self, request: Request) -> int:
        """Prompt tokens of a request, by the model's own chat template and tokenizer.

        Raises:
            UnknownModel, PullError, RequestRefused, ProviderError: as `complete` does.
        """
        async with self._using(request) as loaded:
            return await asyncio.to_thread(loaded.engine.count, loaded.job(request, stream=False).prompt)

    def counted(self, model: str, text: str) -> int | None:
        """Tokens of a text, nothing added; None where the model is not loaded. Blocks for milliseconds.

        Raises:
            ProviderError: the engine failed.
        """
        loaded = self._loaded.get((model, False)) or self._loaded.get((model, True))
        return None if loaded is None else loaded.engine.count(text)

    async def load(self, model: str) -> None:
        """Have a model ready before somebody waits for it.

        Raises:
            UnknownModel, PullError, ProviderError: as `complete` does.
        """
        await self._ensured(model, logprobs=False)

    def forget(self, gone: Callable[[str], bool]) -> None:
        """Let go of tuned models that are not served any more; who is being answered is answered to the end."""
        with self._lock:
            for key, loaded in list(self._loaded.items()):
                if loaded.weights.tuned and gone(key[0]):
                    self._retire(key)

    async def aclose(self) -> None:
        """See `Provider.aclose`; a model that another provider uses stays loaded."""
        self._closed = True
        loaded, self._loaded = self._loaded, {}
        for model in loaded.values():
            await asyncio.get_running_loop().run_in_executor(self._loader, SHELF.give_back, model.key)
        self._loader.shutdown(wait=False)

    async def _ensured(self, model: str, *, logprobs: bool) -> None:
        if self._closed:
            raise ProviderError("local.closed")
        # the loader is one thread: the second caller finds it loaded by the first
        await asyncio.get_running_loop().run_in_executor(self._loader, self._load, model, logprobs)

    @asynccontextmanager
    async def _using(self, request: Request) -> AsyncGenerator[_Loaded]:
        """The model of a request, which stays loaded meanwhile."""
        key = (request.model, request.top_logprobs is not None)
        while (loaded := self._taken(key)) is None:
            await self._ensured(key[0], logprobs=key[1])
        try:
            yield loaded
        finally:
            with self._lock:
                loaded.users -= 1
                if loaded.retired and not loaded.users:
                    self._give_back(loaded)

    def _taken(self, key: tuple[str, bool]) -> _Loaded | None:
        with self._lock:  # the loader retires what nobody uses
            if self._closed:
                raise ProviderError("local.closed")
            loaded = self._loaded.get(key)
            if loaded is not None:
                loaded.users += 1
                loaded.used_at = time.monotonic()
            return loaded

    def _load(self, model: str, logprobs: bool) -> None:
        if (model, logprobs) in self._loaded:
            return
        weights = self._found(model)
        file = gguf.read(weights.path)
        engine = self._chosen(file, weights, logprobs)
        facts = [str(weights.path), gguf.file_hash(weights.path), engine, dataclasses.asdict(self._options)]
        key = digest([*facts, *(gguf.file_hash(one) for one in weights.beside)])
        loaded = SHELF.take(
            key, lambda: engine_of(file, engine, self._options, weights.beside, judged=weights.tuned)
        )
        with self._lock:
            mine = self._loaded[model, logprobs] = _Loaded(
                key=key, file=file, weights=weights, engine=loaded, used_at=time.monotonic()
            )
            if weights.tuned:
                self._make_room(mine)

    def _make_room(self, newest: _Loaded) -> None:
        """One engine for all adapters of a base, and not more tuned models than there may be."""
        tuned = sorted((one.used_at, key) for key, one in self._loaded.items() if one.weights.tuned)
        surplus = len(tuned) - self._options.most_tuned
        for _, key in tuned:
            loaded = self._loaded[key]
            outdated = loaded.weights.beside and loaded.weights.path == newest.weights.path
            if outdated and loaded.key != newest.key:
                self._retire(key)
            elif surplus > 0 and loaded is not newest and not loaded.users:
                surplus -= 1
                self._retire(key)

    def _retire(self, key: tuple[str, bool]) -> None:
        loaded = self._loaded.pop(key)
        loaded.retired = True
        if not loaded.users:
            self._give_back(loaded)

    def _give_back(self, loaded: _Loaded) -> None:
        with contextlib.suppress(RuntimeError):  # the provider is closed, and its engines with it
            self._loader.submit(SHELF.give_back, loaded.key)

    def _chosen(self, file: gguf.GgufFile, weights: Weights, logprobs: bool) -> str:
        """The engine for a model; only `auto` leaves a choice."""
        from baimo.providers import openvino

        if weights.adapter is not None:
            return "llamacpp"
        if self._options.engine == "auto" and (logprobs or file.architecture not in openvino.ARCHITECTURES):
            return "llamacpp"
        return self._options.preferred

    def _found(self, model: str) -> Weights:
        if self._weights is None:
            raise UnknownModel("local.no_weights", model=model)
        return weights_of(self._weights(model))


@dataclass(slots=True, kw_only=True)
class _Loaded:
    key: str
    file: gguf.GgufFile
    weights: Weights
    engine: Engine
    users: int = 0
    used_at: float = 0.0
    retired: bool = False

    def job(self, request: Request, *, stream: bool) -> Job:
        if self.weights.put is not None:
            request = self.weights.put(request)
        sampling, adapter = request.sampling, self.weights.adapter
        return Job(
            prompt=prompt_of(self.file, self.weights, request),
            max_tokens=DEFAULT_MAX_TOKENS if sampling.max_tokens is None else sampling.max_tokens,
            temperature=DEFAULT_TEMPERATURE if sampling.temperature is None else sampling.temperature,
            top_p=1.0 if sampling.top_p is None else sampling.top_p,
            seed=sampling.seed,
            stop=sampling.stop,
            schema=_schema(request.response_format),
            top_logprobs=request.top_logprobs,
            adapter=None if adapter is None else self.weights.beside.index(adapter),
            stream=stream,
        )


def prompt_of(file: gguf.GgufFile, weights: Weights, request: Request) -> str:
    """What a model is given for a request.

    Raises:
        RequestRefused: see `chat_template.rendered`.
    """
    return chat_template.rendered(
        weights.template or file.chat_template,
        request.messages,
        tools=() if request.tool_choice == "none" else request.tools,
        special={f"{role}_token": file.token(role) for role in ("bos", "eos", "unknown", "padding")},
        variables=(request.extra or {}).get("chat_template_kwargs"),
    )


def _schema(form: JsonFormat | None) -> str | None:
    """JSON Schema as text, checked: an engine takes some malformed schemas for "anything goes".

    Raises:
        RequestRefused: it is no JSON Schema.
    """
    if form is None:
        return None
    from jsonschema import Draft202012Validator, SchemaError

    schema = dict(form.schema or {"type": "object"})
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise RequestRefused("local.schema", problem=error.message) from error
    return json.dumps(schema, ensure_ascii=False)


def _check_form(request: Request, text: str, last: Piece) -> None:
    """A complete answer satisfies the schema, whatever the engine made of it.

    Raises:
        BadReply: it does not; an answer cut by max_tokens is not checked, its finish_reason says so.
    """
    form = request.response_format
    if form is None or last.finish_reason != "stop" or request.sampling.stop:
        return
    from jsonschema import Draft202012Validator, ValidationError

    try:
        Draft202012Validator(dict(form.schema or {"type": "object"})).validate(json.loads(text))
    except (ValueError, ValidationError) as error:
        raise BadReply("local.schema_broken", problem=str(error).splitlines()[0]) from error
