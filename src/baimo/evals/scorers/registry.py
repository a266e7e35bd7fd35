"""Names of the built-in scorers, and how one is built from its Spec.

Prevents the failure where a misspelt option is silently ignored and a board is scored by other rules than its author
wrote: every argument is checked by name and type before the first call is paid for.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from pathlib import Path
from typing import Any

import msgspec

from baimo.core.registry import Spec, resolve
from baimo.core.run import Scorer
from baimo.errors import TaskError
from baimo.evals.scorers.base import GIVEN, Ask
from baimo.typed import converted

SCORERS = {
    "all": "baimo.evals.scorers.combine:All",
    "any": "baimo.evals.scorers.combine:Any",
    "asserts": "baimo.evals.scorers.asserts:Asserts",
    "choice": "baimo.evals.scorers.choice:Choice",
    "code": "baimo.evals.scorers.code:Code",
    "contains": "baimo.evals.scorers.text:Contains",
    "exact": "baimo.evals.scorers.text:Exact",
    "grader": "baimo.evals.graders.scorer:GraderScorer",
    "icontains": "baimo.evals.scorers.text:ContainsAnyCase",
    "json": "baimo.evals.scorers.fields:Json",
    "judge": "baimo.evals.scorers.judge:Judge",
    "numeric": "baimo.evals.scorers.numeric:Numeric",
    "pairwise": "baimo.evals.scorers.pairwise:Pairwise",
    "python": "baimo.evals.scorers.script:Script",
    "regex": "baimo.evals.scorers.pattern:Regex",
    "text_overlap": "baimo.evals.scorers.overlap:TextOverlap",
    "tool_calls": "baimo.evals.scorers.tool_calls:ToolCalls",
}


def scorer(spec: Spec, *, folder: Path, ask: Ask | None = None, runs: bool = True) -> Scorer:
    """Build the scorer that `spec` names.

    Args:
        spec: name and arguments, as `[[scorers]]` of task.toml has them.
        folder: where relative paths of the arguments start.
        ask: how judges are called; None = this comparison has none.
        runs: whether a file of code is run; else it is only read, and the scorer cannot judge.

    Raises:
        TaskError: no such scorer, an argument that it does not know or cannot use, or a judge without `ask`.
        MissingExtra: it needs a library that is not installed.
    """
    try:
        return _built(spec, folder, ask, runs)
    except TaskError as error:
        if error.key == "scorers.place" or not (folder / "task.toml").is_file():
            raise
        raise TaskError(
            "scorers.place", path=folder / "task.toml", problem=error, advice=error.hint
        ) from error


def _built(spec: Spec, folder: Path, ask: Ask | None, runs: bool) -> Scorer:
    if spec.name not in SCORERS:
        raise TaskError("scorers.unknown", name=spec.name, near=_near(spec.name, SCORERS))
    kind = resolve(SCORERS[spec.name])
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    types = typing.get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for name, value in spec.args.items():
        if name not in fields or name in GIVEN:
            near = _near(name, fields.keys() - GIVEN)
            raise TaskError("scorers.unknown_argument", scorer=spec.name, name=name, near=near)
        try:
            arguments[name] = converted(value, types[name])
        except msgspec.ValidationError as error:
            raise TaskError("scorers.bad_argument", scorer=spec.name, name=name, problem=error) from error
    needed = (field for field in fields.values() if field.default is dataclasses.MISSING)
    for field in needed:
        if (
            field.default_factory is dataclasses.MISSING
            and field.name not in arguments
            and field.name not in GIVEN
        ):
            raise TaskError("scorers.missing_argument", scorer=spec.name, name=field.name)
    given = {"folder": folder, "ask": ask, "runs": runs}
    return kind(**arguments, **{name: given[name] for name in GIVEN & fields.keys()})


def _near(name: str, known: typing.Iterable[str]) -> str:
    """Names that are spelt like it, else all of them."""
    names = sorted(known)
    return ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names)
