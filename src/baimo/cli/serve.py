"""`baimo serve`: every model behind one metered endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from baimo.cli.command import Command
from baimo.cli.options import options_of
from baimo.server.options import ServeOptions
from baimo.text import text

if TYPE_CHECKING:
    from baimo.server.run import Opening


@click.command(cls=Command, help=text("cli.serve_long"))
@options_of(ServeOptions, "serve")
@click.pass_obj
def serve(flags: dict[str, Any], **given: Any) -> int:
    from baimo.server import run
    from baimo.workspace.workspace import Workspace

    flags = flags | run.flags_of(ServeOptions(**given))
    return run.serve(Workspace(flags=flags), flags, _told)


def _told(opening: Opening) -> None:
    from baimo.server.run import snippets

    click.echo(text("serve.listening", address=opening.address), err=True)
    if opening.secret is None:
        click.echo(text("serve.console", link=opening.console), err=True)
        click.echo(text("serve.keys_exist"), err=True)
        return
    click.echo(text("serve.key_once", secret=opening.secret), err=True)
    click.echo(text("serve.console_once", link=opening.console), err=True)
    click.echo(f"\n{snippets(opening, opening.secret)}\n", err=True)
