"""POST /v1/audio/transcriptions: a form with a sound in it, which is never copied but once, to the model.

Source: developers.openai.com/api/reference/resources/audio/subresources/transcriptions.
"""

from __future__ import annotations

from collections.abc import Mapping

from baimo.errors import CallRefused
from baimo.gateway.surface import Peek
from baimo.server.surfaces.form import Field, boundary_of, fields_of
from baimo.server.surfaces.passed import OVERHEAD_BYTES, Passed

_ONCE = frozenset({"file", "model", "stream", "prompt", "language", "response_format", "temperature"})


class FormPeek(Peek, kw_only=True):
    """Also where the model's name lies in the form."""

    start: int = -1
    """Offset of the name; -1 = the form has none."""
    end: int = -1
    """Offset behind it."""
    boundary: bytes = b""
    """What separates the fields."""


class Transcriptions(Passed):
    """Implements `Surface`."""

    name = "transcriptions"
    target = "audio/transcriptions"
    ability = "transcriptions"
    form = True

    def peek(self, body: bytes, headers: Mapping[bytes, bytes]) -> Peek:
        """See `Surface`."""
        boundary = boundary_of(headers)
        parts = fields_of(body, boundary)
        given: dict[str, Field] = {}
        for part in parts:
            name = part.name.casefold()
            if name in given or (name in _ONCE and (name != part.name or part.file != (name == "file"))):
                raise CallRefused("surfaces.given_twice", field=part.name)
            if name in _ONCE:
                given[name] = part
        model = given.get("model", Field("model", -1, -1, False))
        stream = given.get("stream", Field("stream", 0, 0, False))
        said = sum(part.end - part.start for part in parts if not part.file)
        return FormPeek(
            model=body[model.start : model.end].decode("utf-8", errors="replace").strip(),
            stream=body[stream.start : stream.end].strip().lower() in {b"true", b"1"},
            text_bytes=said + OVERHEAD_BYTES,
            attachments=sum(part.file for part in parts),
            start=model.start,
            end=model.end,
            boundary=boundary,
        )

    def sent(
        self,
        body: bytes,
        peek: Peek,
        *,
        model: str,
        max_tokens: int | None,
        quirks: frozenset[str] = frozenset(),
    ) -> bytes:
        """See `Surface`. The form's other bytes stay, and so does its boundary."""
        assert isinstance(peek, FormPeek)
        name = model.encode()
        if peek.start >= 0:
            return b"".join((body[: peek.start], name, body[peek.end :]))
        head = b'--%s\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n' % (peek.boundary, name)
        return head + body
