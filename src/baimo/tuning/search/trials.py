"""Every call of a search: asked at most once, scored, counted, and kept, so that a killed search pays nothing twice.

The path of a search is a function of its seed and of the answers. What a life before the kill had asked is taken
from the journal and still counted, so the second life turns off where the first one would have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baimo.core.call import Completion, Request, Sampling
from baimo.core.ids import digest
from baimo.core.message import Message
from baimo.core.task import Example, Prompt
from baimo.errors import BaimoError, BudgetExceeded, ProviderError
from baimo.tuning.search.journal import Bill, Cell, Journal
from baimo.tuning.search.work import Work

FAILURES = 20
"""Calls that may fail in a row before the search gives up: the model is not there."""


class Spent(Exception):
    """There are no calls or no money left for this."""


@dataclass(slots=True)
class Purse:
    """Calls set aside for one part of the search."""

    calls: int
    """What is left."""

    def take(self, calls: int) -> None:
        """Take out.

        Raises:
            Spent: there are not so many left.
        """
        if calls > self.calls:
            raise Spent
        self.calls -= calls


@dataclass(kw_only=True)
class Trials:
    """Asks and scores for one search."""

    work: Work
    """What is asked."""
    journal: Path
    """Where answers are kept, one a line."""
    calls: int
    """Most calls."""
    cost_micros: int | None = None
    """Most money, in the work's currency."""
    at_once: int = 16
    """Calls under way together."""
    look: Callable[[], None] = lambda: None
    """Called between batches; what it raises ends the search."""
    bill: Bill = field(default_factory=Bill)
    """What was spent."""
    _counted: set[str] = field(default_factory=set[str], init=False)
    _in_a_row: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Read what an earlier life had asked."""
        self._gate = asyncio.Semaphore(self.at_once)
        self._kept = Journal(self.journal)
        self._known = self._kept.known

    async def scored(self, prompt: Prompt, examples: Sequence[Example], purse: Purse) -> list[Cell]:
        """The answers to `examples` under `prompt`, in order; only those not asked before come out of the purse.

        Raises:
            Spent: there is not enough left for all of them; none was asked.
            ProviderError: the model is not there.
        """
        requests = [self._request(prompt, example) for example in examples]
        keys = [digest([request, example.hash]) for request, example in zip(requests, examples, strict=True)]
        self._afford(keys, purse)
        self.look()
        pairs = zip(keys, requests, examples, strict=True)
        calls = (self._cell(key, request, example) for key, request, example in pairs)
        ended = await asyncio.gather(*calls, return_exceptions=True)  # none is left under way when one fails
        for error in ended:
            if isinstance(error, BaseException):
                raise error
        return [self._known[key] for key in keys]

    async def said(self, model: str, words: str, purse: Purse, *, sampling: Sampling) -> str:
        """What `model` replies to `words`; empty when the call failed.

        Raises:
            Spent: there is nothing left.
        """
        messages = (Message(role="user", content=words),)
        request = Request(model=model, messages=messages, sampling=sampling)
        key = digest([request, "reflection"])
        self._afford([key], purse)
        self.look()
        await self._cell(key, request, None)
        return self._known[key].text

    def _request(self, prompt: Prompt, example: Example) -> Request:
        return Request(
            model=self.work.model,
            messages=self.work.render(prompt, example),
            sampling=self.work.sampling,
            tools=example.tools,
            response_format=self.work.response_format,
        )

    def _afford(self, keys: Sequence[str], purse: Purse) -> None:
        fresh = set(keys) - self._counted
        if self.bill.calls + len(fresh) > self.calls:
            raise Spent
        if fresh and self.cost_micros is not None and self.bill.cost_micros >= self.cost_micros:
            raise Spent
        purse.take(len(fresh))
        self._counted |= fresh
        self.bill.calls += len(fresh)
        for key in fresh & self._known.keys():
            self.bill.charge(self._known[key])

    async def _cell(self, key: str, request: Request, example: Example | None) -> None:
        if key in self._known:
            return
        async with self._gate:
            if key in self._known:  # two examples that ask the same
                return
            try:
                completion = await self.work.ask(request)
            except BudgetExceeded as error:
                raise Spent from error
            except ProviderError as error:
                self._in_a_row += 1
                if self._in_a_row >= FAILURES:
                    raise
                cell = Cell(key=key, failed=True, why=str(error))
            else:
                self._in_a_row = 0
                cell = await self._judged(key, request, completion, example)
        self._kept.keep(cell)
        self.bill.charge(cell)

    async def _judged(
        self, key: str, request: Request, completion: Completion, example: Example | None
    ) -> Cell:
        usage = completion.usage
        facts: dict[str, Any] = {
            "key": key,
            "text": completion.text,
            "tokens_in": usage.tokens_in,
            "tokens_out": usage.tokens_out,
            "cost_micros": self.work.price(request.model, usage),
        }
        if example is None:
            return Cell(**facts)
        try:
            score = await self.work.judge(example, completion)
        except BudgetExceeded as error:
            raise Spent from error
        except BaimoError as error:
            return Cell(**facts, why=str(error))
        return Cell(**facts, score=score.lenient, strict=score.strict, why=score.explanation)
