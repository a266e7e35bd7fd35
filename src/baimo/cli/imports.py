"""`baimo import`: settings of litellm and tensorzero as baimo.toml, evaluations of openai-evals and promptfoo as tasks.

What could not come along is listed; nothing is dropped in silence.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from baimo.cli.command import Group
from baimo.cli.tables import show_json
from baimo.text import text

if TYPE_CHECKING:
    from baimo.workspace.importing.carried import Carried
    from baimo.workspace.importing.tasks import ImportedTask

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


def _task_command(kind: str, words: str) -> None:
    @imports.command(kind, help=words)
    @click.argument("source", metavar="EXPORT" if kind == "openai-evals" else "FILE")
    @click.option("--out", metavar="FOLDER", help=text("cli.option_import_folder"))
    @click.option("--only", metavar="NAME", multiple=True, help=text("cli.option_import_only"))
    @click.option("--force", is_flag=True, help=text("cli.option_import_force"))
    @click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
    def command(source: str, **given: Any) -> int:
        return _imported_tasks(kind, Path(source), **given)

    assert command


def _imported_tasks(
    kind: str, source: Path, out: str | None, only: tuple[str, ...], force: bool, as_json: bool
) -> int:
    from baimo.workspace.importing.reading import imported_tasks
    from baimo.workspace.importing.tasks import kept_tasks

    tasks = imported_tasks(kind, source, only)
    folders = kept_tasks(tasks, Path(out), force=force) if out is not None else []
    if as_json:
        show_json({"tasks": [task.report() for task in tasks], "written": [str(one) for one in folders]})
    else:
        for task in tasks:
            _told_task(task, out)
        for folder in folders:
            click.echo(text("cli.next_compare", folder=folder), err=True)
    return 0 if all(task.carried.whole for task in tasks) else LEFT


def _told_task(task: ImportedTask, out: str | None) -> None:
    click.echo(text("cli.import_task", name=task.name, examples=task.examples), err=True)
    if out is None:
        click.echo(task.carried.settings, nl=False)
    _told(task.carried, None, brief=True)


def _told(carried: Carried, out: str | None, *, brief: bool = False) -> None:
    for weight in ("secret", "lost", "changed", "needless"):
        notes = [note for note in carried.notes if note.weight == weight]
        if not notes:
            continue
        click.echo(text(f"cli.import_{weight}", count=len(notes)), err=True)
        # objects of an API have dozens of members that mean nothing elsewhere; --json lists them
        for note in [] if brief and weight == "needless" else notes:
            click.echo(text("cli.import_note", path=note.path, value=note.value, why=note.why), err=True)
            if note.advice:
                click.echo(text("cli.hint", message=note.advice), err=True)
    click.echo(text("cli.import_carried", count=len(carried.places)), err=True)
    if out is not None:
        click.echo(text("cli.import_written", path=out), err=True)


_command("litellm", text("cli.import_litellm"))
_command("tensorzero", text("cli.import_tensorzero"))
_task_command("openai-evals", text("cli.import_openai_evals"))
_task_command("promptfoo", text("cli.import_promptfoo"))
