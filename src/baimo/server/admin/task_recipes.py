"""The recipe of a task: shown in parts and as text, tried with an example, changed."""

from __future__ import annotations

from typing import Any

import msgspec

from baimo.errors import BaimoError, UsageError
from baimo.evals.tasks.formats.messages import plain_message
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.server.admin.task_recipe_forms import (
    Preview,
    PreviewAsked,
    RecipeChange,
    RecipeShown,
    RenderedShown,
    SamplingShown,
    ScorerKinds,
    ScorerShown,
)
from baimo.server.admin.task_scope import TASK, TaskNamed, keeping, kept, known, tenant_of
from baimo.server.admin.task_versions import VersionShown, version_shown
from baimo.typed import converted
from baimo.workspace.task_recipe import Recipe, Recipes, Wanted, recipe_of, rendered, source_of
from baimo.workspace.task_scorers import scorer_kinds


def _get(asking: Asking, asked: TaskNamed) -> RecipeShown:
    """GET /api/tasks/{task}/recipe."""
    one, problem, variables = known(asking, asked), None, list[str]()
    try:
        found = kept(asking, asked)
        recipe = recipe_of(found)
        variables = sorted({name for each in found.examples for name in each.example.fields})
    except BaimoError as error:
        recipe, problem = Recipe(source=source_of(one)), str(error).replace(f"{one.folder}/", "")
    return RecipeShown(
        task=one.name,
        own=one.own,
        manifest=recipe.source,
        hash=recipe.hash,
        problem=problem,
        prompts=list(recipe.prompts),
        sampling=converted(dict(recipe.sampling), SamplingShown),
        scorers=[_scorer(table) for table in recipe.scorers],
        candidates=list(recipe.candidates),
        variables=variables,
    )


def _scorer(table: Any) -> ScorerShown:
    args = msgspec.to_builtins({name: value for name, value in table.items() if name != "name"})
    return ScorerShown(name=str(table.get("name", "")), args=args)


def _change(asking: Asking, asked: RecipeChange) -> VersionShown:
    """PATCH /api/tasks/{task}/recipe."""
    name, tenant = known(asking, asked).name, tenant_of(asking, asked.tenant)
    recipes, actor = Recipes(keeping(asking)), asking.actor
    if asked.manifest is not None:
        return version_shown(recipes.rewrite(name, tenant, actor, asked.manifest, before=asked.before))
    wanted = Wanted(asked.prompts, _sampling(asked.sampling), _scorers(asked.scorers), asked.candidates)
    return version_shown(recipes.change(name, tenant, actor, wanted, before=asked.before))


def _sampling(said: SamplingShown | None) -> dict[str, Any] | None:
    if said is None:
        return None
    given = {name: getattr(said, name) for name in SamplingShown.__slots__}
    return {
        name: list(one) if name == "stop" else one for name, one in given.items() if one not in (None, ())
    }


def _scorers(said: tuple[ScorerShown, ...] | None) -> list[dict[str, Any]] | None:
    for at, one in enumerate(said or ()):
        if "name" in one.args:
            raise UsageError("admin.bad_text", field=f"/scorers/{at}/args/name")
    return None if said is None else [{"name": one.name, **one.args} for one in said]


def _preview(asking: Asking, asked: PreviewAsked) -> Preview:
    """POST /api/tasks/{task}/preview."""
    one = kept(asking, asked)
    placed = keeping(asking).example(one, asked.example, asked.split) if asked.example else one.examples[0]
    prompts = asked.prompts or recipe_of(one).prompts
    data = [
        RenderedShown(
            name=each.name,
            messages=[plain_message(message) for message in each.messages],
            problem=None if each.problem is None else str(each.problem).replace(f"{one.known.folder}/", ""),
            hint=None if each.problem is None else each.problem.hint or None,
        )
        for each in rendered(one, prompts, placed)
    ]
    return Preview(example=placed.example.id, split=placed.split, data=data)


def _kinds(_: Asking, __: Nothing) -> ScorerKinds:
    """GET /api/scorers."""
    return ScorerKinds(data=list(scorer_kinds().values()))


TASK_RECIPES = (
    Operation(
        method="GET", path=f"{TASK}/recipe", role="viewer", takes=TaskNamed, gives=RecipeShown, does=_get,
        tag="tasks", summary="task_api.tasks_recipe", errors=(404,),
    ),
    Operation(
        method="PATCH", path=f"{TASK}/recipe", role="engineer", takes=RecipeChange, gives=VersionShown,
        does=_change, tag="tasks", summary="task_api.tasks_recipe_change", errors=(404, 409),
    ),
    Operation(
        method="POST", path=f"{TASK}/preview", role="engineer", takes=PreviewAsked, gives=Preview,
        does=_preview, tag="tasks", summary="task_api.tasks_preview", errors=(404,),
    ),
    Operation(
        method="GET", path="/api/scorers", role="viewer", gives=ScorerKinds, does=_kinds, tag="tasks",
        summary="task_api.tasks_scorers",
    ),
)  # fmt: skip
