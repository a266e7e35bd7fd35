"""Files of examples: looked at row by row, then stored as a task or into one; and every operation on tasks."""

from __future__ import annotations

import base64
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from baimo.core.moments import shown
from baimo.core.task import Task
from baimo.errors import TaskError, TooLarge, UsageError
from baimo.evals.tasks.folder import load_task
from baimo.evals.tasks.formats.columns import Columns
from baimo.evals.tasks.scaffold import new_task
from baimo.server.admin import task_forms as forms
from baimo.server.admin import tasks
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.server.admin.paging import cut
from baimo.server.admin.tasks import SHORT, findings_shown, keeping, kept, tenant_of, version_shown
from baimo.workspace.task_edits import Draft, added
from baimo.workspace.task_imports import LARGEST, Arranged, LeftOut, Looked, TaskImports, Upload, prompted
from baimo.workspace.task_keeping import Placed, Split, expected_of, language_of, question_of

_MOST = 200
"""Rows left out that are told one by one."""
_FIRST = 20


class _Going(Protocol):
    """Where a file is to go."""

    @property
    def upload(self) -> str: ...
    @property
    def tenant(self) -> str | None: ...
    @property
    def task(self) -> str | None: ...
    @property
    def split(self) -> Split: ...
    @property
    def doubles(self) -> Any: ...


def _imports(asking: Asking) -> TaskImports:
    return TaskImports(keeping(asking))


def _add(asking: Asking, asked: forms.NewUpload) -> forms.UploadPreview:
    tenant, data = tenant_of(asking, asked.tenant), _bytes(asked)
    if len(data) > LARGEST:
        raise TooLarge("admin.long_body", limit=LARGEST)
    wanted = _read_so(Upload(id="", name=asked.name, bytes=0, created_ms=0), asked)
    upload = _imports(asking).add(data, wanted, tenant, charset=asked.charset)
    going = {name: getattr(asked, name) for name in ("tenant", "task", "split", "doubles")}
    return _preview(asking, forms.UploadAsked(upload=upload.id, **going))


def _bytes(asked: forms.NewUpload) -> bytes:
    if (asked.content is None) == (asked.base64 is None):
        raise UsageError("admin.missing", field="/content")
    if asked.content is not None:
        return asked.content.encode()
    try:
        return base64.b64decode(asked.base64 or "", validate=True)
    except ValueError:  # what is not ASCII, too
        raise UsageError("admin.bad_text", field="/base64") from None


def _read_so(upload: Upload, asked: forms.FileReading) -> Upload:
    columns = Columns(
        input=asked.input,
        target="".join(asked.target) if len(asked.target) < 2 else asked.target,
        id=asked.id_column,
        group=asked.group_column,
        metadata=asked.label,
    )
    return replace(upload, format=asked.format, delimiter=asked.delimiter, columns=columns)


def _waiting(asking: Asking, asked: forms.UploadsAsked) -> forms.UploadsPage:
    found = _imports(asking).waiting(tenant_of(asking, asked.tenant))
    page, after = cut(found, asked, lambda one: one.id)
    data = [
        forms.UploadShown(upload=one.id, name=one.name, bytes=one.bytes, created=shown(one.created_ms))
        for one in page
    ]
    return forms.UploadsPage(data=data, next=after)


def _change(asking: Asking, asked: forms.UploadChange) -> forms.UploadPreview:
    tenant = tenant_of(asking, asked.tenant)
    upload = _imports(asking).get(asked.upload, tenant)
    _imports(asking).change(_read_so(upload, asked), tenant)
    return _preview(asking, asked)


def _get(asking: Asking, asked: forms.UploadAsked) -> forms.UploadPreview:
    return _preview(asking, asked)


def _remove(asking: Asking, asked: forms.UploadAsked) -> Nothing:
    _imports(asking).remove(asked.upload, tenant_of(asking, asked.tenant))
    return Nothing()


def _preview(asking: Asking, asked: _Going) -> forms.UploadPreview:
    """What a file holds, beside the task it is meant for."""
    imports, tenant = _imports(asking), tenant_of(asking, asked.tenant)
    try:
        looked = imports.looked(asked.upload, tenant)
    except TaskError as error:
        return _unreadable(asking, asked, error)
    if asked.task:
        task = kept(asking, forms.TaskNamed(task=asked.task, tenant=asked.tenant)).task
    else:
        task = imports.fresh(looked, name="task")
    arranged = imports.arranged(looked, task, asked.split, asked.doubles)
    upload = looked.upload
    return forms.UploadPreview(
        upload=upload.id,
        name=upload.name,
        bytes=upload.bytes,
        format=looked.contents.format,
        columns=list(looked.columns),
        reading=_reading(upload),
        problem=None,
        good=arranged.added,
        replaced=arranged.replaced,
        left_out=_told(arranged.left_out),
        bad=len(arranged.left_out),
        findings=findings_shown(imports.findings(looked, arranged.task, fresh=not asked.task)),
        notes=[note.detail for note in looked.notes],
        data=[_row(Placed(asked.split, one)) for one in looked.contents.examples[:_FIRST]],
        scorer="" if not task.scorers else task.scorers[0].name,
    )


def _unreadable(asking: Asking, asked: _Going, error: TaskError) -> forms.UploadPreview:
    """What is known of a file whose columns are not found.

    Raises:
        TaskError: it is something else that is wrong with it; the file is forgotten.
    """
    imports, tenant = _imports(asking), tenant_of(asking, asked.tenant)
    if not error.key.startswith(("tasks.no_input_column", "tasks.no_column", "tasks.record_without")):
        imports.remove(asked.upload, tenant)
        raise error
    upload, columns = imports.columns(asked.upload, tenant)
    return forms.UploadPreview(
        upload=upload.id,
        name=upload.name,
        bytes=upload.bytes,
        format=upload.format,
        columns=list(columns),
        reading=_reading(upload),
        problem=_told([LeftOut(None, error)])[0],
        good=0,
        replaced=0,
        left_out=[],
        bad=0,
        findings=[],
        notes=[],
        data=[],
        scorer="",
    )


def _reading(upload: Upload) -> forms.FileReading:
    columns = upload.columns
    target = (columns.target,) if isinstance(columns.target, str) else columns.target
    format: Any = upload.format
    return forms.FileReading(
        format=format,
        delimiter=upload.delimiter,
        input=columns.input,
        target=tuple(one for one in target if one),
        id_column=columns.id,
        group_column=columns.group,
        label=columns.metadata,
    )


def _row(one: Placed) -> forms.ExampleShown:
    return forms.ExampleShown(
        id=one.example.id,
        split=one.split,
        input=question_of(one.example)[:SHORT],
        expected=expected_of(one.example)[:SHORT] or None,
        labels=dict(one.example.metadata),
        group=one.example.group,
        language=language_of(one.example),
        turns=len(one.example.messages),
        line=one.example.line,
    )


def _told(left_out: list[LeftOut]) -> list[forms.LeftOutShown]:
    return [
        forms.LeftOutShown(line=line, code=error.key, message=str(error), hint=error.hint or None)
        for line, error in left_out[:_MOST]
    ]


def _store(asking: Asking, asked: forms.TaskImport) -> forms.ImportStored:
    one, tenant, imports = kept(asking, asked), tenant_of(asking, asked.tenant), _imports(asking)
    looked, arranged = imports.looked(asked.upload, tenant), list[Arranged]()

    def changed(task: Task) -> tuple[Task, dict[str, Any]]:
        arranged.append(imports.arranged(looked, task, asked.split, asked.doubles))
        return arranged[-1].task, _facts(looked, arranged[-1])

    made = keeping(asking).change(one.known.name, tenant, asking.actor, "import", changed)
    imports.remove(asked.upload, tenant)
    told, last = version_shown(made), arranged[-1]
    return forms.ImportStored(
        **{name: getattr(told, name) for name in forms.VersionShown.__slots__},
        added=last.added,
        replaced=last.replaced,
        left_out=_told(last.left_out),
        bad=len(last.left_out),
    )


def _facts(looked: Looked, arranged: Arranged) -> dict[str, Any]:
    lines = [one.line for one in arranged.left_out[:_MOST]]
    counts = {"added": arranged.added, "replaced": arranged.replaced, "bad": len(arranged.left_out)}
    return {"file": looked.upload.name, **counts, "lines_left_out": lines}


def _create(asking: Asking, asked: forms.NewTask) -> forms.TaskMade:
    tenant, left_out, facts = tenant_of(asking, asked.tenant), list[LeftOut](), dict[str, Any]()
    if [asked.upload, asked.kind, asked.example].count(None) != 2:
        raise UsageError("admin.missing", field="/upload")
    keeping(asking).tasks.place(asked.name, tenant)
    if asked.upload is not None:
        imports = _imports(asking)
        looked = imports.looked(asked.upload, tenant)
        fresh = imports.fresh(looked, name=asked.name, description=asked.description, license=asked.license)
        arranged = imports.arranged(looked, fresh, "test", "leave_out")
        task, left_out, facts = arranged.task, arranged.left_out, _facts(looked, arranged)
    elif asked.kind is not None:
        task, facts = _scaffold(asking, asked, tenant), {"kind": asked.kind}
    else:
        task = _of_example(asking, asked)
    task = replace(task, description=asked.description or task.description, data_class=asked.data_class)
    task = prompted(task, system=asked.system, user=asked.user, scorer=asked.scorer)
    keeping(asking).create(task, tenant, asking.actor, facts=facts)
    if asked.upload is not None:
        _imports(asking).remove(asked.upload, tenant)
    made = tasks.listed(asking, asked.name, tenant)
    told = {name: getattr(made, name) for name in forms.TaskShown.__slots__}
    return forms.TaskMade(**told, left_out=_told(left_out))


def _scaffold(asking: Asking, asked: forms.NewTask, tenant: str) -> Task:
    """A finished task to learn from, read from a folder that goes away again."""
    draft = keeping(asking).tasks.home(tenant).parent / f".draft-{keeping(asking).new_id()}"
    try:
        new_task(draft / asked.name, asked.kind or "")
        return replace(load_task(draft / asked.name), name=asked.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _of_example(asking: Asking, asked: forms.NewTask) -> Task:
    said = asked.example or {}
    draft = Draft(
        input=said.get("input"),
        messages=said.get("messages"),
        expected=said.get("expected"),
        labels=said.get("labels") or {},
    )
    empty = Task(name=asked.name, examples=(), scorers=(), folder=str(Path()))
    return added(draft, "test", keeping(asking).new_id())(empty)[0]


_TASK = "/api/tasks/{task}"
_EXAMPLE = f"{_TASK}/examples/{{example:path}}"
_UPLOAD = "/api/task-uploads/{upload}"
_BODY = LARGEST * 4 // 3 + 65_536
"""Bytes of a body that holds a file in base 64."""

TASKS = (
    Operation(
        method="GET", path="/api/tasks", role="viewer", takes=forms.TasksAsked, gives=forms.TasksPage,
        does=tasks.tasks, tag="tasks", summary="task_api.tasks_list", errors=(404,),
    ),
    Operation(
        method="POST", path="/api/tasks", role="engineer", takes=forms.NewTask, gives=forms.TaskMade,
        does=_create, tag="tasks", summary="task_api.tasks_create", status=201, errors=(404, 409),
    ),
    Operation(
        method="GET", path=_TASK, role="viewer", takes=forms.TaskNamed, gives=forms.TaskWhole,
        does=tasks.task, tag="tasks", summary="task_api.tasks_get", errors=(404,),
    ),
    Operation(
        method="PATCH", path=_TASK, role="engineer", takes=forms.TaskChange, gives=forms.VersionShown,
        does=tasks.describe, tag="tasks", summary="task_api.tasks_describe", errors=(404, 409),
    ),
    Operation(
        method="POST", path=f"{_TASK}/copy", role="engineer", takes=forms.TaskCopy, gives=forms.TaskShown,
        does=tasks.copy, tag="tasks", summary="task_api.tasks_copy", status=201, errors=(404, 409),
    ),
    Operation(
        method="GET", path=f"{_TASK}/findings", role="viewer", takes=forms.TaskNamed,
        gives=forms.TaskFindings, does=tasks.findings, tag="tasks", summary="task_api.tasks_findings",
        errors=(404,),
    ),
    Operation(
        method="GET", path=f"{_TASK}/examples", role="viewer", takes=forms.ExamplesAsked,
        gives=forms.ExamplesPage, does=tasks.examples, tag="tasks", summary="task_api.tasks_examples",
        errors=(404,),
    ),
    Operation(
        method="POST", path=f"{_TASK}/examples", role="reviewer", takes=forms.NewExample,
        gives=forms.ExampleMade, does=tasks.add, tag="tasks", summary="task_api.tasks_example_add",
        status=201, errors=(404, 409),
    ),
    Operation(
        method="GET", path=_EXAMPLE, role="viewer", takes=forms.ExampleNamed, gives=forms.ExampleWhole,
        does=tasks.example, tag="tasks", summary="task_api.tasks_example", errors=(404,),
    ),
    Operation(
        method="PATCH", path=_EXAMPLE, role="reviewer", takes=forms.ExampleChange, gives=forms.VersionShown,
        does=tasks.change, tag="tasks", summary="task_api.tasks_example_change", errors=(404, 409),
    ),
    Operation(
        method="DELETE", path=_EXAMPLE, role="engineer", takes=forms.ExampleNamed, gives=forms.VersionShown,
        does=tasks.remove, tag="tasks", summary="task_api.tasks_example_delete", errors=(404, 409),
    ),
    Operation(
        method="POST", path=f"{_TASK}/changes", role="reviewer", takes=forms.ExamplesChange,
        gives=forms.VersionShown, does=tasks.change_several, tag="tasks", summary="task_api.tasks_change",
        errors=(404, 409),
    ),
    Operation(
        method="POST", path=f"{_TASK}/split", role="engineer", takes=forms.SplitWanted,
        gives=forms.VersionShown, does=tasks.split, tag="tasks", summary="task_api.tasks_split",
        errors=(404, 409),
    ),
    Operation(
        method="POST", path=f"{_TASK}/imports", role="engineer", takes=forms.TaskImport, gives=forms.ImportStored,
        does=_store, tag="tasks", summary="task_api.tasks_import", errors=(404, 409),
    ),
    Operation(
        method="GET", path=f"{_TASK}/history", role="viewer", takes=forms.HistoryAsked,
        gives=forms.HistoryPage, does=tasks.history, tag="tasks", summary="task_api.tasks_history",
        errors=(404,),
    ),
    Operation(
        method="GET", path=f"{_TASK}/history/{{version}}", role="viewer", takes=forms.VersionNamed,
        gives=forms.VersionWhole, does=tasks.version, tag="tasks", summary="task_api.tasks_version",
        errors=(404,),
    ),
    Operation(
        method="POST", path=f"{_TASK}/restore", role="engineer", takes=forms.VersionNamed,
        gives=forms.VersionShown, does=tasks.restore, tag="tasks", summary="task_api.tasks_restore",
        errors=(404, 409),
    ),
    Operation(
        method="GET", path=f"{_TASK}/export", role="viewer", takes=forms.TaskExport, gives=Nothing,
        does=tasks.export, tag="tasks", summary="task_api.tasks_export", media=("application/jsonl",),
        errors=(404,),
    ),
    Operation(
        method="POST", path="/api/task-uploads", role="engineer", takes=forms.NewUpload, gives=forms.UploadPreview,
        does=_add, tag="tasks", summary="task_api.tasks_upload", status=201, errors=(404,), longest=_BODY,
    ),
    Operation(
        method="GET", path="/api/task-uploads", role="engineer", takes=forms.UploadsAsked,
        gives=forms.UploadsPage, does=_waiting, tag="tasks", summary="task_api.tasks_uploads", errors=(404,),
    ),
    Operation(
        method="GET", path=_UPLOAD, role="engineer", takes=forms.UploadAsked, gives=forms.UploadPreview, does=_get,
        tag="tasks", summary="task_api.tasks_upload_get", errors=(404,),
    ),
    Operation(
        method="PATCH", path=_UPLOAD, role="engineer", takes=forms.UploadChange, gives=forms.UploadPreview,
        does=_change, tag="tasks", summary="task_api.tasks_upload_change", errors=(404,),
    ),
    Operation(
        method="DELETE", path=_UPLOAD, role="engineer", takes=forms.UploadAsked, gives=Nothing, does=_remove,
        tag="tasks", summary="task_api.tasks_upload_delete", errors=(404,),
    ),
)  # fmt: skip
