"""`baimo tasks`: looking after the company's own work, wherever it lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from baimo.cli import kept_tasks
from baimo.cli.command import Group, Number, with_default
from baimo.cli.tables import show_json
from baimo.text import text


@click.group(cls=Group, help=text("cli.tasks"))
def tasks() -> None: ...


for command in (kept_tasks.list_, kept_tasks.recipe, kept_tasks.delete, kept_tasks.restore):
    tasks.add_command(command)


@tasks.command("new", help=text("cli.tasks_new"))
@click.argument("folder")
@click.option("--kind", default="classify", help=with_default(text("cli.option_kind"), "classify"))
def new(folder: str, kind: str) -> None:
    from baimo.evals.tasks.scaffold import new_task

    for path in new_task(folder, kind):
        click.echo(path)
    click.echo(text("cli.next_compare", folder=folder), err=True)


@tasks.command("import", help=text("cli.tasks_import"))
@click.argument("source")
@click.argument("folder")
@click.option("--format", "format_", default="", help=text("cli.option_format"))
@click.option("--input", "input_", default="", help=text("cli.option_input"))
@click.option("--target", multiple=True, help=text("cli.option_target"))
@click.option("--id", "id_", default="", help=text("cli.option_id"))
@click.option("--group", default="", help=text("cli.option_group"))
@click.option("--metadata", multiple=True, help=text("cli.option_metadata"))
def import_(
    source: str,
    folder: str,
    format_: str,
    input_: str,
    target: tuple[str, ...],
    id_: str,
    group: str,
    metadata: tuple[str, ...],
) -> None:
    from baimo.evals.tasks.formats.columns import Columns
    from baimo.evals.tasks.scaffold import import_task

    reference = target if len(target) > 1 else "".join(target)
    columns = Columns(input=input_, target=reference, id=id_, group=group, metadata=metadata)
    made = import_task(source, folder, format=format_, columns=columns if columns.named else None)
    for path in made.files:
        click.echo(path)
    click.echo(text("cli.imported", count=made.examples, format=made.format), err=True)
    for note in made.notes:
        click.echo(str(note), err=True)
    click.echo(text("cli.next_compare", folder=folder), err=True)


@tasks.command("show", help=text("cli.tasks_show"))
@click.argument("task")
@click.option("--limit", type=Number(int), default=3, help=with_default(text("cli.option_limit"), 3))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def show(flags: dict[str, Any], task: str, limit: int, as_json: bool) -> None:
    from baimo.core.ids import plain
    from baimo.evals.tasks.folder import read_task
    from baimo.evals.tasks.prompts import Renderer

    reading = read_task(_place(flags, task))
    read = reading.task
    some = read.examples[:limit]
    renderer = Renderer(read.prompts[0], read.train)
    if as_json:
        shown = {
            "name": read.name,
            "format": reading.format,
            "examples": len(read.examples),
            "train": len(read.train),
            "scorers": plain(read.scorers),
            "notes": [str(note) for note in reading.notes],
            "first": [
                {"id": one.id, "messages": plain(renderer.messages(one)), "target": one.target}
                for one in some
            ],
        }
        show_json(shown)
        return
    scorers = ", ".join(spec.name for spec in read.scorers)
    facts = {"name": read.name, "format": reading.format, "examples": len(read.examples)}
    click.echo(text("cli.task_line", **facts, train=len(read.train), scorers=scorers))
    for note in reading.notes:
        click.echo(str(note), err=True)
    for example in some:
        click.secho(f"\n── {example.id}", bold=True)
        for message in renderer.messages(example):
            click.echo(f"{message.role}: {message.content}")
        click.echo(f"→ {json.dumps(example.target, ensure_ascii=False)}")


@tasks.command("check", help=text("cli.tasks_check"))
@click.argument("task")
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def check(flags: dict[str, Any], task: str, as_json: bool) -> int:
    from baimo.evals.tasks.check import check as findings_of
    from baimo.evals.tasks.folder import load_task

    def find(model: str) -> object:
        from baimo.workspace.workspace import Workspace  # loads the database: only where there is a judge

        with Workspace(flags=flags) as workspace:
            return workspace.catalogue.model(model)

    findings = findings_of(load_task(_place(flags, task)), find=find)
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                "kind": finding.kind,
                "severity": finding.severity,
                "detail": finding.detail,
                "places": [place._asdict() for place in finding.places],
            }
            for finding in findings
        ]
        show_json(rows)
    for finding in [] if as_json else findings:
        color = {"error": "red", "warning": "yellow"}.get(finding.severity)
        click.secho(f"{text(f'cli.severity_{finding.severity}')}  {finding.detail}", fg=color)
        for place in finding.places[:10]:
            click.echo(f"    {place.file or place.split}:{place.line or place.id}")
        if len(finding.places) > 10:
            click.echo(text("cli.more_places", count=len(finding.places) - 10))
    if not findings:
        click.echo(text("cli.no_findings"), err=True)
    return 1 if any(finding.severity == "error" for finding in findings) else 0


def _place(flags: dict[str, Any], task: str) -> str:
    """Where a task lies: a path, or else the name of one that the workspace has."""
    if Path(task).exists():
        return task
    from baimo.workspace.known_tasks import KnownTasks
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        own = {one.name: one.folder for one in KnownTasks(workspace).listed()}
    return str(own.get(task, task))
