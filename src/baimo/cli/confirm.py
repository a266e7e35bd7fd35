"""Asking before something is deleted for good."""

from __future__ import annotations

import sys

import click

from baimo.errors import UsageError


def confirmed(question: str, *, yes: bool) -> None:
    """Return if it may be done.

    Args:
        question: what will be gone.
        yes: it was confirmed on the command line.

    Raises:
        UsageError: nobody is there to be asked.
        click.Abort: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("cli.not_confirmed", question=question)
    click.confirm(question, abort=True, err=True)
