"""Forecast against fact: ten small tuning jobs, one after the other, each forecast from its first steps and, from the
second on, from the jobs before it.

    python benchmarks/forecast.py [--jobs 10] [--base local/smollm2-135m-instruct|tiny] [--no-record]

Prints a line per job and appends one line to results/forecast.jsonl: machine, commit, date, load, the errors of minutes
and memory (fact / forecast − 1), their medians, and how many facts lay within the interval. Takes a quarter of an hour
on two cores. `tiny` is a model of two layers with random weights: its jobs are mostly starts.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from baimo.core.tuning import Range, TuneJob
from baimo.settings import Settings, TuneSettings, WorkspaceSettings
from baimo.store.jobs import JobEvent
from baimo.tuning import forecast
from baimo.tuning.options import TuneOptions
from baimo.workspace.queue import unadopted
from baimo.workspace.training import training
from baimo.workspace.tuning import Planned, Tuning
from baimo.workspace.workspace import Workspace

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "forecast.jsonl"
TASK = HERE.parent / "examples" / "smart-home"
JOBS: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (96, "small", ("n_epochs=1",)),
    (48, "small", ("n_epochs=2",)),
    (160, "small", ("n_epochs=1", "batch_size=8")),
    (64, "medium", ("n_epochs=1",)),
    (120, "small", ("n_epochs=1", "micro_tokens=512")),
    (72, "small", ("n_epochs=2", "rank=32")),
    (96, "medium", ("n_epochs=1", "batch_size=16")),
    (200, "small", ("n_epochs=1",)),
    (48, "small", ("n_epochs=1", "method=full")),
    (112, "small", ("n_epochs=1", "upper=0.25")),
)
"""Rows, effort, settings."""


class Quiet:
    """Agrees to every plan."""

    def notice(self, message: str) -> None: ...

    def planned(self, planned: Planned) -> bool:
        return True

    def happened(self, job: TuneJob, events: list[JobEvent]) -> None: ...


def measured(count: int, base: str, folder: Path) -> list[TuneJob]:
    """The jobs, done."""
    times = 1
    if base == "tiny":
        sys.path.insert(0, str(HERE.parent))
        from tests.tuning.base import tiny_base

        base, times = str(tiny_base(folder / "tiny")), 5
    given = Settings(workspace=WorkspaceSettings(path=str(folder / "memory")), tune=TuneSettings())
    rows = training(TASK, "sft", valid=None, task=None, prompt=None).train
    done: list[TuneJob] = []
    with Workspace(folder, given=given) as workspace:
        tuning = Tuning(workspace, adopt=unadopted)
        for number, (size, effort, settings) in enumerate(JOBS[:count]):
            source = folder / f"{number}.jsonl"
            some = [rows[(number * 37 + place * 11) % len(rows)] for place in range(size * times)]
            said = [[{"role": one.role, "content": one.content} for one in row.messages] for row in some]
            source.write_text("".join(json.dumps({"messages": each}) + "\n" for each in said))
            options = TuneOptions(source=str(source), model=base, effort=effort, set=settings)  # type: ignore[arg-type]
            job = tuning.tune(options, Quiet(), lambda: False)
            assert job is not None and job.minutes is not None, job
            done.append(job)
            print(json.dumps(figures(job)), flush=True)
    return done


def figures(job: TuneJob) -> dict[str, Any]:
    """One job's forecast beside its facts."""
    assert job.forecast is not None
    shown: dict[str, Any] = {"effort": job.spec.effort, "settings": dict(job.spec.recipe.args)}
    for name in ("minutes", "memory_mb"):
        said: Range = getattr(job.forecast, name)
        actual = forecast.fact(job, name) or 0.0
        shown[name] = {
            "forecast": round(said.middle, 2),
            "low": round(said.low, 2),
            "high": round(said.high, 2),
            "fact": round(actual, 2),
            "error": round(forecast.error(job, name) or 0.0, 3),
            "within": said.low <= actual <= said.high,
        }
    return shown


def summary(jobs: list[TuneJob]) -> dict[str, Any]:
    """Machine, commit, date, and the figures of all jobs."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    each = [figures(job) for job in jobs]
    medians = {
        name: {
            "median_error": round(statistics.median(abs(one[name]["error"]) for one in each), 3),
            "within": sum(one[name]["within"] for one in each),
        }
        for name in ("minutes", "memory_mb")
    }
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "machine": {
            "system": platform.platform(terse=True),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
        },
        "python": platform.python_version(),
        "jobs": len(jobs),
        **medians,
        "each": each,
    }


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=len(JOBS))
    parser.add_argument("--base", default="local/smollm2-135m-instruct")
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="baimo-forecast-") as folder:
        found = {"base": given.base, **summary(measured(given.jobs, given.base, Path(folder)))}
    print(json.dumps({name: found[name] for name in ("minutes", "memory_mb")}, indent=2))
    if not given.no_record:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    sys.exit(main())
