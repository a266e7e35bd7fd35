"""`baimo jobs`: tuning jobs, what they took, and what is to become of them."""

from __future__ import annotations

import datetime
from typing import Any

import click

from baimo.cli.command import Command, Group, Number, with_default
from baimo.cli.confirm import confirmed
from baimo.cli.tables import show_json, table
from baimo.text import text


@click.group(cls=Group, help=text("tune.jobs"))
def jobs() -> None: ...


@jobs.command("list", help=text("tune.jobs_list"))
@click.option("--limit", type=Number(int), default=20, help=with_default(text("cli.option_limit"), 20))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def list_(flags: dict[str, Any], limit: int, as_json: bool) -> None:
    from baimo.core.ids import plain
    from baimo.core.tuning import JobStatus
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        queue = workspace.tuning.queue
        found = queue.jobs.page(None, limit=limit)
        orphans = {
            job.spec.id
            for job in found
            if job.status in (JobStatus.RUNNING, JobStatus.QUEUED) and not queue.at(job.spec.id).kept
        }
    if as_json:
        show_json([plain(job) for job in found])
        return
    rows: list[list[str]] = []
    for job in found:
        status = text(f"tune.status_{job.status.value}")
        if job.spec.id in orphans:
            status = text("tune.orphan", status=status)
        share = f"{job.progress.step / max(1, job.progress.steps):.0%}" if job.progress else "–"
        started = _when(job.created_ms)
        rows.append(
            [job.spec.id, status, share, job.spec.recipe.name, job.spec.base, started, job.model or "–"]
        )
    names = ("job", "status", "done", "recipe", "base", "created", "model")
    table([text(f"tune.column_{name}") for name in names], rows, empty=text("tune.no_jobs"))


@jobs.command("show", help=text("tune.jobs_show"))
@click.argument("job", default="last")
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def show(flags: dict[str, Any], job: str, as_json: bool) -> None:
    from baimo.cli.tune import forecast_line, took
    from baimo.cli.walking import progress_line
    from baimo.core.ids import plain
    from baimo.tuning import forecast
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        found = workspace.tuning.job(job)
        folder = workspace.tuning.queue.at(found.spec.id).path
    if as_json:
        errors = {name: forecast.error(found, name) for name in ("minutes", "memory_mb")}
        show_json({**plain(found), "forecast_error": errors, "folder": str(folder)})
        return
    lines = [
        (text("tune.column_job"), found.spec.id),
        (text("tune.column_status"), text(f"tune.status_{found.status.value}")),
        (text("tune.column_recipe"), f"{found.spec.recipe.name} ({found.spec.effort})"),
        (text("tune.column_base"), found.spec.base),
        (text("tune.column_created"), _when(found.created_ms)),
        (text("tune.column_model"), found.model or "–"),
        (text("tune.column_folder"), str(folder)),
    ]
    for name, value in lines:
        click.echo(f"{name}: {value}")
    if found.progress is not None:
        click.echo(progress_line(found.progress))
    if found.forecast is not None:
        click.echo(forecast_line(found.forecast))
    if found.minutes is not None:
        click.echo(took(found))
    if found.error is not None:
        click.echo(str(found.error.get("message")))


@jobs.command("events", help=text("tune.jobs_events"))
@click.argument("job", default="last")
@click.option("--limit", type=Number(int), default=100, help=with_default(text("cli.option_limit"), 100))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def events(flags: dict[str, Any], job: str, limit: int, as_json: bool) -> None:
    from baimo.cli.walking import line_of
    from baimo.core.ids import plain
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        known = workspace.tuning.job(job)
        found = workspace.tuning.queue.jobs.events(known.spec.id, limit=limit)[::-1]
    if as_json:
        show_json([{"id": event.id, **plain(event)} for event in found])
        return
    for event in found:
        if line := line_of(event):
            click.echo(f"{_when(event.at_ms, seconds=True)}\t{line}")


@jobs.command("pause", help=text("tune.jobs_pause"))
@click.argument("job")
@click.pass_obj
def pause(flags: dict[str, Any], job: str) -> None:
    _wished(flags, job, "pause")


@jobs.command("cancel", help=text("tune.jobs_cancel"))
@click.argument("job")
@click.pass_obj
def cancel(flags: dict[str, Any], job: str) -> None:
    _wished(flags, job, "cancel")


@jobs.command("resume", cls=Command, help=text("tune.jobs_resume"))
@click.argument("job", default="last")
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.option("--quiet", "-q", is_flag=True, help=text("tune.option_quiet"))
@click.pass_obj
def resume(flags: dict[str, Any], job: str, as_json: bool, quiet: bool) -> int:
    from baimo.cli.tune import Halt, Onlooker, ended
    from baimo.cli.walking import Walk
    from baimo.workspace.workspace import Workspace

    halt = Halt()
    with Workspace(flags=flags) as workspace, Walk() as walk:
        known = workspace.tuning.job(job)
        halt.listen()
        done = workspace.tuning.resumed(known.spec.id, Onlooker(walk, halt, quiet=quiet), halt)
    return ended(done, "", as_json=as_json)


@jobs.command("rm", help=text("tune.jobs_rm"))
@click.argument("job")
@click.option("--yes", "-y", is_flag=True, help=text("tune.option_yes_rm"))
@click.pass_obj
def remove(flags: dict[str, Any], job: str, yes: bool) -> None:
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        known = workspace.tuning.job(job)
        confirmed(text("tune.remove", job=known.spec.id), yes=yes)
        workspace.tuning.queue.remove(known.spec.tenant, known.spec.id)


def _wished(flags: dict[str, Any], job: str, wish: str) -> None:
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        known = workspace.tuning.job(job)
        now = getattr(workspace.tuning.queue, wish)(known.spec.tenant, known.spec.id)
    click.echo(text("tune.now", job=now.spec.id, status=text(f"tune.status_{now.status.value}")), err=True)


def _when(milliseconds: int, *, seconds: bool = False) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")
