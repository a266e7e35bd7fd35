"""A reconciliation as a table."""

from __future__ import annotations

from decimal import Decimal

from baimo.store.reconcile import Figures, Reconciliation
from baimo.store.statements.line import TOKENS
from baimo.text import text
from baimo.workspace.reconciliation import decimal_text

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


def _amount(side: Figures | None, name: str) -> int | Decimal | None:
    return None if side is None else getattr(side, name)


def _shown(value: int | Decimal | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{decimal_text(Decimal(value))} {unit}".strip()
