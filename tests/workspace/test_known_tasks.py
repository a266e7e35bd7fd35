"""A workspace knows its own tasks and those the command line worked on; no name leads out of a tenant's folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from baimo.core.registry import Spec
from baimo.core.run import Run
from baimo.core.tuning import JobStatus, TuneJob, TuneSpec
from baimo.errors import Conflict, NotFound, UsageError
from baimo.store.jobs import Jobs
from baimo.workspace.known_tasks import KnownTasks
from baimo.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "baimo.toml").write_text("")
    with Workspace(tmp_path) as made:
        yield made


def write(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "task.toml").write_text('description = "x"\n')
    return folder


def ran(workspace: Workspace, task: Path | str, at_ms: int = 1) -> None:
    facts = {"task": "t", "task_hash": "", "candidates": (), "config_hash": "", "seed": 0, "version": "1"}
    run = Run(id=f"run_{at_ms}", options={"task": str(task)}, started_ms=at_ms, **facts)  # type: ignore[arg-type]
    workspace.store.begin(run)


def test_own_tasks_are_found_by_name_and_each_tenant_has_its_own(workspace: Workspace) -> None:
    known = KnownTasks(workspace)
    assert known.listed() == []
    mine, theirs = write(known.home() / "工单"), write(known.home("shop") / "mail")
    assert known.folder("工单") == mine and known.known("工单").own
    assert known.folder("mail", "shop") == theirs
    assert [one.name for one in known.listed("shop")] == ["mail"]
    with pytest.raises(NotFound, match="no task mail"):
        known.folder("mail")


def test_folders_where_the_command_line_worked_are_read_only_and_only_the_owners(
    workspace: Workspace, tmp_path: Path
) -> None:
    known = KnownTasks(workspace)
    first, second = write(tmp_path / "a" / "mail"), write(tmp_path / "b" / "mail")
    ran(workspace, "a/mail", 1)
    ran(workspace, first, 2)
    ran(workspace, second / "task.toml", 3)
    ran(workspace, tmp_path / "gone", 4)
    spec = TuneSpec(id="ftjob-1", recipe=Spec(name="sft", args={}, version="1"), base="b", task=str(first))
    Jobs(workspace.store.database).put(TuneJob(spec=spec, status=JobStatus.SUCCEEDED, created_ms=5))
    ran(workspace, write(known.home("shop") / "secret"), 6)
    write(known.home() / "own")
    assert [(one.name, one.own) for one in known.listed()] == [
        ("own", True),
        ("mail", False),
        ("mail-2", False),
    ]
    assert known.folder("mail") == first and known.folder("mail-2") == second / "task.toml"
    assert [one.name for one in known.listed("shop")] == ["secret"]


def test_a_file_of_examples_is_a_task_called_like_the_file(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "my tickets.v2.jsonl").write_text('{"input": "a", "target": "b"}\n')
    ran(workspace, tmp_path / "my tickets.v2.jsonl")
    assert KnownTasks(workspace).folder("my-tickets") == tmp_path / "my tickets.v2.jsonl"


@pytest.mark.parametrize(
    "name", ["..", ".", "../other", "/etc", "a/b", "a\\b", ".hidden", "", "a\0b", "x" * 99]
)
def test_no_name_leads_out_of_the_folder(workspace: Workspace, name: str) -> None:
    known = KnownTasks(workspace)
    write(known.home("shop") / "mail")
    write(known.home().parent / "other")
    with pytest.raises(NotFound):
        known.folder(name, "shop")
    with pytest.raises(UsageError):
        known.place(name, "shop")


def test_a_link_is_no_task(workspace: Workspace, tmp_path: Path) -> None:
    known = KnownTasks(workspace)
    known.home("shop").mkdir(parents=True)
    (known.home("shop") / "mail").symlink_to(write(tmp_path / "elsewhere"))
    assert known.listed("shop") == []
    with pytest.raises(NotFound):
        known.folder("mail", "shop")


def test_unknown_names_come_with_near_ones_and_taken_names_are_refused(workspace: Workspace) -> None:
    known = KnownTasks(workspace)
    write(known.home() / "tickets")
    with pytest.raises(NotFound) as error:
        known.folder("ticket")
    assert error.value.hint == "did you mean tickets?"
    with pytest.raises(Conflict):
        known.place("Tickets")
    assert known.place("mails") == known.home() / "mails"
