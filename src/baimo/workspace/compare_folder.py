"""What a comparison says while it runs, and what it is told: a folder, like that of a tuning job.

Prevents two failures: a comparison that only the process which began it can watch or stop (its progress stands in a
file that every worker reads, and whoever wants it to stop says so in one), and a file of progress that grows without
bound (the longer it runs, the longer the pauses between two lines).

    events.jsonl   forecast, started, progress, notice, done, failed
    control        cancel = stop with a verdict on what is known
    lock           held by the process that compares
    order.json     what the endpoint's clients have asked for; not there for runs of the command line
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from baimo.core.ids import canonical
from baimo.core.verdict import Forecast, Progress, Verdict
from baimo.errors import BaimoError, Forbidden, Unauthenticated
from baimo.tuning.folder import JobFolder
from baimo.typed import converted

if TYPE_CHECKING:
    from baimo.evals.compare import Watcher

FOLDER = "comparisons"
LOOK_S = 0.3
"""How often a comparison looks whether it is to stop."""
BEAT_S = 20.0
"""How often it says that it is there, for other machines."""
LEAST_S = 0.5
"""Shortest pause between two lines of progress."""
PART = 0.01
"""Pause between two lines of progress as a part of the time that has passed: a thousand lines take for ever."""
_TAIL = 1 << 20
"""Bytes at the end of the events that are looked through for what was said last."""


def run_folder(workspace: Path, run: str) -> JobFolder:
    """The folder of a run.

    Args:
        workspace: `Workspace.path`.
        run: its id.
    """
    return JobFolder(workspace / FOLDER / run)


def order(folder: JobFolder, limits: Mapping[str, float | int]) -> None:
    """Have a run that is entered gone on with, by whoever looks after this folder.

    Args:
        folder: of the run.
        limits: `max_cost`, `max_calls` and `max_minutes`, instead of those that it had.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    asked = {"task": "", "resume": folder.path.name, **limits}
    (folder.path / "order.json").write_bytes(canonical(asked))


class Told:
    """A watcher that also tells the folder."""

    def __init__(self, watcher: Watcher, folder: JobFolder) -> None:
        self.folder = folder
        self._watcher = watcher
        self._last: Progress | None = None
        self._told_at = self._began = time.monotonic()
        folder.tell("started")

    def forecast(self, forecast: Forecast) -> None:
        """See `Watcher`."""
        self.folder.tell("forecast", forecast=full(forecast))
        self._watcher.forecast(forecast)

    def progress(self, progress: Progress) -> None:
        """See `Watcher`."""
        self._watcher.progress(progress)
        self._last, now = progress, time.monotonic()
        if now - self._told_at >= max(LEAST_S, PART * (now - self._began)):
            self._tell(now)

    def notice(self, message: str) -> None:
        """See `Watcher`."""
        self.folder.tell("notice", message=message)
        self._watcher.notice(message)

    def ended(self, verdict: Verdict) -> None:
        """There is a verdict."""
        self._tell(time.monotonic())
        self.folder.tell("done", stopped=verdict.stopped, winner=verdict.winner)

    def failed(self, error: BaseException) -> None:
        """There is none."""
        self._tell(time.monotonic())
        hint = error.hint if isinstance(error, BaimoError) else ""
        self.folder.tell("failed", message=str(error) or type(error).__name__, hint=hint)

    def _tell(self, now: float) -> None:
        if self._last is not None:
            self.folder.tell("progress", progress=full(self._last))
            self._last, self._told_at = None, now


async def obeyed(
    told: Told, stop: Callable[[], object], check: Callable[[], None], beat: Callable[[int], None]
) -> None:
    """Stop when the folder says so, or the run may not go on; until then, beat now and then.

    Args:
        told: of the run.
        stop: ends it with a verdict on what is known.
        check: raises Unauthenticated or Forbidden when it may not go on.
        beat: says that it is alive, given the wall clock in milliseconds.
    """
    due = time.monotonic() + BEAT_S
    while not told.folder.wished():
        await asyncio.sleep(LOOK_S)
        try:
            await asyncio.to_thread(check)
        except (Unauthenticated, Forbidden) as error:
            told.notice(str(error))
            break
        if time.monotonic() >= due:
            due += BEAT_S
            await asyncio.to_thread(beat, time.time_ns() // 1_000_000)
    stop()


class Latest(NamedTuple):
    """What a run said last."""

    progress: Progress | None
    forecast: Forecast | None
    notices: tuple[str, ...]
    """Newest last."""
    place: int
    """Byte behind the last event that was read."""


def latest(folder: JobFolder) -> Latest:
    """What a run said last; forecast and notices of long ago may be missing."""
    progress = forecast = None
    notices: list[str] = []
    events = _tail(folder)
    for event in events:
        match event.get("kind"):
            case "progress":
                progress = event["progress"]
            case "forecast":
                forecast = event["forecast"]
            case "started":
                progress, notices = None, []
            case "notice":
                notices.append(str(event["message"]))
            case _:
                pass
    return Latest(
        None if progress is None else converted(_numbered(progress), Progress),
        None if forecast is None else converted(forecast, Forecast),
        tuple(notices),
        _size(folder),
    )


def full(noun: Any) -> Any:
    """A dataclass as JSON-ready data with every field, so that readers need no defaults; no number = null."""
    return msgspec.json.decode(msgspec.json.encode(noun))


def _tail(folder: JobFolder) -> list[dict[str, Any]]:
    try:
        with (folder.path / "events.jsonl").open("rb") as file:
            start = max(0, _size(folder) - _TAIL)
            file.seek(start)
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    found: list[dict[str, Any]] = []
    for line in lines[1 if start else 0 : -1]:  # the first may be a part, the last is empty or one
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _size(folder: JobFolder) -> int:
    try:
        return (folder.path / "events.jsonl").stat().st_size
    except FileNotFoundError:
        return 0


def _numbered(progress: dict[str, Any]) -> dict[str, Any]:
    """Intervals without ends span everything."""
    for line in progress["standings"]:
        low, high = line["interval"]
        line["interval"] = [0.0 if low is None else low, 1.0 if high is None else high]
    return progress
