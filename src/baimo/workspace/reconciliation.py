"""A reconciliation as data, for whoever shows it; and one of a statement that was sent rather than named."""

from __future__ import annotations

from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from baimo.core.moments import shown
from baimo.errors import UsageError
from baimo.store.reconcile import Compared, Figures, Reconciliation
from baimo.text import text

if TYPE_CHECKING:
    from baimo.workspace.bookkeeping import Bookkeeping
    from baimo.workspace.ledger_options import ReconcileOptions


def of_text(books: Bookkeeping, statement: str, options: ReconcileOptions) -> dict[str, Any]:
    """Compare the ledger with a provider's statement, given as text.

    Args:
        books: the ledger.
        statement: what the file holds.
        options: `file` is the name that messages and the result call it.

    Raises:
        UsageError: the statement, or an option, cannot be used.
    """
    with TemporaryDirectory(prefix="baimo-") as folder:
        path = Path(folder) / "statement"
        path.write_text(statement, encoding="utf-8", newline="")
        try:
            found = data(books.reconcile(replace(options, file=str(path))))
        except UsageError as error:
            facts = {**error.facts, "path": options.file} if "path" in error.facts else error.facts
            raise UsageError(error.key, **facts) from None
    return {**found, "file": options.file}


def data(found: Reconciliation) -> dict[str, Any]:
    """Everything as JSON-ready data; money as decimal text."""
    return {
        "agrees": not found.differing,
        "form": found.statement.form.name,
        "file": str(found.statement.path),
        "since": shown(found.since_ms),
        "until": shown(found.until_ms),
        "currency": found.currency,
        "rows": [_row(row) for row in found.rows],
        "doubts": found.doubts,
        "doubtful": [{**one._asdict(), "began": shown(one.began_ms)} for one in found.doubtful],
        "notes": [text(note.key, **note.facts) for note in found.notes],
    }


def decimal_text(value: Decimal) -> str:
    """An amount with every digit that says something."""
    written = f"{value:f}"
    return (written.rstrip("0").rstrip(".") or "0") if "." in written else written


def _row(row: Compared) -> dict[str, Any]:
    sides = {"statement": row.theirs, "ledger": row.ours}
    return {
        "day": row.day,
        "model": row.model,
        "differs": list(row.differs),
        **{name: None if side is None else _figures(side) for name, side in sides.items()},
    }


def _figures(side: Figures) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(side).items()}


def _plain(value: int | Decimal | None) -> int | str | None:
    return decimal_text(value) if isinstance(value, Decimal) else value
