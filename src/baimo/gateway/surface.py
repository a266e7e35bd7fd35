"""A surface: one operation of a public API as clients speak it. The contract between the gateway and its wire formats.

Where a model speaks the surface's own wire format, bytes pass through and are only looked at; everywhere else the
request becomes a neutral `Request` and the model's `Completion` or `Delta`s are written in the surface's words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from baimo.core.call import Completion, Delta, Request, Usage
from baimo.core.model import Vendor
from baimo.errors import BaimoError

SEARCHES = frozenset(
    {
        *("enable_enhancement", "enable_search", "plugins", "search_parameters", "web_search"),
        "web_search_options",
    }
)
"""Members that ask a vendor for a search, which `Price.per_call` may be the price of."""


class Peek(msgspec.Struct, kw_only=True):
    """What admission and routing need of a request; read without decoding the rest of the body."""

    model: str
    """Name that was asked for; empty = none."""
    stream: bool = False
    """The answer is wanted as events."""
    max_tokens: int | None = None
    """Most tokens of each answer, as the request says."""
    answers: int = 1
    """How many answers are wanted (`n`)."""
    billed: int = 1
    """How often `Price.per_call` is due: pictures are billed one by one."""
    wants_usage: bool = False
    """Whether a stream shall report usage (OpenAI's stream_options.include_usage; always, where the API does)."""
    text_bytes: int = 0
    """Length of everything that becomes prompt tokens: no tokenizer makes more tokens than UTF-8 bytes of it."""
    attachments: int = 0
    """Images, sounds and files given by reference or inline, whose tokens `text_bytes` does not bound."""
    opening: bytes = b""
    """The conversation's beginning (system prompt and first user turn), for its hash and for stickiness."""
    vendor_id: str = ""
    """Path of a member that names something which the vendor keeps in an account that tenants share; empty = none."""
    tier: str = ""
    """Service tier that is asked for, which may have a price of its own; empty = none is named."""
    unpriced: str = ""
    """Path of a member that asks for what no price here is for, or what has no bound: searches, sound, another speed or
    region, tools that the vendor runs; empty = none."""
    told: bool = False
    """Whether the usage in the answer says if that was billed."""
    long_cache: bool = False
    """Part of the prompt may be written into the vendor's cache for an hour, which is dearer."""
    deterministic: bool = True
    """Whether the same request may be answered from a cache (no `n` > 1, no stored state asked for)."""


MOST_TOKENS = 1 << 27
"""No answer counts more: ten times the longest context. Bigger counts are faults (−1 as 64 bits without a sign) and not
believed: one of them would use up a key's budget."""


class Counts(msgspec.Struct, frozen=True, gc=False):
    """Token counts as an answer states them: a `Usage` that is made in a tenth of the time, for every call."""

    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None = None
    tokens_reasoning: int | None = None
    tokens_cache_write: int | None = None
    estimated: bool = False
    tokens_cache_write_1h: int | None = None
    unpriced: bool = False


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What a passed-through answer said about itself."""

    usage: Usage | Counts | None
    """None = the answer does not say."""
    model: str = ""
    finish_reason: str = ""
    complete: bool = True
    """Of a stream: whether its last event came."""
    text_bytes: int = 0
    """Of a stream: bytes of answer text so far, for an estimate where usage never comes."""
    tier: str = ""
    """Service tier that the vendor bills by; empty = the answer does not say."""
    failed: str = ""
    """Of a stream: the message of an error event in it; empty = none."""


class Watch(Protocol):
    """Looks at a passed-through stream. Called with every piece as it came from the network, in order."""

    def feed(self, piece: bytes) -> bytes:
        """What the client gets of this piece: all of it, unless it holds what only we asked for."""
        ...

    def rest(self) -> bytes:
        """What was held back when the stream ended."""
        ...

    def seen(self) -> Seen:
        """What the stream has said so far."""
        ...

    def failed(self, error: BaimoError, events: Events) -> bytes:
        """The error event with which a stream that broke off ends; `events` would write one of our own."""
        ...


class Events(Protocol):
    """Writes a stream of Deltas in the surface's words. Every method returns bytes to send, possibly none."""

    def delta(self, delta: Delta, choice: int = 0) -> bytes:
        """A piece of the answer numbered `choice` (of `Peek.answers`)."""
        ...

    def end(self) -> bytes:
        """After the last delta."""
        ...

    def failed(self, error: BaimoError) -> bytes:
        """The stream breaks off: an error event."""
        ...


def speaks(vendor: Vendor, surface: Surface) -> bool:
    """Whether a vendor's servers understand the surface's requests as they are."""
    needs: str = getattr(surface, "needs", "")
    return vendor.protocol == surface.protocol and (not needs or needs in vendor.quirks)


class Surface(Protocol):
    """One operation. Stateless and shared; all methods are pure."""

    @property
    def name(self) -> str:
        """chat, completions, responses, messages, embeddings, rerank, moderations, transcriptions, speech, images."""
        ...

    @property
    def protocol(self) -> str:
        """The provider protocol whose servers understand the request as it is: openai, anthropic."""
        ...

    @property
    def target(self) -> str:
        """Path of the operation behind such a server's base address: `chat/completions`."""
        ...

    @property
    def neutral(self) -> bool:
        """Whether it can be translated for models that speak another wire format (`request`, `answer`, `events`)."""
        ...

    @property
    def ability(self) -> str:
        """Ability that the model must have where the catalogue knows: chat, embeddings, rerank, speech …"""
        ...

    # `holds: str`, where a surface has it, names the member without which a whole answer is none;
    # `needs: str` names the quirk of vendors whose servers have this operation;
    # `form = True` says that bodies are multipart/form-data: the client's content-type names their boundary;
    # `ends_failed = True`, that its error event is an ordinary end of a stream: no connection is broken to tell it;
    # `retold(body: bytes) -> bytes` makes the stream that was asked for of a whole answer; empty = it is none

    def peek(self, body: bytes, headers: Mapping[bytes, bytes]) -> Peek:
        """Raises `CallRefused` (400) with what is wrong and where, in terms of the surface's own fields."""
        ...

    def sent(
        self,
        body: bytes,
        peek: Peek,
        *,
        model: str,
        max_tokens: int | None,
        quirks: frozenset[str] = frozenset(),
    ) -> bytes:
        """The body for a model that speaks this format: `model` put in place of the name asked for, usage asked for in
        streams, and `max_tokens` put in when it is not None and the request names none. Nothing else is changed.
        `quirks` are the deviations of the model's server (`providers.quirks`)."""
        ...

    def seen(self, body: bytes) -> Seen:
        """Usage of a whole passed-through answer; never raises: what cannot be read is unknown."""
        ...

    def watch(self, peek: Peek) -> Watch: ...

    def request(self, body: bytes, peek: Peek, *, model: str, native: bool = False) -> Request:
        """The neutral request; `native` = it goes to a server that speaks this surface's own format, and what only such
        servers understand stays in it. Raises `CallRefused` for what cannot be said neutrally, naming the field."""
        ...

    def answer(
        self, completion: Completion | Sequence[Completion], peek: Peek, *, id: str, created_s: int
    ) -> bytes:
        """A whole answer; `model` in it is `peek.model`, the name asked for. Several completions of one request are
        its choices where the API knows choices (`Peek.answers` > 1); their usages are added up."""
        ...

    def events(self, peek: Peek, *, id: str, created_s: int) -> Events: ...

    def refusal(self, error: BaimoError, *, request_id: str) -> bytes:
        """The body of an error answer as this API words it; its status is `error.http_status`."""
        ...
