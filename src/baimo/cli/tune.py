"""`baimo tune TASK_OR_FILE`: adapt a model to data, on this machine."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from baimo.cli.command import Command
from baimo.cli.confirm import confirmed
from baimo.cli.options import options_of
from baimo.cli.tables import show_json
from baimo.core.ids import plain
from baimo.text import text
from baimo.tuning.options import TuneOptions

if TYPE_CHECKING:
    from baimo.cli.walking import Walk
    from baimo.core.tuning import Range, TuneForecast, TuneJob
    from baimo.store.jobs import JobEvent
    from baimo.workspace.tuning import Planned

PAUSED = 130
"""Exit code after Ctrl-C, as shells have it."""


class Halt:
    """Set by the first Ctrl-C; the second one ends the program, and the job pauses by itself."""

    def __init__(self) -> None:
        self._wanted = self._told = False

    def __call__(self) -> bool:
        """Whether the job is to pause; says so to the person when it is first asked after Ctrl-C."""
        if self._wanted and not self._told:
            self._told = True
            click.echo(text("tune.pausing"), err=True)
        return self._wanted

    def listen(self) -> None:
        """From here on Ctrl-C pauses the job."""
        signal.signal(signal.SIGINT, self._interrupted)

    def _interrupted(self, _: int, __: FrameType | None) -> None:
        # nothing is printed here: it may come while a line is being printed, and a stream cannot be entered twice
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._wanted = True


class Onlooker:
    """A watcher that shows plan, forecast and progress on stderr, and asks before it starts."""

    def __init__(self, walk: Walk, halt: Halt, *, yes: bool = True, quiet: bool = False) -> None:
        self._walk, self._halt, self._yes, self._quiet = walk, halt, yes, quiet
        self.seen: Planned | None = None

    def notice(self, message: str) -> None:
        if not self._quiet:
            click.echo(message, err=True)

    def planned(self, planned: Planned) -> bool:
        self.seen = planned
        if not self._quiet:
            for line in plan_lines(planned):
                click.echo(line, err=True)
            if planned.forecast is not None:
                click.echo(forecast_line(planned.forecast), err=True)
        confirmed(text("tune.start"), yes=self._yes)
        self._halt.listen()
        return True

    def happened(self, job: TuneJob, events: list[JobEvent]) -> None:
        if not self._quiet:
            self._walk.happened(job, events)


@click.command(cls=Command, help=text("tune.long"))
@options_of(TuneOptions, "tune")
@click.option("--yes", "-y", is_flag=True, help=text("tune.option_yes"))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.option("--quiet", "-q", is_flag=True, help=text("tune.option_quiet"))
@click.pass_obj
def tune(flags: dict[str, Any], yes: bool, as_json: bool, quiet: bool, **given: Any) -> int:
    options = TuneOptions(**given)
    from baimo.cli.walking import Walk
    from baimo.workspace.workspace import Workspace

    halt = Halt()
    with Workspace(flags=flags) as workspace, Walk() as walk:
        onlooker = Onlooker(walk, halt, yes=yes or options.forecast, quiet=quiet)
        job = workspace.tune(options, onlooker, halt)
    if job is not None:
        return ended(job, options.source, as_json=as_json)
    if as_json:
        show_json(plain(onlooker.seen))
    return 0


def ended(job: TuneJob, source: str, *, as_json: bool) -> int:
    """Say how a job has ended and what to do next; returns the exit code: 0, 1 after a failure, 130 paused."""
    from baimo.core.tuning import JobStatus

    if as_json:
        show_json(plain(job))
    id = job.spec.id
    match job.status:
        case JobStatus.SUCCEEDED:
            if not as_json:
                click.echo(job.model or id)
            key = "tune.next" if job.model else "tune.unadopted"
            click.echo(text(key, model=job.model, source=source or "TASK", job=id, took=took(job)), err=True)
            return 0
        case JobStatus.PAUSED:
            click.echo(text("tune.paused", job=id), err=True)
            return PAUSED
        case JobStatus.CANCELLED:
            click.echo(text("tune.was_cancelled", job=id), err=True)
            return 1
        case _:
            error: Mapping[str, Any] = job.error or {}
            click.secho(text("cli.error", message=error.get("message", "")), err=True, fg="red")
            return 1


def took(job: TuneJob) -> str:
    """What a job took, beside its forecast."""
    from baimo.tuning.forecast import error, fact

    minutes, memory = fact(job, "minutes"), fact(job, "memory_mb")
    shown = text("tune.took", minutes=f"{minutes or 0:.1f}", memory=f"{memory or 0:,.0f}")
    off, off_memory = error(job, "minutes"), error(job, "memory_mb")
    if off is not None and off_memory is not None:
        shown += " " + text("tune.off", minutes=f"{off:+.0%}", memory=f"{off_memory:+.0%}")
    return shown


def plan_lines(planned: Planned) -> list[str]:
    """The plan, for people."""
    lines = [
        text("tune.plan", recipe=planned.recipe, base=planned.base, rows=planned.rows, valid=planned.valid)
    ]
    width = max((len(name) for name in planned.settings), default=0)
    for name, value in planned.settings.items():
        mark = "  " + text("tune.overridden") if name in planned.overridden else ""
        lines.append(f"  {name:<{width}}  {_shown(value)}{mark}")
    return lines


def forecast_line(forecast: TuneForecast) -> str:
    """What it will take, in one line."""
    from baimo.core.money import MICROS

    facts: dict[str, object] = {
        "minutes": _span(forecast.minutes, 1, 1),
        "memory": _span(forecast.memory_mb, 1, 0),
        "tokens": f"{forecast.tokens:,}",
        "basis": text(f"tune.based_on_{forecast.based_on}"),
    }
    if forecast.cost_micros is None:
        return text("tune.forecast", **facts)
    cost = _span(forecast.cost_micros, MICROS, 3)
    return text("tune.forecast_priced", cost=cost, currency=forecast.currency, **facts)


def _span(range: Range, unit: float, digits: int) -> str:
    middle, low, high = (f"{value / unit:,.{digits}f}" for value in (range.middle, range.low, range.high))
    return middle if low == high else f"{middle} ({low}–{high})"


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
