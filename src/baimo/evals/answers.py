"""The only way from a Request to a Completion here: taken from the store if it was ever bought, else bought.

Prevents three failures that make evaluations expensive: paying twice for one answer (after a crash, for a second
scorer, for two candidates that ask the same thing), a limit that calls under way overrun together, and a call that
leaves no line in the ledger.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

from baimo.core.call import Completion, Provider, Request, Usage
from baimo.core.ids import digest, sortable_id
from baimo.core.message import Message
from baimo.core.model import Model
from baimo.core.money import MICROS, converted, total_micros
from baimo.core.record import Record
from baimo.core.registry import Spec
from baimo.core.run import StoredAnswer
from baimo.errors import BaimoError, BudgetExceeded, UsageError
from baimo.providers.pace import Clock
from baimo.store.purses import Purse
from baimo.store.store import Store

JUDGE = "judge"
"""Surface of calls that judge answers."""
MOST_TOKENS_OUT = 4096
"""Length of an answer that nothing else bounds, for reservations."""


@runtime_checkable
class NamesWeights(Protocol):
    """A provider whose models are files here: under one name they may change, and the answers with them."""

    def spec_of(self, model: str) -> Spec:
        """How to build what answers for this model, with the hash of its weights."""
        ...


class Route(NamedTuple):
    """A model, the way to it, and what makes its answers what they are."""

    model: Model
    provider: Provider
    spec: Spec


def route_to(model: Model, provider: Provider) -> Route:
    """The route to `model`; reads a local model's weights once for their hash."""
    spec = provider.spec_of(model.upstream) if isinstance(provider, NamesWeights) else provider.spec
    return Route(model, provider, spec)


class Answer(NamedTuple):
    """A completion with what it cost, in micro-units of the comparison's currency."""

    completion: Completion
    hash: str
    price_micros: int | None
    """What it costs when it is bought; None = not known."""
    cost_micros: int | None
    """What this run paid for it: 0 when another run had bought it."""
    reused: bool


class Payer(NamedTuple):
    """Who pays for a run, as its Records say."""

    tenant: str = ""
    """Tenant.id; empty = the workspace's owner."""
    key: str = ""
    """Public part of a key; empty = the command line."""
    tags: Mapping[str, str] = {}
    """Labels on each Record."""
    purse: Purse | None = None
    """What limits have set aside for it; None = no limit counts it."""


class Limits(NamedTuple):
    """What a run may spend at most; None = no limit."""

    calls: int | None = None
    cost_micros: int | None = None


@dataclass(kw_only=True)
class Bill:
    """What a run has paid so far."""

    calls: int = 0
    """Calls that were answered and paid."""
    failed: int = 0
    """Calls that were made and failed."""
    cost_micros: int = 0
    """Sum of the known costs."""
    judging_micros: int | None = 0
    """What judges took of it; None when a price is not known."""
    unpriced: set[str] = field(default_factory=set[str])
    """Models with a call whose cost is not known."""

    @property
    def total_micros(self) -> int | None:
        """What was paid; None when the cost of an answered call is not known."""
        return None if self.unpriced else self.cost_micros


class Answers:
    """Buys and reuses answers for one run.

    A run that is resumed walks the same path again. What it had bought is then put on its bill again, call by call,
    when it is met again: so limits hold over all its lives together, and the path does not depend on the kill.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        run: str,
        config_hash: str,
        currency: str,
        rates: Mapping[str, float],
        limits: Limits = Limits(),
        payer: Payer = Payer(),
    ) -> None:
        self.bill = Bill()
        self.currency = currency
        self.rates = rates
        self._store = store
        self._clock = clock
        self._run = run
        self._config_hash = config_hash
        self._limits = limits
        self._payer = payer
        self._under_way: dict[str, asyncio.Task[Answer]] = {}
        self._reserved_calls = self._reserved_micros = 0
        self._bought: dict[str, int] = {}
        """Costs of answers that earlier lives of this run bought and this one has not met yet, by hash."""
        for record in store.records(run=run):
            if record.status == "ok":
                self._bought[record.request_hash] = self._own(record.cost_micros, record.currency) or 0
            else:
                self.bill.failed += 1

    async def get(self, route: Route, request: Request, *, surface: str = "compare") -> Answer:
        """The answer to `request`, bought at most once.

        Raises:
            ProviderError: the model could not answer; the attempt is in the ledger all the same.
            BudgetExceeded: it may cost more than is left, or a limit's new window leaves less than the run may still
                take; nothing was sent.
        """
        hash = self._hash(route, request)
        shared = self._under_way.get(hash)
        if shared is not None:
            answer = await asyncio.shield(shared)
            return answer._replace(cost_micros=0, reused=True)
        stored = self._store.answer(hash)
        if stored is not None and hash not in self._bought:
            return Answer(stored.completion, hash, self._own(stored.price_micros, stored.currency), 0, True)
        reserved = self._reserve(route.model, request, fresh=stored is None)
        self._bought.pop(hash, None)
        work = (
            self._buy(route, request, hash, surface)
            if stored is None
            else self._met_again(route.model, stored, surface)
        )
        task = self._under_way[hash] = asyncio.create_task(self._released(work, reserved))
        try:
            return await task
        finally:
            del self._under_way[hash]

    def stored(self, asked: Iterable[tuple[Route, Request]]) -> int:
        """How many of these are there already and would cost nothing."""
        hashes = [self._hash(route, request) for route, request in asked]
        found = self._store.answers(set(hashes))
        return sum(hash in found for hash in hashes)

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
        return self._own(model.price.cost_micros(usage), model.price.currency)

    def _hash(self, route: Route, request: Request) -> str:
        """Where the answer is stored. A tenant's answers are its own: what others have asked cannot be told from it."""
        tenant = self._payer.tenant
        return digest([route.spec, request, tenant] if tenant else [route.spec, request])

    def _reserve(self, model: Model, request: Request, *, fresh: bool) -> int:
        """Set aside what the call may cost, before it is made: two calls must not both see the last cent.

        Args:
            fresh: it will be bought; else it was, in an earlier life, and is only put on the bill again.
        """
        made = self.bill.calls + self.bill.failed + self._reserved_calls + (len(self._bought) if fresh else 0)
        if self._limits.calls is not None and made >= self._limits.calls:
            raise BudgetExceeded("compare.max_calls", limit=self._limits.calls)
        most = 0
        if self._limits.cost_micros is not None:
            known = self.most_micros(model, request)
            if known is None:
                raise UsageError("compare.unpriced_budget", models=model.name)
            most = known
            spent = (
                self.bill.cost_micros + self._reserved_micros + (sum(self._bought.values()) if fresh else 0)
            )
            if spent + most > self._limits.cost_micros:
                limit = f"{self._limits.cost_micros / MICROS:g} {self.currency}"
                raise BudgetExceeded("compare.max_cost", limit=limit)
        self._reserved_calls += 1
        self._reserved_micros += most
        return most

    async def _released(self, work: Coroutine[Any, Any, Answer], reserved: int) -> Answer:
        try:
            return await work
        finally:  # in one step with the charge: nothing is counted twice or not at all in between
            self._reserved_calls -= 1
            self._reserved_micros -= reserved

    async def _met_again(self, model: Model, stored: StoredAnswer, surface: str) -> Answer:
        price = self._own(stored.price_micros, stored.currency)
        self._charge(model, price, surface)
        return Answer(stored.completion, stored.hash, price, price, False)

    async def _buy(self, route: Route, request: Request, hash: str, surface: str) -> Answer:
        model, purse = route.model, self._payer.purse
        began_ms = None if purse is None else purse.moved(int(self._clock.wall() * 1000))
        try:
            completion = await route.provider.complete(request)
        except BaseException as error:  # cancellation counts: the call was made
            status = error.key if isinstance(error, BaimoError) else "cancelled"
            attempts = int(vars(error).get("attempts", 1))
            if attempts:  # else it was given up before it was sent
                failed = self._record(model, surface, hash, status=status, attempts=attempts)
                self._store.settle(replace(failed, began_ms=began_ms), None, purse)
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
        own = self._own(price, currency)
        if purse is not None:
            record = replace(record, began_ms=began_ms, charged_micros=own or 0)
        self._store.settle(record, answer, purse)
        self._charge(model, own, surface)
        return Answer(completion, hash, own, own, False)

    def _charge(self, model: Model, micros: int | None, surface: str) -> None:
        bill = self.bill
        bill.calls += 1
        bill.cost_micros += micros or 0
        if micros is None:
            bill.unpriced.add(model.name)
        if surface == JUDGE:
            bill.judging_micros = total_micros([bill.judging_micros, micros])

    def _own(self, micros: int | None, currency: str) -> int | None:
        return converted(micros, currency, self.currency, self.rates)

    def _record(
        self,
        model: Model,
        surface: str,
        hash: str,
        *,
        status: str = "ok",
        attempts: int = 1,
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
            tenant=self._payer.tenant,
            key=self._payer.key,
            tags=self._payer.tags,
            status=status,
            usage=completion.usage if completion else Usage(),
            cost_micros=cost,
            currency=currency or self.currency,
            latency_ms=completion.latency_ms if completion else None,
            attempts=completion.attempts if completion else attempts,
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
