"""A short job on the tiny model, in this process or in a child that kills itself: `python -m … FOLDER STEP`."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from baimo.core.registry import Spec
from baimo.core.tuning import TuneSpec
from baimo.tuning.bench import Bench
from baimo.tuning.fit import lora
from baimo.tuning.fit.batches import micro_batches
from baimo.tuning.fit.encode import Encoded
from baimo.tuning.fit.loop import Course, Ending, Loop, Pace
from baimo.tuning.fit.loss import Measured, supervised
from baimo.tuning.folder import JobFolder
from tests.tuning.fit import tiny


def folder(path: Path) -> JobFolder:
    """A folder with a spec; the rows are made from numbers."""
    found = JobFolder(path)
    found.write(TuneSpec(id="ftjob-test", recipe=Spec(name="sft"), base="tiny"), ())
    return found


class Stop(Exception):
    """Stands for a process that ends between two steps."""


def loop(
    at: JobFolder,
    *,
    stop_at: int = 0,
    fits: int = 99,
    broken: bool = False,
    memory_mb: float = 0.0,
    **changes: Any,
) -> Loop[Encoded]:
    """24 rows in steps of 6, a checkpoint after every step.

    Args:
        at: the job's folder.
        stop_at: ends without a word after so many steps.
        fits: more rows at once are out of memory.
        broken: whether the loss is no number.
        memory_mb: see `Bench`.
        changes: of the pace.
    """
    torch.set_num_threads(1)
    base = tiny.base()
    weights = lora.adapt(base, rank=4, alpha=8, seed=3)
    rows = tiny.rows(seed=1, count=30, answer=7)

    def measured(some: Sequence[Encoded]) -> Measured:
        if stop_at and made.state.step == stop_at:
            raise Stop
        if len(some) > fits:
            raise torch.OutOfMemoryError("out of memory")
        found = supervised(base, some)
        return found._replace(total=found.total * float("nan"), loss=float("nan")) if broken else found

    course = Course(
        items=rows[:24],
        valid=rows[24:],
        cut=micro_batches,
        loss=measured,
        weight=lambda row: row.answers,
        tokens=len,
        save=functools.partial(lora.write_adapter, base, base_name="tiny"),
    )
    pace = Pace(**{"epochs": 5, "batch_size": 6, "learning_rate": 1e-2, "micro_tokens": 120, **changes})
    bench = Bench(folder=at, base=Path("tiny"), checkpoint_minutes=0.0, checkpoints=2, memory_mb=memory_mb)
    made = Loop(bench, base, weights, course, pace)
    return made


def progress(at: JobFolder) -> list[dict[str, Any]]:
    """The newest figures of every step."""
    by_step = {
        event["progress"]["step"]: event["progress"]
        for _, event in at.events()
        if event["kind"] == "progress"
    }
    return [by_step[step] for step in sorted(by_step)]


def ended(at: JobFolder, **changes: Any) -> Ending:
    """Run to wherever it ends."""
    return loop(at, **changes).run()


if __name__ == "__main__":
    try:
        ended(JobFolder(Path(sys.argv[1])), stop_at=int(sys.argv[2]))
    except Stop:
        os.kill(os.getpid(), signal.SIGKILL)
