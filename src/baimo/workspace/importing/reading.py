"""From a file of another gateway to `Carried`; and onto the disk.

Prevents three failures: a YAML key that stands there twice and of which the reader drops one in silence, an alias that
makes a document endless, and an import that overwrites settings that somebody cared for.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from baimo.errors import ConfigError, UsageError
from baimo.workspace.importing import litellm, openai_evals, promptfoo, tensorzero
from baimo.workspace.importing.carried import Carried, places
from baimo.workspace.importing.tasks import ImportedTask

MOST_PLACES = 200_000
LONGEST_BYTES = 8 * 1024 * 1024
KINDS: Mapping[str, Callable[[Mapping[str, Any], str], Carried]] = {
    "litellm": litellm.carried,
    "tensorzero": tensorzero.carried,
}
TASKS: Mapping[str, Callable[[Path], list[ImportedTask]]] = {
    "openai-evals": openai_evals.imported_tasks,
    "promptfoo": promptfoo.imported_tasks,
}
"""What becomes tasks."""
SECTIONS = {
    "litellm": (
        "model_list",
        "litellm_settings",
        "router_settings",
        "general_settings",
        "environment_variables",
    ),
    "tensorzero": ("gateway", "models", "embedding_models", "functions", "metrics", "tools", "rate_limiting"),
}
"""At least one of them is in every such file."""


def imported_tasks(kind: str, path: Path, only: Sequence[str] = ()) -> list[ImportedTask]:
    """The evaluations in `path` as tasks.

    Args:
        kind: of TASKS.
        path: file or folder of what was exported.
        only: names of the tasks that are wanted; none = all.

    Raises:
        ConfigError: it cannot be read, or holds nothing of this kind or of these names.
        TaskError: a part of it cannot be used; names file and line.
    """
    found = TASKS[kind](path)
    names = {task.name for task in found}
    for name in only:
        if name not in names:
            raise ConfigError("imports.no_such_eval", path=path, name=name, known=", ".join(sorted(names)))
    return [task for task in found if not only or task.name in only]


def imported(kind: str, path: Path) -> Carried:
    """The settings in `path` as ours.

    Args:
        kind: of KINDS.
        path: config.yaml of LiteLLM, tensorzero.toml of TensorZero.

    Raises:
        ConfigError: it cannot be read, is not what it should be, or holds nothing of this kind.
    """
    source = document(path, toml=kind == "tensorzero")
    if not any(name in source for name in SECTIONS[kind]):
        raise ConfigError("imports.nothing", path=path, sections=", ".join(SECTIONS[kind]))
    return KINDS[kind](source, path.name)


def document(path: Path, *, toml: bool) -> dict[str, Any]:
    """The file as a table whose names are text.

    Raises:
        ConfigError: see `imported`.
    """
    try:
        if path.stat().st_size > LONGEST_BYTES:
            raise ConfigError("imports.too_large", path=path)
        words = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            "imports.encoding", path=path, line=error.object[: error.start].count(b"\n") + 1
        ) from error
    except OSError as error:
        raise ConfigError("imports.unreadable", path=path, problem=error.strerror) from error
    try:
        tree: Any = tomllib.loads(words) if toml else _yaml(words, path)
        if sum(1 for _ in itertools.islice(places(tree), MOST_PLACES + 1)) > MOST_PLACES:
            raise ConfigError("imports.too_large", path=path)
        tree = _plain(tree)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("imports.bad_toml", path=path, problem=error) from error
    except RecursionError as error:
        raise ConfigError("imports.endless", path=path) from error
    if not isinstance(tree, dict):
        raise ConfigError("imports.no_table", path=path)
    return cast("dict[str, Any]", tree)


def kept(carried: Carried, path: Path, *, force: bool) -> None:
    """Write the settings to `path`, whole or not at all.

    Raises:
        UsageError: there is such a file and `force` is not given, or it cannot be written.
    """
    if path.exists() and not force:
        raise UsageError("imports.exists", path=path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(carried.settings)
            if force:
                Path(name).replace(path)
            else:
                os.link(name, path)  # refuses what has come into being meanwhile
        finally:
            Path(name).unlink(missing_ok=True)
    except FileExistsError as error:
        raise UsageError("imports.exists", path=path) from error
    except OSError as error:
        raise UsageError("imports.unwritable", path=path, problem=error.strerror) from error


def _yaml(words: str, path: Path) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands in a table twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                name = f"{key.tag} {key.value}"
                if name in seen and key.tag != "tag:yaml.org,2002:merge":
                    line = key.start_mark.line + 1
                    raise ConfigError("imports.twice", path=path, line=line, name=str(key.value)[:80])
                seen.add(name)
            made: dict[Any, Any] = super().construct_mapping(node, deep)
            if len(made) < len(seen) and not any(name.startswith("tag:yaml.org,2002:merge") for name in seen):
                # 1 and true, say, are one name to Python
                line = node.start_mark.line + 1
                raise ConfigError("imports.twice", path=path, line=line, name=", ".join(map(str, made))[:80])
            return made

    try:
        return yaml.load(words, Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError("imports.bad_yaml", path=path, line=line, problem=error.problem) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        raise ConfigError("imports.bad_yaml", path=path, line=1, problem=error) from error


def _plain(tree: Any) -> Any:
    """The tree with text for names, and text for values that JSON has no form for (dates, bytes, sets)."""
    if isinstance(tree, dict):
        made: dict[str, Any] = {}
        for name, value in cast("dict[Any, Any]", tree).items():
            words = name if isinstance(name, str) else str(name)
            made[words if words not in made else repr(name)] = _plain(value)
        return made
    if isinstance(tree, (list, tuple, set)):
        return [_plain(one) for one in cast("list[Any]", tree)]
    return tree if tree is None or isinstance(tree, (str, bool, int, float)) else str(tree)
