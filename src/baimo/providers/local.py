"""Models that run in this process: the provider that chooses the engine and keeps what is loaded.

A model is loaded on first use and shared by all providers of the process. OpenVINO answers where it runs (x86-64 on
Linux and Windows); llama.cpp answers elsewhere and whenever log-probabilities of alternatives are wanted. No engine
library is imported before the first answer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import json
import platform
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baimo.core.call import Completion, Delta, JsonFormat, Request, TokenLogprob
from baimo.core.ids import digest
from baimo.core.model import Vendor
from baimo.core.registry import Spec
from baimo.errors import BadReply, ConfigError, ProviderError, RequestRefused, UnknownModel
from baimo.providers import agreement, chat_template, gguf
from baimo.providers.engine import DEFAULT_MAX_TOKENS, DEFAULT_TEMPERATURE, Engine, Job, Piece
from baimo.providers.shelf import SHELF
from baimo.providers.tools import ToolReader
from baimo.settings import ProviderSettings

if TYPE_CHECKING:
    from baimo.providers.tools import Spoken

ENGINES = ("openvino", "llamacpp")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """[providers.NAME.options] of protocol `local`."""

    engine: str = "auto"
    """openvino, llamacpp, or auto: openvino where it runs, llamacpp for the rest."""
    precision: str = "bf16"
    """Of OpenVINO's computation: bf16, f16 or f32 (half the speed, for comparisons with training)."""
    weights_format: str = "f16"
    """What OpenVINO's copy of the weights is kept in: f16 or q8_0 (half the memory, slightly other answers)."""
    threads: int = 0
    """0 = all cores."""
    max_batch: int = 0
    """Requests computed together; 0 = 64 on openvino, 4 on llamacpp."""
    max_waiting: int = 4096
    """Requests that may wait for a slot; more are turned away with RateLimited."""
    context: int = 8192
    """Tokens of prompt and answer together, at most what the model was made for."""
    cache_gib: int = 0
    """OpenVINO's KV cache; 0 = by model and context, 1 to 8."""
    cache: str = ""
    """Folder of converted weights; empty = `.converted` beside the model, or the user's cache."""

    def __post_init__(self) -> None:
        allowed = {
            "engine": ("auto", *ENGINES),
            "precision": ("bf16", "f16", "f32"),
            "weights_format": ("f16", "q8_0"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ConfigError(
                    "local.bad_value", option=name, value=getattr(self, name), allowed=", ".join(values)
                )

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> LocalOptions:
        """Options as configured.

        Raises:
            ConfigError: an unknown name or an ill-typed value.
        """
        known: dict[str, type[Any]] = {entry.name: type(entry.default) for entry in dataclasses.fields(cls)}
        for name, value in options.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise ConfigError("local.unknown_option", option=name, near=", ".join(near or known))
            if type(value) is not known[name] or (isinstance(value, int) and value < 0):
                raise ConfigError("local.bad_value", option=name, value=value, allowed=known[name].__name__)
        return cls(**options)

    @property
    def preferred(self) -> str:
        """The engine for ordinary requests on this machine."""
        if self.engine != "auto":
            return self.engine
        x86 = platform.machine().lower() in ("x86_64", "amd64")
        return "openvino" if x86 and sys.platform in ("linux", "win32") else "llamacpp"


class LocalProvider:
    """Models of this process as a `Provider`.

    Args:
        vendor: of the catalogue.
        settings: its options are `LocalOptions`.
        weights: GGUF file of a pulled model, by the model's upstream name.

    Raises:
        ConfigError: an option that does not exist or has a bad value.
    """

    def __init__(
        self, vendor: Vendor, settings: ProviderSettings, *, weights: Callable[[str], Path] | None = None
    ) -> None:
        self._vendor = vendor
        self._options = LocalOptions.read(settings.options)
        self._weights = weights
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="baimo-load")
        self._loaded: dict[tuple[str, bool], _Loaded] = {}
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
        path = self._path(model)
        spec = self._spec(self._chosen(gguf.read(path), logprobs=False))
        return dataclasses.replace(spec, args={**spec.args, "file": gguf.file_hash(path)})

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
        loaded = await self._model(request)
        began = time.perf_counter()  # loading is not part of the answer's latency
        reader = ToolReader(request)
        logprobs: list[TokenLogprob] = []
        last = Piece()
        spoken: list[Spoken] = []
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
        loaded = await self._model(request)
        reader = ToolReader(request)
        called = False
        shown: list[str] = []
        async with aclosing(loaded.engine.generate(loaded.job(request, stream=True))) as pieces:
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
        loaded = await self._model(request)
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
        await self._model(Request(model=model, messages=()))

    async def aclose(self) -> None:
        """See `Provider.aclose`; a model that another provider uses stays loaded."""
        self._closed = True
        loaded, self._loaded = self._loaded, {}
        for model in loaded.values():
            await asyncio.get_running_loop().run_in_executor(self._loader, SHELF.give_back, model.key)
        self._loader.shutdown(wait=False)

    async def _model(self, request: Request) -> _Loaded:
        key = (request.model, request.top_logprobs is not None)
        if self._closed:
            raise ProviderError("local.closed")
        if (
            key not in self._loaded
        ):  # the loader is one thread: the second caller finds it loaded by the first
            await asyncio.get_running_loop().run_in_executor(self._loader, self._load, *key)
        return self._loaded[key]

    def _load(self, model: str, logprobs: bool) -> None:
        if (model, logprobs) in self._loaded:
            return
        path = self._path(model)
        file = gguf.read(path)
        engine = self._chosen(file, logprobs)
        key = digest([str(path), gguf.file_hash(path), engine, dataclasses.asdict(self._options)])
        loaded = SHELF.take(key, lambda: _engine(file, engine, self._options))
        self._loaded[model, logprobs] = _Loaded(key=key, file=file, engine=loaded)

    def _chosen(self, file: gguf.GgufFile, logprobs: bool) -> str:
        """The engine for a model; only `auto` leaves a choice."""
        from baimo.providers import openvino

        if self._options.engine == "auto" and (logprobs or file.architecture not in openvino.ARCHITECTURES):
            return "llamacpp"
        return self._options.preferred

    def _path(self, model: str) -> Path:
        if self._weights is None:
            raise UnknownModel("local.no_weights", model=model)
        return self._weights(model)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    key: str
    file: gguf.GgufFile
    engine: Engine

    def job(self, request: Request, *, stream: bool) -> Job:
        sampling = request.sampling
        special = {f"{role}_token": self.file.token(role) for role in ("bos", "eos", "unknown", "padding")}
        prompt = chat_template.rendered(
            self.file.chat_template,
            request.messages,
            tools=() if request.tool_choice == "none" else request.tools,
            special=special,
            variables=(request.extra or {}).get("chat_template_kwargs"),
        )
        return Job(
            prompt=prompt,
            max_tokens=DEFAULT_MAX_TOKENS if sampling.max_tokens is None else sampling.max_tokens,
            temperature=DEFAULT_TEMPERATURE if sampling.temperature is None else sampling.temperature,
            top_p=1.0 if sampling.top_p is None else sampling.top_p,
            seed=sampling.seed,
            stop=sampling.stop,
            schema=_schema(request.response_format),
            top_logprobs=request.top_logprobs,
            stream=stream,
        )


def _engine(file: gguf.GgufFile, engine: str, options: LocalOptions) -> Engine:
    from baimo.providers import llamacpp, openvino

    window = min(options.context, file.context_window or options.context)
    if engine == "llamacpp":
        return llamacpp.LlamaCppEngine(
            file.path,
            llamacpp.LlamaCppOptions(
                threads=options.threads,
                max_batch=options.max_batch or 4,
                max_waiting=options.max_waiting,
                window=window,
            ),
        )
    built = openvino.OpenVinoOptions(
        precision=options.precision,  # pyright: ignore[reportArgumentType]
        threads=options.threads,
        max_batch=options.max_batch or 64,
        max_waiting=options.max_waiting,
        window=window,
        cache_gib=options.cache_gib,
    )
    folder = Path(options.cache).expanduser() if options.cache else None
    copy = gguf.converted(file.path, options.weights_format, cache=folder)  # pyright: ignore[reportArgumentType]
    record = agreement_record(file.path, copy, built.precision, folder)
    agreement.ensured(record, lambda: _measured(file.path, copy, built), source=file.path)
    return openvino.OpenVinoEngine(copy, built)


def agreement_record(source: Path, copy: Path, precision: str, cache: Path | None) -> Path:
    """Where the agreement of a copy with its source is kept."""
    from baimo.providers import openvino

    folder = copy.parent if copy != source else cache or gguf.user_cache() / "converted"
    folder.mkdir(parents=True, exist_ok=True)
    stem = copy.stem if copy != source else gguf.file_hash(source)[:32]
    return folder / f"{stem}-openvino-{openvino.version()}-{precision}.json"


def _measured(source: Path, copy: Path, options: Any) -> agreement.Agreement:
    from baimo.providers import llamacpp, openvino

    small = dataclasses.replace(options, window=512, cache_gib=1, max_batch=1)
    candidate = openvino.OpenVinoPipeline(copy, small)
    reference = llamacpp.LlamaCppServer(
        source, llamacpp.LlamaCppOptions(threads=options.threads or 1, max_batch=1, window=512)
    )
    try:
        return agreement.compared(reference, candidate)
    finally:
        reference.close()


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
