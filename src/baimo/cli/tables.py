"""Data on stdout: tables aligned for a person and tab-separated for a pipe, JSON for a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click


def show_json(value: Any) -> None:
    """Print `value` as JSON; where the output is not UTF-8, in ASCII, so that it stays valid."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    click.echo(json.dumps(value, ensure_ascii=encoding != "utf8", indent=2, default=str))


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
    for number, column in enumerate(columns):
        drawn.add_column(column, overflow="fold", no_wrap=number == 0)  # a name is copied: keep it whole
    for row in rows:
        drawn.add_row(*row)
    Console().print(drawn)
