"""What was done to a file before it came here: its cleaning steps, kept beside it in `<file>.cleaned.json`.

Prevents a lineage with a hole: rows are cleaned today and learnt next week, and nobody knows any more what was taken
out. The note names the hash of the file that it is about; for a file that was changed since, it says nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

Lines = Sequence[Mapping[str, Any]]


def noted(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The steps that made a file, oldest first; none where nothing is noted, or the file was changed since."""
    try:
        note: Any = json.loads(_beside(path).read_bytes())
        if note["sha256"] == _hash(path):
            return tuple(cast("Lines", note["steps"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return ()


def note(path: Path, steps: Lines) -> None:
    """Keep the steps that made a file beside it.

    Raises:
        OSError: it cannot be written.
    """
    written = json.dumps({"sha256": _hash(path), "steps": list(steps)}, ensure_ascii=False, indent=1)
    _beside(path).write_text(written + "\n", encoding="utf-8")


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.cleaned.json")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
