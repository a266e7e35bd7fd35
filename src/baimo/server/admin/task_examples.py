"""Examples of a task: found, shown, added, changed, moved, taken away, exported.

Prevents the failure of an expert who may write what is right but not, by the same road, take examples away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from baimo.core.ids import plain
from baimo.core.task import Task
from baimo.evals.tasks.formats.messages import plain_message
from baimo.evals.tasks.scaffold import row_of
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.server.admin.paging import cut
from baimo.server.admin.streams import Pieces, Work
from baimo.server.admin.task_example_forms import (
    ExampleChange,
    ExampleMade,
    ExampleNamed,
    ExamplesAsked,
    ExamplesChange,
    ExampleShown,
    ExamplesPage,
    ExampleWhole,
    NewExample,
    SplitWanted,
    TaskExport,
)
from baimo.server.admin.task_scope import TASK, changed, engineers, keeping, kept
from baimo.server.admin.task_versions import VersionShown, version_facts, version_shown
from baimo.workspace.task_edits import Draft, added, deleted, drafted, edited, moved
from baimo.workspace.task_keeping import (
    Placed,
    split_by_chance,
)
from baimo.workspace.task_search import Filter, language_of, question_of, searched

SHORT = 600
"""Characters of a text in a list."""


def _examples(asking: Asking, asked: ExamplesAsked) -> ExamplesPage:
    """GET /api/tasks/{task}/examples."""
    one = kept(asking, asked)
    wanted = {name: getattr(asked, name) for name in Filter.__slots__}
    found = searched(one.examples, Filter(**wanted))
    page, after = cut(found, asked, lambda each: each.id)
    return ExamplesPage(data=[ExampleShown(**_shown(each)) for each in page], next=after, count=len(found))


def _shown(one: Placed, most: int | None = SHORT) -> dict[str, Any]:
    example, text = one.example, question_of(one.example)
    return {
        "id": example.id,
        "split": one.split,
        "input": text if most is None or len(text) <= most else text[:most] + "…",
        "expected": plain(example.target),
        "labels": plain(dict(example.metadata)),
        "group": example.group,
        "language": language_of(example),
        "turns": len(example.messages),
        "line": example.line,
    }


def _example(asking: Asking, asked: ExampleNamed) -> ExampleWhole:
    """GET /api/tasks/{task}/examples/{example}."""
    one = kept(asking, asked)
    found, all = keeping(asking).example(one, asked.example, asked.split), one.examples
    at = all.index(found)
    return ExampleWhole(
        **_shown(found, None),
        fields=plain(dict(found.example.fields)),
        messages=[plain_message(message) for message in found.example.messages],
        before=all[at - 1].id if at else None,
        after=all[at + 1].id if at + 1 < len(all) else None,
    )


def _export(asking: Asking, asked: TaskExport) -> Work:
    """GET /api/tasks/{task}/export."""
    one = kept(asking, asked)
    rows = [each for each in one.examples if asked.split in ("", each.split)]

    def work(pieces: Pieces) -> None:
        for each in rows:
            split: Mapping[str, Any] = {} if asked.split else {"split": each.split}
            pieces.write(msgspec.json.encode(plain({**row_of(each.example), **split})).decode() + "\n")

    return work


def _draft(asked: NewExample | ExampleChange, **facts: Any) -> Draft:
    said = {
        name: getattr(asked, name) for name in ("input", "fields", "messages", "expected", "group", "labels")
    }
    return Draft(**{**said, **facts})


def _add(asking: Asking, asked: NewExample) -> ExampleMade:
    """POST /api/tasks/{task}/examples."""
    kept(asking, asked)  # a task that is not there is told before anything about the example
    draft = _draft(asked, labels=asked.labels | ({"source": asked.source} if asked.source else {}))
    id = asked.id or keeping(asking).new_id()
    made = changed(asking, asked, "add", added(draft, asked.split, id))
    return ExampleMade(**version_facts(made), id=id)


def _change(asking: Asking, asked: ExampleChange) -> VersionShown:
    """PATCH /api/tasks/{task}/examples/{example}."""
    one, draft = kept(asking, asked), _draft(asked, clear=asked.clear)
    if asked.to is not None or not draft.labels_only:
        engineers(asking)
    found = keeping(asking).example(one, asked.example, asked.split)
    made = changed(asking, asked, "edit", edited(found.id, draft))
    if asked.to is not None and asked.to != found.split:
        made = changed(asking, asked, "split", moved([found.id], asked.to))
    return version_shown(made)


def _remove(asking: Asking, asked: ExampleNamed) -> VersionShown:
    """DELETE /api/tasks/{task}/examples/{example}."""
    found = keeping(asking).example(kept(asking, asked), asked.example, asked.split)
    return version_shown(changed(asking, asked, "delete", deleted([found.id])))


def _change_several(asking: Asking, asked: ExamplesChange) -> VersionShown:
    """POST /api/tasks/{task}/changes."""
    kept(asking, asked)  # whether it is there is told before whether one may
    if asked.delete or asked.to is not None:
        engineers(asking)
    if asked.delete:
        act, does = "delete", deleted(asked.examples)
    elif asked.to is not None:
        act, does = "split", moved(asked.examples, asked.to)
    else:
        act, does = "label", drafted(asked.examples, Draft(expected=asked.expected, labels=asked.labels))
    return version_shown(changed(asking, asked, act, does))


def _split(asking: Asking, asked: SplitWanted) -> VersionShown:
    """POST /api/tasks/{task}/split."""

    def does(task: Task) -> tuple[Task, Mapping[str, Any]]:
        return split_by_chance(task, asked.share, asked.seed), {"share": asked.share, "seed": asked.seed}

    return version_shown(changed(asking, asked, "split", does))


_EXAMPLES = f"{TASK}/examples"
_EXAMPLE = f"{_EXAMPLES}/{{example:path}}"

TASK_EXAMPLES = (
    Operation(
        method="GET", path=_EXAMPLES, role="viewer", takes=ExamplesAsked, gives=ExamplesPage, does=_examples,
        tag="tasks", summary="task_api.tasks_examples", errors=(404,),
    ),
    Operation(
        method="POST", path=_EXAMPLES, role="reviewer", takes=NewExample, gives=ExampleMade, does=_add,
        tag="tasks", summary="task_api.tasks_example_add", status=201, errors=(404, 409),
    ),
    Operation(
        method="GET", path=_EXAMPLE, role="viewer", takes=ExampleNamed, gives=ExampleWhole, does=_example,
        tag="tasks", summary="task_api.tasks_example", errors=(404,),
    ),
    Operation(
        method="PATCH", path=_EXAMPLE, role="reviewer", takes=ExampleChange, gives=VersionShown, does=_change,
        tag="tasks", summary="task_api.tasks_example_change", errors=(404, 409),
    ),
    Operation(
        method="DELETE", path=_EXAMPLE, role="engineer", takes=ExampleNamed, gives=VersionShown, does=_remove,
        tag="tasks", summary="task_api.tasks_example_delete", errors=(404, 409),
    ),
    Operation(
        method="POST", path=f"{TASK}/changes", role="reviewer", takes=ExamplesChange, gives=VersionShown,
        does=_change_several, tag="tasks", summary="task_api.tasks_change", errors=(404, 409),
    ),
    Operation(
        method="POST", path=f"{TASK}/split", role="engineer", takes=SplitWanted, gives=VersionShown,
        does=_split, tag="tasks", summary="task_api.tasks_split", errors=(404, 409),
    ),
    Operation(
        method="GET", path=f"{TASK}/export", role="viewer", takes=TaskExport, gives=Nothing, does=_export,
        tag="tasks", summary="task_api.tasks_export", media=("application/jsonl",), errors=(404,),
    ),
)  # fmt: skip
