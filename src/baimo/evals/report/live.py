"""A comparison as it runs: tiers that form, what is spent, what is still to come.

Prevents the failure where a progress bar fills a log file: on a pipe, a dumb terminal or with NO_COLOR
there is one plain line every ten seconds. Everything goes to stderr; stdout is for data."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from baimo.core.terminal import Telling
from baimo.core.verdict import Progress, Standing
from baimo.evals.report.figures import (
    about,
    columns,
    count,
    counted,
    duration,
    money,
    name,
    ranked,
    say,
    score,
    share,
    shortened,
    tier,
    wrapped,
)
from baimo.evals.report.plots import frame, strip

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

_REDRAW_S = 0.1


class Live(Telling):
    """Shows Progress on a terminal while a comparison runs, or says it in a line now and then."""

    _screen: Any = None
    _last: Progress | None = None
    _said: Progress | None = None

    def __enter__(self) -> Self:
        if not self.plain:
            from rich.console import Console
            from rich.live import Live as Screen

            console = Console(file=self.stream, highlight=False, markup=False, emoji=False)
            # stdout stays as it is: it may be a pipe that waits for data
            self._screen = Screen(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
            self._screen.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._screen is not None:
            self._screen.stop()
        elif self._last is not None and self._last is not self._said:
            self._say(self._last)

    def update(self, progress: Progress) -> None:
        """Show where it stands; cheap enough to call after every batch."""
        self._last = progress
        if self.plain:
            if self.due():
                self._say(progress)
        elif self._screen is not None and self.due(_REDRAW_S):
            self._screen.update(ProgressView(progress), refresh=True)

    def _say(self, progress: Progress) -> None:
        self._said = progress
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        shown = line(progress).encode(encoding, "replace").decode(encoding)
        self.stream.write(shown + "\n")
        self.stream.flush()


def line(progress: Progress) -> str:
    """Where it stands, in one line."""
    parts = [_calls(progress), _money(progress), _error(progress)]
    leader = _leader(progress.standings)
    if leader is not None:
        parts.append(say("live_leader", leader=name(leader.candidate), score=score(leader.score)))
    parts.append(_time(progress))
    if progress.waiting:
        parts.append(name(progress.waiting))
    return say("live_line", parts=say("clause").join(parts))


def _leader(lines: Sequence[Standing]) -> Standing | None:
    return next((each for each in lines if each.judged), None)


def _calls(progress: Progress) -> str:
    facts = {
        "calls": count(progress.calls),
        "all": count(progress.calls_exhaustive),
        "left": about(progress.calls_left),
    }
    return say("live_calls" if progress.calls_left is not None else "live_calls_open", **facts)


def _money(progress: Progress) -> str:
    spent, left, full = progress.cost_micros, progress.cost_left_micros, progress.cost_exhaustive_micros
    if spent is None:
        return say("live_money_unknown")
    facts = {
        name_: money(value, progress.currency)
        for name_, value in (("cost", spent), ("left", left), ("full", full))
    }
    return say("live_money" if left is not None else "live_money_open", **facts)


def _error(progress: Progress) -> str:
    return say("live_error", bound=share(progress.error_bound), delta=share(progress.delta))


def _time(progress: Progress) -> str:
    facts = {"elapsed": duration(progress.elapsed_s), "eta": duration(progress.eta_s)}
    return say("live_time" if progress.eta_s is not None else "live_time_open", **facts)


class ProgressView:
    """A renderable of rich: figures on top, then the best candidates with their intervals as bars."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        progress, width = self.progress, options.max_width
        rich_signs = not options.ascii_only
        yield _gauge(progress, width, rich_signs)
        figures = (_calls(progress), _money(progress), _error(progress), _time(progress))
        heads = [Text(each, no_wrap=True) for part in figures for each in wrapped(part, width)]
        yield from heads
        if progress.waiting:
            waiting = say("live_waiting", reason=name(progress.waiting))
            yield Text(shortened(waiting, width), style="yellow", no_wrap=True)
        room = max(3, min(16, console.height - len(heads) - 5))
        lines = progress.standings[:room]
        yield Text()
        yield from _rows(lines, width, rich_signs)
        hidden = progress.standings[room:]
        if hidden:
            apart = sum(ranked(each) and each.tier != 1 for each in hidden)
            shown = counted("more_candidates", len(hidden), apart=count(apart))
            yield Text(shortened(shown, width), style="dim", no_wrap=True)


def _gauge(progress: Progress, width: int, rich_signs: bool) -> Text:
    from rich.text import Text

    expected = (
        progress.calls + progress.calls_left if progress.calls_left is not None else progress.calls_exhaustive
    )
    done = min(1.0, progress.calls / expected) if expected else 1.0
    size = max(10, min(60, width - 6))
    full, rest = ("━", "─") if rich_signs else ("#", ".")
    filled = round(done * size)
    shown = Text(no_wrap=True)
    shown.append(full * filled, style="green").append(rest * (size - filled), style="dim")
    return shown.append(f" {share(done):>4}")


def _rows(lines: Sequence[Standing], width: int, rich_signs: bool) -> list[Text]:
    """One line per candidate: tier, name, score, and the interval as a bar in what room is left."""
    from rich.text import Text

    names = [name(each.candidate) for each in lines]
    wide = min(max(map(columns, names), default=10), max(14, width // 3))
    size = min(60, width - (3 + wide + 2 + 5 + 2) - 1)
    low, high = frame(lines)
    rule, dot = ("━", "●") if rich_signs else ("-", "o")
    drawn: list[Text] = []
    for each, shown in zip(lines, names, strict=True):
        short = shortened(shown, wide)
        style = "green" if each.tier == 1 else "dim"
        row = Text(
            f"{tier(each):>2} {short}{' ' * (wide - columns(short))}  {score(each.score):>5}  ", no_wrap=True
        )
        row.stylize("bold" if each.tier == 1 else "dim")
        place = strip(each, low, high, size) if size >= 8 else None
        if place:
            bar = " " * place[0] + rule * (place[2] - place[0] + 1)
            row.append(bar[: place[1]] + dot + bar[place[1] + 1 :], style=style)
        drawn.append(row)
    return drawn
