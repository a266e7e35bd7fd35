"""`baimo tune` and `baimo jobs`, as they are typed."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baimo.cli.tune import Halt
from baimo.cli.walking import Walk, line_of
from baimo.core.registry import Spec
from baimo.core.tuning import JobStatus, Range, TuneForecast, TuneJob, TuneProgress, TuneSpec
from baimo.store.engine import Database
from baimo.store.jobs import JobEvent, Jobs
from tests.cli.runner import baimo, has_chinese

ROOT = Path(__file__).parents[2]
WALK = """
import sys
sys.path.insert(0, {root!r})
from dataclasses import replace
from baimo.workspace import tuning
before = tuning.Tuning.launch
command = (sys.executable, "-m", "tests.tuning.scripted")
def launch(self, job):
    from pathlib import Path
    return replace(before(self, job), command=command, directory=Path({root!r}))
tuning.Tuning.launch = launch
tuning.adopting = lambda workspace: lambda job, folder: replace(job, model="ft:base:local::1")
from baimo.cli.main import main
main()
"""
"""The command with children that only count: a process of its own, so that nothing here is changed."""


@pytest.fixture
def data(folder: Path) -> Path:
    (folder / "base").mkdir()
    (folder / "base" / "model.safetensors").write_bytes(b"w")
    line = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (folder / "data.jsonl").write_text(json.dumps(line) + "\n")
    return folder


def scripted(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", WALK.format(root=str(ROOT)), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def tune(*arguments: str) -> subprocess.Popen[str]:
    return scripted("tune", "data.jsonl", "--model", "base", "--set", "pause_s=0.01", *arguments)


def kept(folder: Path, status: JobStatus = JobStatus.SUCCEEDED) -> TuneJob:
    """A job in the workspace's memory, which is opened and closed for it."""
    (folder / ".baimo").mkdir(exist_ok=True)
    database = Database(str(folder / ".baimo" / "baimo.db"))
    jobs = Jobs(database)
    some = Range(middle=2.0, low=1.0, high=3.0)
    job = TuneJob(
        spec=TuneSpec(id=jobs.new_id(), recipe=Spec(name="sft"), base="local/small"),
        status=status,
        created_ms=jobs.now_ms(),
        minutes=2.5,
        model="ft:small:local::1",
        progress=TuneProgress(step=3, steps=4, epoch=0.75, loss=1.25, memory_mb=2.2),
        forecast=TuneForecast(minutes=some, memory_mb=some, tokens=1234, raw_minutes=2, raw_memory_mb=2),
    )
    jobs.put(job)
    jobs.tell(job.spec.id, "notice", message="less memory")
    database.close()
    return job


def test_a_job_ends_with_what_to_do_next_on_stderr_and_its_name_on_stdout(data: Path) -> None:
    out, err = (process := tune("--set", "steps=8", "--yes")).communicate(timeout=300)
    assert process.returncode == 0, err
    assert out == "ft:base:local::1\n" and "baimo compare data.jsonl --model ft:base:local::1" in err
    assert "micro_tokens" in err and "Forecast:" in err and "step 8/8" in err and "It took" in err
    listed = baimo("jobs", "list")
    assert listed.out.count("\n") == 1 and "succeeded" in listed.out


def test_nobody_there_to_say_yes_means_no(data: Path) -> None:
    out, err = (process := tune("--set", "steps=8")).communicate(timeout=300)
    assert process.returncode == 2 and "--yes" in err and out == ""
    assert baimo("jobs", "list", "--json").data == []


def test_a_forecast_is_data_for_programs(data: Path) -> None:
    out, _ = (process := tune("--set", "steps=8", "--forecast", "--json", "-q")).communicate(timeout=300)
    assert process.returncode == 0
    planned = json.loads(out)
    assert planned["forecast"]["minutes"]["low"] <= planned["forecast"]["minutes"]["high"]
    assert planned["settings"]["micro_tokens"] == 8 and baimo("jobs", "list", "--json").data == []


class Interrupting(io.RawIOBase):
    """A stream whose reader presses Ctrl-C at the sight of the first line, while that is still being written."""

    def __init__(self) -> None:
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        first, self.written = not self.written, self.written + bytes(data)
        if first:
            signal.raise_signal(signal.SIGINT)
        return len(data)


def test_ctrl_c_while_a_line_is_written_pauses_too(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, halt, before = Interrupting(), Halt(), signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True))
    halt.listen()
    try:
        print("step 1/2", file=sys.stderr)
        assert halt() and halt()
    finally:
        signal.signal(signal.SIGINT, before)
    assert raw.written.startswith(b"step 1/2\n") and raw.written.count(b"Ctrl-C") == 1


def test_ctrl_c_pauses_and_says_how_to_go_on(data: Path) -> None:
    process = tune("--set", "steps=2000", "--yes")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130 and "baimo jobs resume ftjob-" in err
    assert baimo("jobs", "show", "--json").data["status"] == "paused"
    assert baimo("jobs", "cancel", baimo("jobs", "show", "--json").data["spec"]["id"]).code == 0


def test_a_job_goes_on_without_its_command_and_the_next_one_takes_it_over(data: Path) -> None:
    process = tune("--set", "steps=200", "--yes")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            break
    process.kill()
    process.communicate()
    id = baimo("jobs", "show", "--json").data["spec"]["id"]
    listed = baimo("jobs", "list").out
    assert "nobody looks after it" in listed
    out, err = (again := scripted("jobs", "resume", id)).communicate(timeout=300)
    assert again.returncode == 0 and out == "ft:base:local::1\n", err
    events = baimo("jobs", "events", id, "--limit", "999", "--json").data
    steps = [event["facts"]["progress"]["step"] for event in events if event["kind"] == "progress"]
    assert steps == list(range(1, 201))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["data.jsonl", "--recipe", "sfd"], "grpo"),
        (["data.jsonl", "--set", "n_epochs"], "n_epochs"),
        (["data.jsonl", "--suffix", "a b"], "a b"),
        (["nowhere"], "nowhere"),
        (["data.jsonl", "--model", "local/nothing"], "local/nothing"),
        (["data.jsonl", "--effort", "huge"], "medium"),
        ([], "TASK_OR_FILE"),
    ],
)
def test_what_cannot_be_is_said_in_both_languages(
    data: Path, lang: str, arguments: list[str], word: str
) -> None:
    ended = baimo("tune", *arguments)
    assert ended.code == 2 and word in ended.err and has_chinese(ended.err) == (lang == "zh")
    assert "Traceback" not in ended.all


def test_jobs_say_what_they_took_beside_what_was_forecast(folder: Path, lang: str) -> None:
    job = kept(folder)
    shown = baimo("jobs", "show", job.spec.id)
    assert shown.code == 0 and has_chinese(shown.out) == (lang == "zh")
    assert "+25%" in shown.out and "+10%" in shown.out and "1,234" in shown.out
    said = baimo("jobs", "show", job.spec.id, "--json").data
    assert said["forecast_error"] == {"minutes": 0.25, "memory_mb": pytest.approx(0.1)}
    assert "less memory" in baimo("jobs", "events", job.spec.id).out


def test_an_empty_workspace_has_no_jobs(folder: Path, lang: str) -> None:
    listed = baimo("jobs", "list")
    assert listed.code == 0 and listed.out == "" and "baimo tune" in listed.err
    for verb in ("show", "events", "pause", "resume", "cancel", "rm"):
        ended = baimo("jobs", verb, "ftjob-none", *(["--yes"] if verb == "rm" else []))
        assert ended.code == 2 and "ftjob-none" in ended.err


def test_the_last_of_no_jobs_is_told_with_how_to_make_one(folder: Path, lang: str) -> None:
    for verb in ("show", "events", "resume"):
        ended = baimo("jobs", verb, "last")
        assert ended.code == 2 and "baimo tune" in ended.err and "last" not in ended.err


def test_wishes_are_granted_once(folder: Path) -> None:
    job = kept(folder, JobStatus.QUEUED)
    assert "paused" in baimo("jobs", "pause", job.spec.id).err
    assert baimo("jobs", "pause", job.spec.id).code == 2
    assert baimo("jobs", "rm", job.spec.id, "--yes").code == 2
    assert "cancelled" in baimo("jobs", "cancel", job.spec.id).err
    assert baimo("jobs", "rm", job.spec.id).code == 2  # nobody is there to be asked
    assert baimo("jobs", "rm", job.spec.id, "--yes").code == 0
    assert baimo("jobs", "list", "--json").data == []


def test_where_nobody_watches_there_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    spec = TuneSpec(id="ftjob-1", recipe=Spec(name="sft"), base="b")
    job = TuneJob(spec=spec, status=JobStatus.RUNNING, created_ms=0)
    with Walk(sys.stderr, clock=lambda: now[0]) as walk:
        for step in range(1, 41):
            now[0] += 1.0
            progress = TuneProgress(
                step=step, steps=40, epoch=1, loss=0.5, accuracy=0.5, valid_loss=1, eta_s=60
            )
            event = JobEvent(job="ftjob-1", at_ms=0, kind="progress")
            walk.happened(replace(job, progress=progress), [event])
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["1/40", "11/40", "21/40", "31/40", "40/40"]
    assert "1.0 min left" in lines[0] and "validation loss" in lines[0]


def test_every_event_has_words_and_one_that_nobody_knows_has_none() -> None:
    for kind in ("created", "started", "checkpoint", "paused", "cancelled", "done", "failed", "succeeded"):
        assert line_of(JobEvent(job="j", at_ms=0, kind=kind))
    assert line_of(JobEvent(job="j", at_ms=0, kind="riddle")) == ""
