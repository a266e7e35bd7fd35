"""The only way from a Request to a Completion here: taken from the store if it was ever bought, else bought.

Prevents the two failures that make evaluations expensive: paying twice for one answer (after a crash, for a second
scorer, for two candidates that ask the same thing), and a call that leaves no line in the ledger.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from baimo.core.call import Completion, Provider, Request, Usage
from baimo.core.ids import digest, sortable_id
from baimo.core.message import Message
from baimo.core.model import Model
from baimo.core.money import converted
from baimo.core.record import Record
from baimo.core.run import StoredAnswer
from baimo.errors import BaimoError
from baimo.providers.pace import Clock
from baimo.store.store import Store

MOST_TOKENS_OUT = 4096
"""Length of an answer that nothing else bounds, for reservations."""


class Route(NamedTuple):
    """A model and the way to it."""

    model: Model
    provider: Provider


class Answer(NamedTuple):
    """A completion with what it cost, in micro-units of the comparison's currency."""

    completion: Completion
    hash: str
    price_micros: int | None
    """What it costs when it is bought; None = not known."""
    cost_micros: int | None
    """What it cost this time: 0 when it was stored."""
    reused: bool


@dataclass(kw_only=True)
class Bill:
    """What a run has paid so far."""

    calls: int = 0
    """Calls that were answered and paid."""
    failed: int = 0
    """Calls that were made and failed."""
    cost_micros: int = 0
    """Sum of the known costs."""
    unpriced: set[str] = field(default_factory=set[str])
    """Models with a call whose cost is not known."""

    @property
    def total_micros(self) -> int | None:
        """What was paid; None when the cost of an answered call is not known."""
        return None if self.unpriced else self.cost_micros


class Answers:
    """Buys and reuses answers for one run."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        run: str,
        config_hash: str,
        currency: str,
        rates: Mapping[str, float],
    ) -> None:
        self.bill = Bill()
        self.currency = currency
        self._store = store
        self._clock = clock
        self._run = run
        self._config_hash = config_hash
        self.rates = rates
        self._under_way: dict[str, asyncio.Task[Answer]] = {}

    async def get(self, route: Route, request: Request, *, surface: str = "compare") -> Answer:
        """The answer to `request`, bought at most once.

        Raises:
            ProviderError: the model could not answer; the attempt is in the ledger all the same.
        """
        hash = digest([route.provider.spec, request])
        stored = self._store.answer(hash)
        if stored is not None:
            price = converted(stored.price_micros, stored.currency, self.currency, self.rates)
            return Answer(stored.completion, hash, price, 0, True)
        shared = self._under_way.get(hash)
        if shared is not None:
            answer = await asyncio.shield(shared)
            return answer._replace(cost_micros=0, reused=True)
        task = asyncio.create_task(self._buy(route, request, hash, surface))
        self._under_way[hash] = task
        try:
            return await task
        finally:
            self._under_way.pop(hash, None)

    def stored(self, route: Route, request: Request) -> bool:
        """Whether the answer is there already and would cost nothing."""
        return self._store.answer(digest([route.provider.spec, request])) is not None

    def latency_s(self, model: Model) -> float | None:
        """Median wall time of this model's answers in the ledger, seconds; None when it never answered."""
        latency_ms = self._store.latency_ms(model.name)
        return None if latency_ms is None else latency_ms / 1000

    def most_micros(self, model: Model, request: Request) -> int | None:
        """The most that a call may cost, in the comparison's currency; None when its price is not known.

        No tokenizer makes more tokens than there are bytes, so the bytes of the prompt bound its tokens.
        """
        if model.price is None:
            return None
        longest = request.sampling.max_tokens or model.max_output or MOST_TOKENS_OUT
        usage = Usage(tokens_in=prompt_bytes(request.messages), tokens_out=longest)
        return converted(model.price.cost_micros(usage), model.price.currency, self.currency, self.rates)

    async def _buy(self, route: Route, request: Request, hash: str, surface: str) -> Answer:
        model = route.model
        try:
            completion = await route.provider.complete(request)
        except BaseException as error:  # cancellation counts: the call was made
            status = error.key if isinstance(error, BaimoError) else "cancelled"
            self._store.settle(self._record(model, surface, hash, status=status))
            self.bill.failed += 1
            raise
        price = None if model.price is None else model.price.cost_micros(completion.usage)
        currency = model.price.currency if model.price is not None else self.currency
        record = self._record(model, surface, hash, completion=completion, cost=price, currency=currency)
        answer = StoredAnswer(
            hash=hash,
            request=request,
            completion=completion,
            price_micros=price,
            currency=currency,
            created_ms=record.at_ms,
        )
        self._store.settle(record, answer)
        own = converted(price, currency, self.currency, self.rates)
        self.bill.calls += 1
        if own is None:
            self.bill.unpriced.add(model.name)
        else:
            self.bill.cost_micros += own
        return Answer(completion, hash, own, own, False)

    def _record(
        self,
        model: Model,
        surface: str,
        hash: str,
        *,
        status: str = "ok",
        completion: Completion | None = None,
        cost: int | None = None,
        currency: str = "",
    ) -> Record:
        at_ms = int(self._clock.wall() * 1000)
        return Record(
            id=sortable_id("rec", at_ms, os.urandom(7)),
            at_ms=at_ms,
            surface=surface,
            model=model.name,
            model_used=completion.model if completion else "",
            run=self._run,
            status=status,
            usage=completion.usage if completion else Usage(),
            cost_micros=cost,
            currency=currency or self.currency,
            latency_ms=completion.latency_ms if completion else None,
            attempts=completion.attempts if completion else 1,
            request_hash=hash,
            config_hash=self._config_hash,
        )


def prompt_bytes(messages: tuple[Message, ...]) -> int:
    """Bytes of a conversation in UTF-8, with 16 for the frame of each message; bounds its tokens from above."""
    total = 0
    for message in messages:
        if isinstance(message.content, str):
            total += len(message.content.encode())
        else:
            total += sum(len(part.data.encode()) for part in message.content)
        total += 16 + sum(len(call.arguments.encode()) for call in message.tool_calls)
    return total
