"""The ledger as people ask for it: which lines, summed how, proved, compared, exported, pruned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from baimo.core import rights
from baimo.core.ids import plain
from baimo.core.moments import DAY_MS, moment_ms, shown, wall_ms
from baimo.core.record import Record
from baimo.errors import NotFound, UsageError
from baimo.store import audit
from baimo.store.audit import Actor
from baimo.store.contents import Contents
from baimo.store.export import cost_text
from baimo.store.filters import Filters
from baimo.store.latency import Latencies, latencies
from baimo.store.ledger import Ledger, Line, Spend
from baimo.store.reconcile import Reconciliation, reconciled
from baimo.store.responses import Responses
from baimo.store.statements.statement import statement
from baimo.store.verification import Findings
from baimo.workspace.accounting import tenant_id
from baimo.workspace.housekeeping import outlived
from baimo.workspace.ledger_options import (
    LatencyOptions,
    LedgerOptions,
    ReconcileOptions,
    ShowOptions,
    SumOptions,
)

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace

Progress = Callable[[int, int], None]


class Anchor(NamedTuple):
    """A line's hash that was noted elsewhere."""

    seq: int
    chain: str
    """64 hexadecimal digits."""


class Pruned(NamedTuple):
    """What retention deleted."""

    records: int
    contents: int


class Bookkeeping:
    """The ledger of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._database = workspace.store.database
        self._ledger = Ledger(self._database)
        self._contents = Contents(self._database)

    # reading

    def newest(self, options: ShowOptions) -> list[Line]:
        """The newest Records, newest first.

        Raises:
            UsageError, NotFound: a filter names what there is not.
        """
        return self._ledger.records(self.filters(options), limit=max(options.limit, 0))

    def page(
        self, options: LedgerOptions, *, limit: int, cursor: int | None = None, newest_first: bool = True
    ) -> list[Line]:
        """One page of Records.

        Args:
            options: which.
            limit: most Records.
            cursor: `seq` of the last one of the page before; None = from the beginning.
            newest_first: downwards from the newest, else upwards from the oldest.

        Raises:
            UsageError, NotFound: a filter names what there is not.
        """
        return self._ledger.records(
            self.filters(options), limit=limit, cursor=cursor, newest_first=newest_first
        )

    def one(self, id: str) -> Line:
        """One Record with its place in the chain.

        Raises:
            NotFound: there is none.
        """
        line = self._ledger.line(id)
        if line is None:
            raise NotFound("bookkeeping.no_record", id=id)
        return line

    def content(self, id: str) -> dict[str, Any] | None:
        """The prompt and answer kept with a Record: surface, request, answer, cut, data_class; None = none are."""
        found = self._contents.content(id)
        if found is None:
            return None
        kept = msgspec.msgpack.decode(found, type=dict[str, Any])
        return {name: _readable(value) if isinstance(value, bytes) else value for name, value in kept.items()}

    def sums(self, options: SumOptions) -> list[Spend]:
        """Sums by group and currency.

        Raises:
            UsageError: no such group, or a filter cannot be read.
        """
        return self._ledger.sums(groups(options.by), self.filters(options))

    def latencies(self, options: LatencyOptions) -> Latencies:
        """How long the newest of these calls took.

        Raises:
            UsageError, NotFound: a filter names what there is not.
        """
        return latencies(self._database, options.by, self.filters(options))

    def records(self, options: LedgerOptions) -> Iterator[Record]:
        """Every Record, oldest first, page by page."""
        return (line.record for line in self._ledger.lines(self.filters(options)))

    # proving

    def verify(self, progress: Progress | None = None) -> Findings:
        """Derive every link, cost, total and limit's use anew."""
        return self._ledger.verify(progress)

    def holds(self, anchor: Anchor) -> bool | None:
        """Whether a line still has the hash that was noted elsewhere; None when it is pruned, or not there yet."""
        page = self._ledger.records(limit=1, cursor=anchor.seq + 1)
        if not page or page[0].seq != anchor.seq:
            return None
        return page[0].chain == anchor.chain

    def reconcile(self, options: ReconcileOptions) -> Reconciliation:
        """Compare the ledger with a provider's statement.

        Raises:
            UsageError: the file, or an option, cannot be used.
        """
        try:
            tolerance = Decimal(options.tolerance)
        except InvalidOperation:
            tolerance = Decimal(-1)
        if not tolerance.is_finite() or tolerance < 0:
            raise UsageError(
                "options.out_of_range", option="--tolerance", value=options.tolerance, range="≥ 0"
            )
        return reconciled(
            self._database,
            statement(Path(options.file)),
            vendors=options.vendor,
            tolerance=tolerance,
            key=options.api_key or "",
            project=options.project or "",
        )

    # deleting

    def prunable_ms(self, before: str | None) -> int:
        """Before when Records are to be deleted: as said, else by ledger.records_days.

        Raises:
            UsageError: neither says so, or it is no moment.
        """
        if before is not None:
            return moment_ms(before, wall_ms(), back=True)
        days = self._workspace.settings.ledger.records_days
        if days is None:
            raise UsageError("bookkeeping.prune_what")
        return wall_ms() - days * DAY_MS

    def prune(self, before_ms: int | None, progress: Progress | None = None) -> Pruned:
        """Delete Records settled before then (None = no Record), and whatever has outlived its time: contents, kept
        responses, cached answers. The chain goes on from a checkpoint, totals stay, `verify` holds."""
        settings = self._workspace.settings
        gone = 0 if before_ms is None else self._ledger.prune(before_ms, progress)
        tenants, responses = self._workspace.accounts.tenants(), Responses(self._database)
        contents = sum(outlived(self._database, settings, tenants, responses, wall_ms).values())
        if gone or contents:
            facts: dict[str, Any] = {"records": gone, "contents": contents}
            with self._database.writing() as connection:
                audit.enter(connection, Actor(), "records.prune", "", facts, wall_ms())
        return Pruned(gone, contents)

    def forgettable(self, tenant: str | None, before: str | None, record: str | None) -> dict[str, Any]:
        """What `forget` is to be given.

        Raises:
            UsageError: nothing is named.
            NotFound: there is no such tenant.
        """
        if tenant is None and before is None and record is None:
            raise UsageError("bookkeeping.forget_what")
        before_ms = None if before is None else moment_ms(before, wall_ms(), back=True)
        id = None if tenant is None else self._workspace.accounts.tenant(tenant_id(tenant)).id
        return {"tenant": id, "before_ms": before_ms, "record": record}

    def forget(self, what: dict[str, Any]) -> int:
        """Delete contents; Records stay. Returns how many were deleted."""
        return self._contents.forget(**what)

    def filters(self, options: LedgerOptions) -> Filters:
        """Which lines are meant.

        Raises:
            UsageError, NotFound: a filter names what there is not.
        """
        now_ms = wall_ms()
        moments = [
            None if moment is None else moment_ms(moment, now_ms, back=True)
            for moment in (options.since, options.until)
        ]
        accounts = self._workspace.accounts
        return Filters(
            since_ms=moments[0],
            until_ms=moments[1],
            tenant=None if options.tenant is None else accounts.tenant(tenant_id(options.tenant)).id,
            key=None if options.key is None else accounts.key(options.key).public,
            tags=dict(rights.tag(one) for one in options.tag),
            **{name: getattr(options, name) for name in ("model", "surface", "status", "route", "run")},
        )


def groups(by: str) -> list[str]:
    """The groups of `tenant,day,tag:team`."""
    return [one.strip() for one in by.split(",") if one.strip()]


def anchor_of(source: str) -> Anchor:
    """The anchor that `1234:9f86d0…` says.

    Raises:
        UsageError: it cannot be read.
    """
    seq, _, chain = source.partition(":")
    if not seq.isdecimal() or len(chain) != 64 or set(chain.lower()) - set("0123456789abcdef"):
        raise UsageError("bookkeeping.bad_anchor", value=source)
    return Anchor(int(seq), chain.lower())


def line_row(line: Line) -> dict[str, Any]:
    """A Record as JSON-ready data: all that is known, with its place in the chain and its exact cost."""
    known = plain(line.record)
    usage = known.pop("usage", {})
    cost = {
        "cost": cost_text(line.record.cost_micros, line.record.cost_rest),
        "currency": line.record.currency,
    }
    return {"seq": line.seq, "chain": line.chain, "at": shown(line.record.at_ms), **known, **usage, **cost}


def sum_row(by: Sequence[str], spend: Spend) -> dict[str, Any]:
    """A sum as JSON-ready data; the cost is exact, in units of its currency, and None where no call's is known."""
    figures = spend._asdict()
    figures.pop("group")
    micros, rest = figures.pop("cost_micros"), figures.pop("cost_rest")
    cost = None if spend.unpriced == spend.calls else cost_text(micros, rest)
    return {"group": dict(zip(by, spend.group, strict=True)), **figures, "cost": cost}


def _readable(body: bytes) -> Any:
    """JSON as data; anything else, such as a stream of events or a body that was cut, as text."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body.decode("utf-8", "replace")
