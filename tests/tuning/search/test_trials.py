from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from baimo.core.call import Completion, Request, Sampling
from baimo.core.run import Score
from baimo.core.task import Example, Prompt
from baimo.errors import BudgetExceeded, Unreachable
from baimo.tuning.search.trials import FAILURES, Purse, Spent, Trials
from tests.tuning.search.doubles import Scripted, examples, work

TRAIN = examples(40)
Result = TypeVar("Result")


def trials(folder: Path, scripted: Scripted, *, calls: int = 100, cost_micros: int | None = None) -> Trials:
    lent = work(TRAIN, scripted)
    return Trials(work=lent, journal=folder / "trials.jsonl", calls=calls, cost_micros=cost_micros)


def run(awaitable: Awaitable[Result]) -> Result:
    async def awaited() -> Result:
        return await awaitable

    return asyncio.run(awaited())


def test_a_question_is_asked_once_and_answered_from_then_on(tmp_path: Path) -> None:
    scripted = Scripted()
    made = trials(tmp_path, scripted)
    purse = Purse(50)
    first = run(made.scored(Prompt(system="rule: kind1"), TRAIN[:8], purse))
    again = run(made.scored(Prompt(system="rule: kind1"), TRAIN[:8], purse))
    assert first == again
    assert (len(scripted.asked), purse.calls, made.bill.calls) == (8, 42, 8)
    assert [cell.score for cell in first] == [0.0, 1.0, 0.0, 0.0] * 2


def test_what_is_under_way_counts_as_a_call_and_not_as_one_that_ended(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = trials(tmp_path, Scripted())
    made.look = lambda: seen.append((made.bill.calls, made.bill.ended))

    async def together() -> None:
        halves = (made.scored(Prompt(), some, Purse(50)) for some in (TRAIN[:8], TRAIN[8:16]))
        await asyncio.gather(*halves)
        await made.scored(Prompt(), TRAIN[:20], Purse(50))

    asyncio.run(together())
    assert seen == [(8, 0), (16, 0), (20, 16)]


def test_a_second_life_pays_nothing_twice_and_counts_it_all_the_same(tmp_path: Path) -> None:
    scripted = Scripted()
    first = trials(tmp_path, scripted)
    run(first.scored(Prompt(), TRAIN[:8], Purse(50)))
    with (tmp_path / "trials.jsonl").open("a") as journal:
        journal.write('{"key": "half a li')  # as a kill leaves it
    second = trials(tmp_path, scripted)
    run(second.scored(Prompt(), TRAIN[:10], Purse(50)))
    assert len(scripted.asked) == 10
    assert (second.bill.calls, second.bill.cost_micros) == (10, 10)
    third = trials(tmp_path, scripted)
    run(third.scored(Prompt(), TRAIN[:10], Purse(50)))
    assert len(scripted.asked) == 10


def test_nothing_is_asked_when_not_all_can_be_paid(tmp_path: Path) -> None:
    scripted = Scripted()
    made = trials(tmp_path, scripted, calls=10)
    for purse, count in ((Purse(3), 4), (Purse(50), 11)):
        with pytest.raises(Spent):
            run(made.scored(Prompt(), TRAIN[:count], purse))
    assert scripted.asked == []


def test_money_ends_a_search_too(tmp_path: Path) -> None:
    scripted = Scripted()
    made = trials(tmp_path, scripted, cost_micros=100)
    run(made.said("big/writer", "rewrite", Purse(5), sampling=Sampling()))
    with pytest.raises(Spent):
        run(made.scored(Prompt(), TRAIN[:1], Purse(5)))


def test_a_limit_of_the_lender_ends_a_search_too(tmp_path: Path) -> None:
    async def ask(request: Request) -> Completion:
        raise BudgetExceeded("compare.max_calls", limit=0)

    made = trials(tmp_path, Scripted())
    made.work = replace(made.work, ask=ask)
    with pytest.raises(Spent):
        run(made.scored(Prompt(), TRAIN[:3], Purse(5)))


def test_a_failed_call_leaves_the_denominator_and_is_tried_again_in_the_next_life(tmp_path: Path) -> None:
    down = True

    async def ask(request: Request) -> Completion:
        if down:
            raise Unreachable("providers.read_timeout", host="there", model="m", seconds=1)
        return Completion(text="answer0")

    made = trials(tmp_path, Scripted())
    made.work = replace(made.work, ask=ask)
    assert [cell.score for cell in run(made.scored(Prompt(), TRAIN[:3], Purse(5)))] == [None] * 3
    assert made.bill.failed == 3
    with pytest.raises(Unreachable):
        run(made.scored(Prompt(), TRAIN[3 : 3 + FAILURES], Purse(50)))
    down = False
    second = trials(tmp_path, Scripted())
    second.work = replace(second.work, ask=ask)
    assert run(second.scored(Prompt(), TRAIN[:1], Purse(5)))[0].score == 1.0


def test_what_no_scorer_can_judge_is_no_zero(tmp_path: Path) -> None:
    async def judge(example: Example, completion: Completion) -> Score:
        return Score.unscored("no reference")

    made = trials(tmp_path, Scripted())
    made.work = replace(made.work, judge=judge)
    (cell,) = run(made.scored(Prompt(), TRAIN[:1], Purse(5)))
    assert (cell.score, cell.why, cell.failed) == (None, "no reference", False)
