"""Scripted models and scorers for the comparison's own tests: in this process, nothing on the wire."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from decimal import Decimal
from typing import Any

from baimo.core.call import Completion, Delta, Request, Usage
from baimo.core.model import Model
from baimo.core.money import Price
from baimo.core.registry import Spec
from baimo.core.run import Run, Score
from baimo.core.task import Example
from baimo.evals.answers import Answers, Limits, Route, route_to
from baimo.providers.pace import SystemClock
from baimo.store.engine import Database
from baimo.store.store import Store

Script = Callable[[Request], str | BaseException]
CHEAP = Price(input_per_million=Decimal(1000), output_per_million=Decimal(1000))
"""A milli-unit per token: 10 tokens in and 10 out cost 20,000 micro-units."""


class Scripted:
    """Implements `Provider` from a function; counts what it is asked."""

    def __init__(self, script: Script = lambda request: "yes", *, name: str = "scripted") -> None:
        self.script = script
        self.asked: Counter[str] = Counter()
        self.gate: asyncio.Event | None = None
        self._name = name

    @property
    def spec(self) -> Spec:
        return Spec(name=self._name)

    async def complete(self, request: Request) -> Completion:
        self.asked[f"{request.model}/{request.messages[-1].content}"] += 1
        await (self.gate.wait() if self.gate is not None else asyncio.sleep(0))
        reply = self.script(request)
        if isinstance(reply, BaseException):
            raise reply
        usage = Usage(tokens_in=10, tokens_out=10)
        return Completion(text=reply, usage=usage, latency_ms=5.0, model=request.model, finish_reason="stop")

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        yield Delta(text=(await self.complete(request)).text)

    async def aclose(self) -> None: ...


class Scripture:
    """Implements `Scorer` from a function of the reply."""

    def __init__(self, judge: Callable[[Example, str], Score]) -> None:
        self._judge = judge

    @property
    def spec(self) -> Spec:
        return Spec(name="scripture")

    async def score(self, example: Example, completion: Completion) -> Score:
        return self._judge(example, completion.text)


def model(name: str = "vendor/model", price: Price | None = CHEAP) -> Model:
    """A model of that name."""
    vendor, _, rest = name.partition("/")
    return Model(name=name, vendor=vendor, upstream=rest, price=price)


def route(provider: Scripted, name: str = "vendor/model", price: Price | None = CHEAP) -> Route:
    """The way to it."""
    return route_to(model(name, price), provider)


def memory() -> Store:
    """An empty store that is gone after the test."""
    return Store(Database("sqlite:///:memory:"))


def made_run(id: str, candidates: tuple[Mapping[str, Any], ...] = ()) -> Run:
    """A run as it begins."""
    return Run(
        id=id,
        task="t",
        task_hash="",
        options={},
        candidates=candidates,
        config_hash="",
        seed=0,
        started_ms=0,
        version="0",
    )


def buying(store: Store, *, run: str = "run_a", limits: Limits = Limits()) -> Answers:
    """Answers for one life of a run, which is entered unless it is there."""
    if store.run(run) is None:
        store.begin(made_run(run))
    return Answers(store, SystemClock(), run=run, config_hash="", currency="USD", rates={}, limits=limits)
