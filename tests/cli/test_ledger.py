"""The ledger from the command line, in both languages."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baimo.core.call import Usage
from baimo.core.record import Record
from baimo.core.tenant import Tenant
from baimo.store import audit
from baimo.store.cached import Cached
from baimo.store.contents import Kept, put, sealed
from baimo.store.engine import Database
from baimo.store.store import Store
from baimo.workspace.workspace import Workspace
from tests.cli.bad_accounts import LEDGER
from tests.cli.runner import baimo, has_chinese, process
from tests.cli.tasks import config
from tests.cli.test_bad_input import check
from tests.store import exports
from tests.store.exports import FIRST, Call

DAY_MS = 86_400_000
AT = FIRST * 1000


CONTENT = {"surface": "chat", "request": b'{"model": "x"}', "answer": b"data: {}\n\n", "cut": False}


def record(number: int, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "id": f"rec_{number}",
        "at_ms": AT + number,
        "surface": "chat",
        "model": "openai/gpt-4.1",
        "model_used": "gpt-4.1-2025-04-14",
        "key": "k" * 12,
        "usage": Usage(tokens_in=100, tokens_out=10),
        "cost_micros": 250_000,
        "cost_rest": 0,
    }
    return Record(**(values | changes))


@pytest.fixture
def kept(folder: Path) -> Path:
    """A workspace whose ledger holds six Records of two tenants, one with its content."""
    assert baimo("tenants", "create", "acme").code == 0
    content = sealed(msgspec.msgpack.encode(CONTENT))
    with closing(Store(Database(str(folder / ".baimo" / "baimo.db")))) as store:
        for one in (
            record(1),
            record(2, tenant="acme", content_hash=content.hash, tags={"team": "a"}),
            record(3, tenant="acme", surface="messages", cost_rest=250_001),
            record(4, status="providers.refused", usage=Usage(), cost_micros=0),
            record(5, at_ms=AT + DAY_MS, model="openai/o3", model_used="", asked="=evil\x1b[31m"),
            record(6, at_ms=AT + DAY_MS, cost_micros=None, cost_rest=None, unsure=1),
        ):
            store.settle(one)
        with store.database.writing() as connection:
            put(connection, [Kept("rec_2", "acme", AT + 2, content.hash, content.stored)])
    return folder


@pytest.mark.parametrize("name", LEDGER)
def test_a_wrong_question_to_the_ledger_is_told_with_what_and_what_next(
    name: str, lang: str, folder: Path
) -> None:
    bad = LEDGER[name]
    check(baimo(*bad.arrange(folder)), lang, bad.code, bad.names, bad.hints)


def test_an_empty_ledger_is_shown_summed_exported_and_verified(folder: Path, lang: str) -> None:
    for command in ("show", "sum"):
        ended = baimo("ledger", command)
        assert (ended.code, ended.out) == (0, "")
        assert has_chinese(ended.err) == (lang == "zh")
        assert baimo("ledger", command, "--json").data == []
    assert len(baimo("ledger", "export").out.splitlines()) == 1
    ended = baimo("ledger", "verify")
    assert ended.code == 0
    assert has_chinese(ended.err) == (lang == "zh")


def test_the_newest_records_come_first_and_unknown_is_a_question_mark(kept: Path) -> None:
    rows = [line.split("\t") for line in baimo("ledger", "show").out.splitlines()]
    assert [row[1] for row in rows] == [f"rec_{number}" for number in (6, 5, 4, 3, 2, 1)]
    costs = {row[1]: row[8] for row in rows}
    assert (costs["rec_6"], costs["rec_4"], costs["rec_1"]) == ("?", "0 USD", "0.25 USD")
    assert costs["rec_3"] == "0.250000250001 USD"
    assert [row["id"] for row in baimo("ledger", "show", "--limit", "2", "--json").data] == ["rec_6", "rec_5"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--tenant", "acme"], "32"),
        (["--tenant", "owner"], "6541"),
        (["--model", "openai/o3"], "5"),
        (["--surface", "messages"], "3"),
        (["--status", "failed"], "4"),
        (["--tag", "team=a"], "2"),
        (["--since", "2026-11-07"], "65"),
        (["--until", "2026-11-07"], "4321"),
        (["--tenant", "acme", "--surface", "chat"], "2"),
    ],
)
def test_records_are_found_by_what_they_are(kept: Path, filters: list[str], expected: str) -> None:
    found = baimo("ledger", "show", *filters, "--json").data
    assert "".join(row["id"][-1] for row in found) == expected


def test_one_record_is_shown_with_its_place_and_on_request_its_content(kept: Path) -> None:
    shown = baimo("ledger", "show", "rec_2").data
    assert (shown["seq"], shown["tags"], shown["cost"]) == (2, {"team": "a"}, "0.25")
    assert len(shown["chain"]) == 64
    assert "content" not in shown
    content = baimo("ledger", "show", "rec_2", "--content").data["content"]
    assert content == {"surface": "chat", "request": {"model": "x"}, "answer": "data: {}\n\n", "cut": False}
    assert baimo("ledger", "show", "rec_1", "--content").data["content"] is None


def test_sums_are_exact_and_count_what_is_not_known(kept: Path, lang: str) -> None:
    [total] = baimo("ledger", "sum", "--by", "", "--json").data
    assert total["cost"] == "1.000000250001"
    assert (total["calls"], total["failed"], total["unpriced"], total["uncounted"]) == (6, 1, 1, 1)
    rows = [line.split("\t") for line in baimo("ledger", "sum", "--by", "tenant,day").out.splitlines()]
    assert [row[:3] for row in rows] == [
        ["–", "2026-11-06", "2"],
        ["–", "2026-11-07", "2"],
        ["acme", "2026-11-06", "2"],
    ]
    by_tag = baimo("ledger", "sum", "--by", "tag:team", "--json").data
    assert {row["group"]["tag:team"]: row["calls"] for row in by_tag} == {"": 5, "a": 1}


def test_an_export_holds_every_record_in_every_form(kept: Path, lang: str) -> None:
    rows = list(csv.DictReader(io.StringIO(baimo("ledger", "export").out)))
    objects = [json.loads(line) for line in baimo("ledger", "export", "--format", "jsonl").out.splitlines()]
    ids = [f"rec_{number}" for number in range(1, 7)]
    assert [row["id"] for row in rows] == [row["id"] for row in objects] == ids
    assert sum(Decimal(row["cost"]) for row in rows if row["cost"]) == Decimal("1.000000250001")
    assert (rows[5]["cost"], objects[5]["cost"], objects[3]["tokens_in"]) == ("", None, None)
    assert rows[4]["asked"].startswith("'=")
    ended = baimo("ledger", "export", "--tenant", "acme", "--output", "acme.csv")
    assert (ended.code, ended.out) == (0, "")
    assert "acme.csv" in ended.err
    assert has_chinese(ended.err) == (lang == "zh")
    assert len((kept / "acme.csv").read_text(encoding="utf-8").splitlines()) == 3
    parquet = pytest.importorskip("pyarrow.parquet")
    assert baimo("ledger", "export", "--format", "parquet", "--output", "all.parquet").code == 0
    assert parquet.read_table(kept / "all.parquet")["id"].to_pylist() == ids


def test_a_library_for_parquet_that_is_missing_is_named(kept: Path, lang: str) -> None:
    absent = "import sys; sys.modules['pyarrow'] = sys.modules['pyarrow.parquet'] = None"
    command = ("ledger", "export", "--format", "parquet", "--output", "x.parquet")
    check(process(*command, folder=kept, before=[absent]), lang, 2, ("pyarrow",), ("baimo[parquet]",))


def test_a_sum_of_nothing_but_unknown_costs_is_unknown(kept: Path) -> None:
    with closing(Store(Database(str(kept / ".baimo" / "baimo.db")))) as store:
        store.settle(record(7, model="house/x", model_used="", cost_micros=None, cost_rest=None))
    rows = [line.split("\t") for line in baimo("ledger", "sum", "--by", "model").out.splitlines()]
    costs = {row[0]: row[-1] for row in rows}
    assert costs["house/x"] == "?"
    assert costs["openai/gpt-4.1"].endswith(
        " USD"
    )  # one of them is unknown, and counted in a column of its own
    sums = {row["group"]["model"]: row for row in baimo("ledger", "sum", "--by", "model", "--json").data}
    assert (sums["house/x"]["cost"], sums["house/x"]["unpriced"]) == (None, 1)
    assert sums["openai/gpt-4.1"]["cost"]


def test_what_a_client_named_cannot_move_the_cursor(kept: Path) -> None:
    assert "\x1b" not in baimo("ledger", "sum", "--by", "asked").out
    assert "=evil\ufffd[31m" in baimo("ledger", "sum", "--by", "asked").out


def test_a_ledger_is_verified_and_a_changed_line_is_named(kept: Path, lang: str) -> None:
    ended = baimo("ledger", "verify")
    assert (ended.code, ended.out) == (0, "")
    assert has_chinese(ended.err) == (lang == "zh")
    anchor = ended.err.rpartition("--anchor ")[2].split()[0]
    with closing(Store(Database(str(kept / ".baimo" / "baimo.db")))) as store:
        store.settle(record(7))
    assert baimo("ledger", "verify", "--anchor", anchor).code == 0
    with closing(sqlite3.connect(kept / ".baimo" / "baimo.db")) as database, database:
        database.execute("UPDATE records SET cost_micros = 1 WHERE id = 'rec_3'")
    ended = baimo("ledger", "verify")
    assert ended.code == 1
    assert "3" in ended.out
    assert has_chinese(ended.out) == (lang == "zh")
    found = baimo("ledger", "verify", "--json")
    assert found.code == 1
    assert found.data["ok"] is False
    assert {"chain", "total"} <= {one["kind"] for one in found.data["findings"]}


def test_a_ledger_that_was_written_anew_breaks_the_anchor_that_was_noted(kept: Path, lang: str) -> None:
    noted = baimo("ledger", "show", "rec_4").data
    anchor = f"{noted['seq']}:{noted['chain']}"
    assert baimo("ledger", "verify", "--anchor", anchor).code == 0
    for path in (kept / ".baimo").iterdir():
        path.unlink()
    with closing(Store(Database(str(kept / ".baimo" / "baimo.db")))) as store:
        for number in range(6):
            store.settle(record(number))
    ended = baimo("ledger", "verify", "--anchor", anchor, "--json")
    assert (ended.code, ended.data["problems"]) == (1, 0)  # in itself it is sound
    assert ended.data["anchors"][0]["holds"] is False
    told = baimo("ledger", "verify", "--anchor", anchor)
    assert told.code == 1
    assert has_chinese(told.out) == (lang == "zh")
    assert (
        baimo("ledger", "verify", "--anchor", f"99:{'0' * 64}", "--json").data["anchors"][0]["holds"] is None
    )


def test_old_records_are_pruned_and_sums_and_proof_stay(kept: Path, lang: str) -> None:
    before = baimo("ledger", "sum", "--by", "model,day", "--json").data
    ended = baimo("ledger", "prune", "--before", "2026-11-07", "--yes")
    assert ended.code == 0
    assert "4" in ended.err
    assert has_chinese(ended.err) == (lang == "zh")
    assert [row["id"] for row in baimo("ledger", "show", "--json").data] == ["rec_6", "rec_5"]
    assert baimo("ledger", "sum", "--by", "model,day", "--json").data == before
    assert baimo("ledger", "verify").code == 0
    config(kept, "[ledger]\nrecords_days = 36500\n")
    assert baimo("ledger", "prune", "--yes").code == 0


def test_what_has_outlived_its_time_goes_without_being_named(folder: Path) -> None:
    now_ms = time.time_ns() // 1_000_000
    content = sealed(b"content")
    with Workspace() as workspace:
        workspace.accounts.create_tenant(Tenant(id="acme", contents_days=1))
        database, store, kept = workspace.store.database, workspace.store, list[Kept]()
        for number, days in enumerate((5, 5, 0)):
            at_ms = now_ms - days * DAY_MS
            store.settle(record(number, at_ms=at_ms, tenant="acme", content_hash=content.hash))
            kept.append(Kept(f"rec_{number}", "acme", at_ms, content.hash, content.stored))
            Cached(database).put("acme", f"answer {number}", at_ms, b"answer", 0)
        with database.writing() as connection:
            put(connection, kept)
        assert workspace.bookkeeping.prune(None) == (0, 4)  # two contents, two answers
        assert Cached(database).get("acme", "answer 2", 0).data == b"answer"
        assert audit.acts(database, limit=1)[0].facts == {"records": 0, "contents": 4}
        assert workspace.bookkeeping.prune(None) == (0, 0)
        assert len(audit.acts(database)) == 2  # nothing was done, so nothing is said
    config(folder, "[ledger]\nrecords_days = 1\n")
    with Workspace() as workspace:
        assert workspace.bookkeeping.prune(workspace.bookkeeping.prunable_ms(None)) == (2, 0)
        assert workspace.bookkeeping.verify().ok
    assert [row["id"] for row in baimo("ledger", "show", "--json").data] == ["rec_2"]


def test_contents_are_forgotten_and_the_proof_stays(kept: Path, lang: str) -> None:
    assert baimo("ledger", "forget", "--tenant", "owner", "--yes").code == 0
    assert baimo("ledger", "show", "rec_2", "--content").data["content"] is not None
    ended = baimo("ledger", "forget", "--record", "rec_2", "--yes")
    assert ended.code == 0
    assert "1" in ended.err
    assert has_chinese(ended.err) == (lang == "zh")
    shown = baimo("ledger", "show", "rec_2", "--content").data
    assert shown["content"] is None
    assert shown["content_hash"]
    assert baimo("ledger", "verify").code == 0


def test_a_tenant_is_forgotten_and_its_records_stay(kept: Path) -> None:
    assert baimo("tenants", "forget", "acme", "--yes", "--json").data["deleted"]["contents"] == 1
    assert len(baimo("ledger", "show", "--tenant", "acme", "--json").data) == 2
    assert baimo("ledger", "verify").code == 0


# reconcile

CALLS = [
    Call(model="gpt-4.1-2025-04-14", fresh=100, out=10, cost=Decimal("0.25")),
    Call(model="gpt-4.1-2025-04-14", fresh=100, out=10, cost=Decimal("0.25")),
    Call(model="gpt-4.1-2025-04-14", fresh=100, out=10, cost=Decimal("0.25")),
    Call(model="o3", day=1, fresh=100, out=10, cost=Decimal("0.25")),
    Call(model="gpt-4.1-2025-04-14", day=1, fresh=100, out=10),
]


def test_a_statement_that_agrees_ends_with_code_0(kept: Path, lang: str) -> None:
    for make in (exports.openai_usage, exports.openai_costs, exports.openai_usage_csv):
        (kept / "export").write_text(make(CALLS), encoding="utf-8")
        ended = baimo("ledger", "reconcile", "export")
        assert (ended.code, ended.out) == (0, ""), ended.all
        assert has_chinese(ended.err) == (lang == "zh")
        assert "rec_6" in ended.err  # the call that may have been billed
    everything = baimo("ledger", "reconcile", "export", "--all")
    rows = [line.split("\t") for line in everything.out.splitlines()]
    assert {(row[0], row[1]) for row in rows} == {
        ("2026-11-06", "gpt-4.1-2025-04-14"),
        ("2026-11-07", "gpt-4.1-2025-04-14"),
        ("2026-11-07", "o3"),
    }
    assert {row[5] for row in rows} == {"0"}


def test_a_statement_that_differs_ends_with_code_1_and_the_difference(kept: Path, lang: str) -> None:
    more = [*CALLS, Call(model="o3", day=1, fresh=7, cost=Decimal("0.02"))]
    (kept / "usage").write_text(exports.openai_usage(more), encoding="utf-8")
    ended = baimo("ledger", "reconcile", "usage")
    assert ended.code == 1
    [row] = [line.split("\t") for line in ended.out.splitlines()]
    assert (row[:2], row[3:]) == (["2026-11-07", "o3"], ["107", "100", "-7"])
    assert has_chinese(row[2]) == (lang == "zh")
    (kept / "costs").write_text(exports.openai_costs(more), encoding="utf-8")
    [row] = [line.split("\t") for line in baimo("ledger", "reconcile", "costs").out.splitlines()]
    assert row[3:] == ["0.27 USD", "0.25 USD", "-0.02 USD"]
    assert baimo("ledger", "reconcile", "costs", "--tolerance", "0.05").code == 0


def test_a_reconciliation_is_data_too(kept: Path) -> None:
    (kept / "usage").write_text(exports.openai_usage(CALLS[1:]), encoding="utf-8")
    ended = baimo("ledger", "reconcile", "usage", "--json")
    assert (ended.code, ended.data["agrees"], ended.data["form"]) == (1, False, "openai-usage-json")
    [row] = [row for row in ended.data["rows"] if row["differs"]]
    assert row["differs"] == ["tokens_in", "tokens_out"]
    assert (row["statement"]["tokens_in"], row["ledger"]["tokens_in"]) == (200, 300)
    assert (ended.data["doubts"], ended.data["doubtful"][-1]["record"]) == (2, "rec_6")
    assert (ended.data["since"], ended.data["until"]) == ("2026-11-06T00:00:00Z", "2026-11-09T00:00:00Z")
