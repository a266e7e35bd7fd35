"""A child of few words: counts steps, checkpoints, and does what its spec's arguments say. Run as `python -m`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from baimo.core.tuning import TuneProgress
from baimo.tuning.folder import JobFolder
from baimo.tuning.launch import TAKEN


def work(folder: JobFolder) -> int:
    """Count to `steps`, resuming from the last checkpoint; the loss depends on every step."""
    given = folder.spec().recipe.args
    steps, every = int(given.get("steps", 10)), int(given.get("every", 2))
    step, loss = 0, 1.0
    if kept := folder.checkpoints():
        step, loss = json.loads((kept[-1][1] / "state.json").read_text())
    folder.tell("plan", settings={"micro_tokens": 8, **folder.overrides()}, facts=given.get("facts", {}))
    bench = json.loads((folder.path / "bench.json").read_bytes())
    last = step + 3 if bench.get("calibrating") else None
    while step < steps:
        step, loss = step + 1, loss * 0.9 + 0.01 * step
        time.sleep(float(given.get("pause_s", 0.01)))
        progress = TuneProgress(
            step=step, steps=steps, epoch=step / steps, loss=loss, elapsed_s=step * 6.0, memory_mb=100.0
        )
        folder.tell("progress", progress=progress)
        if step == last:
            folder.wish("pause")
        died = folder.path / f"died-{step}"
        if step == given.get("die_at") and not (given.get("once", True) and died.exists()):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if step % every == 0 or folder.wished():
            state = json.dumps([step, loss])
            folder.checkpoint(step, lambda at, state=state: (at / "state.json").write_text(state))  # type: ignore[misc]
            folder.tell("checkpoint", step=step)
        if wish := "" if given.get("deaf") else folder.wished():
            folder.tell("paused" if wish == "pause" else "cancelled")
            return 0
    folder.result(lambda at: (at / "loss").write_text(str(loss)))
    folder.tell("done", loss=loss)
    return 0


def main() -> int:
    folder = JobFolder(Path(sys.argv[1]))
    with folder.held() as mine:
        if not mine:
            return TAKEN
        folder.sweep()
        if folder.spec().recipe.args.get("fail"):
            folder.tell("failed", code="bad_base", message="this base cannot be tuned")
            return 1
        return work(folder)


if __name__ == "__main__":
    sys.exit(main())
