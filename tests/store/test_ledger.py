"""The ledger's lines are chained, its sums exact, and whatever is changed behind its back is found."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from baimo.core.call import Usage
from baimo.core.money import MICROS
from baimo.core.record import Record, linked
from baimo.errors import UsageError
from baimo.store import migrations, pruning, rollups
from baimo.store.chain import START, append
from baimo.store.contents import Kept, put, sealed
from baimo.store.engine import Database
from baimo.store.entry import Entry
from baimo.store.filters import Filters
from baimo.store.ledger import Ledger
from baimo.store.lines import clean, line_of, row_of, row_of_record
from baimo.store.store import Store
from tests.store.accounting import NOW_MS, ended, entry
from tests.store.meeting import meanwhile

DAY = 86_400_000


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def written(database: Database, *calls: Entry) -> None:
    with database.writing() as connection:
        append(connection, [row_of(call) for call in calls])


def some(count: int = 30) -> list[Entry]:
    """Calls of three days, two keys, three models, some failed, some of unknown cost."""
    picked = random.Random(7)
    calls: list[Entry] = []
    for number in range(count):
        call = entry(
            key=picked.choice(("k1", "k2")),
            model=picked.choice(("v/m", "v/n", "w/模型")),
            tags=json.dumps({"team": picked.choice(("a", "b"))}, separators=(",", ":")),
            at_ms=NOW_MS - DAY + number * 3 * DAY // count,
        )
        ended(call, picked.randrange(1, 500), picked.randrange(1, 500))
        if number % 7 == 3:
            call.status, call.tokens_in, call.tokens_out, call.cost_micros, call.cost_rest = (
                "x.y",
                *[None] * 4,
            )
        calls.append(call)
    return calls


def changed(database: Database, statement: str) -> None:
    with database.writing() as connection:
        connection.execute(text(statement))


def test_each_line_is_chained_to_the_one_before(database: Database) -> None:
    calls = [ended(entry(at_ms=NOW_MS)) for _ in range(3)]
    written(database, calls[0])
    written(database, *calls[1:])
    lines = Ledger(database).records(newest_first=False)
    assert [line.seq for line in lines] == [1, 2, 3]
    chain = START
    for line, call in zip(lines, calls, strict=True):
        chain = linked(chain, line_of(row_of(call)))
        assert line.chain == chain.hex() and line.record.id == call.id
    assert Ledger(database).head() == (3, chain)


def test_more_lines_than_one_statement_takes_are_all_there(database: Database) -> None:
    calls = [ended(entry(at_ms=NOW_MS)) for _ in range(200)]
    written(database, *calls)
    assert [line.record.id for line in Ledger(database).lines()] == [call.id for call in calls]
    assert Ledger(database).verify().ok


def test_records_of_other_verbs_are_in_the_chain_too(database: Database) -> None:
    store = Store(database)
    usage = Usage(tokens_in=3, tokens_out=2)
    record = Record(id="rec_a", at_ms=NOW_MS, surface="compare", model="v/m", usage=usage, cost_micros=9)
    store.settle(record)
    assert Ledger(database).line("rec_a").record == record  # type: ignore[union-attr]
    (spend,) = Ledger(database).sums()
    assert (spend.calls, spend.cost_micros, spend.tokens_in) == (1, 9, 3)
    assert Ledger(database).verify().ok


def test_an_untouched_ledger_verifies_and_says_how_far(database: Database) -> None:
    written(database, *some())
    told: list[tuple[int, int]] = []
    findings = Ledger(database).verify(lambda done, total: told.append((done, total)))
    assert findings.ok and not findings.findings and findings.lines == 30
    assert told[-1] == (30, 30) and findings.unpriced == 4
    assert findings.chain == Ledger(database).head().chain.hex()


@pytest.mark.parametrize(("input", "output", "ok"), [(0, 0, True), (1, 0, False), (0, 1, False)])
def test_a_cost_without_tokens_can_be_derived_where_only_the_call_has_a_price(
    database: Database, input: int, output: int, ok: bool
) -> None:
    call = ended(entry(at_ms=NOW_MS), cost_micros=40_000, cost_rest=0, price_call=40_000)
    call.tokens_in = call.tokens_out = None
    call.price_in, call.price_out = input, output
    written(database, call)
    assert Ledger(database).verify().ok is ok


@pytest.mark.parametrize(
    ("statement", "kinds", "place"),
    [
        ("UPDATE records SET cost_micros = cost_micros + 1 WHERE seq = 5", {"chain", "cost", "total"}, "5"),
        ("UPDATE records SET status = 'ok' WHERE seq = 4", {"chain", "total"}, "4"),
        ("UPDATE records SET tags = '{}' WHERE seq = 7", {"chain"}, "7"),
        ("DELETE FROM records WHERE seq = 9", {"gap", "chain", "total"}, "10"),
        ("DELETE FROM records WHERE seq = 30", {"head", "total"}, "30"),
        ("UPDATE ledger_head SET seq = 29", {"head", "total"}, "29"),
        ("UPDATE totals SET cost_rest = cost_rest + 1 WHERE model = 'v/n'", {"total"}, "v/n"),
        ("DELETE FROM totals WHERE key = 'k2'", {"total"}, "k2"),
    ],
)
def test_what_was_changed_is_found(database: Database, statement: str, kinds: set[str], place: str) -> None:
    written(database, *some())
    changed(database, statement)
    findings = Ledger(database).verify()
    assert not findings.ok
    assert {finding.kind for finding in findings.findings} == kinds
    assert any(place in finding.place for finding in findings.findings)
    assert all(str(finding) for finding in findings.findings)


@pytest.mark.parametrize(
    ("statement", "kinds"),
    [
        ("UPDATE records SET charges = 'x' WHERE seq = 5", {"chain", "line", "total"}),
        ("UPDATE records SET charges = '[[\"a\", {}]]', began_ms = NULL", {"chain", "line", "total"}),
        ("UPDATE records SET limits = 1, began_ms = NULL WHERE seq = 5", {"chain", "line", "total"}),
        ("UPDATE records SET limits = -1 WHERE seq = 5", {"chain", "line", "total"}),
        ("UPDATE records SET at_ms = 9000000000000000000 WHERE seq = 5", {"chain", "line", "total"}),
        ("UPDATE totals SET day = 'x' || day WHERE key = 'k2'", {"total"}),
        ("UPDATE totals SET day = replace(day, '-', '')", {"total"}),
        ("UPDATE meters SET bucket = 'x'", {"limit"}),
        ("UPDATE meters SET bucket = 'key:k1:cost:month:2026-99'", {"limit"}),
        ("DELETE FROM ledger_head", {"head"}),
        ("DELETE FROM rolled", {"rollup"}),
        ("UPDATE rolled SET seq = seq + 99", {"rollup"}),
    ],
)
def test_what_nobody_can_reckon_with_is_named_and_the_proof_goes_on(
    database: Database, statement: str, kinds: set[str]
) -> None:
    spoilt(database, statement)
    assert {finding.kind for finding in Ledger(database).verify().findings} == kinds


@pytest.mark.parametrize(
    ("statement", "kinds"),
    [
        ("UPDATE records SET tokens_in = 'x' WHERE seq = 5", {"chain", "line", "total"}),
        ("UPDATE records SET tokens_out = 1.5 WHERE seq = 5", {"chain", "line", "total"}),
        ("UPDATE records SET limits = 'x' WHERE seq = 5", {"chain", "line", "total"}),
        ("UPDATE records SET model = x'ff' WHERE seq = 5", {"chain", "line", "total"}),
        ("UPDATE records SET chain = 'x' WHERE seq = 5", {"chain"}),
        ("UPDATE totals SET calls = 'x'", {"total"}),
        ("UPDATE totals SET day = CAST(day AS BLOB)", {"total"}),
        ("UPDATE meters SET used = 'x'", {"limit"}),
        ("UPDATE meters SET bucket = 7", {"limit"}),
        ("UPDATE rolled SET seq = 'x'", {"rollup"}),
        ("UPDATE rollups SET calls = 'x'", {"rollup"}),
        ("UPDATE rollups SET day = CAST(day AS BLOB), model = 7 WHERE kind = 'payers'", {"rollup"}),
        ("UPDATE ledger_head SET seq = 'x'", {"head"}),
        ("UPDATE ledger_head SET chain = 'x'", {"head"}),
        ("INSERT INTO ledger_checkpoints VALUES ('x', 'y', 0, 1)", set[str]()),
    ],
)
def test_a_value_of_another_type_is_named_and_the_proof_goes_on(
    tmp_path: Path, statement: str, kinds: set[str]
) -> None:
    with closing(Database(str(tmp_path / "baimo.db"))) as database:
        spoilt(database, statement)
        assert {finding.kind for finding in Ledger(database).verify().findings} == kinds


def spoilt(database: Database, statement: str) -> None:
    """A ledger with one limit and roll-ups, and what the statement makes of it."""
    written(database, *some())
    rollups.count_in(database)
    changed(database, "INSERT INTO meters VALUES ('key:k1:cost:month:2026-11', 0, 0, 0)")
    changed(database, statement.replace("{}", "1.5"))


def test_one_changed_line_is_one_broken_link(database: Database) -> None:
    written(database, *some())
    changed(database, "UPDATE records SET latency_ms = 1 WHERE seq = 12")
    (finding,) = Ledger(database).verify().findings
    assert (finding.kind, finding.place) == ("chain", "12")


def test_a_cost_that_its_tokens_do_not_make_is_found_even_if_the_chain_agrees(database: Database) -> None:
    call = ended(entry(at_ms=NOW_MS))
    call.cost_micros = 1 + (call.cost_micros or 0)
    written(database, call)
    findings = Ledger(database).verify()
    assert [finding.kind for finding in findings.findings] == ["cost"]


def test_contents_can_be_deleted_and_not_changed(database: Database) -> None:
    hash, stored = sealed(b"prompt and answer")
    call = ended(entry("rec_c", at_ms=NOW_MS), content_hash=hash)
    written(database, call)
    with database.writing() as connection:
        put(connection, [Kept("rec_c", "acme", NOW_MS, hash, stored)])
    assert Ledger(database).verify().ok
    with database.writing() as connection:
        connection.execute(text("UPDATE contents SET content = :other"), {"other": sealed(b"other").stored})
    assert [finding.kind for finding in Ledger(database).verify().findings] == ["content"]
    with database.writing() as connection:
        connection.execute(text("UPDATE contents SET content = :it"), {"it": stored})
    for statement in ("tenant = 'other'", "at_ms = at_ms + 1", "hash = 'x'"):
        changed(database, f"UPDATE contents SET {statement}")
        assert [finding.kind for finding in Ledger(database).verify().findings] == ["entry"]
        changed(database, f"UPDATE contents SET tenant = 'acme', at_ms = {NOW_MS}, hash = '{hash}'")
    changed(database, "DELETE FROM contents")
    assert Ledger(database).verify().ok


def test_a_pruned_ledger_still_verifies_and_keeps_its_totals(database: Database) -> None:
    calls = some()
    written(database, *calls)
    ledger = Ledger(database)
    before = ledger.sums(["day", "key", "model"])
    cut = NOW_MS + DAY // 2
    old = sum(call.at_ms < cut for call in calls)
    assert ledger.prune(cut) == old > 0
    findings = ledger.verify()
    assert findings.ok and findings.first == old + 1 and findings.lines == 30 - old
    assert ledger.sums(["day", "key", "model"]) == before
    assert ledger.sums(["status"])[0].calls < 30  # that is not kept
    written(database, ended(entry(at_ms=NOW_MS + 5 * DAY)))
    assert ledger.prune(NOW_MS + 9 * DAY) == 30 - old  # the newest line stays
    assert ledger.verify().ok
    assert ledger.prune(NOW_MS + 9 * DAY) == 0
    changed(database, "UPDATE records SET key = 'k9'")
    assert not ledger.verify().ok


@pytest.mark.parametrize("by", [["day"], ["key", "model"], ["tag:team"], ["status", "day"], ["route"], []])
def test_sums_are_those_of_the_lines(database: Database, by: list[str]) -> None:
    calls = some(60)
    written(database, *calls)
    for each in Ledger(database).sums(by):
        mine = [call for call in calls if _group(call, by) == each.group]
        known = [call for call in mine if call.cost_micros is not None]
        exact = sum(Fraction(c.cost_micros) + Fraction(c.cost_rest, MICROS) for c in known)  # type: ignore[arg-type]
        assert Fraction(each.cost_micros) + Fraction(each.cost_rest, MICROS) == exact
        assert 0 <= each.cost_rest < MICROS
        assert (each.calls, each.unpriced) == (len(mine), len(mine) - len(known))
        assert each.failed == sum(call.status != "ok" for call in mine)
        assert each.tokens_in == sum(call.tokens_in or 0 for call in mine)
    assert sum(each.calls for each in Ledger(database).sums(by)) == 60


def _group(call: Entry, by: list[str]) -> tuple[str, ...]:
    return tuple(
        datetime.fromtimestamp(call.at_ms / 1000, UTC).date().isoformat()
        if name == "day"
        else call.tags.split('"')[3]
        if name.startswith("tag")
        else str(getattr(call, name))
        for name in by
    )


def test_sums_from_totals_and_from_lines_agree(database: Database) -> None:
    written(database, *some(80))
    midnight = NOW_MS // DAY * DAY
    ledger = Ledger(database)
    for filters in (
        Filters(),
        Filters(since_ms=midnight, until_ms=midnight + DAY),
        Filters(key="k1", model="w/模型"),
    ):
        kept = ledger.sums(["day", "model"], filters)
        exactly = Filters(
            since_ms=filters.since_ms or 1, until_ms=filters.until_ms, key=filters.key, model=filters.model
        )
        if exactly.since_ms == 1:
            assert ledger.sums(["day", "model"], exactly) == kept
        else:
            assert sum(each.calls for each in kept) == ledger.count(filters)


def test_an_unknown_group_is_refused_with_those_there_are(database: Database) -> None:
    with pytest.raises(UsageError, match="colour") as caught:
        Ledger(database).sums(["colour"])
    assert "tenant" in caught.value.hint


def test_pages_follow_each_other_without_gap(database: Database) -> None:
    written(database, *some(25))
    ledger = Ledger(database)
    seen: list[int] = []
    cursor = None
    while page := ledger.records(limit=10, cursor=cursor):
        seen += [line.seq for line in page]
        cursor = page[-1].seq
    assert seen == list(range(25, 0, -1))
    assert {line.record.status for line in ledger.lines(Filters(status="failed"))} == {"x.y"}
    assert all(line.record.tags["team"] == "a" for line in ledger.lines(Filters(tags={"team": "a"})))
    assert ledger.count(Filters(tags={"team": "a"})) + ledger.count(Filters(tags={"team": "b"})) == 25


def test_a_tag_with_any_name_can_be_asked_for(database: Database) -> None:
    written(database, ended(entry(at_ms=NOW_MS, tags='{"cost.centre[1]":"42","键":"值"}')))
    ledger = Ledger(database)
    assert [each.group for each in ledger.sums(["tag:cost.centre[1]"])] == [("42",)]
    assert [each.group for each in ledger.sums(["tag:键"], Filters(tags={"键": "值"}))] == [("值",)]
    assert [each.group for each in ledger.sums(["tag:none"])] == [("",)]


def test_lines_from_before_the_chain_are_chained_when_the_schema_is_raised(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE migrations (name TEXT PRIMARY KEY, checksum TEXT, applied_ms BIGINT)")
        name, statements = migrations.STEPS[0]
        for statement in statements:
            old.execute(statement.format(blob="BLOB"))
        old.execute("INSERT INTO migrations VALUES (?, ?, 0)", (name, migrations.checksum(statements)))
        for number in range(12_000):
            old.execute(
                "INSERT INTO records VALUES (?, ?, 'compare', 'v/m', '', 'run_1', '', '', 'ok', 3, 2, NULL, NULL,"
                " 0, 5, 'USD', 12.5, 1, 'h', 'c', '{}')",
                (f"rec_{number:06d}", 1_700_000_000_000 - number),
            )
        old.commit()
    with closing(Database(str(path))) as database:
        ledger = Ledger(database)
        findings = ledger.verify()
        assert findings.ok and findings.lines == 12_000
        assert (
            ledger.records(limit=1, newest_first=False)[0].record.id == "rec_011999"
        )  # in the order of time
        assert ledger.sums()[0].cost_micros == 60_000
        written(database, ended(entry(at_ms=NOW_MS)))
        assert ledger.verify().ok and ledger.head().seq == 12_001


_odd = st.one_of(st.none(), st.integers(), st.floats(), st.text(st.characters()), st.booleans())


@settings(max_examples=60)
@given(values=st.lists(_odd, min_size=40, max_size=40), seed=st.integers(0, 1 << 30))
def test_a_row_of_anything_at_all_can_be_kept_once_it_is_cleaned(values: list[object], seed: int) -> None:
    row = list(row_of(ended(entry())))
    picked = random.Random(seed)
    for place, value in enumerate(values):
        if picked.random() < 0.5:
            row[place] = value
    tidy = clean(tuple(row))
    assert clean(tidy) == tidy
    with closing(Database(":memory:")) as database:
        with database.writing() as connection:
            append(connection, [tidy])
        with database.reading() as connection:
            (kept,) = connection.execute(text("SELECT * FROM records")).all()
        assert line_of(tuple(kept[2:])) == line_of(tidy)


@settings(max_examples=40)
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00\x02")),
        min_size=5,
        max_size=5,
    )
)
def test_text_with_any_character_is_kept_as_it_is(database_of_the_module: Database, texts: list[str]) -> None:
    model_used, status, run, tag, route = (each[:200] for each in texts)
    tags = json.dumps({"t": tag}, ensure_ascii=False)
    call = ended(entry(at_ms=NOW_MS, status=status, run=run, tags=tags, route=route), model_used=model_used)
    written(database_of_the_module, call)
    line = Ledger(database_of_the_module).line(call.id)
    assert line is not None and row_of_record(line.record)[4] == model_used
    assert (line.record.status, line.record.run, line.record.route) == (status, run, route)
    assert line.record.tags == {"t": tag}
    assert Ledger(database_of_the_module).verify().ok


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_of_the_module(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'baimo.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server")
    with closing(Database(url)) as opened:
        yield opened


def test_two_who_prune_at_once_both_come_to_an_end(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_TOGETHER", 5)
    written(database, *some())
    ledger = Ledger(database)
    told: list[tuple[int, int]] = []

    def other() -> int:
        return ledger.prune(NOW_MS + 9 * DAY)

    with meanwhile(database, "SELECT seq, chain FROM ledger_head", other) as said:
        gone = ledger.prune(NOW_MS + 9 * DAY, lambda *place: told.append(place))
    assert gone + said[0] == 29 and told[-1] == (29, 29)
    assert ledger.verify().ok
