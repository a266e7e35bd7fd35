"""Answers that a tenant has already paid for, given again to exactly the same request.

Prevents three failures: one tenant's answer shown to another (the tenant is part of every key), an answer kept under a
key that leaves out what it depended on (the whole body is the key, in canonical form), and a cache that makes a call
fail (whatever goes wrong in it counts as not found).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from baimo.core.ids import canonical
from baimo.errors import StoreError
from baimo.gateway.answers import Headers
from baimo.gateway.call import Call
from baimo.gateway.semantic import Question
from baimo.gateway.surface import Peek
from baimo.typed import from_msgpack

IN_MEMORY_BYTES = 32 * 1024 * 1024
"""Answers that are kept in memory in front of the store, per process."""


class Kept(NamedTuple):
    """An answer as the client got it."""

    headers: Headers
    body: bytes
    """A whole answer, or all events of a stream."""
    model: str
    """vendor/model that gave it."""
    model_used: str
    at_ms: int
    """When; milliseconds since 1970."""


class Mark(NamedTuple):
    """How often answers had been deleted when one was looked for: nothing that was begun before outlives that."""

    here: int
    """From this process's memory, whoever's."""
    there: int
    """The tenant's, from the shelf."""


NO_MARK = Mark(0, 0)


class LookedUp(msgspec.Struct, frozen=True):
    """What the cache had for a call."""

    kept: Kept | None = None
    """The answer."""
    key: str = ""
    """Under which a new answer goes there; empty = it does not."""
    mark: Mark = NO_MARK
    """When that was looked up."""
    question: Question | None = None
    vector: Sequence[float] | None = None
    """The question's, to be remembered with the answer."""
    how: bytes = b""
    """For the client: why this is the answer."""


NOT_LOOKED_UP = LookedUp()


class Shelf(Protocol):
    """Where answers are kept for good: `store.cached.Cached`. Its methods block."""

    def get(self, tenant: str, key: str, since_ms: int) -> tuple[bytes | None, int]:
        """What was put there since then, and how often the tenant's answers have been deleted."""
        ...

    def put(self, tenant: str, key: str, at_ms: int, data: bytes, times: int) -> None:
        """Keep an answer, unless the tenant's were deleted more often than `times`."""
        ...


class Cache:
    """The answers of all tenants, each for itself."""

    def __init__(
        self,
        shelf: Shelf | None,
        *,
        ttl_s: float,
        wall_ms: Callable[[], int],
        memory_bytes: int = IN_MEMORY_BYTES,
    ) -> None:
        """
        Args:
            shelf: the store; None = in memory only.
            ttl_s: age after which an answer is not used.
            wall_ms: milliseconds since 1970.
            memory_bytes: of answers kept in memory in front of the store.
        """
        self._memory_bytes = memory_bytes
        self._shelf = shelf
        self._ttl_ms = int(ttl_s * 1000)
        self._wall_ms = wall_ms
        self._near: OrderedDict[tuple[str, str], Kept] = OrderedDict()
        self._near_bytes = 0
        self._clears = 0

    def key(self, call: Call, peek: Peek) -> str:
        """What the answer depends on; empty = it cannot be answered from a cache."""
        if not peek.deterministic:
            return ""
        try:
            body: Any = msgspec.json.decode(call.body)
            same = canonical(body)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, TypeError, RecursionError):
            return ""  # no JSON: sound, or text that has no canonical form
        hashed = hashlib.sha256(f"{call.surface.name}\0{peek.model}\0".encode())
        hashed.update(same)
        return hashed.hexdigest()

    async def get(self, tenant: str, key: str, *, near: bool = True) -> tuple[Kept | None, Mark]:
        """The answer to exactly this request, if it is not too old; with what `put` wants to know of this moment.

        Args:
            tenant: whose.
            key: of the request.
            near: what is in memory will do, and then nothing is to be put.
        """
        clears = self._clears
        since_ms = self._wall_ms() - self._ttl_ms
        kept = self._near.get((tenant, key)) if near else None
        if kept is not None and kept.at_ms >= since_ms:
            self._near.move_to_end((tenant, key))
            return kept, NO_MARK
        if self._shelf is None:
            return None, Mark(clears, 0)
        try:
            data, times = await asyncio.to_thread(self._shelf.get, tenant, key, since_ms)
        except StoreError:
            return None, Mark(clears, -1)  # what cannot be read is not written either
        try:
            kept = None if data is None else from_msgpack(data, Kept)
        except msgspec.DecodeError:
            kept = None
        if kept is not None and clears == self._clears:
            self._hold((tenant, key), kept)
        return kept, Mark(clears, times)

    def takes(self, mark: Mark) -> bool:
        """Whether what was looked for at this moment may be kept: nothing was deleted since."""
        return mark.here == self._clears

    async def put(self, tenant: str, key: str, kept: Kept, mark: Mark) -> None:
        """Keep an answer.

        Args:
            tenant: whose.
            key: of the request.
            kept: the answer.
            mark: of `get`, before the answer was asked for.
        """
        if not self.takes(mark):
            return
        self._hold((tenant, key), kept)
        if self._shelf is not None:
            try:
                data = msgspec.msgpack.encode(kept)
                await asyncio.to_thread(self._shelf.put, tenant, key, kept.at_ms, data, mark.there)
            except StoreError:
                return  # it is answered from memory for now

    def clear(self, tenant: str | None = None) -> None:
        """Forget what is in memory of one tenant, or of all."""
        self._clears += 1
        for place in [place for place in self._near if tenant is None or place[0] == tenant]:
            self._near_bytes -= len(self._near.pop(place).body)

    def _hold(self, place: tuple[str, str], kept: Kept) -> None:
        old = self._near.pop(place, None)
        self._near_bytes += len(kept.body) - (0 if old is None else len(old.body))
        self._near[place] = kept
        while self._near_bytes > self._memory_bytes:
            _, gone = self._near.popitem(last=False)
            self._near_bytes -= len(gone.body)
