"""A job as it goes: one line that changes on a terminal, one line now and then elsewhere. All on stderr."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from baimo.core.terminal import Telling
from baimo.text import has, text
from baimo.typed import converted

if TYPE_CHECKING:
    from baimo.core.tuning import TuneJob, TuneProgress
    from baimo.store.jobs import JobEvent

SILENT = frozenset({"progress", "record", "plan"})
"""Events that are shown otherwise, or not at all."""


class Walk(Telling):
    """Shows a job's events and its newest figures."""

    _bar: Any = None
    _task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def happened(self, job: TuneJob, events: list[JobEvent]) -> None:
        """Show what is new."""
        for event in events:
            if event.kind not in SILENT and (line := line_of(event)):
                self._say(line)
        if job.progress is not None and any(event.kind == "progress" for event in events):
            self._show(job.progress)

    def _show(self, progress: TuneProgress) -> None:
        if self.plain:
            if self.due(last=progress.step == progress.steps):
                self._say(progress_line(progress))
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            console = Console(file=self.stream, highlight=False, markup=False, emoji=False)
            # stdout stays as it is: it may be a pipe that waits for data
            self._bar = Progress(
                BarColumn(bar_width=24),
                TextColumn("{task.description}", markup=False),
                console=console,
                transient=True,
                redirect_stdout=False,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=progress.steps)
        self._bar.update(
            self._task, completed=progress.step, total=progress.steps, description=progress_line(progress)
        )

    def _say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line)
        else:
            click.echo(line, file=self.stream)


def progress_line(progress: TuneProgress) -> str:
    """The newest figures in one line."""
    shown = [text("tune.progress", step=progress.step, steps=progress.steps, loss=f"{progress.loss:.4f}")]
    if progress.accuracy is not None:
        shown.append(text("tune.progress_accuracy", accuracy=f"{progress.accuracy:.0%}"))
    if progress.valid_loss is not None:
        shown.append(text("tune.progress_valid", loss=f"{progress.valid_loss:.4f}"))
    if progress.reward is not None:
        shown.append(text("tune.progress_reward", reward=f"{progress.reward:.3f}"))
    if progress.eta_s is not None:
        shown.append(text("tune.progress_left", minutes=f"{progress.eta_s / 60:.1f}"))
    return "  ".join([*shown, text("tune.progress_memory", memory=f"{progress.memory_mb:,.0f}")])


def line_of(event: JobEvent) -> str:
    """An event in words; empty = it says nothing to people."""
    if event.kind == "notice":
        return str(event.facts.get("message") or "")
    if event.kind == "progress":
        import msgspec

        from baimo.core.tuning import TuneProgress

        try:
            return progress_line(converted(event.facts.get("progress"), TuneProgress))
        except msgspec.ValidationError:
            return ""
    key = f"tune.event_{event.kind}"
    if not has(key):
        return str(event.facts.get("message") or "")
    known = {"step": "", "model": "", "message": "", "attempt": "", **event.facts}
    return text(key, **known)
