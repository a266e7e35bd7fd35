"""task.toml, decoded strictly: an unknown key or a wrong type is an error with file, line and the nearest name."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import msgspec

from baimo.config import line_of, misfit
from baimo.errors import TaskError
from baimo.evals.tasks.formats.rows import content
from baimo.typed import converted

FILE_NAME = "task.toml"
Json = dict[str, Any] | bool
_ANSWER = "{{ target if target is string else target | tojson }}"


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all tables: what they do not know is an error."""


class DataTable(Strict, frozen=True, kw_only=True):
    """[data]: where the examples are, and which column holds what. Paths start at the folder."""

    test: str = "test.jsonl"
    """What is evaluated."""
    train: str = ""
    """For few-shot blocks and tuning, never evaluated; empty = none."""
    format: str = ""
    """How the rows are to be read, where content alone would mislead; see FORMATS. Empty = by content."""
    input: str = ""
    """Column of the question; empty = found by name."""
    target: str | list[str] = ""
    """Column of the reference, or several that make an object; empty = found by name."""
    id: str = ""
    """Column of unique names; empty = `id`, else the line number."""
    group: str = ""
    """Column of groups; empty = `group`, if there."""
    metadata: list[str] = []
    """Columns that slice the report."""
    messages: str = ""
    """Column of conversations; empty = `messages`, if there."""
    tools: str = ""
    """Column of functions on offer; empty = `tools`, if there."""
    json: list[str] = []
    """Columns of text that is JSON."""
    delimiter: str = ""
    """Of CSV; empty = found."""


class FewShotTable(Strict, frozen=True, kw_only=True):
    """[prompt.few_shot]: solved examples from train before the question."""

    count: int
    """How many."""
    by: str | None = None
    """Metadata to match: `language` shows examples of the question's language."""
    select: Literal["fixed", "similar"] = "fixed"
    """fixed: one block for all; similar: the nearest to each question."""
    ids: list[str] = []
    """Only these examples of train, in this order; empty = any, by chance."""


class PromptTable(Strict, frozen=True, kw_only=True):
    """[prompt] or one of [[prompts]]: Jinja templates over the columns."""

    name: str = "default"
    """Name of the variant."""
    system: str = ""
    """System message; empty = none."""
    user: str = "{{ input }}"
    """User message."""
    assistant: str = _ANSWER
    """Answer of a solved example."""
    few_shot: FewShotTable | None = None
    """Solved examples to show first."""


class SamplingTable(Strict, frozen=True, kw_only=True):
    """[sampling]: decoding parameters; what is left out is left to the provider, but for the two defaults."""

    temperature: float | None = 0.0
    """0 = greedy."""
    top_p: float | None = None
    """Nucleus mass."""
    max_tokens: int | None = 256
    """Most tokens to generate."""
    stop: list[str] = []
    """Texts that end the answer."""
    seed: int | None = None
    """Sampling seed."""


class CandidateTable(Strict, frozen=True, kw_only=True):
    """One of [[candidates]]: a contender. What is left out is the task's own."""

    name: str = ""
    """Unique; empty = the model, with the prompt where there are several."""
    model: str
    """vendor/model."""
    prompt: str = ""
    """Name of a prompt, or a file that the recipe `prompt` wrote: …/prompt.toml; empty = the first."""
    few_shot: int | None = None
    """How many solved examples to show; 0 = none."""
    select: Literal["fixed", "similar"] | None = None
    """How they are chosen."""
    by: str | None = None
    """Metadata that they match."""
    system: str | None = None
    """System message in place of the prompt's."""
    sampling: dict[str, Any] = {}
    """Decoding parameters that differ from the task's."""
    json_schema: str | Json | None = None
    """Schema file or table that answers are constrained to; true = any JSON object; false = free text."""


class TaskTable(Strict, frozen=True, kw_only=True):
    """task.toml as a whole."""

    name: str = ""
    """Short name; empty = that of the folder."""
    description: str = ""
    """One sentence for people."""
    license: str = ""
    """SPDX id of the data."""
    data_class: Literal["public", "internal", "confidential"] = "internal"
    """confidential work is only sent to models that run inside."""
    json_schema: str | Json | None = None
    """Schema that every candidate's answers are constrained to, unless it says otherwise."""
    data: DataTable = DataTable()
    """Where the examples are."""
    prompt: dict[str, Any] | None = None
    """The only prompt."""
    prompts: list[dict[str, Any]] = []
    """Several prompts; the first is the default."""
    sampling: SamplingTable = SamplingTable()
    """Decoding parameters."""
    scorers: list[dict[str, Any]] = []
    """The first decides; each has a name, further keys are its arguments."""
    candidates: list[dict[str, Any]] = []
    """Who competes when the command names nobody."""


class Manifest:
    """A task.toml with its tables, and the places of their keys for messages."""

    def __init__(self, path: Path) -> None:
        """Read and check `path`.

        Raises:
            TaskError: no TOML, an unknown key, a wrong type or a missing key; names file, line and the nearest key.
        """
        self.path = path
        self.source = content(path)
        try:
            tree = tomllib.loads(self.source)
        except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
            raise TaskError("tasks.bad_toml", path=path, problem=error) from error
        self.task = self.decoded(tree, TaskTable, ())
        if self.task.prompt is not None and self.task.prompts:
            raise TaskError("tasks.both_prompts", path=path, line=self.line(("prompts", 0)))
        if self.task.prompt is not None:
            self.prompts = [self.decoded(self.task.prompt, PromptTable, ("prompt",))]
        else:
            self.prompts = self._decoded_each(self.task.prompts, PromptTable, "prompts")
        self.candidates = self._decoded_each(self.task.candidates, CandidateTable, "candidates")
        for number, table in enumerate(self.candidates):
            self.decoded(table.sampling, SamplingTable, ("candidates", number, "sampling"))

    def decoded(self, value: Any, kind: type[_Table], place: tuple[str | int, ...]) -> _Table:
        """`value` as `kind`; errors name the line of the key under `place`."""
        try:
            return converted(value, kind)
        except msgspec.ValidationError as error:
            raise self._validation_error(error, kind, place) from error

    def _decoded_each(self, tables: list[dict[str, Any]], kind: type[_Table], name: str) -> list[_Table]:
        return [self.decoded(table, kind, (name, number)) for number, table in enumerate(tables)]

    def line(self, place: tuple[str | int, ...]) -> int:
        """Line of the key or table at `place`, e.g. ("prompts", 1, "few_shot", "count"); 1 if it cannot be found."""
        return line_of(self.source, place)

    def _validation_error(
        self, error: msgspec.ValidationError, kind: type[Any], place: tuple[str | int, ...]
    ) -> TaskError:
        problem, _, where = str(error).partition(" - at `$")
        steps = [step for step in re.split(r"[.\[\]]+", where.rstrip("`")) if step and step != "..."]
        place = (*place, *steps)
        dotted = ".".join(str(step) for step in place)
        unknown = re.search(r"unknown field `([^`]+)`", problem)
        if not unknown:
            problem = misfit(problem, kind, steps)
            return TaskError(
                "tasks.bad_value", path=self.path, line=self.line(place), key=dotted, problem=problem
            )
        for step in steps:
            kind = _kind_of(kind, step)
        near = "".join(difflib.get_close_matches(unknown[1], getattr(kind, "__struct_fields__", ()), n=1))
        key = f"{dotted}.{unknown[1]}".lstrip(".")
        facts = {"path": self.path, "line": self.line((*place, unknown[1])), "key": key, "near": near}
        known = ", ".join(getattr(kind, "__struct_fields__", ()))
        return TaskError("tasks.unknown_key_near" if near else "tasks.unknown_key", **facts, known=known)


def prompt_table(path: Path) -> PromptTable:
    """The [prompt] of a prompt.toml.

    Raises:
        TaskError: it is not TOML, or its table is not a prompt's; names file and line.
    """
    source = content(path)
    try:
        tree = tomllib.loads(source)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise TaskError("tasks.bad_toml", path=path, problem=error) from error
    try:
        return converted(tree.get("prompt"), PromptTable)
    except msgspec.ValidationError as error:
        line = line_of(source, ("prompt",))
        problem = misfit(str(error))
        raise TaskError("tasks.bad_value", path=path, line=line, key="prompt", problem=problem) from error


_Table = TypeVar("_Table", bound=Strict)


def _kind_of(kind: type[Any], field: str) -> type[Any]:
    for known in msgspec.structs.fields(kind) if issubclass(kind, msgspec.Struct) else ():
        if known.encode_name == field:
            options = cast("tuple[Any, ...]", getattr(known.type, "__args__", ())) or (known.type,)
            return next((one for one in options if isinstance(one, type) and issubclass(one, Strict)), object)
    return object
