"""Lists as tables: put in order by a column, and written for other programs.

Prevents two failures: a column whose unknown values come before all that are known (they come last, whichever way it is
sorted), and a name that a client chose and a spreadsheet runs as a formula.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

import msgspec

from baimo.server.admin.streams import Pieces, Work
from baimo.store.export import told_as_text

Format = Literal["csv", "jsonl"]
MEDIA = ("text/csv", "application/jsonl")
"""Of exports, as `Operation.media`."""
_Thing = TypeVar("_Thing")


def arranged(
    things: Iterable[_Thing], sort: str, columns: Mapping[str, Callable[[_Thing], Any]]
) -> list[_Thing]:
    """Things by a column; those that are alike stay in their order.

    Args:
        things: in the order that is usual.
        sort: name of a column; with - in front, the largest come first.
        columns: name → value; None = not known.
    """
    value = columns[sort.removeprefix("-")]
    known, unknown = list[_Thing](), list[_Thing]()
    for one in things:
        (unknown if value(one) is None else known).append(one)
    known.sort(key=value, reverse=sort.startswith("-"))
    return known + unknown


def written(lines: Iterable[Any], columns: Sequence[str], form: Format) -> Work:
    """What writes an export.

    Args:
        lines: dataclasses, as they are shown in the list.
        columns: of CSV: names of their fields, of fields within with dots between. JSON lines hold everything.
        form: csv (RFC 4180) or jsonl.
    """

    def work(pieces: Pieces) -> None:
        if form == "jsonl":
            for line in lines:
                pieces.write(msgspec.json.encode(line).decode() + "\n")
            return
        table = csv.writer(cast("Any", pieces), lineterminator="\r\n")
        table.writerow(columns)
        for line in lines:
            plain = msgspec.to_builtins(line)
            table.writerow([_cell(plain, name) for name in columns])

    return work


def _cell(plain: Any, name: str) -> Any:
    for step in name.split("."):
        plain = None if plain is None else plain[step]
    if isinstance(plain, list):
        plain = "; ".join(map(str, cast("list[Any]", plain)))
    if isinstance(plain, dict):
        plain = msgspec.json.encode(plain).decode()
    return told_as_text(plain) if isinstance(plain, str) else plain
