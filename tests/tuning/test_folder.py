"""The folder of a job: two processes that never meet, and either may be killed at any moment."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baimo.core.message import Message
from baimo.core.registry import Spec
from baimo.core.tuning import Row, TuneProgress, TuneSpec
from baimo.tuning.folder import JobFolder, lock

SPEC = TuneSpec(id="ftjob-1", recipe=Spec(name="sft", args={"n_epochs": 2}), base="b", valid="valid.jsonl")
ROW = Row(messages=(Message(role="user", content="你好"), Message(role="assistant", content="hi")), line=3)


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = JobFolder(tmp_path / "job")
    made.write(SPEC, [ROW, ROW], [ROW])
    return made


def kinds(folder: JobFolder) -> list[str]:
    return [event["kind"] for _, event in folder.events()]


def test_spec_and_rows_come_back_as_they_were_written(folder: JobFolder) -> None:
    assert folder.spec() == SPEC
    assert folder.train() == [ROW, ROW] and folder.valid() == [ROW]


def test_events_are_read_from_where_the_reader_was(folder: JobFolder) -> None:
    folder.tell("plan", settings={"a": 1})
    ((behind, plan),) = folder.events()
    assert plan["kind"] == "plan" and plan["settings"] == {"a": 1}
    folder.tell("progress", progress=TuneProgress(step=1, steps=2, epoch=0.5, loss=1.5))
    ((_, progress),) = folder.events(behind)
    assert progress["progress"] == {"step": 1, "steps": 2, "epoch": 0.5, "loss": 1.5}


def test_half_a_line_is_no_event_and_takes_no_other_with_it(folder: JobFolder) -> None:
    folder.tell("one")
    with (folder.path / "events.jsonl").open("ab") as file:
        file.write(b'{"kind": "tor')
    assert kinds(folder) == ["one"]
    folder.tell("two")
    assert kinds(folder) == ["one", "two"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(cut=st.integers(0, 200))
def test_wherever_the_last_line_is_torn_everything_before_it_is_read(folder: JobFolder, cut: int) -> None:
    path = folder.path / "events.jsonl"
    path.unlink(missing_ok=True)
    for number in range(3):
        folder.tell("step", number=number)
    whole = path.read_bytes()
    path.write_bytes(whole[: min(cut, len(whole))])
    before = len(kinds(folder))
    assert before == whole[:cut].count(b"\n")
    folder.tell("after")
    # a line that only lacked its end is whole now
    assert kinds(folder)[:before] == ["step"] * before and kinds(folder)[-1] == "after"
    assert len(kinds(folder)) <= before + 2


def test_a_loss_that_is_no_number_is_told_as_nothing(folder: JobFolder) -> None:
    folder.tell("progress", loss=math.nan, deep={"list": [math.inf, 1.0]})
    ((_, event),) = folder.events()
    assert event["loss"] is None and event["deep"] == {"list": [None, 1.0]}


def test_a_wish_holds_until_another_one_is_made(folder: JobFolder) -> None:
    assert folder.wished() == ""
    folder.wish("pause")
    assert folder.wished() == "pause"
    folder.wish("")
    assert folder.wished() == ""


def test_only_one_process_works_on_a_job_and_death_lets_go(folder: JobFolder) -> None:
    program = "import sys; from pathlib import Path; from baimo.tuning.folder import JobFolder\n"
    program += "with JobFolder(Path(sys.argv[1])).held() as mine: print(mine, flush=True); input()"
    command = [sys.executable, "-c", program, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "True\n"
        assert folder.alive and folder.pid == child.pid
        with folder.held() as mine:
            assert not mine
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not folder.alive and folder.pid is None
    with folder.held() as mine:
        assert mine and folder.pid == os.getpid()


def test_looking_whether_somebody_works_takes_the_job_from_nobody(folder: JobFolder) -> None:
    with lock(folder.path / "lock") as looking:
        assert looking
        # whoever wants to work waits until the look is over; here it never is
        with folder.held() as mine:
            assert not mine
    with folder.keeper() as mine:
        assert mine and folder.kept
    assert not folder.kept


def test_what_appears_is_whole_or_not_there(folder: JobFolder) -> None:
    def half(at: Path) -> None:
        (at / "weights").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        folder.checkpoint(1, half)
    with pytest.raises(OSError, match="disk full"):
        folder.result(half)
    assert folder.checkpoints() == [] and not folder.adapter.exists()
    folder.sweep()
    assert [path.name for path in (folder.path / "checkpoints").iterdir()] == []
    folder.checkpoint(20, lambda at: (at / "a").write_text("x"))
    folder.checkpoint(1_000_000, lambda at: (at / "a").write_text("y"))
    assert [step for step, _ in folder.checkpoints()] == [20, 1_000_000]


def test_a_wish_that_is_just_being_written_is_not_swept_away(folder: JobFolder) -> None:
    writing = folder.path / ".control.77.part"
    writing.write_text("canc")
    folder.sweep()
    assert writing.exists()


def test_wishes_of_two_threads_do_not_take_each_other_s_files(folder: JobFolder) -> None:
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(folder.wish, "cancel") for _ in range(200)]:
            done.result()
    assert folder.wished() == "cancel"
    assert [path.name for path in folder.path.glob(".control*")] == []


def test_a_result_that_was_being_replaced_is_not_lost(folder: JobFolder) -> None:
    folder.result(lambda at: (at / "a").write_text("old"))
    folder.adapter.rename(folder.path / ".adapter.77.old")  # killed between the two steps of the exchange
    folder.sweep()
    assert (folder.adapter / "a").read_text() == "old"
    folder.result(lambda at: (at / "a").write_text("new"))
    assert (folder.adapter / "a").read_text() == "new"


def test_what_was_made_smaller_stays_smaller(folder: JobFolder) -> None:
    assert folder.overrides() == {}
    folder.override(micro_tokens=512)
    folder.override(batch_size=4)
    assert folder.overrides() == {"micro_tokens": 512, "batch_size": 4}
