"""Names in tables: a column headed 姓名 or "name" holds names without any word beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from baimo.pii import chinese_names, english_names
from baimo.pii.context import lowered, places
from baimo.pii.finding import Hit

_HEADS = re.compile(
    r"(?:客户|学生|员工|患者|家长)?姓名|联系人|收件人|收货人|"
    r"(?:(?:full|first|last|customer|employee|patient|contact)[ _]?)?name",
    re.IGNORECASE,
)


def names(text: str) -> Iterator[Hit]:
    """Cells of a name column in CSV, TSV and Markdown tables."""
    done = -1
    for place in sorted(places(lowered(text), ("name", "姓名", "联系人", "收件人", "收货人"))):
        if place < done:
            continue
        done = _line_end(text, place)
        separator, columns = _header(text[text.rfind("\n", 0, place) + 1 : done])
        while separator and separator in (line := text[done : _line_end(text, done)]):
            yield from _cells(line, done, separator, columns)
            done += len(line)


def _line_end(text: str, place: int) -> int:
    """One past the line end after `place`."""
    end = text.find("\n", place) + 1
    return end or len(text)


def _header(line: str) -> tuple[str, list[int]]:
    """The separator and the numbers of the name columns; no separator = not a header."""
    if len(line) > 400 or not line:
        return "", []
    for separator in ("|", "\t", ","):
        cells = [cell.strip(" \"'\r\n") for cell in line.split(separator)]
        columns = [number for number, cell in enumerate(cells) if _HEADS.fullmatch(cell)]
        if columns and len([cell for cell in cells if cell]) > 1:
            return separator, columns
    return "", []


def _cells(line: str, start: int, separator: str, columns: list[int]) -> Iterator[Hit]:
    for number, cell in enumerate(line.split(separator)):
        name = cell.strip(" \"'\r\n")
        if number in columns and (
            chinese_names.is_name(name) if name[:1] > "\u3000" else english_names.is_name(name)
        ):
            at = start + cell.index(name)
            yield Hit("name", at, at + len(name), 0.8)
        start += len(cell) + len(separator)
