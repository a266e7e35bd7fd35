"""`baimo import litellm|tensorzero`: the settings of another gateway as baimo.toml, and what could not come along."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from baimo.cli.command import Group
from baimo.cli.tables import show_json
from baimo.text import text

if TYPE_CHECKING:
    from baimo.workspace.importing.carried import Carried

LEFT = 1
"""Exit code where something is left for a person to look at."""


@click.group("import", cls=Group, help=text("cli.import"))
def imports() -> None: ...


def _command(kind: str, words: str) -> None:
    @imports.command(kind, help=words)
    @click.argument("file", metavar="FILE")
    @click.option("--out", metavar="FILE", help=text("cli.option_import_out"))
    @click.option("--force", is_flag=True, help=text("cli.option_import_force"))
    @click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
    def command(file: str, **given: Any) -> int:
        return _imported(kind, file, **given)

    assert command


def _imported(kind: str, file: str, out: str | None, force: bool, as_json: bool) -> int:
    from baimo.workspace.importing.reading import imported, kept

    carried = imported(kind, Path(file))
    if out is not None:
        kept(carried, Path(out), force=force)
    if as_json:
        show_json({**carried.report(), "written": out})
    else:
        if out is None:
            click.echo(carried.settings, nl=False)
        _told(carried, out)
    return 0 if carried.whole else LEFT


def _told(carried: Carried, out: str | None) -> None:
    for weight in ("secret", "lost", "changed", "needless"):
        notes = [note for note in carried.notes if note.weight == weight]
        if not notes:
            continue
        click.echo(text(f"cli.import_{weight}", count=len(notes)), err=True)
        for note in notes:
            click.echo(text("cli.import_note", path=note.path, value=note.value, why=note.why), err=True)
            if note.advice:
                click.echo(text("cli.hint", message=note.advice), err=True)
    click.echo(text("cli.import_carried", count=len(carried.places)), err=True)
    if out is not None:
        click.echo(text("cli.import_written", path=out), err=True)


_command("litellm", text("cli.import_litellm"))
_command("tensorzero", text("cli.import_tensorzero"))
