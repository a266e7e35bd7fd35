"""Long training files, read in a process of their own: `python -m baimo.workspace.validation FOLDER`.

Prevents two failures: callers of models who wait while half a gigabyte of JSON is looked through, and a server that
keeps the memory which that took.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from baimo.errors import BaimoError
from baimo.store.files import Files
from baimo.workspace.fine_tuning_wiring import fine_tuning
from baimo.workspace.workspace import Workspace

NICE = 10
"""Calls that are served here come first."""


def apart(workspace: Workspace) -> None:
    """Validate what waits for it in another process.

    Raises:
        BaimoError: that process died; what it said last is in the message.
    """
    said = {"BAIMO_WORKSPACE_PATH": str(workspace.path.absolute())}
    if workspace.settings.workspace.database:
        said["BAIMO_WORKSPACE_DATABASE"] = workspace.settings.workspace.database
    program = [sys.executable, "-m", "baimo.workspace.validation", str(workspace.folder.absolute())]
    done = subprocess.run(
        program,
        env={**os.environ, **said},
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        problem = lines[-1] if lines else f"exit code {done.returncode}"
        raise BaimoError("finetuning.validation_died", problem=problem)


def main(folder: str) -> None:
    """Validate what waits for it, once."""
    with suppress(OSError):
        os.nice(NICE)
    with Workspace(Path(folder)) as workspace:
        files = Files(workspace.store.database, workspace.path / "files")
        tuning = fine_tuning(
            workspace, files, lambda name, key: (), lambda: workspace.settings, lambda: None
        )  # fmt: skip
        tuning.validate()


if __name__ == "__main__":
    main(sys.argv[1])
