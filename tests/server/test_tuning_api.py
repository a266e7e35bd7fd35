"""/api/tuning: ordered from a task or a file, forecast first, watched, steered, told apart from forecast and fact."""

from __future__ import annotations

import base64
import csv
import http.client
import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from baimo.store import audit
from tests.server.served import Said, Served
from tests.server.tuned import BASE, client, example, lines, tuned, uploaded
from tests.waiting import PATIENCE_S, until

TASK = """
name = "home"
[data]
test = "test.jsonl"
train = "train.jsonl"
[[prompts]]
name = "plain"
user = "{{ input }}"
[[scorers]]
name = "exact"
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    with tuned(tmp_path_factory.mktemp("tuned")) as endpoint:
        yield endpoint
    patch.undo()


@pytest.fixture(scope="module")
def key(house: Served) -> str:
    return house.key(role="engineer")


def ask(house: Served, key: str, method: str, path: str, body: Any = None) -> Any:
    said = house.call(method, path, key, body)
    assert said.status < 300, said.body
    return said.data


def order(house: Served, key: str, **what: Any) -> str:
    """A new job, whose child does what `overrides` say."""
    if "file" not in what and "task" not in what:
        with client(house, key) as ours:
            what["file"] = uploaded(ours)
    return str(ask(house, key, "POST", "/api/tuning/jobs", {"model": BASE, **what})["job"])


def reached(house: Served, key: str, job: str, *phases: str) -> Any:
    """The job, as soon as it is in one of these phases."""
    for _ in range(9000):
        shown = ask(house, key, "GET", f"/api/tuning/jobs/{job}")
        if shown["phase"] in phases:
            return shown
        time.sleep(0.02)
    raise AssertionError((shown["phase"], shown["error"]))


def test_a_job_says_what_it_will_take_before_it_goes_on_and_then_what_it_took(
    house: Served, key: str
) -> None:
    job = order(house, key, overrides={"steps": 60}, suffix="lamp", seed=3)
    asking = reached(house, key, job, "asking")
    assert asking["status"] == "paused" and asking["progress"]["step"] < 60
    said = asking["forecast"]
    for name in ("minutes", "memory_mb"):
        assert said[name]["low"] <= said[name]["middle"] <= said[name]["high"]
    assert (said["based_on"], asking["overridden"], asking["seed"]) == ("calibration", ["steps"], 3)
    assert asking["settings"] == {"micro_tokens": 8}
    ask(house, key, "POST", f"/api/tuning/jobs/{job}/resume", {})
    done = reached(house, key, job, "succeeded")
    assert done["model"].startswith("ft:") and "lamp" in done["model"]
    assert done["took"]["minutes"] > 0 and done["took"]["minutes_off"] is not None
    assert [one["step"] for one in done["points"]] == list(range(1, 61))
    assert all("loss" in one["figures"] for one in done["points"])
    told = [one["message"] for one in done["story"]]
    assert (
        told[0] == "created" and "checkpoint after step 60" in told and told[-1].startswith("succeeded: ft:")
    )
    assert not [one for one in done["story"] if one["kind"] == "progress"]
    assert done["checkpoints"][-1]["step"] == 60 and done["checkpoints"][-1]["model"].endswith("step-60")


def test_a_job_that_is_to_start_does_not_ask(house: Served, key: str) -> None:
    job = order(house, key, overrides={"steps": 3}, start=True)
    assert reached(house, key, job, "succeeded")["progress"]["step"] == 3


def test_a_task_is_learnt_by_its_name(house: Served, key: str) -> None:
    folder = house.workspace.path / "tasks" / "home"
    folder.mkdir(parents=True)
    rows = [{"input": f"light {number}", "target": str(number)} for number in range(9)]
    for name in ("train", "test"):
        (folder / f"{name}.jsonl").write_bytes(lines(rows))
    (folder / "task.toml").write_text(TASK)
    assert "home" in ask(house, key, "GET", "/api/tuning/offer")["tasks"]
    job = order(house, key, task="home", overrides={"steps": 2}, start=True)
    done = reached(house, key, job, "succeeded")
    assert (done["task"], done["file"]) == ("home", None)
    learnt = house.state["service"].tuning.queue.at(job).train()
    assert [row.messages[-1].content for row in learnt] == [str(number) for number in range(9)]
    planned = ask(house, key, "POST", "/api/tuning/plan", {"task": "home", "model": BASE})
    assert planned["rows"] == 9 and planned["settings"]["batch_size"] >= 4


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({}, 400, "tuning.one_source", "/task"),
        ({"task": "home", "file": "file-1"}, 400, "tuning.one_source", "/task"),
        ({"task": "nothing"}, 404, "tasks.unknown", "/task"),
        ({"file": "file-none"}, 400, "finetuning.no_file", "/training_file"),
        ({"file": "file-1", "recipe": "grpo"}, 400, "tuning.wants_task", "/task"),
        ({"file": "file-1", "recipe": "magic"}, 400, "admin.bad_value", "/recipe"),
        ({"file": "file-1", "suffix": "a b"}, 400, "admin.bad_value", "/suffix"),
    ],
)
def test_an_order_that_cannot_be_kept_says_why(
    house: Served, key: str, body: Any, status: int, code: str, field: str
) -> None:
    said = house.call("POST", "/api/tuning/jobs", key, body)
    assert (said.status, said.data["error"]["code"]) == (status, code)
    assert said.data["error"]["field"] == field


def test_a_setting_that_the_recipe_does_not_have_is_refused_before_anything_is_made(tmp_path: Any) -> None:
    from tests.server.served import served
    from tests.server.tuned import ALIASED

    with served(tmp_path, ALIASED) as real:
        asker = real.key(role="engineer")
        with client(real, asker) as ours:
            file = uploaded(ours)
        said = real.call("POST", "/api/tuning/jobs", asker, {"file": file, "overrides": {"ranks": 3}})
        assert (said.status, said.data["error"]["field"]) == (400, "/overrides")
        assert "ranks" in said.data["error"]["message"] and "rank" in said.data["error"]["hint"]
        shown = real.call("POST", "/api/tuning/plan", asker, {"file": file, "overrides": {"rank": 3}}).data
        assert shown["settings"]["rank"] == 3


def test_tenants_order_what_learns_from_rows_and_nothing_that_asks_models(house: Served) -> None:
    house.tenant("red")
    red = house.key(tenant="red", role="engineer")
    assert ask(house, red, "GET", "/api/tuning/offer")["recipes"] == ["sft", "cpt", "dpo"]
    for recipe in ("grpo", "distill", "prompt"):
        said = house.call("POST", "/api/tuning/jobs", red, {"task": "home", "recipe": recipe})
        assert (said.status, said.data["error"]["code"]) == (403, "tuning.owners_recipe")
    said = house.call("POST", "/api/tuning/jobs", red, {"task": "home"})
    assert (said.status, said.data["error"]["code"]) == (404, "tasks.unknown")


def test_jobs_wait_in_a_queue_in_the_order_in_which_they_came(house: Served, key: str) -> None:
    busy = [order(house, key, overrides={"steps": 9999, "pause_s": 0.05}, start=True) for _ in range(2)]
    for job in busy:
        reached(house, key, job, "running")
    waiting = [order(house, key, overrides={"steps": 1}, start=True) for _ in range(2)]
    places = [reached(house, key, job, "queued")["place"] for job in waiting]
    assert places == [1, 2]
    listed = ask(house, key, "GET", "/api/tuning/jobs?status=unended&limit=3")
    assert [one["job"] for one in listed["data"]] == [*reversed(waiting), busy[1]]
    more = ask(house, key, "GET", f"/api/tuning/jobs?status=unended&limit=3&cursor={listed['next']}")
    assert [one["job"] for one in more["data"]] == [busy[0]] and more["next"] is None
    found = ask(house, key, "GET", f"/api/tuning/jobs?text={waiting[0]}")["data"]
    assert [one["job"] for one in found] == [waiting[0]]
    for job in busy:
        assert ask(house, key, "POST", f"/api/tuning/jobs/{job}/pause", {})["status"] == "paused"
    for job in waiting:
        reached(house, key, job, "succeeded")
    again = house.call("POST", f"/api/tuning/jobs/{busy[0]}/pause", key, {})
    assert (again.status, again.data["error"]["code"]) == (409, "tune.cannot_paused")
    step = reached(house, key, busy[0], "paused")["progress"]["step"]
    ask(house, key, "POST", f"/api/tuning/jobs/{busy[0]}/resume", {})
    until(lambda: ask(house, key, "GET", f"/api/tuning/jobs/{busy[0]}")["progress"]["step"] > step)
    for job in busy:
        assert ask(house, key, "POST", f"/api/tuning/jobs/{job}/cancel", {})["status"] == "cancelled"
        deleted(house, key, job)
        assert house.call("GET", f"/api/tuning/jobs/{job}", key).status == 404
    acts = [act.act for act in audit.acts(house.workspace.store.database, subject=busy[0])]
    assert acts == ["job.delete", "job.cancel", "job.resume", "job.pause", "job.order"]


def deleted(house: Served, key: str, job: str) -> None:
    """As soon as its child has let go of it."""
    until(lambda: house.call("DELETE", f"/api/tuning/jobs/{job}", key).status == 200)


class Stream:
    """Server-sent events as a client reads them."""

    def __init__(self, house: Served, key: str, job: str, after: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=PATIENCE_S)
        headers = {"authorization": f"Bearer {key}", "accept": "text/event-stream"}
        headers |= {"last-event-id": after} if after else {}
        self._connection.request("GET", f"/api/tuning/jobs/{job}/events", headers=headers)
        self.answer = self._connection.getresponse()

    def __iter__(self) -> Iterator[tuple[str, str, Any]]:
        id = kind = data = ""
        for raw in self.answer:
            line = raw.decode().rstrip("\n")
            name, _, value = line.partition(": ")
            if name == "id":
                id = value
            elif name == "event":
                kind = value
            elif name == "data":
                data = value
            elif not line and kind:
                yield id, kind, json.loads(data)
                kind = data = ""

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


def test_a_stream_tells_everything_and_goes_on_where_it_broke_off(
    house: Served, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    job = order(house, key, overrides={"steps": 30, "pause_s": 0.05}, start=True)
    first = Stream(house, key, job)
    assert first.answer.getheader("content-type", "").startswith("text/event-stream")
    seen: list[tuple[str, str, Any]] = []
    for event in first:
        seen.append(event)
        if event[1] == "progress" and event[2]["facts"]["progress"]["step"] >= 3:
            break
    first.close()
    second = Stream(house, key, job, after=seen[-1][0])
    seen += list(second)
    second.close()
    kinds = [kind for _, kind, _ in seen]
    steps = [data["facts"]["progress"]["step"] for _, kind, data in seen if kind == "progress"]
    assert steps == list(range(1, 31))
    assert kinds[0] == "created" and kinds[-1] == "end" and "succeeded" in kinds
    assert kinds.count("created") == kinds.count("succeeded") == 1
    told = next(data for _, kind, data in seen if kind == "checkpoint")
    assert told["message"] == "checkpoint after step 2" and told["at"].endswith("Z")
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == []  # of who has left


def test_a_stream_has_the_lines_of_the_log(house: Served, key: str) -> None:
    job = order(house, key, overrides={"steps": 1}, start=True)
    reached(house, key, job, "succeeded")
    with (house.state["service"].tuning.queue.at(job).path / "log").open("a") as log:
        log.write("loading the base\nhalf a li")
    stream = Stream(house, key, job)
    logged = [data["facts"]["lines"] for _, kind, data in stream if kind == "log"]
    stream.close()
    assert logged == [["loading the base"]]
    assert ask(house, key, "GET", f"/api/tuning/jobs/{job}")["log"] == ["loading the base"]


def test_a_stream_of_another_tenants_job_is_not_there(house: Served, key: str) -> None:
    house.tenant("green")
    job = order(house, key, overrides={"steps": 1}, start=True)
    green = house.key(tenant="green", role="admin")
    said: Said = house.call("GET", f"/api/tuning/jobs/{job}/events", green)
    assert (said.status, said.data["error"]["code"]) == (404, "tuning.no_job")
    reached(house, key, job, "succeeded")


def test_a_job_that_fails_says_why(house: Served, key: str) -> None:
    job = order(house, key, overrides={"steps": 1, "fail": True})
    failed = reached(house, key, job, "failed")
    assert failed["error"] == {"code": "bad_base", "message": "this base cannot be tuned"}


def test_watching_does_not_keep_an_endpoint_from_stopping(tmp_path: Any) -> None:
    with tuned(tmp_path) as short:
        asker = short.key(role="engineer")
        job = order(short, asker, overrides={"steps": 9999, "pause_s": 0.05}, start=True)
        reached(short, asker, job, "running")
        pid = until(lambda: short.state["service"].tuning.queue.at(job).pid)
        stream = Stream(short, asker, job)
        reader = threading.Thread(target=lambda: list(stream), daemon=True)
        reader.start()
    reader.join(PATIENCE_S)
    stream.close()
    assert not reader.is_alive()
    os.killpg(pid, signal.SIGKILL)  # the job works on, for whoever comes next


def test_jobs_are_a_table_that_is_sorted_filtered_and_taken_along(house: Served, key: str) -> None:
    for suffix, count in (("=b", 5), ("a", 3), ("", 4)):
        job = order(house, key, suffix=suffix.replace("=", "-"), overrides={"steps": count}, start=True)
        reached(house, key, job, "succeeded")
    path = "/api/tuning/jobs"
    whole = ask(house, key, "GET", f"{path}?limit=1000")["data"]
    for sort in ("created", "name", "-name", "status", "-base", "-recipe", "done", "-minutes", "task"):
        seen: list[str] = []
        cursor = ""
        while cursor is not None:
            page = ask(
                house, key, "GET", f"{path}?limit=2&sort={sort}" + (f"&cursor={cursor}" if cursor else "")
            )
            seen += [one["job"] for one in page["data"]]
            cursor = page["next"]
        assert sorted(seen) == sorted(one["job"] for one in whole) and len(seen) == len(whole), sort
    names = [one["suffix"] for one in ask(house, key, "GET", f"{path}?sort=name&limit=1000")["data"]]
    known = [name for name in names if name]
    assert known == sorted(known) and names[len(known) :] == [""] * (len(names) - len(known))
    minutes = [
        one["took"]["minutes"]
        for one in ask(house, key, "GET", f"{path}?sort=-minutes&status=succeeded")["data"]
    ]
    assert minutes == sorted(minutes, reverse=True)
    assert ask(house, key, "GET", f"{path}?base={BASE}&limit=1000")["data"] == whole
    assert ask(house, key, "GET", f"{path}?base=another")["data"] == []
    assert ask(house, key, "GET", f"{path}?task=nothing")["data"] == []
    said = house.call("GET", f"{path}/export?sort=created", key)
    assert said.headers["content-disposition"].endswith('.csv"')
    table = list(csv.DictReader(io.StringIO(said.body.decode())))
    assert [line["job"] for line in table] == [one["job"] for one in whole[::-1]]
    assert {line["suffix"] for line in table} >= {"'-b", "a"}  # no spreadsheet takes it for a formula
    by_id = {one["job"]: one for one in whole}
    assert all(line["progress.step"] == str(by_id[line["job"]]["progress"]["step"]) for line in table[-3:])
    lines = house.call("GET", f"{path}/export?format=jsonl", key).body.splitlines()
    assert [json.loads(line) for line in lines] == whole


def looked(house: Served, key: str, name: str, text: str, **more: Any) -> Said:
    body = {"name": name, "base64": base64.b64encode(text.encode()).decode(), **more}
    return house.call("POST", "/api/tuning/rows", key, body)


PAIRS = "".join(f"question {number},answer {number},calm\n" for number in range(12))


def test_a_table_becomes_lines_that_the_files_api_takes_and_a_job_learns(house: Served, key: str) -> None:
    found = looked(house, key, "home.csv", f"prompt,completion,tone\n{PAIRS}").data
    assert (found["rows"], found["faults"]) == (12, [])
    with client(house, key) as ours:
        file = uploaded(ours, found["jsonl"].encode(), "home.csv.jsonl")
    reached(house, key, order(house, key, file=file, overrides={"steps": 1}, start=True), "succeeded")
    pairs = "prompt,chosen,rejected\n" + "".join(f"q{n},good {n},bad {n}\n" for n in range(12))
    assert looked(house, key, "votes.csv", pairs, recipe="dpo").data["faults"] == []
    whole = looked(house, key, "train.jsonl", lines([example(n) for n in range(12)]).decode()).data
    assert whole == {"rows": 12, "faults": [], "jsonl": None}  # it is taken as it is


@pytest.mark.parametrize(
    ("name", "text", "line", "said"),
    [
        ("a.csv", "prompt,completion\n" + "q,a\n" * 3 + "q,\n" + "q,a\n" * 9, 5, "empty"),
        ("a.csv", "colour,shape\nred,round\n", 2, "a.csv, line 2"),
        ("a.tsv", 'prompt\tcompletion\n"open', 2, "not a valid table"),
        ("a.csv", "prompt,completion\nq,a\n", None, "at least 10"),
        ("a.jsonl", '{"messages": []}\n' * 10, 1, "messages"),
        ("a.jsonl", "{}\nnonsense\n", 2, "not a dictionary"),
        ("a.json", "[1, 2]", 1, "a.json"),
    ],
)
def test_what_a_job_would_refuse_is_told_with_its_line(
    house: Served, key: str, name: str, text: str, line: int | None, said: str
) -> None:
    found = looked(house, key, name, text).data
    assert found["jsonl"] is None and found["faults"][0]["line"] == line
    assert said in found["faults"][0]["message"] and "/tmp" not in str(found)


def test_what_is_no_training_file_is_not_looked_at(house: Served, key: str) -> None:
    said = looked(house, key, "picture.png", "x")
    assert (said.status, said.data["error"]["code"]) == (400, "tuning.no_container")
    bad = house.call("POST", "/api/tuning/rows", key, {"name": "a.csv", "base64": "?"})
    assert (bad.status, bad.data["error"]["field"]) == (400, "/base64")
    long = looked(house, key, "a.csv", "x" * (8 * 2**20 + 64))
    assert (long.status, long.data["error"]["code"]) == (413, "tuning.long_file")
