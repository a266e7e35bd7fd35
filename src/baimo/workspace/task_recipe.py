"""A task's recipe: prompts, sampling, scorers and candidates as task.toml has them, changed part by part or as text.

Prevents two failures: a form that throws away what its maker did not think of (only lines of values that differ are
replaced), and two people whose changes undo each other unseen.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from baimo.core.ids import digest, plain
from baimo.core.message import Message
from baimo.core.task import Task
from baimo.errors import Conflict, TaskError, TemplateError
from baimo.evals.tasks.folder import prompt_of, read_task
from baimo.evals.tasks.manifest import FILE_NAME, CandidateTable, PromptTable
from baimo.evals.tasks.prompts import Renderer
from baimo.store.audit import Actor
from baimo.typed import converted
from baimo.workspace.known_tasks import KnownTask
from baimo.workspace.task_history import Made, Version
from baimo.workspace.task_keeping import Kept, Placed, TaskKeeping
from baimo.workspace.task_recipe_check import Tree, as_table, checked, tree_of

ORDER = ("data", "prompt", "prompts", "sampling", "scorers", "candidates")
"""Tables of task.toml as people read them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a task is asked and judged."""

    source: str = ""
    """task.toml; empty = the task is a bare file of examples."""
    prompts: tuple[PromptTable, ...] = ()
    sampling: Tree = field(default_factory=dict[str, Any])
    """What is said of it; the rest is the usual."""
    scorers: tuple[Tree, ...] = ()
    """name and arguments; the first decides."""
    candidates: tuple[CandidateTable, ...] = ()

    @property
    def hash(self) -> str:
        """Tells whether somebody has changed it meanwhile."""
        return digest(self.source)[:16]


class Wanted(NamedTuple):
    """Parts of a recipe that are to be different; None = as they are."""

    prompts: Sequence[PromptTable] | None = None
    sampling: Tree | None = None
    scorers: Sequence[Tree] | None = None
    candidates: Sequence[CandidateTable] | None = None


class Rendered(NamedTuple):
    """What a prompt makes of an example."""

    name: str
    messages: tuple[Message, ...]
    problem: TemplateError | None
    """Why it makes nothing."""


def source_of(known: KnownTask) -> str:
    """task.toml as it is; empty = there is none."""
    path = known.folder / FILE_NAME if known.folder.is_dir() else known.folder
    if path.name != FILE_NAME or not path.is_file():
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def recipe_of(kept: Kept) -> Recipe:
    """The recipe of a task as it was read."""
    return _recipe(source_of(kept.known), kept.task)


def _recipe(source: str, task: Task) -> Recipe:
    tree = tomllib.loads(source)
    tables = tree.get("prompts") or [tree[name] for name in ("prompt",) if name in tree]
    prompts = tables or [plain(one) for one in task.prompts]
    assumed = [{"name": spec.name, **plain(dict(spec.args))} for spec in task.scorers]
    return Recipe(
        source=source,
        prompts=tuple(converted(one, PromptTable) for one in prompts),
        sampling=tree.get("sampling", {}),
        scorers=tuple(tree.get("scorers") or assumed),
        candidates=tuple(converted(one, CandidateTable) for one in tree.get("candidates", ())),
    )


def rendered(kept: Kept, prompts: Sequence[PromptTable], placed: Placed) -> Iterator[Rendered]:
    """What each prompt makes of one example, whether or not it is stored yet."""
    for one in prompts:
        try:
            messages = Renderer(prompt_of(one), kept.task.train).messages(placed.example)
            yield Rendered(one.name, messages, None)
        except TemplateError as error:
            yield Rendered(one.name, (), error)


class Recipes:
    """Recipes of one workspace. Methods block."""

    def __init__(self, keeping: TaskKeeping) -> None:
        self._keeping = keeping

    def change(
        self, name: str, tenant: str, by: Actor, wanted: Wanted, *, before: str = ""
    ) -> Version | None:
        """Change parts; None = nothing differs.

        Args:
            name: of the task.
            tenant: whose.
            by: who changes it.
            wanted: the parts.
            before: Recipe.hash that whoever changes it has seen; empty = whatever there is.

        Raises:
            Conflict: somebody has changed it meanwhile, or it lies elsewhere.
            TaskError: it could not be used so; `field` says which part is wrong.
        """
        known = self._keeping.own(name, tenant).known

        def source(now: str) -> str:
            return source_after(_recipe(now, read_task(known.folder).task), wanted)

        return self._changed(known, tenant, by, source, before)

    def rewrite(self, name: str, tenant: str, by: Actor, text: str, *, before: str = "") -> Version | None:
        """Take a whole task.toml; also one that mends what cannot be read. Arguments and errors as of `change`."""
        known = self._keeping.tasks.known(name, tenant)
        if not known.own:
            raise Conflict("tasks.read_only", name=name)
        text = text.replace("\r\n", "\n").rstrip() + "\n"
        return self._changed(known, tenant, by, lambda _: text, before)

    def _changed(
        self, known: KnownTask, tenant: str, by: Actor, source: Callable[[str], str], before: str
    ) -> Version | None:
        def make() -> Made:
            now = source_of(known)
            if before and before != Recipe(source=now).hash:
                raise Conflict("tasks.changed_meanwhile", name=known.name)
            after = source(now)
            if after == now:
                return Made({})
            old, new = tree_of(now), checked(known.folder, after, now)
            parts = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
            return Made({FILE_NAME: after}, {"changed": ", ".join(parts) or "#"})

        return self._keeping.enter(known, tenant, by, "recipe", make)


def source_after(now: Recipe, wanted: Wanted) -> str:
    """task.toml with other parts.

    Raises:
        TaskError: it is written in a way that cannot be changed part by part.
    """
    from baimo.evals.tasks.toml_edit import edited, listed  # tomlkit takes longer to load than most changes

    tree, source = tomllib.loads(now.source), now.source
    if wanted.prompts is not None and tuple(wanted.prompts) != now.prompts:
        written = tree.get("prompts") or [tree[name] for name in ("prompt",) if name in tree]
        tables = [_given(one, _before(one.name, at, written)) for at, one in enumerate(wanted.prompts)]
        alone = len(tables) == 1 and "prompts" not in tree
        if not alone:
            tables = [{"name": one.name, **table} for one, table in zip(wanted.prompts, tables, strict=True)]
            source = listed(source, "prompt", "prompts")
            tree.pop("prompt", None)
        tree["prompt" if alone else "prompts"] = tables[0] if alone else tables
    if wanted.sampling is not None and wanted.sampling != now.sampling:
        tree["sampling"] = dict(wanted.sampling)
    if wanted.scorers is not None and tuple(wanted.scorers) != now.scorers:
        tree["scorers"] = [dict(one) for one in wanted.scorers]
    if wanted.candidates is not None and tuple(wanted.candidates) != now.candidates:
        written = tree.get("candidates", [])
        tree["candidates"] = [
            _given(one, _before(one.name or one.model, at, written))
            for at, one in enumerate(wanted.candidates)
        ]
    tree = {key: value for key, value in tree.items() if value not in ([], {}) or key not in ORDER}
    try:
        made = edited(source, tree, ORDER)
    except ValueError:
        raise TaskError("tasks.no_null", path=FILE_NAME, field="") from None
    if made is None:
        raise TaskError("tasks.not_by_form", path=FILE_NAME, field="")
    return made


def _before(name: str, at: int, written: Sequence[Tree]) -> Tree:
    """The table as it is written now: of this name, else at this place."""
    called = [one for one in written if (one.get("name") or one.get("model")) == name]
    return called[0] if called else written[at] if at < len(written) else {}


def _given(one: msgspec.Struct, before: Tree) -> dict[str, Any]:
    """A table with what is not the usual, and what is written already."""
    table: dict[str, Any] = {}
    for known in msgspec.structs.fields(type(one)):
        value = getattr(one, known.name)
        usual = known.default if known.default_factory is msgspec.NODEFAULT else known.default_factory()
        if isinstance(value, msgspec.Struct):
            value = _given(value, as_table(before.get(known.name)))
        if value is not None and (value != usual or known.name in before):
            table[known.name] = msgspec.to_builtins(value)
    return table
