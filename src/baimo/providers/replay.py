"""Recorded replies: a past comparison can be checked, and a live one written down, without asking anybody again.

A recording is a file of JSON lines, also gzipped (`options.file`). A row names a model, one of three keys, and a reply:

    {"model": "m", "id": "ex-1", "reply": "…"}             by example: the caller passes Request.extra["example"]
    {"model": "m", "prompt": "…", "reply": "…"}            by the text of the last user message
    {"model": "m", "request_hash": "…", "reply": "…"}      by everything that determines an answer, see `request_hash`

Optional: finish_reason, refused, stop_sequence, reasoning, tool_calls, usage {tokens_in, tokens_out, tokens_cached,
tokens_reasoning}, latency_ms, model_used, logprobs. The exact key wins over the example, the example over the prompt;
of two rows with one key the later one holds. What was not recorded is unknown, not 0; an unrecorded request is refused.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import hashlib
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import msgspec

from baimo.core.call import Completion, Delta, FinishReason, Provider, Request, TokenLogprob, Usage
from baimo.core.ids import digest, plain
from baimo.core.message import ToolCall
from baimo.core.model import Vendor
from baimo.core.registry import Spec
from baimo.errors import ConfigError, RequestRefused
from baimo.providers.fake import last_user_text
from baimo.providers.paced import as_delta, gathered
from baimo.providers.weights import Located
from baimo.settings import ProviderSettings
from baimo.typed import json_decoder


class Row(msgspec.Struct, omit_defaults=True):
    """One recorded reply."""

    model: str
    reply: str
    id: str = ""
    prompt: str | None = None
    request_hash: str = ""
    finish_reason: FinishReason = "unknown"
    refused: bool = False
    stop_sequence: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] = []
    usage: Usage | None = None
    latency_ms: float | None = None
    model_used: str = ""
    logprobs: list[TokenLogprob] | None = None
    adapted: list[str] = []

    def keys(self) -> list[tuple[str, str, str]]:
        """(kind, model, key) under which the row is found."""
        named = {"hash": self.request_hash, "example": self.id, "prompt": self.prompt or ""}
        return [(kind, self.model, key) for kind, key in named.items() if key]

    def completion(self) -> Completion:
        """The reply as it was."""
        return Completion(
            text=self.reply,
            tool_calls=tuple(self.tool_calls),
            finish_reason=self.finish_reason,
            refused=self.refused,
            stop_sequence=self.stop_sequence,
            usage=self.usage or Usage(),
            model=self.model_used or self.model,
            logprobs=None if self.logprobs is None else tuple(self.logprobs),
            reasoning=self.reasoning,
            latency_ms=self.latency_ms,
            adapted=tuple(self.adapted),
        )


class Recording(NamedTuple):
    """A file, read."""

    sha256: str
    rows: dict[tuple[str, str, str], Row]


class ReplayProvider:
    """Implements `Provider` from a recording."""

    def __init__(self, vendor: Vendor, settings: ProviderSettings, *, weights: Located | None = None) -> None:
        del weights
        for name in sorted(settings.options.keys() - {"file"}):
            raise ConfigError("providers.unknown_option", provider=vendor.name, option=name, known="file")
        if not settings.options.get("file"):
            raise ConfigError("providers.no_file", provider=vendor.name)
        self.vendor = vendor
        self.path = Path(str(settings.options["file"])).expanduser()
        if not self.path.is_file():
            raise ConfigError("providers.missing_file", provider=vendor.name, path=self.path)
        self._recording: Recording | None = None
        self._reading = asyncio.Lock()

    @property
    def spec(self) -> Spec:
        """Names the file and its content, so that another recording is another provider."""
        sha256 = self._recording.sha256 if self._recording else _sha256(self.path)
        arguments = {"vendor": self.vendor.name, "file": str(self.path), "sha256": sha256}
        return Spec(name="replay", args=arguments, version="1")

    async def complete(self, request: Request) -> Completion:
        """The recorded reply; RequestRefused when there is none."""
        async with self._reading:
            if self._recording is None:
                self._recording = await asyncio.to_thread(read, self.path)
        rows = self._recording.rows
        example = str((request.extra or {}).get("example", ""))
        wanted = (("hash", request_hash(request)), ("example", example), ("prompt", last_user_text(request)))
        for kind, key in wanted:
            if key and (row := rows.get((kind, request.model, key))) is not None:
                return row.completion()
        shown = example or last_user_text(request)[:80]
        raise RequestRefused("providers.no_recording", path=self.path, model=request.model, wanted=shown)

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """The recorded reply in one piece."""
        yield as_delta(await self.complete(request))

    async def aclose(self) -> None:
        """Forget the recording."""
        self._recording = None


class Recorder:
    """A Provider that writes down what another one answers, in a file that `replay` reads.

    A row is on its way to the disk before the answer is handed on, so that a killed run loses nothing that it saw.
    """

    def __init__(self, provider: Provider, path: Path) -> None:
        self._provider = provider
        self._file = gzip.GzipFile(path, "ab") if path.suffix == ".gz" else path.open("ab")

    @property
    def spec(self) -> Spec:
        """That of the provider behind it: recording changes no answer."""
        return self._provider.spec

    async def complete(self, request: Request) -> Completion:
        """Answer and write down."""
        completion = await self._provider.complete(request)
        self._write(request, completion)
        return completion

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Answer piece by piece; written down when it was received to the end."""
        pieces: list[Delta] = []
        async with aclosing(_generator(self._provider, request)) as deltas:
            async for delta in deltas:
                pieces.append(delta)
                yield delta
        self._write(request, await gathered(_again(pieces)))

    async def aclose(self) -> None:
        """Close the file and the provider behind it."""
        self._file.close()
        await self._provider.aclose()

    def _write(self, request: Request, completion: Completion) -> None:
        row = Row(
            model=request.model,
            reply=completion.text,
            id=str((request.extra or {}).get("example", "")),
            request_hash=request_hash(request),
            finish_reason=completion.finish_reason,
            refused=completion.refused,
            stop_sequence=completion.stop_sequence,
            reasoning=completion.reasoning,
            tool_calls=list(completion.tool_calls),
            usage=None if completion.usage == Usage() else completion.usage,
            latency_ms=completion.latency_ms,
            model_used=completion.model,
            logprobs=None if completion.logprobs is None else list(completion.logprobs),
            adapted=list(completion.adapted),
        )
        self._file.write(msgspec.json.encode(row) + b"\n")
        self._file.flush()


def request_hash(request: Request) -> str:
    """Digest of everything that determines an answer; the example that it belongs to does not."""
    extra = {name: value for name, value in (request.extra or {}).items() if name != "example"}
    return digest(plain(dataclasses.replace(request, extra=extra or None)))


def read(path: Path) -> Recording:
    """A recording.

    Raises:
        ConfigError: a line is no row; names file and line. A last line that broke off is left out.
    """
    rows: dict[tuple[str, str, str], Row] = {}
    decode = json_decoder(Row)
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if not line.endswith(b"\n"):
                break  # whoever wrote it was killed in the middle of the line
            raise ConfigError("providers.bad_row", path=path, line=number, problem=error) from error
        if not row.keys():
            raise ConfigError("providers.row_without_key", path=path, line=number)
        rows.update(dict.fromkeys(row.keys(), row))
    return Recording(_sha256(path), rows)


def _lines(path: Path) -> Iterator[bytes]:
    """Lines with their ends; a gzip stream that broke off ends where it can no longer be read."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        try:
            yield from file
        except (EOFError, zlib.error):
            return


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _generator(provider: Provider, request: Request) -> AsyncGenerator[Delta, None]:
    """Any provider's stream as a generator that can be closed."""
    async for delta in provider.stream(request):
        yield delta


async def _again(pieces: list[Delta]) -> AsyncGenerator[Delta, None]:
    for piece in pieces:
        yield piece
