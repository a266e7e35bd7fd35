"""`baimo compare TASK`: the first verb."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from baimo.cli.command import Command
from baimo.cli.options import options_of
from baimo.cli.tables import show_json
from baimo.core.ids import plain
from baimo.errors import RequirementNotMet, UsageError
from baimo.evals.options import CompareOptions
from baimo.text import text

if TYPE_CHECKING:
    from baimo.core.verdict import Forecast, Progress
    from baimo.evals.report.live import Live


class Onlooker:
    """A watcher that shows forecast and progress on stderr."""

    def __init__(self, live: Live, *, quiet: bool) -> None:
        self._live = live
        self._quiet = quiet

    def forecast(self, forecast: Forecast) -> None:
        if not self._quiet:
            click.echo(forecast_line(forecast), err=True)

    def progress(self, progress: Progress) -> None:
        if not self._quiet:
            self._live.update(progress)

    def notice(self, message: str) -> None:
        click.echo(message, err=True)


def forecast_line(forecast: Forecast) -> str:
    """What it will take, in one line."""
    from baimo.evals.report.figures import about, listed, money, money_span

    shown = text(
        "cli.forecast",
        calls=f"{about(forecast.calls.low)}–{about(forecast.calls.high)}",
        exhaustive=about(forecast.calls_exhaustive),
        cost=money_span(forecast.cost_micros, forecast.currency),
        exhaustive_cost=money(forecast.cost_exhaustive_micros, forecast.currency),
        minutes=f"{forecast.minutes.low:.2g}–{forecast.minutes.high:.2g}",
    )
    if forecast.stored:
        shown += text("cli.forecast_stored", stored=about(forecast.stored))
    if forecast.unpriced:
        shown += text("cli.forecast_unpriced", models=listed(forecast.unpriced))
    return shown


@click.command(cls=Command, help=text("cli.compare_long"))
@options_of(CompareOptions, "compare")
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.option("--markdown", is_flag=True, help=text("cli.option_markdown"))
@click.option("--html", metavar="FILE", help=text("cli.option_html"))
@click.option("--quiet", "-q", is_flag=True, help=text("cli.option_quiet"))
@click.pass_obj
def compare(
    flags: dict[str, Any], as_json: bool, markdown: bool, html: str | None, quiet: bool, **given: Any
) -> int:
    options = CompareOptions(**given)
    if not options.task and options.resume is None:
        raise UsageError("cli.no_task")
    from baimo.evals.report.live import Live
    from baimo.evals.require import requirement
    from baimo.workspace.workspace import Workspace

    conditions = [requirement(source) for source in options.require]
    with Workspace(flags=flags) as workspace:
        with Live() as live:
            onlooker = Onlooker(live, quiet=quiet)
            if options.forecast:
                planned = workspace.forecast(options, onlooker)
                if as_json:
                    show_json(plain(planned))
                else:
                    click.echo(forecast_line(planned))
                return 0
            verdict = workspace.compare(options, onlooker, _stopped_by_ctrl_c)
        report = workspace.report(verdict.run)
        page = Path(html) if html else workspace.path / "reports" / f"{verdict.run}.html"
        written(report, page, as_json=as_json, markdown=markdown)
        click.echo(text("cli.html_at", path=page), err=True)
    if verdict.stopped == "interrupted":
        click.echo(text("cli.resume", run=verdict.run), err=True)
        return 130
    unmet = [reason for condition in conditions if (reason := condition.unmet(verdict))]
    if unmet:
        raise RequirementNotMet("cli.require_not_met", reasons="; ".join(unmet))
    return 0


def written(report: Any, page: Path | None, *, as_json: bool, markdown: bool) -> None:
    """The report on stdout in the form asked for, and as a page where one is wanted."""
    from rich.console import Console

    from baimo.evals.report.data import data
    from baimo.evals.report.html import html as html_of
    from baimo.evals.report.markdown import markdown as markdown_of
    from baimo.evals.report.terminal import table

    if page is not None:
        try:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(html_of(report), encoding="utf-8")
        except OSError as error:
            raise UsageError("cli.cannot_write", path=page, problem=error.strerror) from error
    if as_json:
        show_json(data(report))
    elif markdown:
        click.echo(markdown_of(report.verdict))
    else:
        Console(highlight=False, markup=False, emoji=False).print(table(report.verdict))


def _stopped_by_ctrl_c(stop: Callable[[], object]) -> None:
    """The first Ctrl-C ends the comparison with a verdict on what is known; the second one ends the program."""

    def interrupted(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()

    signal.signal(signal.SIGINT, interrupted)
