"""The ledger: its Records page by page, sums, exports, and the proof that nobody changed it."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, make_dataclass, replace
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec

from baimo.core.record import Record
from baimo.core.rights import OWNER_NAME
from baimo.errors import NotFound
from baimo.server.admin.operation import Asking, Operation
from baimo.server.admin.paging import Limit, Paged, cut
from baimo.server.admin.streams import Pieces
from baimo.store.export import COLUMNS, WRITERS, row
from baimo.store.ledger import Line, Spend
from baimo.workspace.bookkeeping import Anchor, anchor_of, groups, sum_row
from baimo.workspace.ledger_options import LedgerOptions, SumOptions

TOLD_S = 1.0
"""How often a long proof says how far it is."""
_Options = TypeVar("_Options", bound=LedgerOptions)
_TYPES: dict[str, Any] = {
    "text": str | None,
    "whole": int | None,
    "real": float | None,
    "truth": bool | None,
}

RecordShown = make_dataclass(
    "RecordShown",
    [
        ("seq", int),
        ("chain", str),
        *((name, dict[str, str] if name == "tags" else _TYPES[kind]) for name, kind in COLUMNS.items()),
    ],
    kw_only=True,
    frozen=True,
    slots=True,
    namespace={"__doc__": "One line of the ledger: `docs/concepts/ledger.md`. What is not known is null."},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsAsked(LedgerOptions):
    """Which Records."""

    limit: Limit = 100
    """Most Records on one page."""
    cursor: Annotated[int, msgspec.Meta(ge=1, le=1 << 62)] | None = None
    """`next` of the page before; None = from the beginning."""
    order: Literal["newest", "oldest"] = "newest"
    """Which come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsPage:
    """Some Records."""

    data: list[RecordShown]  # pyright: ignore[reportInvalidTypeForm]
    next: int | None
    """Cursor of the next page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordNamed:
    """One Record."""

    record: str
    """Its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentShown:
    """A prompt and its answer, of a tenant that opted in."""

    surface: str
    request: Any
    answer: Any
    cut: bool
    """One of them was longer than is kept."""
    data_class: str = ""
    """Under which it was asked; empty = it was not noted yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SumsAsked(SumOptions):
    """Sums of which Records."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    """Most groups on one page."""
    cursor: str | None = None
    """`next` of the page before; None = from the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SumShown:
    """One group. What is not known is counted beside the sums, never in them."""

    group: dict[str, str]
    currency: str
    calls: int
    failed: int
    """Of them, those whose status is not ok."""
    unpriced: int
    """Of them, those whose cost is not known."""
    uncounted: int
    """Of them, those whose tokens are not known."""
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    tokens_cache_write: int
    cost: str | None
    """Exact, in units of `currency`; null = of none of the calls it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SumsPage:
    """Some groups."""

    data: list[SumShown]
    next: str | None
    """Cursor of the next page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportAsked(LedgerOptions):
    """Which Records, in which form."""

    format: Literal["csv", "jsonl"] = "csv"
    """Form of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyAsked:
    """The proof, and hashes that were noted elsewhere."""

    anchor: tuple[str, ...] = ()
    """line:hash, as an earlier proof gave it in `head`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingShown:
    """Something that is wrong."""

    kind: str
    place: str
    expected: str
    found: str
    message: str
    """In the reader's language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorShown:
    """A hash that was noted elsewhere."""

    line: int
    holds: bool | None
    """None = the line is pruned, or not there yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the proof found."""

    ok: bool
    lines: int
    first: int
    last: int
    head: str
    """line:hash of the last one; note it elsewhere, and nothing up to here can change unseen."""
    problems: int
    findings: list[FindingShown]
    """The first of them."""
    unpriced: int
    underived: int
    anchors: list[AnchorShown]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofLine:
    """How far the proof is; the last line is its result."""

    done: int
    of: int
    result: Proof | None = None


def shown_record(line: Line) -> Any:
    """A Record as it is shown."""
    return RecordShown(seq=line.seq, chain=line.chain, **_columns(line.record))


def _columns(record: Record) -> dict[str, Any]:
    return {**row(record), "tenant": record.tenant or OWNER_NAME, "tags": dict(record.tags)}


def scoped(asking: Asking, asked: _Options) -> _Options:
    """The same question about what this key may see."""
    asking.within(asked.tenant)
    if asked.key is not None:
        asking.one_key(asked.key)
    return replace(asked, tenant=asked.tenant or asking.scope)


def _records(asking: Asking, asked: RecordsAsked) -> RecordsPage:
    lines = asking.books.page(
        scoped(asking, asked),
        limit=asked.limit,
        cursor=asked.cursor,
        newest_first=asked.order == "newest",
    )
    after = lines[-1].seq if len(lines) == asked.limit else None
    return RecordsPage(data=[shown_record(line) for line in lines], next=after)


def _line(asking: Asking, id: str) -> Line:
    try:
        line = asking.books.one(id)
    except NotFound:
        raise NotFound("admin.no_record", field="/record") from None
    if not (asking.owner or line.record.tenant == asking.tenant.id):
        raise NotFound("admin.no_record", field="/record")
    return line


def _record(asking: Asking, asked: RecordNamed) -> Any:
    return shown_record(_line(asking, asked.record))


def _content(asking: Asking, asked: RecordNamed) -> ContentShown:
    _line(asking, asked.record)
    found = asking.books.content(asked.record)
    if found is None:
        raise NotFound("admin.no_content", field="/record")
    return ContentShown(**found)


def _sums(asking: Asking, asked: SumsAsked) -> SumsPage:
    by = groups(asked.by)
    found = asking.books.sums(scoped(asking, asked))
    paged = cast("Paged", asked)  # limit and cursor are all that is looked at
    page, after = cut(found, paged, lambda spend: json.dumps([*spend.group, spend.currency]))
    return SumsPage(data=[_shown_sum(by, spend) for spend in page], next=after)


def _shown_sum(by: Sequence[str], spend: Spend) -> SumShown:
    made = sum_row(by, spend)
    if "tenant" in by:
        made["group"]["tenant"] = made["group"]["tenant"] or OWNER_NAME
    return SumShown(**made)


def _export(asking: Asking, asked: ExportAsked) -> Callable[[Pieces], None]:
    options = scoped(asking, asked)
    records = asking.books.records(options)
    return lambda pieces: cast("None", WRITERS[asked.format](records, cast("Any", pieces)))


def _verify(asking: Asking, asked: VerifyAsked) -> Callable[[Pieces], None]:
    anchors = [anchor_of(one) for one in asked.anchor]
    return functools.partial(_prove, asking, anchors)


def _prove(asking: Asking, anchors: list[Anchor], pieces: Pieces) -> None:
    told_at = time.monotonic()

    def progress(done: int, of: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= TOLD_S:
            told_at = time.monotonic()
            tell(ProofLine(done=done, of=of))

    def tell(line: ProofLine) -> None:
        pieces.write(msgspec.json.encode(line).decode() + "\n")
        pieces.flush()

    found = asking.books.verify(progress)
    held = [AnchorShown(line=one.seq, holds=asking.books.holds(one)) for one in anchors]
    shown = Proof(
        ok=found.ok and all(one.holds is not False for one in held),
        head=f"{found.last}:{found.chain}",
        findings=[FindingShown(**one._asdict(), message=str(one)) for one in found.findings],
        anchors=held,
        **{
            name: getattr(found, name)
            for name in ("lines", "first", "last", "problems", "unpriced", "underived")
        },
    )
    tell(ProofLine(done=found.lines, of=found.lines, result=shown))


_RECORD = "/api/ledger/records/{record}"

LEDGER = (
    Operation(
        method="GET", path="/api/ledger/records", role="viewer", takes=RecordsAsked, gives=RecordsPage,
        does=_records, tag="ledger", summary="admin.ledger_records", errors=(404,),
    ),
    Operation(
        method="GET", path=_RECORD, role="viewer", takes=RecordNamed, gives=RecordShown, does=_record,
        tag="ledger", summary="admin.ledger_record", errors=(404,),
    ),
    Operation(
        method="GET", path=f"{_RECORD}/content", role="reviewer", takes=RecordNamed, gives=ContentShown,
        does=_content, tag="ledger", summary="admin.ledger_content", errors=(404,),
    ),
    Operation(
        method="GET", path="/api/ledger/sums", role="viewer", takes=SumsAsked, gives=SumsPage, does=_sums,
        tag="ledger", summary="admin.ledger_sums", errors=(404,),
    ),
    Operation(
        method="GET", path="/api/ledger/export", role="viewer", takes=ExportAsked, gives=RecordShown,
        does=_export, tag="ledger", summary="admin.ledger_export", media=("text/csv", "application/jsonl"),
        errors=(404,),
    ),
    Operation(
        method="POST", path="/api/ledger/verify", role="admin", owners=True, takes=VerifyAsked,
        gives=ProofLine, does=_verify, tag="ledger", summary="admin.ledger_verify",
        media=("application/jsonl",),
    ),
)  # fmt: skip
