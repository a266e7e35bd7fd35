"""Plain tables on stdout: aligned for a person, tab-separated for a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Print `rows` under `columns`; `empty` goes to stderr when there are none."""
    if not rows:
        click.echo(empty, err=True)
        return
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    Console().print(drawn)
