"""Tasks that were something else before: their files, what was carried over, and what was not."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baimo.errors import UsageError
from baimo.evals.tasks.manifest import FILE_NAME
from baimo.workspace.importing.carried import Carried

_LONGEST_NAME = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedTask:
    """One task folder in the making."""

    name: str
    """Name of its folder."""
    files: Mapping[str, str]
    """Text by file name."""
    examples: int
    """Rows of the test split."""
    carried: Carried
    """What of the source is where; `settings` is the task.toml."""

    def report(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "name": self.name,
            "examples": self.examples,
            "files": sorted(self.files),
            **self.carried.report(),
        }


def folder_name(words: str) -> str:
    """A name that every file system takes."""
    name = re.sub(r"[^\w.-]+", "-", words.strip().lower()).strip("-.")
    return name[:_LONGEST_NAME].strip("-.") or "task"


def kept_tasks(tasks: Sequence[ImportedTask], folder: Path, *, force: bool) -> list[Path]:
    """Write tasks: a single one into `folder`, several into folders of their own below it; all of them or none.

    Returns:
        The folders.

    Raises:
        UsageError: there is a task already and `force` is not given, or a folder cannot be written.
    """
    places = [folder] if len(tasks) == 1 else [folder / task.name for task in tasks]
    for place in places:
        if (place / FILE_NAME).exists() and not force:
            raise UsageError("imports.exists", path=place / FILE_NAME)
    made: list[Path] = []
    try:
        for task, place in zip(tasks, places, strict=True):
            if not place.exists():
                made.append(place)
            place.mkdir(parents=True, exist_ok=True)
            # the manifest last: a folder with one is whole
            for name in sorted(task.files, key=lambda name: name == FILE_NAME):
                (place / name).write_text(task.files[name], encoding="utf-8", newline="\n")
    except OSError as error:
        for place in made:
            shutil.rmtree(place, ignore_errors=True)
        raise UsageError("imports.unwritable", path=folder, problem=error.strerror) from error
    return places
