"""Comparisons as a table: found, put in order, page by page, and taken along."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Literal, cast

from baimo.core.moments import shown
from baimo.core.money import MICROS
from baimo.core.rights import OWNER_NAME
from baimo.core.run import Run
from baimo.errors import UsageError
from baimo.server.admin.columns import Format, arranged, written
from baimo.server.admin.comparison_forms import ComparisonShown, Status
from baimo.server.admin.operation import Asking
from baimo.server.admin.paging import Limit, Paged, cut
from baimo.server.admin.streams import Work
from baimo.store.comparisons import Entered, Order

_PAGE = 200
KEPT_SO: Mapping[str, Order] = {"-started": "newest", "started": "oldest", "task": "task"}
"""Columns by which the database puts them in order, page by page."""
Sort = Literal[
    "started", "-started", "task", "-task", "status", "-status", "winner", "-winner",
    "candidates", "-candidates", "calls", "-calls", "cost", "-cost",
]  # fmt: skip
CSV = (
    *("id", "task", "tenant", "key", "status", "started", "ended", "problem", "decision", "candidates"),
    *("winner", "certain", "calls", "calls_exhaustive", "cost", "cost_exhaustive", "currency"),
)
"""Columns of an export."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonsWanted:
    """Which comparisons, in which order."""

    tenant: str | None = None
    task: str | None = None
    status: Status | None = None
    text: str = ""
    """Occurs in the id, the task, the winner or a candidate."""
    sort: Sort = "-started"
    """Column; with - in front, the largest come first. What is not known comes last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonsAsked(ComparisonsWanted):
    """Which comparisons."""

    limit: Limit = 100
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonsExport(ComparisonsWanted):
    """Which comparisons, in which form."""

    format: Format = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonsPage:
    """Some comparisons."""

    data: list[ComparisonShown]
    next: str | None
    """Cursor of the next page."""


def listed(asking: Asking, asked: ComparisonsAsked) -> ComparisonsPage:
    """One page."""
    if asked.sort in KEPT_SO:
        found = _fitting(asking, asked, KEPT_SO[asked.sort], asked.cursor, asked.limit + 1)
        page = [one for one, _ in zip(found, range(asked.limit + 1), strict=False)]
        more = page[asked.limit - 1].id if len(page) > asked.limit else None
        return ComparisonsPage(data=page[: asked.limit], next=more)
    page, more = cut(_sorted(asking, asked), cast("Paged", asked), lambda one: one.id)
    return ComparisonsPage(data=list(page), next=more)


def export(asking: Asking, asked: ComparisonsExport) -> Work:
    """All of them."""
    kept = KEPT_SO.get(asked.sort)
    found = _fitting(asking, asked, kept) if kept else _sorted(asking, asked)
    return written(found, CSV, asked.format)


def _sorted(asking: Asking, asked: ComparisonsWanted) -> list[ComparisonShown]:
    return arranged(_fitting(asking, asked, "newest"), asked.sort, COLUMNS)


def _fitting(
    asking: Asking, asked: ComparisonsWanted, order: Order, after: str | None = None, some_of: int = _PAGE
) -> Iterator[ComparisonShown]:
    """
    Raises:
        NotFound: there is no such tenant.
        UsageError: nobody knows where to go on.
    """
    queue, tenant, words = asking.service.comparisons, asking.within(asked.tenant), asked.text.casefold()
    # whether a run that is said to run is alive is not in the database
    stored = {None: (), "interrupted": ("running",)}.get(asked.status, (asked.status,))
    status = [one for one in stored if one]

    def some(after: str | None) -> list[Entered]:
        page = queue.runs.page(
            tenant, limit=some_of, task=asked.task, status=status, order=order, after=after
        )
        if page is None:
            raise UsageError("admin.bad_cursor", field="/cursor")
        return page

    def found(page: list[Entered]) -> Iterator[ComparisonShown]:
        while page:
            for one in page:
                line = shown_comparison(asking, one)
                if asked.status in (None, line.status) and _says(line, words):
                    yield line
            page = some(page[-1].run.id)

    return found(some(after))


def _says(line: ComparisonShown, words: str) -> bool:
    return words in " ".join((line.id, line.task, line.winner or "", *line.candidates)).casefold()


def _folded(word: str | None) -> str | None:
    return word.casefold() if word else None


COLUMNS: Mapping[str, Callable[[ComparisonShown], Any]] = {
    "started": lambda one: one.started,
    "task": lambda one: _folded(one.task),
    "status": lambda one: one.status,
    "winner": lambda one: _folded(one.winner),
    "candidates": lambda one: len(one.candidates),
    "calls": lambda one: one.calls,
    "cost": lambda one: None if one.cost is None else Decimal(one.cost),
}
"""What can be sorted by."""


def options_of(run: Run) -> dict[str, Any]:
    """What was asked for, with the task's name for where it lies: that concerns nobody outside this machine."""
    return {**run.options, "task": _name(run)}


def _name(run: Run) -> str:
    place = PurePath(str(run.options.get("task") or ""))
    if place.name == "task.toml":
        place = place.parent
    return run.name or place.name.partition(".")[0] or run.task


def shown_comparison(asking: Asking, found: Entered) -> ComparisonShown:
    """A comparison as it is shown."""
    run, verdict = found
    costs: Mapping[str, str | None] = {
        name: None if verdict is None else _units(getattr(verdict, f"{name}_micros"))
        for name in ("cost", "cost_exhaustive")
    }
    return ComparisonShown(
        id=run.id,
        task=_name(run),
        tenant=run.tenant or OWNER_NAME,
        key=run.key or None,
        status=asking.service.comparisons.standing(run),  # pyright: ignore[reportArgumentType]
        started=shown(run.started_ms),
        ended=None if run.ended_ms is None else shown(run.ended_ms),
        problem=run.problem or None,
        decision=str(run.options.get("decision", "best")),
        candidates=[str(one["name"]) for one in run.candidates],
        winner=verdict.winner if verdict else None,
        certain=verdict.certain if verdict else None,
        calls=verdict.calls if verdict else None,
        calls_exhaustive=verdict.calls_exhaustive if verdict else None,
        currency=verdict.currency if verdict else None,
        **costs,
    )


def _units(micros: int | None) -> str | None:
    if micros is None:
        return None
    whole, rest = divmod(micros, MICROS)
    return f"{whole}.{rest:06d}"
