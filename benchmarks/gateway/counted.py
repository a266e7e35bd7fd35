"""Instructions per call, as valgrind counts them: the one figure of speed that a machine's neighbours do not change."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import ours
from machine import Bench, Target, asked_of, check_answers, loaded, mock

SLOWER = 100
"""About so much slower is everything: what the ledger does by the clock happens so much less often, too."""
SETTLES_S = 12.0
"""Until the ledger has everything that was asked before, or while it was counted."""
VARIANT = ours.Variant(settings=f"[ledger]\nflush_ms = {20 * SLOWER}.0\n")


def instructions(bench: Bench, given: argparse.Namespace) -> dict[str, Any]:
    """Of whole answers and of streams, 32 at once: the event loop's, and those of the thread that writes the ledger."""
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed: it comes with every Linux distribution, under this name")
    found = {"answer": _counted(bench, given, stream=False), "stream": _counted(bench, given, stream=True)}
    for kind, row in found.items():
        loop, writer = row["event_loop"], row["ledger_writer"]
        print(
            f"{kind}: {loop:,} instructions in the event loop, {writer:,} in the ledger's writer", flush=True
        )
    return {"seconds": given.seconds, "instructions": found}


def _counted(bench: Bench, given: argparse.Namespace, *, stream: bool) -> dict[str, int]:
    name = "stream" if stream else "answer"
    out = bench.work / f"{name}.callgrind"
    under = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes"]
    with mock(bench) as upstream:
        target = ours.start(
            bench,
            upstream,
            VARIANT,
            name=name,
            under=[*under, f"--callgrind-out-file={out}"],
            patience_s=300,
        )
        assert target.process
        try:
            check_answers(target, upstream, seconds=300)
            # code specialises, caches fill
            loaded(bench, target, concurrency=32, seconds=given.seconds, stream=stream)
            time.sleep(SETTLES_S)
            before = asked_of(upstream)
            _callgrind(target, "-i", "on")
            loaded(bench, target, concurrency=32, seconds=4 * given.seconds, stream=stream)
            time.sleep(SETTLES_S)
            _callgrind(target, "-i", "off")
            calls = asked_of(upstream) - before
            _callgrind(target, "-d")
        finally:
            target.process.stop()
    # the event loop runs in the first thread, and the first that is started besides writes the ledger
    return {"calls": calls, "event_loop": _total(out, 1) // calls, "ledger_writer": _total(out, 2) // calls}


def _callgrind(target: Target, *command: str) -> None:
    assert target.process
    subprocess.run(
        ["callgrind_control", *command, str(target.process.popen.pid)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _total(out: Path, thread: int) -> int:
    text = Path(f"{out}.1-{thread:02d}").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^totals: (\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])
