"""Messages and tools, in the terms of the OpenAI chat format, which every wire format translates to and from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One piece of a message that is more than text."""

    kind: Literal["text", "image_url", "input_audio"]
    """What the piece is."""
    data: str
    """The text, the URL (also data:), or base64 audio."""
    media_type: str | None = None
    """MIME type of image or audio data, when known."""
    detail: str | None = None
    """How closely to look at an image: low, high, auto …; None leaves it to the provider. Costs tokens."""
    cache: Mapping[str, Any] | None = None
    """How the prompt up to here is to be cached, in Anthropic's words (`cache_control`); others are not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function call that the model asks for."""

    id: str
    """Call id as the provider gave it."""
    name: str
    """Name of the function."""
    arguments: str
    """JSON text, as the model wrote it: it may be malformed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call."""

    name: str
    """Name of the function."""
    description: str = ""
    """What it does, for the model."""
    parameters: Mapping[str, Any] | None = None
    """JSON Schema of the arguments; None = no arguments."""
    strict: bool | None = None
    """Whether the server must enforce the schema; None leaves it to the provider."""
    cache: Mapping[str, Any] | None = None
    """As of `Part`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Role
    """Who speaks."""
    content: str | tuple[Part, ...] = ""
    """What is said: plain text or parts."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Calls that an assistant turn asks for."""
    tool_call_id: str | None = None
    """On a tool turn: which call it answers."""
    name: str | None = None
    """Name of the speaker or tool, where a provider wants it."""
