from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.call import Usage
from baimo.core.record import Record
from baimo.errors import UsageError
from baimo.store import export

LINES = st.builds(
    Record,
    id=st.text("rec_0123456789", min_size=1),
    at_ms=st.integers(0, 4 * 10**12),
    began_ms=st.none() | st.integers(0, 4 * 10**12),
    surface=st.sampled_from(["chat", "messages"]),
    model=st.text(max_size=9),
    asked=st.text(max_size=9),
    cost_micros=st.none() | st.integers(-(10**12), 10**12),
    cost_rest=st.none() | st.integers(-500_000, 500_000),
    latency_ms=st.none() | st.floats(0, 10**6),
    streamed=st.booleans(),
    usage=st.builds(Usage, tokens_in=st.none() | st.integers(0, 10**9), estimated=st.booleans()),
    tags=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)


def record(**changes: Any) -> Record:
    return Record(**({"id": "rec_1", "at_ms": 5, "surface": "chat", "model": "v/m"} | changes))


def read_csv(records: list[Record]) -> list[dict[str, str]]:
    out = io.StringIO(newline="")
    assert export.write_csv(iter(records), out) == len(records)
    out.seek(0)
    return list(csv.DictReader(out))


@given(st.lists(LINES, max_size=5))
def test_every_form_holds_every_line(records: list[Record]) -> None:
    rows = read_csv(records)
    out = io.StringIO()
    assert export.write_jsonl(iter(records), out) == len(records)
    objects = [json.loads(line) for line in out.getvalue().split("\n")[:-1]]
    for one, line, parsed in zip(records, rows, objects, strict=True):
        assert set(line) == set(parsed) == set(export.COLUMNS)
        assert (parsed["id"], parsed["asked"], parsed["tags"]) == (one.id, one.asked, dict(one.tags))
        assert parsed["tokens_in"] == one.usage.tokens_in
        assert line["tokens_in"] == ("" if one.usage.tokens_in is None else str(one.usage.tokens_in))
        assert json.loads(line["tags"]) == dict(one.tags)


@given(st.integers(-(10**18), 10**18), st.integers(-500_000, 500_000))
def test_a_cost_keeps_every_digit(micros: int, rest: int) -> None:
    shown = export.cost_text(micros, rest)
    assert shown is not None
    assert Decimal(shown) * 10**12 == micros * 10**6 + rest
    assert "e" not in shown.lower()


def test_an_unknown_cost_is_empty_and_a_known_nothing_is_0() -> None:
    unknown, nothing, small = read_csv(
        [
            record(),
            record(cost_micros=0, cost_rest=0),
            record(cost_micros=1, cost_rest=-250_000),
        ]
    )
    assert (unknown["cost"], nothing["cost"], small["cost"]) == ("", "0", "0.00000075")


@pytest.mark.parametrize("asked", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_a_spreadsheet_runs_no_name_that_a_client_chose(asked: str) -> None:
    line = read_csv([record(asked=asked, cost_micros=-5, cost_rest=0)])[0]
    assert line["asked"] == f"'{asked}"
    assert line["cost"] == "-0.000005"  # a number stays a number


@pytest.mark.parametrize("count", [0, 3, 25])
def test_parquet_has_types_and_nulls(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="the extra is missing: pip install 'baimo[parquet]'"
    )
    monkeypatch.setattr(export, "BATCH", 10)
    records = [record(id=f"rec_{number}", latency_ms=1.5, tags={"a": "b"}) for number in range(count)]
    path = tmp_path / "ledger.parquet"
    assert export.write_parquet(iter(records), path) == count
    found = parquet.read_table(path)
    assert found.column_names == list(export.COLUMNS)
    assert found.to_pylist() == [export.row(one) for one in records]
    kinds = {str(found.schema.field(name).type) for name in ("tokens_in", "latency_ms", "streamed", "cost")}
    assert kinds == {"int64", "double", "bool", "string"}


def test_a_parquet_file_that_cannot_be_finished_is_removed(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra is missing: pip install 'baimo[parquet]'")

    def broken() -> Any:
        yield record()
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError):
        export.write_parquet(broken(), tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists()
    with pytest.raises(UsageError, match="nowhere"):
        export.write_parquet([record()], tmp_path / "nowhere" / "x.parquet")
