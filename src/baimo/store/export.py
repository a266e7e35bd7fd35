"""The ledger's lines for other programs: CSV, JSON Lines, Parquet; one after the other, whatever their number.

Prevents two failures: an amount that a spreadsheet rounds (costs are decimal text with every digit), and a name
that a client chose and a spreadsheet runs as a formula (such text gets an apostrophe in front, in CSV only).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, TextIO

from baimo.core.moments import shown
from baimo.core.money import MICROS
from baimo.core.record import Record
from baimo.core.registry import require
from baimo.errors import UsageError

Format = Literal["csv", "jsonl", "parquet"]
BATCH = 10_000
"""Lines that are held at once for Parquet."""

_PICO = MICROS * MICROS
_TEXT, _WHOLE, _REAL, _TRUTH = "text", "whole", "real", "truth"
COLUMNS: dict[str, str] = {
    **dict.fromkeys(("id", "at", "began"), _TEXT),
    **dict.fromkeys(("tenant", "key", "surface", "asked", "model", "model_used", "route", "status"), _TEXT),
    **dict.fromkeys(("http_status", "attempts", "unsure"), _WHOLE),
    "streamed": _TRUTH,
    **dict.fromkeys(
        ("tokens_in", "tokens_out", "tokens_cached", "tokens_cache_write", "tokens_reasoning"), _WHOLE
    ),
    "estimated": _TRUTH,
    **dict.fromkeys(("cost", "currency"), _TEXT),
    **dict.fromkeys(("cost_micros", "cost_rest"), _WHOLE),
    **dict.fromkeys(("price_in", "price_out", "price_cached", "price_cache_write", "price_call"), _WHOLE),
    **dict.fromkeys(("charged_micros", "charged_tokens"), _WHOLE),
    **dict.fromkeys(("latency_ms", "queue_ms", "first_byte_ms"), _REAL),
    **dict.fromkeys(("run", "request_hash", "config_hash", "conversation", "content_hash", "tags"), _TEXT),
}
"""Name → kind of every column. `cost` is exact, in units of `currency`; it was reckoned with the price columns."""
_MADE = ("at", "began", "cost", "tags")
_USAGE = {
    *("tokens_in", "tokens_out", "tokens_cached", "tokens_cache_write", "tokens_reasoning", "estimated")
}
_READ = [name for name in COLUMNS if name not in _MADE]
_fields = attrgetter(*(f"usage.{name}" if name in _USAGE else name for name in _READ))
_ORDER = [(*_MADE, *_READ).index(name) for name in COLUMNS]
_NAMES = [place for place, (name, kind) in enumerate(COLUMNS.items()) if kind == _TEXT and name != "cost"]


def values(record: Record) -> list[Any]:
    """The cells of a Record in the order of `COLUMNS`; unknown is None."""
    cells = (
        shown(record.at_ms),
        None if record.began_ms is None else shown(record.began_ms),
        cost_text(record.cost_micros, record.cost_rest),
        json.dumps(dict(record.tags), ensure_ascii=False, sort_keys=True) if record.tags else "{}",
        *_fields(record),
    )
    return [cells[place] for place in _ORDER]


def row(record: Record) -> dict[str, Any]:
    """A Record as one flat row."""
    return dict(zip(COLUMNS, values(record), strict=True))


def cost_text(micros: int | None, rest: int | None) -> str | None:
    """An exact amount in units of its currency, as decimal text without zeros at its end; None = unknown."""
    if micros is None:
        return None
    exact = micros * MICROS + (rest or 0)
    whole, part = divmod(abs(exact), _PICO)
    return ("-" if exact < 0 else "") + (f"{whole}.{part:012}".rstrip("0") if part else str(whole))


def write_csv(records: Iterable[Record], out: TextIO) -> int:
    """Write a line of names, then one per Record; returns their number."""
    table = csv.writer(out, lineterminator="\r\n")  # RFC 4180
    table.writerow(COLUMNS)
    count = 0
    for count, record in enumerate(records, 1):  # noqa: B007
        table.writerow(_for_spreadsheets(values(record)))
    return count


def write_jsonl(records: Iterable[Record], out: TextIO) -> int:
    """Write one JSON object per Record; `tags` is an object; returns their number."""
    count = 0
    for count, record in enumerate(records, 1):  # noqa: B007
        out.write(json.dumps({**row(record), "tags": dict(record.tags)}, ensure_ascii=False) + "\n")
    return count


def write_parquet(records: Iterable[Record], path: Path) -> int:
    """Write a Parquet file; returns the number of Records. A file that fails half-way is removed.

    Raises:
        MissingExtra: pyarrow is not installed.
        UsageError: the file cannot be written.
    """
    arrow = require("pyarrow", "parquet", "bookkeeping.purpose_parquet")
    parquet = require("pyarrow.parquet", "parquet", "bookkeeping.purpose_parquet")
    kinds = {_TEXT: arrow.string(), _WHOLE: arrow.int64(), _REAL: arrow.float64(), _TRUTH: arrow.bool_()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    count = 0
    try:
        with parquet.ParquetWriter(path, schema) as writer:
            for batch in _batches(records):
                count += len(batch)
                writer.write_table(arrow.Table.from_pylist([row(record) for record in batch], schema=schema))
    except OSError as error:
        raise UsageError("cli.cannot_write", path=path, problem=error.strerror or error) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return count


WRITERS: dict[str, Callable[[Iterable[Record], TextIO], int]] = {"csv": write_csv, "jsonl": write_jsonl}


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    rest = iter(records)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _for_spreadsheets(cells: list[Any]) -> list[Any]:
    for place in _NAMES:
        cells[place] = told_as_text(cells[place])
    return cells


def told_as_text(value: str | None) -> str | None:
    """Text that a spreadsheet would run is told to be text: OWASP, "CSV Injection"."""
    return f"'{value}" if value and value[0] in "=+-@\t\r" else value
