"""The child process: what it gets, how it is found again, how it is stopped."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from baimo.core.registry import Spec
from baimo.core.tuning import TuneSpec
from baimo.tuning.folder import JobFolder
from baimo.tuning.launch import TAKEN, Child, Launch, killed_for_memory, last_lines
from tests.waiting import until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = JobFolder(tmp_path / "job")
    made.write(TuneSpec(id="ftjob-1", recipe=Spec(name="scripted", args={"steps": 2000}), base="b"), [])
    return made


def ended(child: Child) -> None:
    until(lambda: not child.alive)


def scripted(**given: object) -> Launch:
    return Launch(command=(sys.executable, "-m", "tests.tuning.scripted"), directory=ROOT, **given)  # type: ignore[arg-type]


def python(program: str, **given: object) -> Launch:
    return Launch(command=(sys.executable, "-c", program), **given)  # type: ignore[arg-type]


def test_secrets_stay_with_the_parent_unless_a_provider_needs_them(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "OPENAI_API_KEY": "sk-1",
        "DEEPSEEK_API_KEY": "sk-2",
        "BAIMO_WORKSPACE_DATABASE": "postgresql://u:p@h/d",
        "AWS_SESSION": "x",
        "MIRROR": "https://me:pw@host/",
        "HTTPS_PROXY": "http://me:pw@proxy:1",
        "PLAIN": "yes",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    program = "import json,os,sys; open(sys.argv[1]+'/seen','w').write(json.dumps(dict(os.environ)))"
    ended(python(program, secrets=["DEEPSEEK_API_KEY"], threads=3).started(folder))
    seen = json.loads((folder.path / "seen").read_text())
    assert given.keys() & seen.keys() == {"DEEPSEEK_API_KEY", "HTTPS_PROXY", "PLAIN"}
    assert seen["OMP_NUM_THREADS"] == "3"


def test_what_it_says_goes_into_the_log_and_how_it_ended_is_known(folder: JobFolder) -> None:
    child = python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)").started(folder)
    ended(child)
    assert child.code == 7
    assert set(last_lines(folder).splitlines()) == {"out", "err"}


def test_it_leads_a_group_of_its_own_that_no_ctrl_c_reaches(folder: JobFolder) -> None:
    child = python("import os,sys; open(sys.argv[1]+'/seen','w').write(f'{os.getpgrp()} {os.getpid()}')")
    ended(child.started(folder))
    group, pid = (folder.path / "seen").read_text().split()
    assert group == pid and int(group) != os.getpgrp()


def test_it_finds_on_its_bench_what_the_parent_settled(folder: JobFolder) -> None:
    ended(python("pass", bench={"threads": 2}).started(folder))
    assert json.loads((folder.path / "bench.json").read_bytes()) == {"threads": 2}


def test_a_second_child_leaves_and_the_first_one_is_taken_for_it(folder: JobFolder) -> None:
    first = scripted().started(folder)
    while not folder.alive:
        time.sleep(0.01)
    second = scripted().started(folder)
    while second.alive and second.ours:
        time.sleep(0.01)
    assert second.alive and second.code is None
    second.signalled(signal.SIGKILL)
    ended(first)
    assert first.code == -signal.SIGKILL and not second.alive


def test_a_child_that_somebody_else_started_can_be_stopped_too(folder: JobFolder) -> None:
    started = scripted().started(folder)
    while not folder.alive:
        time.sleep(0.01)
    found = Child(folder)
    assert found.alive and found.code is None
    found.signalled(signal.SIGTERM)
    ended(started)
    assert not found.alive and started.code == -signal.SIGTERM
    found.signalled(signal.SIGTERM)  # nobody is there: nobody is hit


def test_the_exit_code_of_a_child_that_came_too_late_is_that_of_a_passing_failure() -> None:
    assert os.EX_TEMPFAIL == TAKEN


def test_the_kernel_says_how_many_it_killed_for_memory_or_nothing() -> None:
    count = killed_for_memory()
    assert count is None or count >= 0
