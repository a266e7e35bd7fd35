"""A task is deleted with its history, brought back, or gone for good; never from under what still reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from baimo.core.registry import Spec
from baimo.core.tuning import JobStatus, TuneJob, TuneSpec
from baimo.store.comparisons import Comparisons
from baimo.store.jobs import Jobs
from tests.server.admin import compared, tasked
from tests.server.served import Served


def acts(house: Served, key: str, subject: str) -> list[str]:
    found = house.call("GET", "/api/audit?limit=1000", key).data["data"]
    return [one["act"] for one in found if one["subject"] == subject][::-1]


def test_a_deleted_task_keeps_its_history_and_comes_back_under_any_name(house: Served) -> None:
    admin = house.key(role="admin")
    tasked.task(house, "", "mail")
    house.call("PATCH", "/api/tasks/mail", admin, {"rubric": "Be kind."})
    gone = house.call("DELETE", "/api/tasks/mail", admin)
    assert (gone.status, gone.data["name"], gone.data["test"]) == (200, "mail", 2)
    assert house.call("GET", "/api/tasks/mail", admin).status == 404
    listed = house.call("GET", "/api/deleted-tasks", admin).data["data"]
    assert [one["deleted"] for one in listed] == [gone.data["deleted"]] and listed[0]["key"] == admin[3:15]
    tasked.task(house, "", "mail")  # the name is free again
    path = f"/api/deleted-tasks/{gone.data['deleted']}"
    taken = house.call("POST", f"{path}/restore", admin, {})
    assert (taken.status, taken.data["error"]["code"]) == (409, "tasks.name_taken")
    back = house.call("POST", f"{path}/restore", admin, {"name": "old-mail"})
    assert (back.status, back.data["name"], back.data["version"]) == (201, "old-mail", 2)
    assert house.call("GET", "/api/tasks/old-mail", admin).data["rubric"] == "Be kind.\n"
    history = house.call("GET", "/api/tasks/old-mail/history", admin).data["data"]
    assert [one["act"] for one in history] == ["describe", "create"]
    assert house.call("POST", f"{path}/restore", admin, {}).status == 404
    assert acts(house, admin, "task:mail") == [
        *("task.create", "task.describe", "task.discard", "task.create", "task.bring_back"),
    ]


def test_a_task_that_is_erased_is_nowhere_any_more(house: Served) -> None:
    admin = house.key(role="admin")
    id = tasked.deleted(house, "", "secret")
    place = house.workspace.tasks.tasks.home().parent / "deleted-tasks" / id
    assert (place / "task" / "task.toml").is_file()
    assert house.call("DELETE", f"/api/deleted-tasks/{id}", house.key(role="engineer")).status == 403
    assert house.call("DELETE", f"/api/deleted-tasks/{id}", admin).status == 200
    assert not place.exists()
    for odd in (id, "gone_x", "..", "gone_00000000000000000000"):
        assert house.call("DELETE", f"/api/deleted-tasks/{odd}", admin).status == 404
    assert acts(house, admin, "task:secret")[-1] == "task.erase"


def test_a_task_that_is_still_used_stays(house: Served) -> None:
    compared.idle(house)
    key = house.key(role="engineer")
    done = compared.compared(house, "")
    runs = Comparisons(house.workspace.store.database)
    found = runs.get(None, done)
    assert found is not None
    waiting = replace(found.run, id=f"{done[:-4]}wait", status="queued")
    house.workspace.store.begin(waiting)
    refused = house.call("DELETE", "/api/tasks/owner-compared", key)
    assert (refused.status, refused.data["error"]["code"]) == (409, "tasks.in_use")
    assert waiting.id in refused.data["error"]["message"]
    runs.change(waiting.id, ("queued",), status="stopped")
    jobs, folder = Jobs(house.workspace.store.database), house.workspace.tasks.tasks.folder("owner-compared")
    base = "local/smollm2-135m-instruct"
    spec = TuneSpec(id=jobs.new_id(), recipe=Spec(name="sft"), base=base, task=str(folder))
    jobs.put(TuneJob(spec=spec, status=JobStatus.PAUSED, created_ms=1))
    refused = house.call("DELETE", "/api/tasks/owner-compared", key)
    assert refused.status == 409 and spec.id in refused.data["error"]["message"]
    jobs.change("", spec.id, lambda job: replace(job, status=JobStatus.CANCELLED))
    assert house.call("DELETE", "/api/tasks/owner-compared", key).status == 200
    # what was compared can still be read
    assert house.call("GET", f"/api/comparisons/{done}/differences", key).status == 200


def test_a_broken_task_can_be_deleted_and_one_that_lies_elsewhere_cannot(
    house: Served, tmp_path: Path
) -> None:
    key, home = house.key(role="engineer"), house.workspace.tasks.tasks.home()
    tasked.task(house, "", "broken")
    (home / "broken" / "task.toml").write_text("name = ")
    assert house.call("DELETE", "/api/tasks/broken", key).data["test"] == 0
    (tmp_path / "away.csv").write_text("input,target\na,b\n")
    done = compared.compared(house, "")
    found = Comparisons(house.workspace.store.database).get(None, done)
    assert found is not None
    options = {**found.run.options, "task": str(tmp_path / "away.csv")}
    house.workspace.store.begin(replace(found.run, id=f"{done[:-4]}away", options=options))
    refused = house.call("DELETE", "/api/tasks/away", key)
    assert (refused.status, refused.data["error"]["code"]) == (409, "tasks.read_only")
    assert (tmp_path / "away.csv").exists()
