"""Tasks and their examples: found, shown, changed, with every version and the way back.

Prevents two failures: another tenant's task that is told from one that does not exist, and an expert who may write
what is right but not, by the same road, take examples away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from baimo.core.ids import plain
from baimo.core.moments import shown
from baimo.core.rights import OWNER_NAME
from baimo.core.task import Prompt
from baimo.core.tenant import OWNER, ROLES
from baimo.errors import BaimoError, Conflict, Forbidden, NotFound
from baimo.evals.tasks.formats.messages import plain_message
from baimo.evals.tasks.scaffold import row_of
from baimo.server.admin.operation import Asking
from baimo.server.admin.paging import cut
from baimo.server.admin.streams import Pieces, Work
from baimo.server.admin.task_forms import (
    ExampleChange,
    ExampleMade,
    ExampleNamed,
    ExamplesAsked,
    ExamplesChange,
    ExampleShown,
    ExamplesPage,
    ExampleWhole,
    HistoryAsked,
    HistoryPage,
    LabelCount,
    NewExample,
    SplitWanted,
    TaskChange,
    TaskCopy,
    TaskExport,
    TaskFinding,
    TaskFindings,
    TaskNamed,
    TasksAsked,
    TaskShown,
    TasksPage,
    TaskWhole,
    VersionNamed,
    VersionShown,
    VersionWhole,
)
from baimo.workspace.task_edits import Draft, added, deleted, drafted, edited, moved
from baimo.workspace.task_history import Version
from baimo.workspace.task_keeping import (
    Filter,
    Kept,
    Placed,
    TaskKeeping,
    expected_of,
    language_of,
    question_of,
    split_by_chance,
)

SHORT = 600
"""Characters of a text in a list."""
_MOST_LABELS = 200
_FEW = 20


def keeping(asking: Asking) -> TaskKeeping:
    """Tasks of the workspace that is served."""
    return asking.service.workspace.tasks


def tenant_of(asking: Asking, name: str | None) -> str:
    """The tenant that is meant.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    return asking.within(name) or OWNER


def kept(asking: Asking, asked: TaskNamed | ExamplesAsked | HistoryAsked) -> Kept:
    """The task that is meant.

    Raises:
        NotFound: there is none, or it is another tenant's.
    """
    tenant = tenant_of(asking, asked.tenant)
    try:
        return keeping(asking).kept(asked.task, tenant)
    except (
        NotFound
    ) as error:  # without the name that was asked for: it is told of none whether it is somebody's
        near = error.facts.get("near")
        raise NotFound("admin.no_task_near" if near else "admin.no_task", near=near, field="/task") from None


def engineers(asking: Asking) -> None:
    """
    Raises:
        Forbidden: the key's role is less than engineer.
    """
    if ROLES.index(asking.key.role) < ROLES.index("engineer"):
        raise Forbidden("serve.role", key=asking.key.public, role=asking.key.role, wanted="engineer")


def version_shown(version: Version | None) -> VersionShown:
    """A version as it is shown; of None that nothing was different."""
    if version is None:
        facts: dict[str, Any] = {"tenant": OWNER_NAME, "key": None, "act": "", "facts": {}}
        return VersionShown(version=0, at=None, test=0, train=0, hash="", **facts)
    return VersionShown(
        version=version.version,
        at=shown(version.at_ms),
        tenant=version.tenant or OWNER_NAME,
        key=version.key or None,
        act=version.act,
        facts=dict(version.facts),
        test=version.test,
        train=version.train,
        hash=version.hash,
    )


# reading


def tasks(asking: Asking, asked: TasksAsked) -> TasksPage:
    """GET /api/tasks."""
    tenant, words = tenant_of(asking, asked.tenant), asked.text.casefold()
    known = keeping(asking).tasks.listed(tenant)
    if words:
        found = [listed(asking, one.name, tenant) for one in known]
        found = [one for one in found if words in f"{one.name} {one.description}".casefold()]
        page, after = cut(found, asked, lambda one: one.name)
        return TasksPage(data=list(page), next=after)
    names, after = cut(known, asked, lambda one: one.name)
    return TasksPage(data=[listed(asking, one.name, tenant) for one in names], next=after)


def listed(asking: Asking, name: str, tenant: str) -> TaskShown:
    known = keeping(asking).tasks.known(name, tenant)
    try:
        return TaskShown(**_facts(asking, keeping(asking).kept(name, tenant), tenant))
    except BaimoError as error:
        texts = dict.fromkeys(("description", "data_class", "license", "hash"), "")
        counts = dict.fromkeys(("test", "train", "version"), 0)
        empty: dict[str, Any] = {"scorers": [], "prompts": [], "changed": None, **texts, **counts}
        problem = str(error).replace(f"{known.folder}/", "")
        return TaskShown(name=name, own=known.own, problem=problem, **empty)


def _facts(asking: Asking, one: Kept, tenant: str) -> dict[str, Any]:
    versions, task = keeping(asking).versions(one.known.name, tenant), one.task
    last = versions[-1] if versions else None
    return {
        "name": one.known.name,
        "own": one.known.own,
        "description": task.description,
        "data_class": task.data_class,
        "license": task.license,
        "test": len(task.examples),
        "train": len(task.train),
        "scorers": [spec.name for spec in task.scorers],
        "prompts": [prompt.name for prompt in task.prompts],
        "hash": task.hash,
        "version": last.version if last else 0,
        "changed": shown(last.at_ms) if last else None,
        "problem": None,
    }


def task(asking: Asking, asked: TaskNamed) -> TaskWhole:
    """GET /api/tasks/{task}."""
    one, tenant = kept(asking, asked), tenant_of(asking, asked.tenant)
    inside = asking.owner and ROLES.index(asking.key.role) >= ROLES.index("engineer")
    names = list(dict.fromkeys(name for each in one.examples for name in each.example.metadata))[:30]
    labels: dict[str, Callable[[Placed], str | None]] = {name: _label(name) for name in names}
    return TaskWhole(
        **_facts(asking, one, tenant),
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


def findings(asking: Asking, asked: TaskNamed) -> TaskFindings:
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


def examples(asking: Asking, asked: ExamplesAsked) -> ExamplesPage:
    """GET /api/tasks/{task}/examples."""
    one = kept(asking, asked)
    wanted = {name: getattr(asked, name) for name in Filter.__slots__}
    found = keeping(asking).found(one, Filter(**wanted))
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


def example(asking: Asking, asked: ExampleNamed) -> ExampleWhole:
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


def history(asking: Asking, asked: HistoryAsked) -> HistoryPage:
    """GET /api/tasks/{task}/history."""
    one = kept(asking, asked)
    versions = keeping(asking).versions(one.known.name, tenant_of(asking, asked.tenant))[::-1]
    page, after = cut(versions, asked, lambda each: str(each.version))
    return HistoryPage(data=[version_shown(each) for each in page], next=after)


def version(asking: Asking, asked: VersionNamed) -> VersionWhole:
    """GET /api/tasks/{task}/history/{version}."""
    one, tenant = kept(asking, asked), tenant_of(asking, asked.tenant)
    versions = keeping(asking).versions(one.known.name, tenant)
    if not 1 <= asked.version <= len(versions):
        raise NotFound("tasks.no_version", version=asked.version, field="/version")
    deltas = keeping(asking).history(one.known.name, tenant).changed(asked.version)
    changes = [
        {"file": name, "before": _line(cut.old, at), "after": _line(cut.new, at)}
        for name, delta in sorted(deltas.items())
        for cut in delta.cuts
        for at in range(max(len(cut.old), len(cut.new)))
    ]
    told = {
        name: getattr(version_shown(versions[asked.version - 1]), name) for name in VersionShown.__slots__
    }
    return VersionWhole(**told, changes=changes[:200], more=max(0, len(changes) - 200))


def _line(lines: list[str], at: int) -> str | None:
    return lines[at].rstrip("\n") if at < len(lines) else None


def export(asking: Asking, asked: TaskExport) -> Work:
    """GET /api/tasks/{task}/export."""
    one = kept(asking, asked)
    rows = [each for each in one.examples if asked.split in ("", each.split)]

    def work(pieces: Pieces) -> None:
        for each in rows:
            split: Mapping[str, Any] = {} if asked.split else {"split": each.split}
            pieces.write(msgspec.json.encode(plain({**row_of(each.example), **split})).decode() + "\n")

    return work


# changing


def add(asking: Asking, asked: NewExample) -> ExampleMade:
    """POST /api/tasks/{task}/examples."""
    one, tenant = kept(asking, asked), tenant_of(asking, asked.tenant)
    labels = asked.labels | ({"source": asked.source} if asked.source else {})
    draft = Draft(
        input=asked.input,
        fields=asked.fields,
        messages=asked.messages,
        expected=asked.expected,
        group=asked.group,
        labels=labels,
    )
    id = asked.id or keeping(asking).new_id()
    made = keeping(asking).change(one.known.name, tenant, asking.actor, "add", added(draft, asked.split, id))
    return ExampleMade(**{name: getattr(version_shown(made), name) for name in VersionShown.__slots__}, id=id)


def change(asking: Asking, asked: ExampleChange) -> VersionShown:
    """PATCH /api/tasks/{task}/examples/{example}."""
    one, tenant = kept(asking, asked), tenant_of(asking, asked.tenant)
    draft = Draft(
        input=asked.input,
        fields=asked.fields,
        messages=asked.messages,
        expected=asked.expected,
        group=asked.group,
        labels=asked.labels,
        clear=asked.clear,
    )
    if asked.to is not None or not draft.labels_only:
        engineers(asking)
    found, name = keeping(asking).example(one, asked.example, asked.split), one.known.name
    made = keeping(asking).change(name, tenant, asking.actor, "edit", edited(found.id, draft))
    if asked.to not in (None, found.split):
        does = moved([found.id], asked.to)
        made = keeping(asking).change(name, tenant, asking.actor, "split", does)
    return version_shown(made)


def remove(asking: Asking, asked: ExampleNamed) -> VersionShown:
    """DELETE /api/tasks/{task}/examples/{example}."""
    one, tenant = kept(asking, asked), tenant_of(asking, asked.tenant)
    found = keeping(asking).example(one, asked.example, asked.split)
    gone = deleted([found.id])
    return version_shown(keeping(asking).change(one.known.name, tenant, asking.actor, "delete", gone))


def change_several(asking: Asking, asked: ExamplesChange) -> VersionShown:
    """POST /api/tasks/{task}/changes."""
    one, tenant = kept(asking, asked), tenant_of(asking, asked.tenant)
    if asked.delete or asked.to is not None:
        engineers(asking)
    if asked.delete:
        act, does = "delete", deleted(asked.examples)
    elif asked.to is not None:
        act, does = "split", moved(asked.examples, asked.to)
    else:
        draft = Draft(expected=asked.expected, labels=asked.labels)
        act, does = "label", drafted(asked.examples, draft)
    return version_shown(keeping(asking).change(one.known.name, tenant, asking.actor, act, does))


def split(asking: Asking, asked: SplitWanted) -> VersionShown:
    """POST /api/tasks/{task}/split."""
    one, tenant = kept(asking, asked), tenant_of(asking, asked.tenant)
    facts = {"share": asked.share, "seed": asked.seed}
    made = keeping(asking).change(
        one.known.name,
        tenant,
        asking.actor,
        "split",
        lambda task: (split_by_chance(task, asked.share, asked.seed), facts),
    )
    return version_shown(made)


def describe(asking: Asking, asked: TaskChange) -> VersionShown:
    """PATCH /api/tasks/{task}."""
    one, tenant = kept(asking, asked), tenant_of(asking, asked.tenant)
    words = {"rubric": asked.rubric, "description": asked.description}
    return version_shown(keeping(asking).described(one.known.name, tenant, asking.actor, **words))


def restore(asking: Asking, asked: VersionNamed) -> VersionShown:
    """POST /api/tasks/{task}/history/{version}/restore."""
    tenant = tenant_of(asking, asked.tenant)
    try:
        known = keeping(asking).tasks.known(asked.task, tenant)
    except NotFound:
        raise NotFound("admin.no_task", field="/task") from None
    if not known.own:
        raise Conflict("tasks.read_only", name=known.name)
    return version_shown(keeping(asking).restored(known.name, tenant, asked.version, asking.actor))


def copy(asking: Asking, asked: TaskCopy) -> TaskShown:
    """POST /api/tasks/{task}/copy."""
    one, tenant = kept(asking, asked), tenant_of(asking, asked.tenant)
    keeping(asking).copied(one.known.name, asked.name, tenant, asking.actor)
    return listed(asking, asked.name, tenant)
