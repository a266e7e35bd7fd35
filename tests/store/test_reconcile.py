"""The ledger against providers' statements, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baimo.core.call import Usage
from baimo.core.record import Record
from baimo.errors import UsageError
from baimo.store.engine import Database
from baimo.store.pruning import prune
from baimo.store.reconcile import Reconciliation, plain_name, reconciled
from baimo.store.statements.statement import statement
from baimo.store.store import Store
from tests.store import exports
from tests.store.exports import FIRST, Call, written

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
PICO = 10**12
MODELS = {"openai": "gpt-4.1-2025-04-14", "anthropic": "claude-haiku-4-5-20251001"}
ALL = {
    "openai": (
        *(exports.openai_usage, exports.openai_costs, exports.openai_usage_csv, exports.openai_costs_csv),
    ),
    "anthropic": (
        *(exports.anthropic_usage, exports.anthropic_cost),
        *(exports.anthropic_usage_csv, exports.anthropic_cost_csv),
    ),
}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def record(number: int, call: Call, vendor: str = "openai", **changes: Any) -> Record:
    """The ledger's line of a call that the provider knows of."""
    micros, rest = divmod(int(call.cost * PICO), 10**6)
    values: dict[str, Any] = {
        "id": f"rec_{number:06}",
        "at_ms": FIRST * 1000 + call.day * DAY_MS + 9 * HOUR_MS + number,
        "surface": "chat",
        "model": f"{vendor}/{call.model.rpartition('-20')[0] or call.model}",
        "model_used": call.model,
        "usage": Usage(
            tokens_in=call.fresh + call.cached + call.written,
            tokens_out=call.out,
            tokens_cached=call.cached,
            tokens_cache_write=call.written,
        ),
        "cost_micros": micros,
        "cost_rest": rest,
    }
    return Record(**(values | changes))


def keep(database: Database, records: Sequence[Record]) -> None:
    store = Store(database)
    for one in records:
        store.settle(one)


def compared(database: Database, folder: Path, text: str, **options: Any) -> Reconciliation:
    return reconciled(database, statement(written(folder, text)), **options)


def calls_of(vendor: str) -> list[Call]:
    model = MODELS[vendor]
    return [
        Call(model=model, fresh=100, cached=30, written=20, out=50, cost=Decimal("0.25")),
        Call(model=model, fresh=10, out=1, cost=Decimal("0.000013000001"), key="key_2"),
        Call(model=model, day=1, fresh=7, out=70, cost=Decimal("1.5")),
    ]


@pytest.mark.parametrize("vendor", ALL)
def test_a_ledger_agrees_with_every_form_of_its_provider_s_statement(
    vendor: str, database: Database, tmp_path: Path
) -> None:
    calls = calls_of(vendor)
    keep(database, [record(number, call, vendor) for number, call in enumerate(calls)])
    for make in ALL[vendor]:
        found = compared(database, tmp_path, make(calls))
        assert found.differing == [], found.rows
        assert [row.day for row in found.rows] == ["2026-11-06", "2026-11-07"]
        assert (found.doubts, found.currency) == (0, "USD")
        assert all(row.theirs is not None and row.ours is not None for row in found.rows)


@pytest.mark.parametrize("vendor", ALL)
def test_one_token_or_one_cent_too_many_is_found_where_it_is(
    vendor: str, database: Database, tmp_path: Path
) -> None:
    calls = calls_of(vendor)
    keep(database, [record(number, call, vendor) for number, call in enumerate(calls)])
    more = [*calls[:2], Call(model=MODELS[vendor], day=1, fresh=8, out=70, cost=Decimal("1.52"))]
    for make in ALL[vendor]:
        found = compared(database, tmp_path, make(more))
        wanted = ("cost",) if "cost" in make.__name__ else ("tokens_in",)
        assert [(row.day, row.differs) for row in found.differing] == [("2026-11-07", wanted)], make


def test_money_within_the_tolerance_does_not_differ(database: Database, tmp_path: Path) -> None:
    calls = calls_of("openai")
    keep(database, [record(number, call) for number, call in enumerate(calls)])
    more = [*calls[:2], Call(model=MODELS["openai"], day=1, cost=Decimal("1.51"))]
    text = exports.openai_costs(more)
    assert compared(database, tmp_path, text).differing == []
    assert len(compared(database, tmp_path, text, tolerance=Decimal("0.009")).differing) == 1


def test_amounts_that_were_rounded_to_the_cent_are_allowed_half_a_cent_each(
    database: Database, tmp_path: Path
) -> None:
    calls = [
        Call(model=MODELS["anthropic"], cost=Decimal("0.0049"), key=f"key_{number}") for number in range(9)
    ]
    keep(database, [record(number, call, "anthropic") for number, call in enumerate(calls)])
    text = exports.anthropic_cost_csv(calls)  # nine times 0.00
    found = compared(database, tmp_path, text)
    assert found.differing == []
    assert [note.facts for note in found.notes if note.key == "reconcile.note_rounded"] == [{"count": 9}]
    keep(database, [record(100, Call(model=MODELS["anthropic"], cost=Decimal("0.02")), "anthropic")])
    assert len(compared(database, tmp_path, text).differing) == 1


def test_what_only_one_side_has_is_listed_as_such(database: Database, tmp_path: Path) -> None:
    theirs = Call(model="gpt-x", fresh=5, out=5)
    ours = [Call(model="gpt-y", fresh=5, out=5), Call(model="gpt-y", day=2, fresh=1, out=1)]
    keep(database, [record(number, call) for number, call in enumerate(ours)])
    found = compared(database, tmp_path, exports.openai_usage([theirs]))
    sides = [(row.day, row.model, row.theirs is None, row.ours is None) for row in found.differing]
    assert sides == [
        ("2026-11-06", "gpt-x", False, True),
        ("2026-11-06", "gpt-y", True, False),
        ("2026-11-08", "gpt-y", True, False),  # a day that the statement covers, and has nothing on
    ]


def test_calls_outside_the_statement_s_time_or_of_other_vendors_are_left_out(
    database: Database, tmp_path: Path
) -> None:
    call = Call(model="m", fresh=5, out=5)
    keep(
        database,
        [
            record(0, call),
            record(1, call, began_ms=FIRST * 1000 - 1),
            record(2, call, at_ms=(FIRST + 3 * exports.DAY) * 1000),
            record(3, call, "other"),
            record(4, call, "openaix"),
            record(5, call, attempts=0),  # answered from the cache
        ],
    )
    found = compared(database, tmp_path, exports.openai_usage([call]))
    assert found.differing == []
    assert found.rows[0].ours is not None and found.rows[0].ours.calls == 1
    both = compared(database, tmp_path, exports.openai_usage([call, call]), vendors=("openai", "other"))
    assert both.differing == []


def test_a_call_belongs_to_the_day_on_which_it_began(database: Database, tmp_path: Path) -> None:
    midnight = (FIRST + exports.DAY) * 1000
    call = Call(model="m", fresh=5, out=5)
    keep(database, [record(0, call, began_ms=midnight - 1, at_ms=midnight + 5)])
    found = compared(database, tmp_path, exports.openai_usage([call]))
    assert found.differing == []
    assert [note.key for note in found.notes] == ["reconcile.note_across"]


def test_days_that_begin_elsewhere_are_followed(database: Database, tmp_path: Path) -> None:
    call = Call(model="m", fresh=5, out=5)
    late = FIRST * 1000 + DAY_MS + 2 * HOUR_MS  # the provider's first day still runs
    keep(database, [record(0, call), record(1, call, at_ms=late)])
    page = json.loads(exports.openai_usage([call, call]))
    for bucket in page["data"]:
        bucket["start_time"] += 8 * 3600
        bucket["end_time"] += 8 * 3600
    found = compared(database, tmp_path, json.dumps(page))
    assert found.differing == []
    assert [(note.key, note.facts) for note in found.notes] == [("reconcile.note_offset", {"hours": "8"})]


def test_days_whose_lines_were_pruned_are_not_compared(database: Database, tmp_path: Path) -> None:
    calls = calls_of("openai")
    keep(database, [record(number, call) for number, call in enumerate(calls)])
    assert prune(database, FIRST * 1000 + 9 * HOUR_MS + 1) == 1  # half of the first day is still there
    found = compared(database, tmp_path, exports.openai_usage(calls))
    assert [(row.day, row.differs) for row in found.rows] == [("2026-11-07", ())]
    (note,) = [note for note in found.notes if note.key == "reconcile.note_pruned"]
    assert note.facts == {"since": "2026-11-06T00:00:00Z", "until": "2026-11-07T00:00:00Z"}
    keep(database, [record(9, Call(model="m", day=30))])
    prune(database, FIRST * 1000 + 20 * DAY_MS)
    with pytest.raises(UsageError, match="were pruned"):
        compared(database, tmp_path, exports.openai_usage(calls))
    other = compared(database, tmp_path, exports.openai_usage(calls), vendors=("azure",))
    assert len(other.differing) == 2  # nothing of theirs was pruned


def test_a_statement_without_models_is_compared_day_by_day(database: Database, tmp_path: Path) -> None:
    calls = [Call(model="m", cost=Decimal(1)), Call(model="n", cost=Decimal(2))]
    keep(database, [record(number, call) for number, call in enumerate(calls)])
    page = json.loads(exports.openai_costs(calls))
    for bucket in page["data"]:
        for result in bucket["results"]:
            result["line_item"] = None
    found = compared(database, tmp_path, json.dumps(page))
    assert found.differing == []
    assert [(row.day, row.model) for row in found.rows] == [("2026-11-06", "")]
    assert "reconcile.note_all_models" in [note.key for note in found.notes]


def test_things_that_are_no_model_are_on_the_provider_s_side_only(database: Database, tmp_path: Path) -> None:
    page = json.loads(exports.openai_costs([]))
    amount = {"value": 0.5, "currency": "usd"}
    page["data"][0]["results"] = [{"amount": amount, "line_item": "web search tool calls"}]
    found = compared(database, tmp_path, json.dumps(page))
    assert [(row.model, row.differs) for row in found.differing] == [("web search tool calls", ("cost",))]


def test_calls_whose_line_is_not_certain_are_listed(database: Database, tmp_path: Path) -> None:
    call = Call(model="m", fresh=5, out=5, cost=Decimal(1))
    usage = Usage(tokens_in=5, tokens_out=5, estimated=True)
    keep(
        database,
        [
            record(0, call),
            record(1, call, unsure=2),
            record(2, call, usage=usage),
            record(3, call, cost_micros=None, cost_rest=None),
            record(4, call, usage=Usage(tokens_in=5)),
            record(5, call, "other", unsure=1),
        ],
    )
    found = compared(database, tmp_path, exports.openai_usage([call]))
    assert found.doubts == 4
    assert [(one.record[-1], one.unsure, one.estimated, one.unpriced) for one in found.doubtful] == [
        ("1", 2, False, False),
        ("2", 0, True, False),
        ("3", 0, False, True),
        ("4", 0, False, False),
    ]


def test_one_key_or_project_of_the_provider_can_be_compared_alone(database: Database, tmp_path: Path) -> None:
    calls = calls_of("openai")
    keep(database, [record(number, call) for number, call in enumerate(calls) if call.key == "key_2"])
    text = exports.openai_usage_csv(calls)
    assert compared(database, tmp_path, text).differing
    found = compared(database, tmp_path, text, key="key_2", project="proj_1")
    assert found.differing == []
    for options, names in (({"key": "key_9"}, "key_1, key_2"), ({"project": "x"}, "proj_1")):
        with pytest.raises(UsageError) as caught:
            compared(database, tmp_path, text, **options)
        assert names in caught.value.hint
    with pytest.raises(UsageError, match="does not tell keys apart"):
        compared(database, tmp_path, exports.openai_costs(calls), key="key_1")


def test_calls_kept_in_another_currency_are_told_and_not_added_up(database: Database, tmp_path: Path) -> None:
    call = Call(model="m", cost=Decimal(1))
    keep(database, [record(0, call), record(1, call, currency="CNY")])
    found = compared(database, tmp_path, exports.openai_costs([call]))
    assert found.differing == []
    assert [note.facts for note in found.notes] == [{"count": 1, "currency": "CNY"}]


@pytest.mark.parametrize(
    "names",
    [
        (
            *("Claude Haiku 4.5", "claude-haiku-4-5-20251001", "anthropic/claude-haiku-4.5"),
            "claude-haiku-4-5-latest",
        ),
        ("Claude 3.5 Sonnet 2024-10-22", "claude-3-5-sonnet-20241022"),
        ("gpt-4.1-2025-04-14", "openai/gpt-4.1"),
    ],
)
def test_one_model_has_one_name_whoever_writes_it(names: tuple[str, ...]) -> None:
    assert len({plain_name(name) for name in names}) == 1


def test_models_that_differ_keep_different_names() -> None:
    names = ["gpt-4.1", "gpt-4.1-mini", "gpt-4-0613", "claude-haiku-4-5", "claude-haiku-4", "o3", "o3-mini"]
    assert len({plain_name(name) for name in names}) == len(names)


CALLS = st.lists(
    st.builds(
        Call,
        day=st.integers(0, 2),
        model=st.sampled_from(["gpt-4.1-2025-04-14", "o3", "gpt-5-mini"]),
        fresh=st.integers(0, 10**7),
        cached=st.integers(0, 10**5),
        written=st.integers(0, 10**5),
        out=st.integers(0, 10**6),
        cost=st.integers(0, 10**15).map(lambda pico: Decimal(pico) / PICO),
        key=st.sampled_from(["key_1", "key_2"]),
    ),
    max_size=12,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(calls=CALLS, vendor=st.sampled_from(sorted(ALL)), data=st.data())
def test_agreement_is_exact_and_every_missing_call_is_noticed(
    calls: list[Call], vendor: str, data: st.DataObject
) -> None:
    make = data.draw(st.sampled_from([one for one in ALL[vendor] if one is not exports.anthropic_cost_csv]))
    with tempfile.TemporaryDirectory() as place, closing(Database(f"{place}/baimo.db")) as database:
        folder = Path(place)
        keep(database, [record(number, call, vendor) for number, call in enumerate(calls)])
        full = make([*calls, Call(day=2, model="o3")])  # the last day is covered in every form
        exact = compared(database, folder, full, tolerance=Decimal(0))
        assert exact.differing == []
        if not calls:
            return
        gone = data.draw(st.sampled_from(calls))
        rest = list(calls)
        rest.remove(gone)
        found = compared(
            database, folder, make([*rest, Call(day=2, model="o3"), Call(model="o3")]), tolerance=Decimal(0)
        )
        noticed = gone.cost if "cost" in make.__name__ else gone.fresh + gone.cached + gone.written + gone.out
        if (
            make is exports.openai_usage_csv
        ):  # this table has no column for cache writes; they are prompt tokens
            noticed = gone.fresh + gone.cached + gone.written + gone.out
        assert bool(found.differing) == bool(noticed)
