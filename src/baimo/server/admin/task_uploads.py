"""Files of examples: looked at row by row, then stored in a task."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any, Protocol

from baimo.core.moments import shown
from baimo.core.task import Task
from baimo.errors import TaskError, TooLarge, UsageError
from baimo.evals.tasks.formats.columns import Columns
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.server.admin.paging import cut
from baimo.server.admin.task_example_forms import ExampleShown
from baimo.server.admin.task_examples import SHORT
from baimo.server.admin.task_scope import TASK, TaskNamed, changed, keeping, kept, tenant_of
from baimo.server.admin.task_upload_forms import (
    FileReading,
    ImportStored,
    LeftOutShown,
    NewUpload,
    TaskImport,
    UploadAsked,
    UploadChange,
    UploadPreview,
    UploadsAsked,
    UploadShown,
    UploadsPage,
)
from baimo.server.admin.task_versions import version_facts
from baimo.server.admin.tasks import findings_shown
from baimo.workspace.task_imports import LARGEST, Arranged, LeftOut, Looked, TaskImports, Upload
from baimo.workspace.task_keeping import Placed, Split
from baimo.workspace.task_search import expected_of, language_of, question_of

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


def imports_of(asking: Asking) -> TaskImports:
    """Files of the workspace that is served."""
    return TaskImports(keeping(asking))


def _add(asking: Asking, asked: NewUpload) -> UploadPreview:
    tenant, data = tenant_of(asking, asked.tenant), _bytes(asked)
    if len(data) > LARGEST:
        raise TooLarge("admin.long_body", limit=LARGEST)
    wanted = _read_so(Upload(id="", name=asked.name, bytes=0, created_ms=0), asked)
    upload = imports_of(asking).add(data, wanted, tenant, charset=asked.charset)
    going = {name: getattr(asked, name) for name in ("tenant", "task", "split", "doubles")}
    return _preview(asking, UploadAsked(upload=upload.id, **going))


def _bytes(asked: NewUpload) -> bytes:
    if (asked.content is None) == (asked.base64 is None):
        raise UsageError("admin.missing", field="/content")
    if asked.content is not None:
        return asked.content.encode()
    try:
        return base64.b64decode(asked.base64 or "", validate=True)
    except ValueError:  # what is not ASCII, too
        raise UsageError("admin.bad_text", field="/base64") from None


def _read_so(upload: Upload, asked: FileReading) -> Upload:
    columns = Columns(
        input=asked.input,
        target="".join(asked.target) if len(asked.target) < 2 else asked.target,
        id=asked.id_column,
        group=asked.group_column,
        metadata=asked.label,
    )
    return replace(upload, format=asked.format, delimiter=asked.delimiter, columns=columns)


def _waiting(asking: Asking, asked: UploadsAsked) -> UploadsPage:
    found = imports_of(asking).waiting(tenant_of(asking, asked.tenant))
    page, after = cut(found, asked, lambda one: one.id)
    data = [
        UploadShown(upload=one.id, name=one.name, bytes=one.bytes, created=shown(one.created_ms))
        for one in page
    ]
    return UploadsPage(data=data, next=after)


def _change(asking: Asking, asked: UploadChange) -> UploadPreview:
    tenant = tenant_of(asking, asked.tenant)
    upload = imports_of(asking).get(asked.upload, tenant)
    imports_of(asking).change(_read_so(upload, asked), tenant)
    return _preview(asking, asked)


def _get(asking: Asking, asked: UploadAsked) -> UploadPreview:
    return _preview(asking, asked)


def _remove(asking: Asking, asked: UploadAsked) -> Nothing:
    imports_of(asking).remove(asked.upload, tenant_of(asking, asked.tenant))
    return Nothing()


def _preview(asking: Asking, asked: _Going) -> UploadPreview:
    """What a file holds, beside the task it is meant for."""
    imports, tenant = imports_of(asking), tenant_of(asking, asked.tenant)
    try:
        looked = imports.looked(asked.upload, tenant)
    except TaskError as error:
        return _unreadable(asking, asked, error)
    if asked.task:
        task = kept(asking, TaskNamed(task=asked.task, tenant=asked.tenant)).task
    else:
        task = imports.fresh(looked, name="task")
    arranged = imports.arranged(looked, task, asked.split, asked.doubles)
    upload = looked.upload
    return UploadPreview(
        upload=upload.id,
        name=upload.name,
        bytes=upload.bytes,
        format=looked.contents.format,
        columns=list(looked.columns),
        reading=_reading(upload),
        problem=None,
        good=arranged.added,
        replaced=arranged.replaced,
        left_out=told(arranged.left_out),
        bad=len(arranged.left_out),
        findings=findings_shown(imports.findings(looked, arranged.task, fresh=not asked.task)),
        notes=[note.detail for note in looked.notes],
        data=[_row(Placed(asked.split, one)) for one in looked.contents.examples[:_FIRST]],
        scorer="" if not task.scorers else task.scorers[0].name,
    )


def _unreadable(asking: Asking, asked: _Going, error: TaskError) -> UploadPreview:
    """What is known of a file whose columns are not found.

    Raises:
        TaskError: it is something else that is wrong with it; the file is forgotten.
    """
    imports, tenant = imports_of(asking), tenant_of(asking, asked.tenant)
    if not error.key.startswith(("tasks.no_input_column", "tasks.no_column", "tasks.record_without")):
        imports.remove(asked.upload, tenant)
        raise error
    upload, columns = imports.columns(asked.upload, tenant)
    return UploadPreview(
        upload=upload.id,
        name=upload.name,
        bytes=upload.bytes,
        format=upload.format,
        columns=list(columns),
        reading=_reading(upload),
        problem=told([LeftOut(None, error)])[0],
        good=0,
        replaced=0,
        left_out=[],
        bad=0,
        findings=[],
        notes=[],
        data=[],
        scorer="",
    )


def _reading(upload: Upload) -> FileReading:
    columns = upload.columns
    target = (columns.target,) if isinstance(columns.target, str) else columns.target
    format: Any = upload.format
    return FileReading(
        format=format,
        delimiter=upload.delimiter,
        input=columns.input,
        target=tuple(one for one in target if one),
        id_column=columns.id,
        group_column=columns.group,
        label=columns.metadata,
    )


def _row(one: Placed) -> ExampleShown:
    return ExampleShown(
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


def told(left_out: list[LeftOut]) -> list[LeftOutShown]:
    """Rows that are not stored, as far as they are told."""
    return [
        LeftOutShown(line=line, code=error.key, message=str(error), hint=error.hint or None)
        for line, error in left_out[:_MOST]
    ]


def _store(asking: Asking, asked: TaskImport) -> ImportStored:
    tenant, imports, arranged = tenant_of(asking, asked.tenant), imports_of(asking), list[Arranged]()
    kept(asking, asked)  # a task that is not there is told before a file that is not
    looked = imports.looked(asked.upload, tenant)

    def stored(task: Task) -> tuple[Task, dict[str, Any]]:
        arranged.append(imports.arranged(looked, task, asked.split, asked.doubles))
        return arranged[-1].task, import_facts(looked, arranged[-1])

    made = changed(asking, asked, "import", stored)
    imports.remove(asked.upload, tenant)
    last = arranged[-1]
    return ImportStored(
        **version_facts(made),
        added=last.added,
        replaced=last.replaced,
        left_out=told(last.left_out),
        bad=len(last.left_out),
    )


def import_facts(looked: Looked, arranged: Arranged) -> dict[str, Any]:
    """What the history tells of an import."""
    lines = [one.line for one in arranged.left_out[:_MOST]]
    counts = {"added": arranged.added, "replaced": arranged.replaced, "bad": len(arranged.left_out)}
    return {"file": looked.upload.name, **counts, "lines_left_out": lines}


_UPLOADS = "/api/task-uploads"
_UPLOAD = f"{_UPLOADS}/{{upload}}"
_BODY = LARGEST * 4 // 3 + 65_536
"""Bytes of a body that holds a file in base 64."""


TASK_UPLOADS = (
    Operation(
        method="POST", path=_UPLOADS, role="engineer", takes=NewUpload, gives=UploadPreview, does=_add,
        tag="tasks", summary="task_api.tasks_upload", status=201, errors=(404,), longest=_BODY,
    ),
    Operation(
        method="GET", path=_UPLOADS, role="engineer", takes=UploadsAsked, gives=UploadsPage, does=_waiting,
        tag="tasks", summary="task_api.tasks_uploads", errors=(404,),
    ),
    Operation(
        method="GET", path=_UPLOAD, role="engineer", takes=UploadAsked, gives=UploadPreview, does=_get,
        tag="tasks", summary="task_api.tasks_upload_get", errors=(404,),
    ),
    Operation(
        method="PATCH", path=_UPLOAD, role="engineer", takes=UploadChange, gives=UploadPreview, does=_change,
        tag="tasks", summary="task_api.tasks_upload_change", errors=(404,),
    ),
    Operation(
        method="DELETE", path=_UPLOAD, role="engineer", takes=UploadAsked, gives=Nothing, does=_remove,
        tag="tasks", summary="task_api.tasks_upload_delete", errors=(404,),
    ),
    Operation(
        method="POST", path=f"{TASK}/imports", role="engineer", takes=TaskImport, gives=ImportStored,
        does=_store, tag="tasks", summary="task_api.tasks_import", errors=(404, 409),
    ),
)  # fmt: skip
