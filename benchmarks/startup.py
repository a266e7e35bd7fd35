"""How long baimo takes to start: wall time of whole processes, interleaved so that a busy machine is fair to all.

    python benchmarks/startup.py [--rounds 30] [--json] [--no-record]

Prints a table and appends one line to results/startup.jsonl: machine, commit, date, median and p90 in milliseconds.
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
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "startup.jsonl"

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import baimo": ["-c", "import baimo"],
    "import click": ["-c", "import click"],
    "baimo --help": ["-m", "baimo", "--help"],
    "baimo compare --help": ["-m", "baimo", "compare", "--help"],
    "baimo models list": ["-m", "baimo", "models", "list"],
}


def measured(rounds: int) -> dict[str, list[float]]:
    """Milliseconds per command and round; the first round, which warms caches, is left out."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
            if number:
                times[name].append((time.perf_counter() - start) * 1000)
    return times


def summary(times: dict[str, list[float]]) -> dict[str, Any]:
    """Machine, commit, date, and the figures of every command."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    machine = {"system": platform.platform(terse=True), "cpu": _cpu(), "cores": os.cpu_count()}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    figures = {
        name: {
            "median_ms": round(statistics.median(each), 1),
            "p90_ms": round(statistics.quantiles(each, n=10)[-1], 1),
        }
        for name, each in times.items()
    }
    python, rounds = platform.python_version(), len(next(iter(times.values())))
    return {
        "at": now,
        "commit": commit,
        "python": python,
        "machine": machine,
        "rounds": rounds,
        "times": figures,
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    found = summary(measured(options.rounds))
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        bare = found["times"]["python -c pass"]["median_ms"]
        for name, each in found["times"].items():
            print(
                f"{name:22} {each['median_ms']:7.1f} ms   p90 {each['p90_ms']:7.1f} ms   "
                f"{each['median_ms'] - bare:+7.1f} ms over bare Python"
            )
    if not options.no_record:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
