"""Recognises a provider's export by its content, and reads it line by line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, cast

from baimo.errors import UsageError
from baimo.store.statements import anthropic, openai
from baimo.store.statements.line import Cells, Line

_Reader = Callable[[Iterable[Cells]], Iterator[Line]]


class Form(NamedTuple):
    """One form of export."""

    provider: str
    """openai or anthropic: also the vendor's name in the ledger."""
    name: str
    """openai-usage-json, anthropic-cost-csv …"""
    read: _Reader
    columns: frozenset[str] = frozenset()
    """Of a table: columns that only this form has together."""


class Statement(NamedTuple):
    """An export whose form is known."""

    path: Path
    form: Form
    lines: Iterator[Line]
    """Read once; raises UsageError at a line that cannot be used."""
    cut: bool
    """The API had more pages than are here."""


_TABLES = (
    Form(
        "anthropic",
        "anthropic-usage-csv",
        anthropic.usage_rows,
        frozenset({"usage_date_utc", "model_version", "usage_output_tokens"}),
    ),
    Form("anthropic", "anthropic-cost-csv", anthropic.cost_rows, frozenset({"usage_date_utc", "cost_usd"})),
    Form(
        "openai",
        "openai-costs-csv",
        openai.costs_rows,
        frozenset({"start_time", "end_time", "amount_value"}),
    ),
    Form(
        "openai", "openai-usage-csv", openai.usage_rows, frozenset({"start_time", "end_time", "input_tokens"})
    ),
)
# what OpenAI's dashboard writes for a time without any call
_EMPTY = Form("openai", "openai-usage-csv", openai.usage_rows, frozenset({"start_time", "end_time_iso"}))
_PAGES = {
    ("openai", True): Form("openai", "openai-costs-json", openai.costs_pages),
    ("openai", False): Form("openai", "openai-usage-json", openai.usage_pages),
    ("anthropic", True): Form("anthropic", "anthropic-cost-json", anthropic.cost_pages),
    ("anthropic", False): Form("anthropic", "anthropic-usage-json", anthropic.usage_pages),
}
FORMS = (*(form.name for form in _TABLES), *(form.name for form in _PAGES.values()))


def statement(path: Path) -> Statement:
    """Open an export of OpenAI or Anthropic, JSON or CSV.

    Raises:
        UsageError: it cannot be read, or is none of the forms that are known; says where.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise UsageError("statements.unreadable", path=path, problem=error.strerror) from error
    if not head.strip():
        raise UsageError("statements.empty", path=path)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return _json(path)
    return _table(path)


def _table(path: Path) -> Statement:
    rows = _rows(path)
    columns = next(rows, Cells(path, "1", {}))
    names = columns.text("columns").split("\n")
    for form in (*_TABLES, _EMPTY):
        if form.columns <= set(names):
            return Statement(path, form, form.read(rows), cut=False)
    shown = ", ".join(names[:8])[:120]
    raise UsageError("statements.unknown_table", path=path, columns=shown, forms=", ".join(FORMS))


def _rows(path: Path) -> Iterator[Cells]:
    """First the names of the columns in a cell of their own, then every row."""
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.reader(file, strict=True)
            for cells in table:
                number = table.line_num
                if not any(cell.strip() for cell in cells):
                    continue
                names = [cell.strip() for cell in cells]
                double = next((name for at, name in enumerate(names) if name and name in names[:at]), None)
                if double is not None:
                    raise UsageError("statements.double_column", path=path, line=number, name=double)
                yield Cells(path, str(number), {"columns": "\n".join(names)})
                break
            else:
                raise UsageError("statements.empty", path=path)
            for cells in table:
                number = table.line_num
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(names):
                    facts = {"path": path, "line": number, "found": len(cells), "wanted": len(names)}
                    raise UsageError("statements.bad_row", **facts)
                yield Cells(path, str(number), dict(zip(names, cells, strict=True)))
    except UnicodeDecodeError:
        raise UsageError("statements.not_utf8", path=path, line=_undecodable(path)) from None
    except csv.Error as error:
        raise UsageError("statements.not_csv", path=path, line=number + 1, problem=error) from None


def _undecodable(path: Path) -> int:
    """The first line that is no UTF-8; text is decoded in blocks, so that the reader does not know."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _json(path: Path) -> Statement:
    """Pages of an API: one object, a list of them, or one per line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError("statements.not_utf8", path=path, line=line) from None
    pages = _documents(path, text)
    cells = [Cells(path, "" if len(pages) == 1 else f"[{number}]", page) for number, page in enumerate(pages)]
    form = _form(path, pages)
    cut = bool(pages[-1].get("has_more"))
    return Statement(path, form, form.read(cells), cut)


def _documents(path: Path, text: str) -> Sequence[dict[str, Any]]:
    decoder = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_number)
    found: list[Any] = []
    place = 0
    try:
        while place < len(text):
            if text[place].isspace():
                place += 1
                continue
            value, place = decoder.raw_decode(text, place)
            found += cast("list[Any]", value) if isinstance(value, list) else [value]
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        line = getattr(error, "lineno", text.count("\n", 0, place) + 1)
        problem = getattr(error, "msg", type(error).__name__)
        raise UsageError("statements.not_json", path=path, line=line, problem=problem) from None
    for page in found:
        if not isinstance(page, dict) or not isinstance(cast("dict[str, Any]", page).get("data"), list):
            raise UsageError("statements.unknown_json", path=path, forms=", ".join(FORMS))
    if not found:
        raise UsageError("statements.unknown_json", path=path, forms=", ".join(FORMS))
    return cast("list[dict[str, Any]]", found)


def _form(path: Path, pages: Sequence[dict[str, Any]]) -> Form:
    """The form of the first bucket that tells."""
    seen: set[tuple[str, bool]] = set()
    for bucket in (bucket for page in pages for bucket in page["data"]):
        if not isinstance(bucket, dict):
            continue
        inner = cast("dict[str, Any]", bucket)
        results = inner.get("results")
        first: Any = cast("list[Any]", results)[0] if isinstance(results, list) and results else None
        provider = "anthropic" if "starting_at" in inner else "openai" if "start_time" in inner else ""
        costs = isinstance(first, dict) and "amount" in cast("dict[str, Any]", first)
        if provider:
            seen.add((provider, costs))
            if first is not None:
                return _PAGES[provider, costs]
    if not seen:
        raise UsageError("statements.unknown_json", path=path, forms=", ".join(FORMS))
    return _PAGES[seen.pop()]  # nothing but empty buckets: nothing was used, in whichever form


def _no_number(name: str) -> Any:
    raise ValueError(name)
