"""`baimo tasks list|recipe|delete|restore`: by the same rules as the API, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baimo.core.run import Run
from baimo.store import audit
from baimo.workspace.workspace import Workspace
from tests.cli.runner import baimo
from tests.cli.tasks import task

TOML = '[workspace]\npath = "ws"\n[providers.acme]\nprotocol = "fake"\n[models."acme/small"]\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAIMO_LANG", "en")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "baimo.toml").write_text(TOML)
    home = tmp_path / "ws" / "tasks"
    home.mkdir(parents=True)
    task(home)
    return tmp_path


def names(*more: str) -> list[str]:
    return [one["name"] for one in baimo("tasks", "list", "--json", *more).data]


def test_a_deleted_task_is_told_in_one_line_and_comes_back_by_its_name(here: Path) -> None:
    (line,) = baimo("tasks", "list", "--json").data
    assert (line["name"], line["own"], line["test"], line["scorers"]) == ("sums", True, 6, ["exact"])
    gone = baimo("tasks", "delete", "sums", "--json")
    assert gone.code == 0 and names() == []
    id = gone.data["deleted"]
    assert gone.err.splitlines() == [
        f"sums is put away with its history; bring it back: baimo tasks restore {id}"
    ]
    assert baimo("tasks", "list", "--deleted").out.split("\t")[:4] == [id, "sums", "6", "0"]
    back = baimo("tasks", "restore", "sums", "--name", "added", "--json")
    assert (back.code, back.data["name"], back.data["test"]) == (0, "added", 6)
    assert (names(), names("--deleted")) == (["added"], [])
    baimo("tasks", "delete", "added")
    task(here / "ws" / "tasks").replace("sums", "added")
    assert baimo("tasks", "restore", names("--deleted")[0], "--name", "sums").code != 0  # the name is taken
    assert names("--deleted") == ["added"]
    with Workspace(here) as workspace:
        acts = [one.act for one in audit.acts(workspace.store.database)]
    assert acts.count("task.discard") == 2 and acts.count("task.bring_back") == 1


def test_a_task_in_use_or_elsewhere_stays(here: Path) -> None:
    with Workspace(here) as workspace:
        store = workspace.store
        facts = {"task_blob": "", "candidates": (), "config_hash": "", "seed": 1, "version": "1"}
        options = {"task": str(here / "ws" / "tasks" / "sums")}
        run = Run(
            id="run_1", task="sums", task_hash="", options=options, started_ms=1, status="queued", **facts
        )
        store.begin(run)
    refused = baimo("tasks", "delete", "sums")
    assert refused.code != 0 and "still used by run_1" in refused.err and names() == ["sums"]
    for arguments in (("delete", "none"), ("restore", "gone_none"), ("recipe", "none")):
        ended = baimo("tasks", *arguments)
        assert ended.code != 0 and "→" in ended.err, arguments


def test_a_recipe_is_read_and_replaced_as_a_version(here: Path) -> None:
    now = baimo("tasks", "recipe", "sums")
    assert now.out == (here / "ws" / "tasks" / "sums" / "task.toml").read_text()
    (here / "new.toml").write_text(now.out.replace('"exact"', '"numeric"'))
    made = baimo("tasks", "recipe", "sums", "--from", "new.toml", "--json")
    assert [one["name"] for one in made.data["scorers"]] == ["numeric"] and "version 2" in made.err
    assert "nothing differs" in baimo("tasks", "recipe", "sums", "--from", "new.toml").err
    (line,) = baimo("tasks", "list", "--json").data
    assert (line["scorers"], line["version"]) == (["numeric"], 2)
    (here / "bad.toml").write_text(now.out + "[[scorers]]\nname = 'no-such'\n")
    assert baimo("tasks", "recipe", "sums", "--from", "bad.toml").code != 0
    assert json.loads(baimo("tasks", "show", "sums", "--json").out)["scorers"][0]["name"] == "numeric"
    assert baimo("tasks", "check", "sums").code == 0


def test_another_tenants_tasks_are_its_own(here: Path) -> None:
    assert baimo("tenants", "create", "red").code == 0
    assert names("--tenant", "red") == [] and names() == ["sums"]
    assert baimo("tasks", "delete", "sums", "--tenant", "red").code != 0
    assert baimo("tasks", "list", "--tenant", "none").code != 0
