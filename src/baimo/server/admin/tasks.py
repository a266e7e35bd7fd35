"""One task: shown with what is in it, checked, described, copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from baimo.core.ids import plain
from baimo.core.task import Prompt
from baimo.core.tenant import ROLES
from baimo.server.admin.operation import Asking, Operation
from baimo.server.admin.task_forms import (
    LabelCount,
    TaskChange,
    TaskCopy,
    TaskFinding,
    TaskFindings,
    TaskShown,
    TaskWhole,
)
from baimo.server.admin.task_list import facts_of, listed
from baimo.server.admin.task_scope import TASK, TaskNamed, keeping, kept, tenant_of
from baimo.server.admin.task_versions import VersionShown, version_shown
from baimo.workspace.task_keeping import Kept, Placed
from baimo.workspace.task_search import expected_of, language_of

_MOST_LABELS = 200
_FEW = 20


def _task(asking: Asking, asked: TaskNamed) -> TaskWhole:
    """GET /api/tasks/{task}."""
    one, tenant = kept(asking, asked), tenant_of(asking, asked.tenant)
    inside = asking.owner and ROLES.index(asking.key.role) >= ROLES.index("engineer")
    names = list(dict.fromkeys(name for each in one.examples for name in each.example.metadata))[:30]
    labels: dict[str, Callable[[Placed], str | None]] = {name: _label(name) for name in names}
    return TaskWhole(
        **facts_of(asking, one, tenant),
        folder=str(one.known.folder) if inside else None,
        asked=[_prompt(prompt) for prompt in one.task.prompts],
        judged=[{"name": spec.name, "args": plain(dict(spec.args))} for spec in one.task.scorers],
        candidates=[dict(plain(dict(each))) for each in one.task.candidates],
        sampling=plain(one.task.sampling),
        expected=_expected(one),
        languages=_counted(one, lambda each: language_of(each.example) or None),
        labels={name: _counted(one, value) for name, value in labels.items()},
        rubric=keeping(asking).rubric(one),
        notes=[note.detail for note in keeping(asking).notes(one)],
    )


def _prompt(prompt: Prompt) -> dict[str, Any]:
    shown = None if prompt.few_shot is None else {"count": prompt.few_shot.count, "by": prompt.few_shot.by}
    return {"name": prompt.name, "system": prompt.system, "user": prompt.user, "few_shot": shown}


def _expected(one: Kept) -> list[LabelCount]:
    """References; of many different ones only those that several examples have."""
    found = _counted(one, lambda each: expected_of(each.example)[:200] or None)
    several = [each for each in found if each.test + each.train > 1]
    return found if len(found) <= max(_FEW, len(one.examples) // 3) else several


def _label(name: str) -> Callable[[Placed], str | None]:
    return lambda one: (
        None if one.example.metadata.get(name) is None else str(one.example.metadata[name])[:200]
    )


def _counted(one: Kept, value: Callable[[Placed], str | None]) -> list[LabelCount]:
    counts = {split: Counter[str]() for split in ("test", "train")}
    for each in one.examples:
        if (found := value(each)) is not None:
            counts[each.split][found] += 1
    both = counts["test"] + counts["train"]
    return [
        LabelCount(value=name, test=counts["test"][name], train=counts["train"][name])
        for name, _ in both.most_common(_MOST_LABELS)
    ]


def _findings(asking: Asking, asked: TaskNamed) -> TaskFindings:
    """GET /api/tasks/{task}/findings."""
    return TaskFindings(data=findings_shown(keeping(asking).findings(kept(asking, asked))))


def findings_shown(found: list[Any]) -> list[TaskFinding]:
    """What the check found, as it is shown."""
    return [
        TaskFinding(
            kind=one.kind,
            severity=one.severity,
            detail=one.detail,
            places=[_place(place) for place in one.places[:50]],
            count=len(one.places),
        )
        for one in found
    ]


def _place(place: Any) -> dict[str, Any]:
    return {**place._asdict(), "file": place.file.rpartition("/")[2]}


def _describe(asking: Asking, asked: TaskChange) -> VersionShown:
    """PATCH /api/tasks/{task}."""
    one, tenant = kept(asking, asked), tenant_of(asking, asked.tenant)
    words = {"rubric": asked.rubric, "description": asked.description}
    return version_shown(keeping(asking).described(one.known.name, tenant, asking.actor, **words))


def _copy(asking: Asking, asked: TaskCopy) -> TaskShown:
    """POST /api/tasks/{task}/copy."""
    one, tenant = kept(asking, asked), tenant_of(asking, asked.tenant)
    keeping(asking).copied(one.known.name, asked.name, tenant, asking.actor)
    return listed(asking, asked.name, tenant)


TASKS = (
    Operation(
        method="GET", path=TASK, role="viewer", takes=TaskNamed, gives=TaskWhole, does=_task, tag="tasks",
        summary="task_api.tasks_get", errors=(404,),
    ),
    Operation(
        method="PATCH", path=TASK, role="engineer", takes=TaskChange, gives=VersionShown, does=_describe,
        tag="tasks", summary="task_api.tasks_describe", errors=(404, 409),
    ),
    Operation(
        method="POST", path=f"{TASK}/copy", role="engineer", takes=TaskCopy, gives=TaskShown, does=_copy,
        tag="tasks", summary="task_api.tasks_copy", status=201, errors=(404, 409),
    ),
    Operation(
        method="GET", path=f"{TASK}/findings", role="viewer", takes=TaskNamed, gives=TaskFindings,
        does=_findings, tag="tasks", summary="task_api.tasks_findings", errors=(404,),
    ),
)  # fmt: skip
