"""Evaluations, their runs and what came of each row: one process at a time, tenants that do not see each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import delete, select

from baimo.store import evaluation_runs, tables
from baimo.store.contents import Contents
from baimo.store.engine import Database
from baimo.store.evaluation_runs import EvalRun, EvalRuns, ModelTokens, OutputItem, Source
from baimo.store.evaluations import Evaluation, Evaluations
from tests.store.meeting import meanwhile
from tests.store.test_batches import alive
from tests.store.test_responses import Clock


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def evaluations(database: Database) -> Evaluations:
    return Evaluations(database, Clock())


@pytest.fixture
def runs(database: Database) -> EvalRuns:
    return EvalRuns(database, Clock())


def made(evaluations: Evaluations, tenant: str = "acme", updated_ms: int = 0) -> Evaluation:
    evaluation = Evaluation(
        id=evaluations.new_id(),
        tenant=tenant,
        key="k",
        name="towns",
        source={"type": "custom", "item_schema": {"type": "object"}},
        criteria=({"type": "string_check", "name": "c"},),
        metadata={"a": "b"},
        created_ms=1,
        updated_ms=updated_ms,
    )
    evaluations.add(evaluation)
    return evaluation


def ordered(runs: EvalRuns, evaluation: str = "eval_1", tenant: str = "acme", rows: int = 0) -> EvalRun:
    run = EvalRun(
        id=runs.new_id(),
        tenant=tenant,
        key="k",
        evaluation=evaluation,
        name="first",
        created_ms=runs.now_ms(),
    )
    runs.add(run, {"type": "jsonl", "source": {"type": "file_id", "id": "file-1"}})
    runs.enter(run, (Source(place, {"item": {"n": place}}) for place in range(rows)))
    return run


def done(run: EvalRun, place: int, status: str = "pass") -> OutputItem:
    return OutputItem(
        run=run.id, position=place, status=status, row={"item": {"n": place}}, output={"made": 1}
    )  # type: ignore[arg-type]


def test_an_evaluation_comes_back_as_it_was_kept_and_to_its_tenant_only(evaluations: Evaluations) -> None:
    one = made(evaluations)
    assert evaluations.get("acme", one.id) == one
    assert evaluations.get("other", one.id) is None
    after = evaluations.change("acme", one.id, lambda it: replace(it, name="cities", updated_ms=5))
    assert after == evaluations.get("acme", one.id) == replace(one, name="cities", updated_ms=5)
    assert evaluations.change("other", one.id, lambda it: replace(it, name="x")) is None
    assert not evaluations.delete("other", one.id)
    assert evaluations.delete("acme", one.id) and not evaluations.delete("acme", one.id)


def test_evaluations_come_in_pages_by_making_or_by_change(evaluations: Evaluations) -> None:
    when = (7, 7, 3, 9)
    ids = sorted(made(evaluations).id for _ in when)  # made in one millisecond
    for id, updated_ms in zip(ids, when, strict=True):
        evaluations.change("acme", id, lambda one, at=updated_ms: replace(one, updated_ms=at))
    made(evaluations, "other")
    seen: list[str] = []
    while page := evaluations.page("acme", limit=3, after=seen[-1] if seen else ""):
        seen += [one.id for one in page]
    assert seen == ids
    assert [one.id for one in evaluations.page("acme", limit=2, ascending=False)] == ids[:1:-1]
    by_change = [ids[2], ids[0], ids[1], ids[3]]
    for ascending, expected in ((True, by_change), (False, by_change[::-1])):
        seen = []
        while page := evaluations.page(
            "acme", limit=1, after=seen[-1] if seen else "", ascending=ascending, by="updated_at"
        ):
            seen += [one.id for one in page]
        assert seen == expected


def test_a_run_comes_back_as_it_was_kept(runs: EvalRuns) -> None:
    run = ordered(runs)
    usage = (ModelTokens(model="v/m", calls=1, tokens_in=2),)
    after = runs.change(
        "acme", run.id, lambda one: replace(one, usage=usage, criteria={"c": (1, 2)}, rows=3, error="x")
    )
    assert (
        after
        == runs.get("acme", run.id)
        == replace(run, usage=usage, criteria={"c": (1, 2)}, rows=3, error="x")
    )
    assert runs.asked("acme", run.id)["source"]["id"] == "file-1"
    assert runs.get("other", run.id) is None and runs.asked("other", run.id) == {}
    assert runs.change("other", run.id, lambda one: replace(one, rows=9)) is None


def test_runs_come_in_pages_by_evaluation_and_status(runs: EvalRuns) -> None:
    ids = sorted(ordered(runs).id for _ in range(3))
    ordered(runs, "eval_2")
    ordered(runs, tenant="other")
    runs.change("acme", ids[1], lambda one: replace(one, status="completed"))
    assert [one.id for one in runs.page("acme", "eval_1", limit=9)] == ids
    assert [one.id for one in runs.page("acme", "eval_1", limit=9, after=ids[0])] == ids[1:]
    assert [one.id for one in runs.page("acme", "eval_1", limit=1, ascending=False)] == ids[2:]
    assert [one.id for one in runs.page("acme", "eval_1", limit=9, status="completed")] == [ids[1]]


def test_only_one_living_process_works_on_a_run(database: Database, runs: EvalRuns) -> None:
    run = ordered(runs)
    alive(database, "one")
    alive(database, "two")
    assert runs.claim("one", lambda _: True) == run
    assert runs.claim("two", lambda _: True) is None
    assert runs.change("acme", run.id, lambda one: replace(one, rows=1), holder="two") is None
    with database.writing() as connection:
        connection.execute(delete(tables.holders).where(tables.holders.c.id == "one"))
    assert runs.claim("two", lambda _: False) is None
    assert runs.claim("two", lambda _: True) == run
    runs.release("two", run)
    assert runs.claim("two", lambda _: True) is not None
    runs.change("acme", run.id, lambda one: replace(one, status="completed"))
    runs.release("two", run)
    assert runs.claim("two", lambda _: True) is None


def test_rows_wait_until_something_came_of_them(runs: EvalRuns) -> None:
    run = ordered(runs, rows=1203)
    assert [one.position for one in runs.waiting(run, limit=2)] == [0, 1]
    assert runs.waiting(run, limit=1)[0].row == {"item": {"n": 0}}
    assert len(runs.waiting(run)) == 500 and runs.waiting(run, after=1201)[0].position == 1202
    runs.finish(run, [done(run, 0), done(run, 2, "fail"), done(run, 1202, "error")])
    runs.finish(run, [])
    assert [one.position for one in runs.waiting(run, limit=2)] == [1, 3]
    assert [(one.position, one.status) for one in runs.done(run)] == [
        (0, "pass"),
        (2, "fail"),
        (1202, "error"),
    ]


def test_entering_rows_again_replaces_them(runs: EvalRuns) -> None:
    run = ordered(runs, rows=3)
    runs.enter(run, [Source(0, {"item": {"n": "new"}})])
    assert [one.row for one in runs.waiting(run)] == [{"item": {"n": "new"}}]


@pytest.mark.parametrize("by", ["run", "evaluation", "tenant"])
def test_rows_that_are_entered_while_their_run_is_deleted_do_not_stay(
    database: Database, evaluations: Evaluations, runs: EvalRuns, by: str
) -> None:
    evaluation = made(evaluations)
    run = ordered(runs, evaluation.id)

    def sources() -> Iterator[Source]:
        for place in range(1200):
            if place == 900:
                if by == "run":
                    runs.delete("acme", run.id)
                elif by == "evaluation":
                    evaluations.delete("acme", evaluation.id)
                else:
                    Contents(database).forget_tenant("acme")
            yield Source(place, {"item": {"n": place}})

    runs.enter(run, sources())
    with database.reading() as connection:
        assert connection.execute(select(tables.evaluation_items)).all() == []


def test_items_are_found_by_id_page_and_status_within_their_run_and_tenant(runs: EvalRuns) -> None:
    run, other = ordered(runs, rows=5), ordered(runs, rows=5)
    runs.finish(run, [done(run, place, "fail" if place % 2 else "pass") for place in range(4)])
    items = runs.items(run, limit=9)
    assert [item.position for item in items] == [0, 1, 2, 3]
    assert items[1].output == {"made": 1}
    assert runs.item(run, items[1].id) == items[1]
    assert [one.position for one in runs.items(run, limit=2, after=items[0].id)] == [1, 2]
    assert [one.position for one in runs.items(run, limit=2, after=items[2].id, ascending=False)] == [1, 0]
    assert [one.position for one in runs.items(run, limit=9, status="fail")] == [1, 3]
    for id in (
        items[1].id + "0",
        "outputitem_x",
        "",
        items[1].id[:-1] + "u",
        replace(items[0], position=4).id,
    ):
        assert runs.item(run, id) is None
    assert runs.item(other, items[1].id) is None
    assert runs.items(replace(run, tenant="other"), limit=9) == []


def test_what_is_deleted_is_gone_with_everything_under_it(evaluations: Evaluations, runs: EvalRuns) -> None:
    evaluation = made(evaluations)
    run, kept = ordered(runs, evaluation.id, rows=2), ordered(runs, "eval_other", rows=2)
    second = ordered(runs, evaluation.id, rows=1)
    assert not runs.delete("other", second.id)
    assert runs.delete("acme", second.id) and runs.get("acme", second.id) is None
    assert evaluations.delete("acme", evaluation.id)
    assert runs.get("acme", run.id) is None and runs.waiting(run) == []
    assert len(runs.waiting(kept)) == 2


def test_two_changes_at_once_are_both_kept(evaluations: Evaluations) -> None:
    one = made(evaluations)

    def other() -> None:
        evaluations.change("acme", one.id, lambda now: replace(now, metadata={"by": "other"}))

    with meanwhile(evaluations._database, "UPDATE evaluations", other):
        evaluations.change("acme", one.id, lambda now: replace(now, name="new"))
    found = evaluations.get("acme", one.id)
    assert found is not None and (found.name, found.metadata) == ("new", {"by": "other"})


@pytest.mark.parametrize("way", ["run", "evaluation", "tenant"])
def test_no_row_outlives_its_run(
    evaluations: Evaluations, runs: EvalRuns, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_runs, "_AT_A_STRETCH", 2)
    one = made(evaluations)
    run = ordered(runs, one.id)

    def deleted() -> object:
        if way == "run":
            return runs.delete("acme", run.id)
        if way == "evaluation":
            return evaluations.delete("acme", one.id)
        return Contents(runs._database).forget_tenant("acme")

    rows = [Source(place, {"item": {"n": place}}) for place in range(5)]
    with meanwhile(runs._database, "INSERT INTO evaluation_items", deleted, when=2) as said:
        runs.enter(run, rows)
    assert said[0] and runs.waiting(run) == []
