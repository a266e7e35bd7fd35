"""`baimo data check|clean|split|collect`: what a model is to learn from, before it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from baimo.cli.command import Group, Number, OneOf, with_default
from baimo.cli.tables import show_json
from baimo.text import text

if TYPE_CHECKING:
    from baimo.tuning.data.finding import Finding
    from baimo.workspace.training_data import Looking, Made, Source

SHOWN = 8
"""Findings of a kind, and places of a finding, that are shown without --json."""
COLORS = {"error": "red", "warning": "yellow"}
FORMATS = "chat, pairs, sharegpt, alpaca, preference, text"
STEPS = (
    "trim, mask_pii, drop_empty, drop_broken, drop_too_long, drop_unwanted, keep_languages, drop_leaked, "
    "drop_duplicates, drop_contradictions, drop_near_duplicates"
)
COUNTS = ("step", "removed", "changed", "kept")
USUAL = "drop_empty,drop_broken,drop_duplicates"
_Command = Callable[..., Any]


@click.group(cls=Group, help=text("cli.data"))
def data() -> None: ...


def _options(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    def decorated(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


_sources = _options(
    click.argument("files", metavar="FILE...", nargs=-1, required=True),
    click.option("--format", "format_", default="", help=text("data.option_format", known=FORMATS)),
    click.option("--input", "input_", default="", help=text("data.option_input")),
    click.option("--target", default="", help=text("data.option_target")),
    click.option("--system", default="", help=text("data.option_system")),
    click.option("--group", default="", help=text("data.option_group")),
)
_looking = _options(
    click.option("--task", metavar="FOLDER", default="", help=text("data.option_task")),
    click.option("--model", default="", help=text("data.option_model")),
    click.option("--longest", type=Number(int), default=0, help=text("data.option_longest")),
    click.option("--words", metavar="FILE", default="", help=text("data.option_words")),
    click.option("--language", multiple=True, help=text("data.option_language")),
    click.option("--use", type=OneOf(["sft", "dpo", "grpo", "cpt"]), help=text("data.option_use")),
    click.option("--no-near", is_flag=True, help=text("data.option_no_near")),
)
_written = _options(
    click.option("--skip-unreadable", is_flag=True, help=text("data.option_skip")),
    click.option("--force", is_flag=True, help=text("data.option_force")),
)
_json = click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))


@data.command("check", help=text("data.check"))
@_sources
@_looking
@_json
@click.pass_obj
def check(flags: dict[str, Any], as_json: bool, **given: Any) -> int:
    from baimo.workspace.training_data import TrainingData
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        report = TrainingData(workspace).check(_source(given), _look(given))
    if as_json:
        show_json(report.plain())
        return int(report.errors > 0)
    languages = ", ".join(f"{name} {count}" for name, count in report.languages.items())
    click.echo(text("data.summary", rows=report.rows, use=report.use, languages=languages))
    if report.tokens is not None:
        click.echo(text("data.summary_tokens", tokens=report.tokens, longest=report.longest))
    _told(report.findings)
    return int(report.errors > 0)


@data.command("clean", help=text("data.clean"))
@_sources
@_looking
@click.option("--steps", default=USUAL, help=with_default(text("data.option_steps", known=STEPS), USUAL))
@click.option("--output", "-o", required=True, metavar="FILE", help=text("data.option_output"))
@_written
@_json
@click.pass_obj
def clean(flags: dict[str, Any], steps: str, output: str, force: bool, as_json: bool, **given: Any) -> None:
    from baimo.workspace.training_data import TrainingData
    from baimo.workspace.workspace import Workspace

    named = [step.strip() for step in steps.split(",") if step.strip()]
    with Workspace(flags=flags) as workspace:
        made = TrainingData(workspace).clean(_source(given), _look(given), named, Path(output), force=force)
    _shown([made], as_json)


@data.command("split", help=text("data.split"))
@_sources
@click.option("--valid", type=Number(float), default=0.1, help=with_default(text("data.option_valid"), 0.1))
@click.option("--seed", type=Number(int), default=0, help=with_default(text("data.option_seed"), 0))
@click.option("--no-near", is_flag=True, help=text("data.option_no_near"))
@click.option("--output", "-o", required=True, metavar="DIR", help=text("data.option_folder"))
@_written
@_json
@click.pass_obj
def split(
    flags: dict[str, Any], valid: float, seed: int, output: str, force: bool, as_json: bool, **given: Any
) -> None:
    from baimo.workspace.training_data import TrainingData
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        work = TrainingData(workspace)
        made = work.split(_source(given), _look(given), Path(output), valid, seed=seed, force=force)
    _shown(made, as_json)


@data.command("collect", help=text("data.collect"))
@click.option("--since", help=text("data.option_since"))
@click.option("--until", help=text("data.option_until"))
@click.option("--tenant", help=text("data.option_tenant"))
@click.option("--key", help=text("data.option_key"))
@click.option("--model", help=text("data.option_answered"))
@click.option("--surface", help=text("data.option_surface"))
@click.option("--tag", multiple=True, help=text("data.option_tag"))
@click.option("--votes", is_flag=True, help=text("data.option_votes"))
@click.option("--output", "-o", required=True, metavar="FILE", help=text("data.option_output"))
@click.option("--force", is_flag=True, help=text("data.option_force"))
@_json
@click.pass_obj
def collect(
    flags: dict[str, Any], output: str, force: bool, as_json: bool, votes: bool, **given: Any
) -> None:
    from baimo.workspace.ledger_options import LedgerOptions
    from baimo.workspace.training_data import TrainingData
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        work = TrainingData(workspace)
        found = work.preferred if votes else work.collect
        made, skipped = found(LedgerOptions(**given), Path(output), force=force)
    if not as_json:
        told = "data.votes_skipped" if votes else "data.skipped"
        for name, count in skipped.items():
            click.echo(text(told, count=count, why=text(f"data.why_{name}")), err=True)
    _shown([made], as_json)


def _source(given: dict[str, Any]) -> Source:
    from baimo.tuning.data.formats import Columns
    from baimo.workspace.training_data import Source

    columns = Columns(given["input_"], given["target"], given["system"], given["group"])
    skip = given.get("skip_unreadable", False)
    return Source(files=given["files"], format=given["format_"], columns=columns, skip_unreadable=skip)


def _look(given: dict[str, Any]) -> Looking:
    from baimo.workspace.training_data import Looking

    names = ("task", "model", "longest", "words", "use")
    found = {name: given[name] for name in names if name in given}
    return Looking(**found, languages=given.get("language", ()), near=not given["no_near"])


def _told(findings: Sequence[Finding]) -> None:
    counts = Counter(finding.kind for finding in findings)
    shown: Counter[str] = Counter()
    for finding in findings:
        shown[finding.kind] += 1
        if shown[finding.kind] > SHOWN:
            continue
        severity = text(f"cli.severity_{finding.severity}")
        click.secho(f"{severity}  {finding.detail}", fg=COLORS.get(finding.severity))
        for spot in finding.spots[:SHOWN]:
            click.echo(f"    {spot}")
        if len(finding.spots) > SHOWN:
            click.echo(text("cli.more_places", count=len(finding.spots) - SHOWN))
        if shown[finding.kind] in (SHOWN, counts[finding.kind]):
            click.echo(text("cli.hint", message=finding.advice))
    for kind, count in counts.items():
        if count > SHOWN:
            click.echo(text("data.more_findings", count=count - SHOWN, kind=kind))
    if not findings:
        click.echo(text("cli.no_findings"), err=True)


def _shown(made: Sequence[Made], as_json: bool) -> None:
    """Steps and files: on stdout as JSON, else for a person on stderr, with the files on stdout."""
    if as_json:
        show_json([{"path": str(one.path), "rows": one.rows, "steps": list(one.steps)} for one in made])
        return
    steps = [*made[0].steps, *(one.steps[-1] for one in made[1:])]
    for step in steps:
        counts = {name: step[name] for name in COUNTS}
        click.echo(text("data.step_line", **counts), err=True)
        for name, value in step.items():
            if name not in COUNTS and value:
                click.echo("  " + text("data.step_more", name=name, value=_flat(value)), err=True)
    for one in made:
        click.echo(text("data.written", count=one.rows, path=one.path), err=True)
        click.echo(one.path)


def _flat(value: Any) -> str:
    """A figure, or several by name."""
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        return ", ".join(f"{name} {count}" for name, count in named.items())
    return ", ".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else str(value)
