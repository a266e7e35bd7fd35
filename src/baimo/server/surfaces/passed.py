"""Surfaces that only servers of OpenAI's format offer: bytes pass through, nothing is translated."""

from __future__ import annotations

from collections.abc import Sequence

from baimo.core.call import Completion, Request, Usage
from baimo.errors import BaimoError, NotSupported
from baimo.gateway.surface import Events, Peek, Seen, Watch
from baimo.providers.faults import error_message
from baimo.server.surfaces import openai_errors
from baimo.server.surfaces.sse import LineWatch
from baimo.server.surfaces.usage import counted, object_in
from baimo.server.surfaces.wirejson import opened, written

OVERHEAD_BYTES = 64
"""Most tokens that a model puts around a text of its own accord: instructions, begin and end."""


class Passed:
    """What such surfaces have in common; a surface adds its names and `peek`."""

    name = ""
    protocol = "openai"
    target = ""
    neutral = False
    ability = ""
    known = frozenset({"model"})
    """Members that `peek` reads."""

    def sent(
        self,
        body: bytes,
        peek: Peek,
        *,
        model: str,
        max_tokens: int | None,
        quirks: frozenset[str] = frozenset(),
    ) -> bytes:
        """See `Surface`; none of these APIs has a word for `max_tokens`."""
        members = opened(body, self.known)
        members["model"] = model
        return written(members)

    def seen(self, body: bytes) -> Seen:
        """See `Surface`."""
        row = object_in(body)
        return Seen(counted(row.get("usage")), str(row.get("model") or ""))

    def watch(self, peek: Peek) -> Watch:
        """See `Surface`."""
        return UsageWatch()

    def request(self, body: bytes, peek: Peek, *, model: str, native: bool = False) -> Request:
        """There is no neutral word for it."""
        raise NotSupported("surfaces.not_offered", surface=self.name)

    def answer(
        self, completion: Completion | Sequence[Completion], peek: Peek, *, id: str, created_s: int
    ) -> bytes:
        """There is no neutral word for it."""
        raise NotSupported("surfaces.not_offered", surface=self.name)

    def events(self, peek: Peek, *, id: str, created_s: int) -> Events:
        """There is no neutral word for it."""
        raise NotSupported("surfaces.not_offered", surface=self.name)

    def refusal(self, error: BaimoError, *, request_id: str) -> bytes:
        """See `Surface`."""
        return openai_errors.refusal(error, request_id=request_id)


class UsageWatch(LineWatch):
    """Streams of pictures, speech and transcripts: the last event is a `….done` or `….completed` with usage."""

    def __init__(self) -> None:
        marks = (b'"usage"', b'"error"', b'.done"', b'.completed"', b"[DONE]")
        super().__init__(marks=marks, opener=b"data:", overhead=0)
        self._usage: Usage | None = None
        self._complete = False
        self._failed = ""

    def read(self, data: bytes) -> None:
        """Look at one event."""
        if data.strip() == b"[DONE]":
            self._complete = True
            return
        row = object_in(data)
        self._usage = counted(row.get("usage")) or self._usage
        if row.get("error") or row.get("type") == "error":
            self._failed = error_message(row) or "error"
        self._complete = self._complete or str(row.get("type")).endswith((".done", ".completed"))

    def seen(self) -> Seen:
        """What the stream has said so far; sounds and pictures have no text to count."""
        return Seen(self._usage, complete=self._complete, failed=self._failed)
