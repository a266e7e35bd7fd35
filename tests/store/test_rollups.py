"""Roll-ups say what the lines say, to the last millionth, whenever they are asked."""

from __future__ import annotations

import itertools
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from baimo.core.money import MICROS
from baimo.store import rollups
from baimo.store.chain import append
from baimo.store.engine import Database
from baimo.store.entry import Entry
from baimo.store.filters import Filters
from baimo.store.ledger import Ledger, Spend
from baimo.store.lines import row_of
from tests.store.accounting import NOW_MS, ended, entry

DAY = 86_400_000
FROM = NOW_MS // DAY * DAY


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def calls(count: int, seed: int = 3) -> list[Entry]:
    """Of four days, in no order, some failed, some of unknown cost or tokens, in two currencies."""
    picked = random.Random(seed)
    found: list[Entry] = []
    for _ in range(count):
        call = entry(
            tenant=picked.choice(("", "acme", "zeta")),
            key=picked.choice(("k1", "k2", "k3")),
            model=picked.choice(("v/m", "v/n")),
            surface=picked.choice(("chat", "messages")),
            route=picked.choice(("direct", "fallback:error")),
            tags=json.dumps(picked.choice(({}, {"team": "a"}, {"team": "b", "odd.name": "x"}))),
            currency=picked.choice(("USD", "CNY")),
            at_ms=FROM + picked.randrange(4 * DAY),
        )
        ended(call, picked.randrange(1, 500), picked.randrange(1, 500))
        if picked.random() < 0.2:
            call.status = picked.choice(("x.y", "x.z"))
            call.cost_micros = call.cost_rest = None
        if picked.random() < 0.2:
            call.tokens_in = call.cost_micros = call.cost_rest = None
        found.append(call)
    return found


def written(database: Database, lines: Sequence[Entry]) -> None:
    with database.writing() as connection:
        append(connection, [row_of(call) for call in lines])


def value(call: Entry, group: str) -> str:
    if group == "day":
        return f"{datetime.fromtimestamp(call.at_ms / 1000, UTC):%Y-%m-%d}"
    return json.loads(call.tags).get(group[4:], "") if group.startswith("tag:") else getattr(call, group)


def kept(call: Entry, wish: Mapping[str, str]) -> bool:
    return all(
        call.status != "ok" if (name, wanted) == ("status", "failed") else value(call, name) == wanted
        for name, wanted in wish.items()
    )


def expected(lines: Sequence[Entry], by: Sequence[str]) -> list[Spend]:
    """Reckoned line by line."""
    groups: dict[tuple[tuple[str, ...], str], list[Entry]] = defaultdict(list)
    for call in lines:
        groups[tuple(value(call, group) for group in by), call.currency].append(call)
    found: list[Spend] = []
    for (group, currency), some in sorted(groups.items()):
        exact = sum((call.cost_micros or 0) * MICROS + (call.cost_rest or 0) for call in some)
        sums = (
            len(some),
            sum(call.status != "ok" for call in some),
            sum(call.cost_micros is None for call in some),
            sum(call.tokens_in is None for call in some),
            *divmod(exact, MICROS),
            sum(call.tokens_in or 0 for call in some),
            sum(call.tokens_out or 0 for call in some),
            *(0, 0),
        )
        found.append(Spend(group, currency, *sums))
    return found


QUESTIONS = [
    (by, wish)
    for by, wish in itertools.product(
        (
            *([], ["day"], ["model"], ["key"], ["tenant"], ["status"], ["route"], ["surface", "day"]),
            *(["tag:team"], ["tag:odd.name", "day"], ["tag:team", "tag:odd.name"]),
        ),
        (
            {},
            {"tenant": "acme"},
            {"status": "failed"},
            {"status": "x.y"},
            {"model": "v/m"},
            {"tag:team": "a"},
            {"key": "k2"},
            {"key": "nobody"},
            {"key": "k1", "tenant": "zeta"},
            {"route": "direct", "tag:team": "b"},
        ),
    )
]


def asked(database: Database, by: Sequence[str], wish: Mapping[str, str], **moments: int) -> list[Spend]:
    fields = {name: wanted for name, wanted in wish.items() if not name.startswith("tag:")}
    tags = {name[4:]: wanted for name, wanted in wish.items() if name.startswith("tag:")}
    found = Ledger(database).sums(by, Filters(**fields, tags=tags, **moments))  # type: ignore[arg-type]
    return sorted(found, key=lambda one: (one.group, one.currency))  # databases sort text each in their way


def agree(database: Database, lines: Sequence[Entry], *, pruned: bool = False, every: int = 1) -> None:
    for by, wish in QUESTIONS[::every]:
        if pruned and rollups.kind_of("tags" if "tag:" in name else name for name in (*by, *wish)) is None:
            continue  # only the lines could tell
        some = [call for call in lines if kept(call, wish)]
        assert asked(database, by, wish) == expected(some, by), (by, wish)
    middle = [call for call in lines if FROM + DAY <= call.at_ms < FROM + 3 * DAY]
    for by in (["day", "model"], ["status"], ["tag:team"]):
        assert asked(database, by, {}, since_ms=FROM + DAY, until_ms=FROM + 3 * DAY) == expected(middle, by)


def test_sums_are_those_of_the_lines_before_between_and_after_counting_in(database: Database) -> None:
    lines = calls(240)
    assert rollups.count_in(database) == 0
    written(database, lines[:100])
    agree(database, lines[:100], every=7)
    assert rollups.behind(database) == 100 and rollups.count_in(database) == 100
    agree(database, lines[:100], every=5)
    written(database, lines[100:])
    agree(database, lines)
    assert rollups.count_in(database) == 140
    agree(database, lines, every=5)
    with database.snapshot() as connection:
        assert rollups.rolled(connection) == 240
        assert [one for day in rollups.days(connection) for one in rollups.wrong(connection, day)] == []


def test_they_outlive_the_lines_and_the_proof_holds(database: Database) -> None:
    lines = calls(120)
    lines.sort(key=lambda call: call.at_ms)
    written(database, lines)
    book = Ledger(database)
    assert book.prune(FROM + 2 * DAY) > 10
    agree(database, lines, pruned=True)
    assert book.verify().ok


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE rollups SET cost_micros = cost_micros + 1 WHERE kind = 'offer' AND model = 'v/m'",
        "DELETE FROM rollups WHERE kind = 'whole' AND tenant = 'acme' AND tags = '{}'",
        "DELETE FROM rollups WHERE kind = 'payers' AND key = 'k2'",
        "UPDATE rollups SET tags = 'x' WHERE kind = 'offer'",
        "UPDATE rollups SET route = 'x' WHERE kind = 'offer' AND route = 'direct'",
        "UPDATE rollups SET tenant = 'x' WHERE kind = 'offer' AND status = 'ok'",
        "UPDATE rollups SET tags = '{\"team\":\"x\"}' WHERE kind = 'whole' AND tags = '{}'",
        "UPDATE rollups SET first_seq = first_seq + 1",
        "UPDATE rollups SET last_seq = last_seq - 1 WHERE kind = 'payers'",
        "UPDATE rollups SET day = 'x' || day WHERE kind = 'whole'",
        "UPDATE rolled SET seq = seq - 1",
    ],
)
def test_the_proof_finds_what_was_changed_in_them(database: Database, statement: str) -> None:
    written(database, calls(60))
    rollups.count_in(database)
    with database.writing() as connection:
        connection.execute(text(statement))
    assert {one.kind for one in Ledger(database).verify().findings} == {"rollup"}


def test_a_question_counts_in_what_has_piled_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "PATIENCE_MS", 60_000)
    lines = calls(rollups.TAIL)
    written(database, lines)
    assert asked(database, ["status"], {}) == expected(lines, ["status"])
    assert rollups.behind(database) == rollups.TAIL
    more = calls(1, seed=4)
    written(database, more)
    assert asked(database, ["status"], {}) == expected([*lines, *more], ["status"])
    assert rollups.behind(database) == 0


def test_what_was_pruned_before_there_were_roll_ups_is_in_sums_that_do_not_ask_for_more(
    database_url: str,
) -> None:
    lines = calls(120)
    lines.sort(key=lambda call: call.at_ms)
    with closing(Database(database_url)) as database:
        written(database, lines)
        gone = Ledger(database).prune(FROM + 2 * DAY)
        with database.writing() as connection:
            for statement in (
                *("DROP TABLE rollups", "DROP TABLE rolled"),
                "DELETE FROM migrations WHERE name LIKE '%rollups%'",
            ):
                connection.execute(text(statement))
    with closing(Database(database_url)) as database:
        for by in ([], ["model"], ["day", "key"], ["tenant"]):
            assert asked(database, by, {}) == expected(lines, by)
        for by in (["status"], ["model", "route"], ["tag:team"]):
            assert asked(database, by, {}) == expected(lines[gone:], by)
        rollups.count_in(database)
        assert asked(database, ["status"], {"tenant": "acme"}) == expected(
            [call for call in lines[gone:] if call.tenant == "acme"], ["status"]
        )
        assert Ledger(database).verify().ok
