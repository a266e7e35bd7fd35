"""A reconciliation as a table and as data."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import Any

from baimo.core.moments import shown
from baimo.store.reconcile import Compared, Figures, Reconciliation
from baimo.store.statements.line import TOKENS
from baimo.text import text

FIGURES = (*TOKENS, "cost")


def rows(found: Reconciliation, *, everything: bool) -> list[list[str]]:
    """One line per figure that differs; with `everything`, per figure that the statement has."""
    lines: list[list[str]] = []
    for row in found.rows:
        for name in FIGURES:
            theirs, ours = _amount(row.theirs, name), _amount(row.ours, name)
            if name in row.differs or (everything and row.theirs is not None and theirs is not None):
                model = row.model or text("bookkeeping.all_models")
                unit = found.currency if name == "cost" else ""
                figures = (
                    _shown(theirs, unit),
                    _shown(ours, unit),
                    _shown((ours or 0) - (theirs or 0), unit),
                )
                lines.append([row.day, model, text(f"bookkeeping.figure_{name}"), *figures])
    return lines


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


def _amount(side: Figures | None, name: str) -> int | Decimal | None:
    return None if side is None else getattr(side, name)


def _plain(value: int | Decimal | None) -> int | str | None:
    return _decimal(value) if isinstance(value, Decimal) else value


def _shown(value: int | Decimal | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{_decimal(Decimal(value))} {unit}".strip()


def _decimal(value: Decimal) -> str:
    written = f"{value:f}"
    return (written.rstrip("0").rstrip(".") or "0") if "." in written else written
