"""Scripted doubles of everything outside the gateway, and one that is assembled of them."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import types
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from baimo.core.call import Completion, Delta, Provider, Request, Usage
from baimo.core.model import Model, Vendor
from baimo.core.money import Price
from baimo.core.registry import Spec
from baimo.core.tenant import Key, Limit, Tenant
from baimo.errors import BudgetExceeded, LimitReached, UnknownModel
from baimo.gateway.answers import by_name
from baimo.gateway.assembly import Outside, assembled
from baimo.gateway.call import Call
from baimo.gateway.gateway import Gateway
from baimo.server.surfaces.chat import Chat
from baimo.settings import Settings
from baimo.store.entry import Charge, Entry

CHAT = Chat()


class MemoryBooks:
    """Books that refuse everything that real ones would find wrong later."""

    def __init__(self) -> None:
        self.used: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.open_entries: dict[str, Entry] = {}
        self.records: list[Entry] = []
        self.synced = 0
        self.fails_to_sync: Exception | None = None
        self.fails_to_open: Exception | None = None

    def reserve(self, charges: Sequence[Charge]) -> bool:
        if any(self.used[one.bucket] + self.held[one.bucket] + one.amount > one.limit for one in charges):
            return False
        for one in charges:
            self.held[one.bucket] += one.amount
        return True

    async def obtain(self, charges: Sequence[Charge], wait_s: float) -> None:
        await asyncio.sleep(0)
        if not self.reserve(charges):
            short = next(one for one in charges if self.remaining(one.bucket, one.limit) < one.amount)
            kind = BudgetExceeded if ":cost:" in short.bucket else LimitReached
            raise kind("gateway.full", limit=short.limit, bucket=short.bucket)

    def release(self, charges: Sequence[Charge]) -> None:
        for one in charges:
            self.held[one.bucket] -= one.amount
            assert self.held[one.bucket] >= 0

    def open(self, entry: Entry) -> None:
        if self.fails_to_open is not None:
            raise self.fails_to_open
        assert self.open_entries.get(entry.id, entry) is entry
        assert all(self.held[one.bucket] >= one.amount for one in entry.reserved)
        self.open_entries[entry.id] = entry

    def close(self, entry: Entry, charged: Sequence[Charge]) -> None:
        assert self.open_entries.pop(entry.id) is entry, "closed twice, or never opened"
        self.release(entry.reserved)
        reserved = {one.bucket: one.amount for one in entry.reserved}
        assert [one.bucket for one in charged] == list(reserved)
        for one in charged:
            assert one.amount <= reserved[one.bucket], (one, reserved)
            self.used[one.bucket] += one.amount
        entry.at_ms = self.now_ms()
        self.records.append(entry)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def durable(self) -> None:
        await asyncio.sleep(0)
        self.synced += 1
        if self.fails_to_sync is not None:
            raise self.fails_to_sync

    def remaining(self, bucket: str, limit: int) -> int:
        return limit - self.used[bucket] - self.held[bucket]

    def settled(self) -> None:
        """Nothing is open and nothing is held."""
        assert not self.open_entries
        assert not +self.held, self.held


@dataclass
class Script:
    """What a model's server does with one request."""

    status: int = 200
    body: bytes = b""
    pieces: Sequence[bytes | Exception] = ()
    headers: Mapping[bytes, bytes] = field(default_factory=lambda: {b"content-type": b"application/json"})
    error: Exception | None = None
    """Instead of a head."""
    body_error: Exception | None = None
    """Instead of a whole body."""
    waits: float = 0.0
    """Before the head, seconds."""


Scripted = Script | list[Script] | Callable[[Any], Script]
"""Always the same, one after the other, or by the request's body."""


class ScriptedExchange:
    """Fits `passing.Exchange`."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.status = script.status
        self.headers = script.headers
        self.closed = False

    async def whole(self, limit_bytes: int) -> bytes:
        await asyncio.sleep(0)
        if self._script.body_error is not None:
            raise self._script.body_error
        return self._script.body or b"".join(one for one in self._script.pieces if isinstance(one, bytes))

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._script.pieces or [self._script.body]:
            await asyncio.sleep(0)
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        self.closed = True


class ScriptedPool:
    """Fits `passing.Pool`: answers by the model's name in the body, else by what comes next."""

    def __init__(
        self,
        *scripts: Script,
        by_model: Mapping[str, Scripted] | None = None,
    ) -> None:
        self.scripts = list(scripts)
        self.by_model = dict(by_model or {})
        self.sent: list[tuple[bytes, bytes, dict[str, Any]]] = []
        self.exchanges: list[ScriptedExchange] = []

    async def send(
        self,
        origin: Any,
        method: bytes,
        target: bytes,
        headers: Any = (),
        body: bytes = b"",
        *,
        deadline: float | None = None,
    ) -> ScriptedExchange:
        row = msgspec.json.decode(body)
        self.sent.append((target, bytes(headers), row))
        script = self.by_model.get(row["model"]) if self.by_model else None
        if isinstance(script, list):
            script = script.pop(0)
        elif callable(script):
            script = script(row)
        if script is None:
            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        await asyncio.sleep(script.waits)
        if script.error is not None:
            raise script.error
        exchange = ScriptedExchange(script)
        self.exchanges.append(exchange)
        return exchange


class ScriptedProvider:
    """Fits `Provider`: each call takes the next of `outcomes`; the last one stays."""

    spec = Spec(name="scripted")

    def __init__(self, *outcomes: Completion | list[Delta | Exception] | Exception) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[Request] = []

    def _next(self, request: Request) -> Any:
        self.asked.append(request)
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]

    async def complete(self, request: Request) -> Completion:
        outcome = self._next(request)
        await asyncio.sleep(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        outcome = self._next(request)
        for delta in [outcome] if isinstance(outcome, Exception) else outcome:
            await asyncio.sleep(0)
            if isinstance(delta, Exception):
                raise delta
            yield delta

    async def aclose(self) -> None: ...


class RecordingReply:
    """Fits `Reply`; remembers what the client got."""

    def __init__(self, *, leaves_after: int | None = None, slow: bool = False) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.pieces: list[bytes] = []
        self.started = False
        self.ended = False
        self.aborted = False
        self.gone = False
        self._leaves_after = leaves_after
        self._slow = slow

    def whole(self, status: int, head: bytes, body: bytes) -> None:
        assert self.status is None, "answered twice"
        self._head(status, head)
        self.body, self.ended = body, True

    def start(self, status: int, head: bytes) -> None:
        assert self.status is None
        self._head(status, head)
        self.started = True

    def write(self, piece: bytes) -> None:
        assert self.started and not self.ended
        self.pieces.append(piece)
        self.body += piece
        if self._leaves_after is not None and len(self.pieces) >= self._leaves_after:
            self.gone = True

    def end(self) -> None:
        assert self.started and not self.ended
        self.ended = True

    def abort(self) -> None:
        self.aborted = self.ended = True

    def drained(self) -> Awaitable[None] | None:
        return asyncio.sleep(0) if self._slow else None

    def _head(self, status: int, head: bytes) -> None:
        self.status = status
        self.headers = {name.decode(): value.decode() for name, value in by_name(head).items()}
        assert len(self.headers) == head.count(b"\r\n"), "a header was given twice"

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


PRICE = Price(
    input_per_million=Decimal("1"), output_per_million=Decimal("2"), cached_per_million=Decimal("0.5")
)
VENDORS = {
    "acme": Vendor(name="acme", title="Acme", protocol="openai", base_url="http://127.0.0.1:9/v1"),
    "bolt": Vendor(name="bolt", title="Bolt", protocol="openai", base_url="http://127.0.0.1:9/v1"),
    "clay": Vendor(name="clay", title="Clay", protocol="anthropic", base_url="http://127.0.0.1:9"),
    "dune": Vendor(
        name="dune",
        title="Dune",
        protocol="openai",
        base_url="http://127.0.0.1:9/v1",
        quirks=frozenset({"responses"}),
    ),
    "home": Vendor(name="home", title="Home", protocol="fake", inside=True),
    "away": Vendor(name="away", title="Away", protocol="fake"),
}


def model(name: str, **facts: Any) -> Model:
    vendor, _, upstream = name.partition("/")
    return Model(name=name, vendor=vendor, upstream=upstream, **{"price": PRICE, "max_output": 100, **facts})


MODELS = {
    one.name: one
    for one in (
        model("acme/one"),
        model("acme/two"),
        model("bolt/one"),
        model("bolt/three"),
        model("clay/opus"),
        model("dune/gpt"),
        model("home/small"),
        model("away/large"),
        model("acme/unpriced", price=None),
        model("acme/endless", max_output=None),
        model("acme/vectors", abilities=("embeddings",)),
    )
}


class SmallCatalogue:
    """Fits `routing.Names`."""

    def __init__(self, *more: Model) -> None:
        self._models = {**MODELS, **{one.name: one for one in more}}

    def model(self, name: str) -> Model:
        if name in self._models:
            return self._models[name]
        same = [one for one in self._models.values() if one.upstream == name]
        if len(same) == 1:
            return same[0]
        key = "models.ambiguous" if same else "models.unknown"
        raise UnknownModel(key, name=name, near=", ".join(one.name for one in same))

    def models(self, vendor: str | None = None) -> list[Model]:
        return [one for one in self._models.values() if vendor in (None, one.vendor)]

    def vendor(self, name: str) -> Vendor:
        return VENDORS[name]


def key(*limits: Limit, **facts: Any) -> Key:
    return Key(public="abcdef123456", digest="", limits=limits, **facts)


class House:
    """A gateway with all doubles at hand."""

    def __init__(
        self,
        *scripts: Script,
        by_model: Mapping[str, Scripted] | None = None,
        providers: Mapping[str, Provider] | None = None,
        more_models: Sequence[Model] = (),
        books: Any = None,
        key: Key = key(),
        tenant: Tenant = Tenant(id="t"),
        now: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] | None = None,
        seed: int = 1,
        config: Mapping[str, Any] | None = None,
        **outside: Any,
    ) -> None:
        self.books = books or MemoryBooks()
        self.pool = ScriptedPool(*scripts, by_model=by_model)
        self.providers = dict(providers or {})
        self.key, self.tenant = key, tenant
        self.slept: list[float] = []
        self.settings = msgspec.convert(dict(config or {}), Settings)
        clock: dict[str, Any] = {} if now is None else {"now": now}
        self.now = now
        given: dict[str, Any] = {
            "names": SmallCatalogue(*more_models),
            "books": self.books,
            "pool": self.pool,
            "provider": lambda vendor: self.providers[vendor],
            "secret": b"secret",
            "sleep": sleep or self._sleep,
            "chance": random.Random(seed),
        }
        self.outside = Outside(**{**given, **clock, **outside})
        self.gateway = Gateway(assembled(self.settings, self.outside))

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)

    def call(
        self,
        body: Mapping[str, Any] | bytes | None = None,
        *,
        reply: RecordingReply | None = None,
        surface: Any = CHAT,
        headers: Mapping[bytes, bytes] | None = None,
        key: Key | None = None,
        tenant: Tenant | None = None,
    ) -> Call:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body or asking())
        return Call(
            surface=surface,
            body=data,
            headers=dict(headers or {}),
            key=key or self.key,
            tenant=tenant or self.tenant,
            reply=reply or RecordingReply(),
            began=self.outside.now(),
            request_id="req-1",
        )

    def ask(self, body: Mapping[str, Any] | bytes | None = None, **more: Any) -> RecordingReply:
        """Serve one call to its end; the client's side."""
        call = self.call(body, **more)
        asyncio.run(self.gateway.serve(call))
        reply: Any = call.reply
        return reply

    @property
    def record(self) -> Entry:
        """The only Record; nothing is left open or reserved."""
        self.books.settled()
        (only,) = self.books.records
        return only


def asking(model: str = "acme/one", text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def answer(text: str = "hello", tokens_in: int = 10, tokens_out: int = 5, **more: Any) -> bytes:
    usage = {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
    }
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    row = {"id": "x", "object": "chat.completion", "created": 1, "model": "one-2026", "choices": [choice]}
    return msgspec.json.encode({**row, "usage": usage, **more})


def chunk(text: str = "", finish: str | None = None, usage: Mapping[str, int] | None = None) -> bytes:
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": finish}] if usage is None else []
    row: dict[str, Any] = {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "one",
        "choices": choices,
    }
    if usage is not None:
        row["usage"] = usage
    return b"data: " + msgspec.json.encode(row) + b"\n\n"


USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
DONE = b"data: [DONE]\n\n"
EVENTS = {b"content-type": b"text/event-stream"}


def stream(*texts: str, usage: bool = True) -> Script:
    pieces = [*(chunk(text) for text in texts), chunk(finish="stop")]
    if usage:
        pieces.append(chunk(usage=USAGE))
    return Script(pieces=[*pieces, DONE], headers=EVENTS)


def completion(text: str = "hello", tokens_in: int = 10, tokens_out: int = 5, **more: Any) -> Completion:
    usage = Usage(tokens_in=tokens_in, tokens_out=tokens_out)
    return Completion(**{"text": text, "finish_reason": "stop", "usage": usage, "model": "m", **more})


def deltas(*texts: str) -> list[Delta | Exception]:
    usage = Usage(tokens_in=10, tokens_out=5)
    return [*(Delta(text=text) for text in texts), Delta(finish_reason="stop", usage=usage)]


@types.coroutine
def cancelled_at(
    coroutine: Coroutine[Any, Any, Any], suspension: int, leaving: RecordingReply | None = None
) -> Generator[Any, Any, bool]:
    """Run a coroutine, but cancel it when it waits for the n-th time; True = it got that far. `leaving` is the reply to
    the client that leaves then; None = the server stops."""
    for number in itertools.count(1):
        try:
            waits = coroutine.send(None)
        except StopIteration:
            return number > suspension
        except asyncio.CancelledError:  # it had to wait before it could end
            return True
        if number == suspension:
            if getattr(waits, "_asyncio_future_blocking", False):
                waits._asyncio_future_blocking = False
            if leaving is not None:
                leaving.gone = True
            try:
                waits = coroutine.throw(asyncio.CancelledError())
            except asyncio.CancelledError:
                return True
            except StopIteration:
                return True
        yield waits
    raise AssertionError
