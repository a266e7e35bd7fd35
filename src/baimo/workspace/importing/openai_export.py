"""What people saved from OpenAI's Evals platform, in whatever arrangement: objects are known by what they are.

One file or a folder of JSON, JSON Lines and YAML: single objects, pages of lists (`{"object": "list", "data":
[…]}`), or objects that hold others. The shapes are those of the official SDK (`eval`, `eval.run`,
`eval.run.output_item`); rows of data files are `{"item": …}`; registries are those of github.com/openai/evals
(docs/build-eval.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from baimo.errors import ConfigError, TaskError
from baimo.evals.tasks.formats.rows import container, content, json_lines, json_value
from baimo.evals.tasks.formats.yaml import read_yaml

SUFFIXES = (".json", ".jsonl", ".ndjson", ".yaml", ".yml")
MOST_FILES = 10_000
_HELD = ("runs", "output_items", "items")
"""What an object may hold of others that are objects of their own."""
Object = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Export:
    """Everything that was found."""

    evals: list[Object] = field(default_factory=list[Object])
    """Objects `eval`."""
    runs: list[Object] = field(default_factory=list[Object])
    """Objects `eval.run`."""
    items: list[Object] = field(default_factory=list[Object])
    """Objects `eval.run.output_item`."""
    rows: dict[str, Path] = field(default_factory=dict[str, Path])
    """Data files of rows `{"item": …}`, by name without its ending; OpenAI calls files by their id."""
    samples: dict[str, Path] = field(default_factory=dict[str, Path])
    """Data files of rows `{"input": …, "ideal": …}`, by their path in the export."""
    registries: list[tuple[Path, Object]] = field(default_factory=list[tuple[Path, Object]])
    """YAML documents that name evals of the registry."""
    strange: list[Path] = field(default_factory=list[Path])
    """Files in which nothing was known."""


def read_export(path: Path) -> Export:
    """Everything that is known in a file or below a folder.

    Raises:
        ConfigError: it cannot be read, or holds no evaluation.
        TaskError: a file is not what its ending says; names file and line.
    """
    if not path.exists():
        raise ConfigError("imports.unreadable", path=path, problem="No such file or directory")
    export = Export()
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    for file in files[:MOST_FILES]:
        if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
            _read_file(file, path if path.is_dir() else path.parent, export)
    if not export.evals and not export.runs and not export.registries:
        raise ConfigError("imports.no_evals", path=path)
    return export


def _read_file(file: Path, root: Path, export: Export) -> None:
    packed = container(file)
    if packed == "jsonl":
        _read_lines(file, root, export)
        return
    if packed == "yaml":
        value = read_yaml(file).value
        entries = cast("Object", value) if isinstance(value, dict) else {}
        if any(isinstance(one, dict) and "class" in one for one in entries.values()):
            export.registries.append((file, entries))
            return
    elif packed == "json":
        value = json_value(content(file), file, 1)
    else:
        raise TaskError("tasks.tests_container", path=file, found=packed)
    if not _take(value, export):
        export.strange.append(file)


def _read_lines(file: Path, root: Path, export: Export) -> None:
    known = False
    for number, row in enumerate(json_lines(file)):
        value = dict(row.value)
        if number == 0 and isinstance(value.get("item"), dict) and "object" not in value:
            export.rows[file.name.partition(".")[0]] = file
            return
        if number == 0 and {"input", "ideal"} <= value.keys():
            export.samples[file.relative_to(root).as_posix()] = file
            return
        known = _take(value, export) or known
    if not known:
        export.strange.append(file)


def _take(value: Any, export: Export) -> bool:
    """Sort what is known in `value` into the export; whether there was something."""
    if isinstance(value, list):
        return sum([_take(one, export) for one in cast("list[Any]", value)]) > 0
    if not isinstance(value, dict):
        return False
    one = cast("Object", value)
    kind = one.get("object") or _guessed(one)
    places = {"eval": export.evals, "eval.run": export.runs, "eval.run.output_item": export.items}
    if kind not in places:
        return sum([_take(inner, export) for inner in one.values()]) > 0
    for inner in _held(one, str(kind)):
        _take(inner, export)
    places[str(kind)].append({name: inner for name, inner in one.items() if name not in _HELD})
    return True


def _guessed(one: Mapping[str, Any]) -> str:
    if "testing_criteria" in one and "data_source_config" in one:
        return "eval"
    if "datasource_item" in one:
        return "eval.run.output_item"
    return "eval.run" if "data_source" in one and "eval_id" in one else ""


def _held(one: Object, kind: str) -> Iterator[Any]:
    """Objects inside another, with the name of the one that they belong to."""
    owner = {"eval": "eval_id", "eval.run": "run_id"}.get(kind)
    for name in _HELD:
        for inner in _listed(one.get(name)):
            if owner and isinstance(inner, dict):
                inner = {owner: one.get("id"), **cast("Object", inner)}
            yield inner


def _listed(value: Any) -> list[Any]:
    if isinstance(value, dict):  # a page
        value = cast("Object", value).get("data")
    return cast("list[Any]", value) if isinstance(value, list) else []
