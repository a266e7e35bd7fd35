"""file:// references of promptfoo configurations: which files they name, and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from baimo.errors import TaskError
from baimo.evals.tasks.formats.rows import content, json_value, near_files
from baimo.evals.tasks.formats.yaml import read_yaml
from baimo.evals.tasks.notes import Notebook

_CODE = frozenset({".js", ".cjs", ".mjs", ".ts", ".py", ".rb", ".sh", ".go"})
_MEDIA = frozenset(
    {".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf", ".mp3", ".wav", ".mp4", ".xlsx", ".xls"}
)
_PLAIN_SUFFIXES = frozenset({".csv", ".json", ".jsonl", ".yaml", ".yml", ".txt", ".md", ".tsv"})


def referenced_files(reference: str, source: Path, line: int, notebook: Notebook) -> list[Path]:
    """Files that a reference names, with globs and folders opened; code and remote data sets are noted instead.

    Raises:
        TaskError: a named file is not there.
    """
    name = reference.removeprefix("file://")
    if "://" in name or Path(name.partition(":")[0]).suffix in _CODE:
        notebook.add("left_generator", line, value=reference)
        return []
    target = source.parent / name
    try:
        if any(mark in name for mark in "*?["):
            return sorted(file for file in source.parent.glob(name) if file.is_file())
        if target.is_dir():
            return sorted(file for file in target.iterdir() if file.suffix in _PLAIN_SUFFIXES)
        there = target.is_file()
    except (OSError, ValueError, NotImplementedError) as error:
        raise TaskError("tasks.bad_reference", path=source, line=line, name=name, problem=error) from error
    if not there:
        near = near_files(target)
        key = "tasks.missing_reference_near" if near else "tasks.missing_reference"
        raise TaskError(key, path=source, line=line, name=name, near=near)
    if target.suffix in _MEDIA:
        notebook.add("left_media", line, value=reference)
        return []
    return [target]


def referenced_value(reference: str, source: Path, line: int, notebook: Notebook) -> Any:
    """What a referenced file holds: JSON and YAML as data, other text as text; the reference itself if left behind."""
    files = referenced_files(reference, source, line, notebook)
    if len(files) != 1:
        return reference
    if files[0].suffix == ".json":
        return json_value(content(files[0]), files[0], 1)
    if files[0].suffix in {".yaml", ".yml"}:
        return read_yaml(files[0]).value
    return content(files[0]).rstrip("\n")
