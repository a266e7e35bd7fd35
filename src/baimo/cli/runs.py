"""`baimo runs list|show` and `baimo report RUN`: what was decided before."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import click

from baimo.cli.command import Command, Group, Number, with_default
from baimo.cli.compare import written
from baimo.cli.tables import show_json, table
from baimo.text import text


@click.group(cls=Group, help=text("cli.runs"))
def runs() -> None: ...


@runs.command("list", help=text("cli.runs_list"))
@click.option("--task", help=text("cli.option_task"))
@click.option("--limit", type=Number(int), default=20, help=with_default(text("cli.option_limit"), 20))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def list_(flags: dict[str, Any], task: str | None, limit: int, as_json: bool) -> None:
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        found = workspace.store.runs(task, limit=limit)
        verdicts = {run.id: workspace.store.verdict(run.id) for run in found}
    rows = [
        {
            "run": run.id,
            "task": run.task,
            "status": run.status,
            "started": _when(run.started_ms),
            "winner": verdict.winner if (verdict := verdicts[run.id]) else None,
        }
        for run in found
    ]
    if as_json:
        show_json(rows)
    else:
        table(
            [text(f"cli.column_{name}") for name in ("run", "task", "status", "started", "winner")],
            [[str(value or "–") for value in row.values()] for row in rows],
            empty=text("cli.no_runs"),
        )


@runs.command("show", help=text("cli.runs_show"))
@click.argument("run", default="last")
@click.pass_obj
def show(flags: dict[str, Any], run: str) -> None:
    from baimo.core.ids import plain
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        show_json(plain(workspace.run(run)))


@click.command(cls=Command, help=text("cli.report"))
@click.argument("run", default="last")
@click.option("--html", metavar="FILE", help=text("cli.option_html"))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.option("--markdown", is_flag=True, help=text("cli.option_markdown"))
@click.pass_obj
def report(flags: dict[str, Any], run: str, html: str | None, as_json: bool, markdown: bool) -> None:
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        made = workspace.report(run)
        written(made, Path(html) if html else None, as_json=as_json, markdown=markdown)
    if html:
        click.echo(text("cli.html_at", path=html), err=True)


def _when(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M")
