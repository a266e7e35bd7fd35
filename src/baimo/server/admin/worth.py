"""More of the ledger: how long answers took, and whether a provider's invoice says the same."""

from __future__ import annotations

from dataclasses import dataclass

from baimo.core.rights import OWNER_NAME
from baimo.server.admin.ledger import scoped
from baimo.server.admin.operation import Asking, Operation
from baimo.typed import converted
from baimo.workspace.ledger_options import LatencyOptions, ReconcileOptions
from baimo.workspace.reconciliation import of_text

LARGEST = 32 * 1024 * 1024
"""Bytes of a statement: a busy month by day, model, key and project."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyShown:
    """How long the answers of one group took, milliseconds. What is not known is null."""

    group: str
    calls: int
    """That were looked at."""
    p50: float | None
    """So long or less took a half of them."""
    p90: float | None
    p99: float | None
    first_p50: float | None
    """Until the first byte of the answer."""
    first_p90: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatenciesShown:
    """Of every group, the one with most calls first."""

    data: list[LatencyShown]
    looked_at: int
    """Calls: the newest of those that were asked for."""
    all: bool
    """There are no others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementSent:
    """A provider's usage or cost export, and how it is compared."""

    statement: str
    """What the file holds: JSON or CSV of OpenAI or Anthropic."""
    name: str = "statement"
    """What messages call it."""
    vendor: tuple[str, ...] = ()
    """Names before the slash of the models that this provider bills; none = openai or anthropic."""
    tolerance: str = "0.01"
    """Difference of money that does not matter for a day and model."""
    api_key: str | None = None
    """Only what was booked on this key of the provider."""
    project: str | None = None
    """Only what was booked on this project or workspace of the provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideShown:
    """One side's sums of a day and model. null = it does not say."""

    calls: int | None
    tokens_in: int | None
    tokens_cached: int | None
    tokens_cache_write: int | None
    tokens_out: int | None
    cost: str | None
    """In units of the statement's currency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedShown:
    """A day and model on both sides."""

    day: str
    model: str
    """Empty = all models together."""
    differs: list[str]
    """Figures that differ by more than is tolerated."""
    statement: SideShown | None
    """null = it has no such line."""
    ledger: SideShown | None
    """null = it has no such call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubtfulShown:
    """A call of that time whose line in the ledger is not certain."""

    record: str
    began: str
    model: str
    unsure: int
    """Attempts that may have been billed although no usage came back."""
    estimated: bool
    unpriced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """Both sides, compared."""

    agrees: bool
    form: str
    """What kind of export it is."""
    file: str
    since: str
    until: str
    currency: str
    rows: list[ComparedShown]
    doubts: int
    """Calls that the ledger is not sure of."""
    doubtful: list[DoubtfulShown]
    """The first of them."""
    notes: list[str]
    """What whoever reads this must know."""


def _latency(asking: Asking, asked: LatencyOptions) -> LatenciesShown:
    found = asking.books.latencies(scoped(asking, asked))
    rows = [one._asdict() for one in found.groups]
    for row in rows:
        row["group"] = row["group"] or (OWNER_NAME if asked.by == "tenant" else "")
    data = [LatencyShown(**row) for row in rows]
    return LatenciesShown(data=data, looked_at=found.looked_at, all=found.all)


def _reconcile(asking: Asking, sent: StatementSent) -> Reconciled:
    options = ReconcileOptions(
        file=sent.name,
        vendor=sent.vendor,
        tolerance=sent.tolerance,
        api_key=sent.api_key,
        project=sent.project,
    )
    return converted(of_text(asking.books, sent.statement, options), Reconciled)


WORTH = (
    Operation(
        method="GET", path="/api/ledger/latency", role="viewer", takes=LatencyOptions, gives=LatenciesShown,
        does=_latency, tag="ledger", summary="admin.ledger_latency", errors=(404,),
    ),
    Operation(
        method="POST", path="/api/ledger/reconcile", role="viewer", owners=True, takes=StatementSent,
        gives=Reconciled, does=_reconcile, tag="ledger", summary="admin.ledger_reconcile", longest=LARGEST,
    ),
)  # fmt: skip
