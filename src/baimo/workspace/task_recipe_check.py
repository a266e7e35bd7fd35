"""Whether a comparison could begin with a task.toml that is not stored yet.

Prevents two failures: a recipe that is found wrong after money was spent (it is read and tried before it is stored),
and a client of the endpoint who reads or runs files of this machine by naming them.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from baimo.core.call import Completion, Request
from baimo.core.ids import digest
from baimo.core.task import Task
from baimo.errors import BaimoError, TaskError, TemplateError
from baimo.evals.scorers.registry import scorer
from baimo.evals.tasks.candidates import candidates
from baimo.evals.tasks.folder import read_task
from baimo.evals.tasks.manifest import FILE_NAME
from baimo.evals.tasks.prompts import Renderer
from baimo.workspace.task_scorers import BY_HAND

Tree = Mapping[str, Any]
_FILES = ("schema", "json_schema", "baseline", "file", "prompt")
"""Keys of scorers and candidates that may name a file."""
_PARTS = {
    **dict.fromkeys(("tasks.double_prompt", "tasks.few_shot_without_train"), "/prompts"),
    **dict.fromkeys(("tasks.unknown_prompt", "tasks.missing_prompt"), "/candidates"),
    "tasks.scorer_name": "/scorers",
}
"""What is wrong with a part as a whole."""


def checked(folder: Path, source: str, before: str) -> Tree:
    """What a task.toml says, once it is certain that a comparison could begin with it.

    Args:
        folder: of the task.
        source: the text that is to be task.toml.
        before: the text that is; what it names and runs was written at the machine, and may stay.

    Raises:
        TaskError: it could not be used; `field` says which part is wrong.
    """
    tree = tree_of(source, strict=True)
    _trusted(folder, tree, tree_of(before))
    task = _drafted(folder, source)
    for at, prompt in enumerate(task.prompts):
        try:
            Renderer(prompt, task.train).messages(task.examples[0])
        except TemplateError as error:
            part = str(error.facts.get("name", "")).partition(" (")[0].removeprefix(f"{prompt.name}.")
            raise _told(error, f"/prompts/{at}/{part}".rstrip("/"), folder) from error
    for at, spec in enumerate(task.scorers):
        if spec.name in BY_HAND:
            continue
        try:
            scorer(spec, folder=folder, ask=_nobody)
        except BaimoError as error:
            inner = error.facts.get("problem")
            cause = inner if isinstance(inner, BaimoError) else error
            known = cause.key.endswith("_argument")
            part = f"/args/{cause.facts['name']}" if known else "/name"
            raise _told(cause, f"/scorers/{at}{part}", folder) from error
    try:
        candidates(task)
    except TaskError as error:
        raise _told(error, "/candidates", folder) from error
    return tree


def tree_of(source: str, *, strict: bool = False) -> Tree:
    """What a task.toml says; nothing where it is no TOML, unless that is to be an error."""
    try:
        return tomllib.loads(source)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        if not strict:
            return {}
        raise TaskError("tasks.bad_toml", path=FILE_NAME, problem=error, field="/manifest") from error


def _drafted(folder: Path, source: str) -> Task:
    """The task as it would be; paths start at its folder, so the draft lies there while it is read."""
    draft = folder / f".draft-{digest(source)[:16]}.toml"
    try:
        draft.write_text(source, encoding="utf-8", newline="\n")
        return read_task(draft).task
    except TaskError as error:
        raise _told(
            error, _PARTS.get(error.key) or _pointer(str(error.facts.get("key") or "")), folder
        ) from error
    except OSError as error:
        raise TaskError("tasks.unwritable", path=folder.name, problem=error.strerror) from error
    finally:
        draft.unlink(missing_ok=True)


def _pointer(dotted: str) -> str:
    """Where a key of task.toml stands in a recipe."""
    steps = dotted.split(".") if dotted else []
    if steps[:1] == ["prompt"]:
        steps = ["prompts", "0", *steps[1:]]
    return "".join(f"/{step}" for step in steps)


def _told(error: BaimoError, field: str, folder: Path) -> BaimoError:
    """The same, with the part that it is about, and without places of this machine."""
    said = {
        name: one.replace(f"{folder}/", "") if isinstance(one, str) else one
        for name, one in error.facts.items()
    }
    name = Path(str(error.facts.get("path") or "")).name
    path = FILE_NAME if name.startswith(".draft-") else name
    return type(error)(error.key, **{**said, "path": path, "field": field})


def _trusted(folder: Path, tree: Tree, before: Tree) -> None:
    """
    Raises:
        TaskError: a file outside of the task's folder is named, or a scorer runs code, and neither was so before.
    """
    known, home = set(_files(before)), folder.resolve()
    for place, name in _files(tree):
        inside = (home / name).resolve().is_relative_to(home)
        if not inside and (place, name) not in known:
            raise TaskError("tasks.outside_folder", path=FILE_NAME, file=name, field=place)
    kept = [json.dumps(one, sort_keys=True, default=str) for _, one in _judges(before)]
    for place, one in _judges(tree):
        if one.get("name") in BY_HAND and json.dumps(one, sort_keys=True, default=str) not in kept:
            raise TaskError("tasks.scorer_by_hand", name=one["name"], path=FILE_NAME, field=place)


def _files(tree: Tree) -> Iterator[tuple[str, str]]:
    """(part of the recipe, name of a file) of all files that a task.toml names."""
    data = as_table(tree.get("data"))
    yield from ((f"/data/{name}", str(data[name])) for name in ("test", "train") if name in data)
    tables = [("", tree), *_judges(tree)]
    tables += [
        (f"/candidates/{at}", as_table(one)) for at, one in enumerate(_as_list(tree.get("candidates")))
    ]
    for place, one in tables:
        for key in _FILES:
            value = one.get(key)
            if isinstance(value, str) and (key != "prompt" or value.endswith(".toml")):
                yield f"{place}/{key}", value


def _judges(tree: Tree, place: str = "/scorers") -> Iterator[tuple[str, Tree]]:
    """All scorers, also those that are parts of others."""
    for at, one in enumerate(_as_list(tree.get("scorers"))):
        yield f"{place}/{at}", as_table(one)
        yield from _judges(as_table(one), f"{place}/{at}/args/scorers")


def as_table(value: Any) -> Tree:
    """A value that should be a table."""
    return cast("Tree", value) if isinstance(value, Mapping) else {}


def _as_list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


async def _nobody(_: Request) -> Completion:
    raise AssertionError("nothing is asked while a recipe is looked at")
