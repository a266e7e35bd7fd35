"""Comparisons of the endpoint's clients: forecast, begun, watched, stopped, gone on with, read."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from baimo.core.ids import canonical
from baimo.core.run import Run
from baimo.core.tenant import Limit
from baimo.core.tuning import Adapter
from baimo.evals.options import CompareOptions
from baimo.store import tables
from baimo.store.adapters import Adapters
from baimo.tuning.folder import JobFolder
from baimo.workspace.compare_folder import run_folder
from baimo.workspace.compare_queue import CompareQueue
from baimo.workspace.compared import ordered
from tests.server.served import Said, Served, served
from tests.waiting import until

TOML = """
[compare]
jobs = 1
[providers.acme]
protocol = "fake"
inside = true
[providers.acme.options]
constant = "yes"
[providers.slow]
protocol = "fake"
inside = true
concurrency = 2
[providers.slow.options]
constant = "yes"
latency_ms = 60
[providers.far]
protocol = "fake"
inside = false
[providers.far.options]
constant = "yes"
[providers.nay]
protocol = "fake"
inside = true
[providers.nay.options]
constant = "no, certainly not"
[models."nay/sayer"]
input_per_million = 0.5
output_per_million = 0.5
[models."acme/small"]
input_per_million = 1.0
output_per_million = 2.0
[models."acme/large"]
input_per_million = 1000.0
output_per_million = 20.0
[models."slow/one"]
[models."slow/two"]
[models."far/away"]
"""
TASK = """
[data]
test = "test.jsonl"
[[prompts]]
name = "plain"
user = "{{ input }}"
[[scorers]]
name = "exact"
"""


def written(home: Path, name: str = "moods", examples: int = 40) -> None:
    """A task that knows the answer yes two times of three."""
    folder = home / name
    folder.mkdir(parents=True)
    rows = [
        {
            "input": f"{name} {n}",
            "target": "no" if n % 3 == 0 else "yes",
            "metadata": {"language": "en" if n % 2 else "zh"},
        }
        for n in range(examples)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.toml").write_text(TASK)


def prepares_here(house: Served) -> Any:
    """Orders are looked at in this process, which spares a second each; returns how they were before."""
    queue = house.state["service"].comparisons
    before, queue.ask = queue.ask, lambda order: ordered(canonical(order))
    return before


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    folder = tmp_path_factory.mktemp("house")
    for name in ("moods", "doomed", "dear"):
        written(folder / ".baimo" / "tasks", name)
    written(folder / ".baimo" / "tenants" / "red" / "tasks")
    with served(folder, TOML) as endpoint:
        endpoint.tenant("red")
        endpoint.apart = prepares_here(endpoint)  # type: ignore[attr-defined]
        yield endpoint
    patch.undo()


@pytest.fixture(scope="module")
def engineer(house: Served) -> str:
    return house.key(role="engineer")


def begun(house: Served, key: str, **options: Any) -> str:
    said = house.call("POST", "/api/comparisons", key, {"task": "moods"} | options)
    assert said.status == 201, said.body
    return str(said.data["comparison"]["id"])


def ended(house: Served, key: str, run: str) -> dict[str, Any]:
    def over() -> Any:
        found = house.call("GET", f"/api/comparisons/{run}", key).data
        return found["comparison"]["status"] not in ("queued", "running") and found

    until(over)
    folder = run_folder(house.folder / ".baimo", run)
    until(lambda: not folder.path.exists() or not folder.alive)  # it has said its last words, too
    return over()


def told(said: Said) -> list[tuple[int, str, dict[str, Any]]]:
    """(id, name, facts) of a stream of events."""
    found: list[tuple[int, str, dict[str, Any]]] = []
    for block in said.body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in lines and lines["event"] != "end":
            found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])["facts"]))
    return found


def test_a_comparison_runs_from_forecast_to_verdict_and_report(house: Served, engineer: str) -> None:
    asked = {"task": "moods", "model": ["acme/*"], "max_cost": 5}
    house.state["service"].comparisons.ask = house.apart  # type: ignore[attr-defined]
    nobody = house.call("POST", "/api/comparisons/forecast", engineer, {"task": "moods", "model": ["x/y"]})
    assert (nobody.status, nobody.data["error"]["code"]) == (404, "models.unknown_near")
    planned = house.call("POST", "/api/comparisons/forecast", engineer, asked)
    prepares_here(house)
    assert planned.status == 200, planned.body
    assert planned.data["candidates"] == ["acme/large", "acme/small"]
    assert planned.data["forecast"]["calls_exhaustive"] == 80 and planned.data["fetches"] == []
    assert house.call("GET", "/api/comparisons", engineer).data["data"] == []  # nothing was begun
    run = begun(house, engineer, **{name: asked[name] for name in ("model", "max_cost")})
    found = ended(house, engineer, run)
    shown, verdict = found["comparison"], found["verdict"]
    assert (shown["status"], shown["task"], shown["tenant"], shown["key"]) == (
        "done",
        "moods",
        "owner",
        engineer[3:15],
    )
    assert verdict["standings"] and verdict["forecast"]["calls_exhaustive"] == 80
    assert found["progress"]["calls"] == verdict["calls"] and found["options"]["task"] == "moods"
    events = told(house.call("GET", f"/api/comparisons/{run}/events", engineer))
    assert [kind for _, kind, _ in events][:3] == ["launched", "started", "forecast"]
    assert events[-1][1] == "done" and any(kind == "progress" for _, kind, _ in events)
    page = house.call("GET", f"/api/comparisons/{run}/export", engineer)
    assert page.headers["content-type"].startswith("text/html") and b"acme/small" in page.body
    assert str(house.folder).encode() not in page.body
    data = house.call("GET", f"/api/comparisons/{run}/export?format=json", engineer).data
    assert data["run"]["id"] == run and data["winner"] == shown["winner"]
    text = house.call("GET", f"/api/comparisons/{run}/export?format=markdown", engineer)
    assert text.headers["content-disposition"].endswith('.md"') and b"acme/small" in text.body
    records = house.call("GET", f"/api/ledger/records?run={run}&limit=1000", engineer).data["data"]
    assert len(records) == verdict["calls_paid"] and {one["key"] for one in records} == {engineer[3:15]}


def test_a_lost_connection_goes_on_where_it_broke_off(house: Served, engineer: str) -> None:
    run = begun(house, engineer, model=["acme/small"])
    ended(house, engineer, run)
    path = f"/api/comparisons/{run}/events"
    whole = told(house.call("GET", path, engineer))
    cut = len(whole) // 2
    rest = house.call("GET", path, engineer, headers={"last-event-id": str(whole[cut - 1][0])})
    assert told(rest) == whole[cut:]
    assert told(house.call("GET", f"{path}?after={whole[cut - 1][0]}", engineer)) == whole[cut:]


def test_answers_are_bought_once_and_those_of_a_tenant_are_its_own(house: Served, engineer: str) -> None:
    for _ in range(2):
        again = ended(house, engineer, begun(house, engineer, model=["acme/small"]))["verdict"]
    assert again["calls_paid"] == 0
    red = house.key(role="engineer", tenant="red", tags=(("scenario", "moods"),))
    own = begun(house, red, model=["acme/small"])
    assert ended(house, red, own)["verdict"]["calls_paid"] == 40
    records = house.call("GET", f"/api/ledger/records?run={own}", red).data["data"]
    assert {(one["tenant"], one["tags"]["scenario"]) for one in records} == {("red", "moods")}


def test_one_that_is_stopped_says_what_is_known_and_goes_on_without_paying_twice(
    house: Served, engineer: str
) -> None:
    run = begun(house, engineer, model=["slow/*"], exhaustive=True, batch=4)
    waiting = begun(house, engineer, model=["slow/one"])
    path = f"/api/comparisons/{run}"
    until(lambda: house.call("GET", path, engineer).data["progress"])
    assert house.call("POST", f"{path}/resume", engineer, {}).status == 409
    # only one at once runs here: the other waits, and can be taken back
    assert house.call("GET", f"/api/comparisons/{waiting}", engineer).data["comparison"]["status"] == "queued"
    taken = house.call("POST", f"/api/comparisons/{waiting}/stop", engineer, {}).data
    assert (taken["comparison"]["status"], taken["verdict"]) == ("stopped", None)
    assert house.call("POST", f"{path}/stop", engineer, {}).status == 200
    known = ended(house, engineer, run)
    assert known["comparison"]["status"] == "stopped" and known["verdict"]["stopped"] == "interrupted"
    assert 0 < known["verdict"]["calls"] < 80
    assert house.call("POST", f"{path}/stop", engineer, {}).status == 409
    assert house.call("POST", f"{path}/resume", engineer, {"max_minutes": 5}).status == 200
    done = ended(house, engineer, run)
    assert (done["comparison"]["status"], done["verdict"]["calls"]) == ("done", 80)
    paid = house.call("GET", f"/api/ledger/records?run={run}&limit=1000", engineer).data["data"]
    assert len([one for one in paid if one["status"] == "ok"]) == 80
    assert house.call("POST", f"{path}/resume", engineer, {}).data["error"]["code"] == "compare.all_done"


def test_a_process_that_is_killed_is_begun_again(house: Served, engineer: str) -> None:
    run = begun(house, engineer, task="doomed", model=["slow/*"], exhaustive=True, batch=4)
    folder = run_folder(house.folder / ".baimo", run)
    until(lambda: house.call("GET", f"/api/comparisons/{run}", engineer).data["progress"])
    killed(folder)
    assert ended(house, engineer, run)["verdict"]["calls"] == 80
    kinds = [event["kind"] for _, event in folder.events()]
    assert kinds.count("launched") == 2 and kinds[-1] == "done"


def test_a_queue_that_was_closed_takes_nothing_up_any_more(house: Served, engineer: str) -> None:
    run = begun(house, engineer, model=["slow/*"], exhaustive=True, batch=4)
    queue = CompareQueue(house.state["service"].workspace)
    queue.close()
    assert not queue.step()
    assert ended(house, engineer, run)["verdict"]["calls"] == 80


def killed(folder: JobFolder) -> None:
    pid = until(lambda: folder.pid)
    os.killpg(pid, signal.SIGKILL)


def test_what_cannot_be_begun_is_told_by_field(house: Served, engineer: str) -> None:
    for body, code, field in (
        ({}, "admin.missing", "/task"),
        ({"task": "nope"}, "tasks.unknown", "/task"),
        ({"task": "moods", "epsilon": 2}, "options.out_of_range", "/epsilon"),
        ({"task": "moods", "seed": -1}, "options.out_of_range", "/seed"),
        ({"task": "moods", "speed": 2}, "admin.unknown_field", "/speed"),
        ({"task": "moods", "resume": "last"}, "compare.another_way", "/resume"),
        ({"task": "moods", "model": ["slow/*"], "max_cost": 1}, "compare.unpriced_budget", None),
        ({"task": "moods", "model": ["nobody/x"]}, "models.unknown_near", None),
    ):
        said = house.call("POST", "/api/comparisons/forecast", engineer, body)
        assert 400 <= said.status < 500, said.body
        assert (said.data["error"]["code"], said.data["error"]["field"]) == (code, field), body


def test_rights_and_budgets_of_the_key_hold(house: Served) -> None:
    narrow = house.key(role="engineer", models=("slow/*",))
    inner = house.key(role="engineer", data_class="confidential")
    poor = house.key(role="engineer", limits=(Limit(counts="cost", amount=250_000),))
    path = "/api/comparisons/forecast"
    for key, model, more, code in (
        (narrow, "acme/small", {}, "compare.not_permitted"),
        (inner, "far/away", {}, "compare.may_not_leave"),
        (poor, "acme/large", {}, "compare.wants_max_cost"),
    ):
        said = house.call("POST", path, key, {"task": "moods", "model": [model], **more})
        assert said.data["error"]["code"] == code
    run = begun(house, poor, task="dear", model=["acme/large"], max_cost=1)
    refused = ended(house, poor, run)["comparison"]
    assert refused["status"] == "failed" and "0.25" in refused["problem"]
    run = begun(house, poor, task="dear", model=["acme/large"], max_cost=0.2)
    verdict = ended(house, poor, run)["verdict"]
    assert 0 < verdict["cost_micros"] <= 200_000
    (limit,) = house.call("GET", "/api/me", poor).data["limits"]
    assert float(limit["used"]) == verdict["cost_micros"] / 1e6 and float(limit["held"]) == 0
    assert house.workspace.bookkeeping.verify().ok


@pytest.mark.parametrize("how", ["revoked", "narrowed", "disabled"])
def test_a_key_that_may_not_ask_any_more_ends_its_comparison(house: Served, engineer: str, how: str) -> None:
    accounts = house.workspace.accounts
    house.tenant(how)
    written(house.folder / ".baimo" / "tenants" / how / "tasks")
    key = house.key(role="engineer", tenant=how)
    run = begun(house, key, model=["slow/*"], exhaustive=True, batch=4)
    until(lambda: house.call("GET", f"/api/comparisons/{run}", engineer).data["progress"])
    if how == "revoked":
        accounts.revoke(key.split("-")[1])
    elif how == "narrowed":
        accounts.change_key(key.split("-")[1], {"models": ("slow/one",)})
    else:
        accounts.change_tenant(how, {"disabled": True})
    known = ended(house, engineer, run)
    assert known["comparison"]["status"] == "stopped" and known["verdict"]["calls"] < 80
    words = {"revoked": "revoked", "narrowed": "may not use slow/two", "disabled": "disabled"}
    assert words[how] in known["notices"][-1]


def test_who_goes_on_with_a_comparison_does_so_with_rights_and_money_of_their_own(house: Served) -> None:
    house.tenant("three")
    written(house.folder / ".baimo" / "tenants" / "three" / "tasks")
    ann, bob, cat = (
        house.key(role="engineer", tenant="three", models=models) for models in ((), ("slow/one",), ())
    )
    run = begun(house, ann, model=["slow/*"], exhaustive=True, batch=4)
    path = f"/api/comparisons/{run}"
    until(lambda: house.call("GET", path, ann).data["progress"])
    assert house.call("POST", f"{path}/stop", ann, {}).status == 200
    assert ended(house, ann, run)["comparison"]["status"] == "stopped"
    assert house.call("POST", f"{path}/resume", bob, {}).status == 200
    refused = ended(house, ann, run)["comparison"]
    assert refused["status"] == "failed" and "may not use slow/two" in refused["problem"]
    assert house.call("POST", f"{path}/resume", cat, {}).status == 200
    assert ended(house, ann, run)["comparison"]["status"] == "done"
    paid = house.call("GET", f"/api/ledger/records?run={run}&limit=1000", ann).data["data"]
    assert {one["key"] for one in paid} == {key.split("-")[1] for key in (ann, cat)}


def test_tuned_models_of_the_owner_are_unknown_to_its_tenants(house: Served, engineer: str) -> None:
    red, names = (
        house.key(role="engineer", tenant="red"),
        ("ft:small:owner::abcdef1", "ft:small:owner::abcdef2"),
    )
    Adapters(house.workspace.store.database).put(
        Adapter(
            id="ad_1",
            name=names[0],
            tenant="",
            base="acme/small",
            base_hash="",
            folder="adapters/ad_1",
            status="ready",
            created_ms=1,
        )
    )
    path, body = "/api/comparisons/forecast", {"task": "moods", "model": [names[0]]}
    assert house.call("POST", path, engineer, body).status == 200
    said = [house.call("POST", path, red, {**body, "model": [name]}).data["error"] for name in names]
    assert said[0]["code"] == "models.unknown"
    assert said[0] == said[1] | {"message": said[0]["message"]}


def test_runs_of_the_command_line_are_the_owners(house: Served, engineer: str) -> None:
    before = house.call("GET", "/api/comparisons", engineer).data["data"]
    # the name of a task that the workspace knows is enough, wherever one is
    verdict = house.workspace.compare(CompareOptions(task="moods", model=("acme/small",)))
    listed = house.call("GET", "/api/comparisons", engineer).data["data"]
    assert (listed[0]["id"], listed[0]["key"], listed[0]["task"]) == (verdict.run, None, "moods")
    assert len(listed) == len(before) + 1
    red = house.key(role="admin", tenant="red")
    assert house.call("GET", f"/api/comparisons/{verdict.run}", red).status == 404
    # one whose process is gone is not begun again by itself
    lost = Run(
        id="run_0000000000lost000000", task="moods", task_hash="x", options={}, candidates=(),
        config_hash="", seed=0, started_ms=1, version="x",
    )  # fmt: skip
    house.workspace.store.begin(lost)
    assert house.call("GET", f"/api/comparisons/{lost.id}", engineer).data["comparison"]["status"] == (
        "interrupted"
    )
    found = house.call("GET", "/api/comparisons?status=interrupted", engineer).data["data"]
    assert [one["id"] for one in found] == [lost.id]
    # what the command line began may go on here, with the rights of whoever asks for it
    path = f"/api/comparisons/{verdict.run}"
    house.workspace.store.finish(replace(house.workspace.run(verdict.run), status="stopped"), verdict)
    narrow = house.key(role="engineer", models=("slow/*",))
    assert house.call("POST", f"{path}/resume", narrow, {}).status == 200
    assert ended(house, engineer, verdict.run)["comparison"]["status"] == "failed"
    assert "acme/small" in house.call("GET", path, engineer).data["comparison"]["problem"]


def test_lists_are_paged_sorted_and_filtered(house: Served, engineer: str) -> None:
    for run in [begun(house, engineer, model=["acme/small"], seed=seed) for seed in (31, 32, 33)]:
        ended(house, engineer, run)
    whole = house.call("GET", "/api/comparisons?limit=1000", engineer).data["data"]
    for sort in ("-started", "started", "task", "-task", "winner", "-cost", "calls"):
        seen: list[str] = []
        cursor = ""
        while True:
            page = house.call("GET", f"/api/comparisons?limit=2&sort={sort}{cursor}", engineer).data
            seen += [one["id"] for one in page["data"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert sorted(seen) == sorted(one["id"] for one in whole) and len(seen) == len(whole) > 2
    costs = [one["cost"] for one in house.call("GET", "/api/comparisons?sort=-cost", engineer).data["data"]]
    known = [float(cost) for cost in costs if cost is not None]
    assert known == sorted(known, reverse=True) and costs[len(known) :] == [None] * (len(costs) - len(known))
    lines = house.call("GET", "/api/comparisons/export?format=jsonl&sort=started", engineer).body.splitlines()
    assert [json.loads(line) for line in lines] == whole[::-1]
    table = list(
        csv.DictReader(io.StringIO(house.call("GET", "/api/comparisons/export", engineer).body.decode()))
    )
    assert [line["id"] for line in table] == [one["id"] for one in whole]
    assert table[0]["candidates"] == "; ".join(whole[0]["candidates"])
    assert house.call("GET", "/api/comparisons?text=SMALL", engineer).data["data"]
    assert house.call("GET", "/api/comparisons?text=nobody", engineer).data["data"] == []
    done = house.call("GET", "/api/comparisons?status=done", engineer).data["data"]
    assert done and {one["status"] for one in done} == {"done"}
    assert house.call("GET", "/api/comparisons?task=nothing", engineer).data["data"] == []
    assert house.call("GET", "/api/comparisons?cursor=run_x", engineer).status == 400


def test_examples_where_the_leaders_differ_come_in_pages(house: Served, engineer: str) -> None:
    run = begun(house, engineer, model=["acme/small"])
    ended(house, engineer, run)
    found = house.call("GET", f"/api/comparisons/{run}/differences?limit=5", engineer).data
    assert (found["total"], found["data"], found["next"]) == (
        0,
        [],
        None,
    )  # one candidate differs from nobody
    assert house.call("GET", f"/api/comparisons/{run}/differences?cursor=x", engineer).status == 400


def test_acts_are_in_the_audit_and_a_forgotten_tenant_leaves_no_run(house: Served) -> None:
    admin, red = house.key(role="admin"), house.key(role="engineer", tenant="red")
    forecast = {"task": "moods", "model": ["acme/small"], "seed": 9, "examples": 3}
    store, before = house.workspace.store, _tasks(house)
    assert house.call("POST", "/api/comparisons/forecast", red, forecast).status == 200
    assert _tasks(house) == before  # what is only forecast leaves nothing behind
    run = begun(house, red, model=["acme/small"], seed=9)
    ended(house, red, run)
    blob = house.workspace.run(run).task_blob
    assert blob and store.blob(blob) is not None
    acts = house.call("GET", f"/api/audit?subject={run}", admin).data["data"]
    assert [(one["act"], one["tenant"]) for one in acts] == [("comparison.start", "red")]
    assert house.call("DELETE", "/api/tenants/red/contents", admin).status == 200
    assert house.call("GET", "/api/comparisons", red).data["data"] == []
    assert not run_folder(house.folder / ".baimo", run).path.exists()
    assert store.blob(blob) is None


def _tasks(house: Served) -> int:
    """How many are kept as they were compared."""
    with house.workspace.store.database.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(tables.blobs)).scalar_one())
