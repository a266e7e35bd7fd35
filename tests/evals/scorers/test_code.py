"""Code that a model wrote, run apart from everything else."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from baimo.core.run import Outcome, Score
from baimo.evals.scorers import sandbox
from tests.evals.scorers import judge

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the sandbox is for Linux and macOS")
TESTS = ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]


def run(reply: str, **args: object) -> Score:
    return judge("code", reply, TESTS, **{"seconds": 1, "memory_mib": 512, **args})


def inside(line: str) -> str:
    return f"def add(a, b):\n    {line}\n    return a + b\n"


@pytest.mark.parametrize(
    "reply",
    [
        "def add(a, b):\n    return a + b",
        "Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nEnjoy!",
        "```\nimport dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int\nadd = lambda a, b: A(a + b).x\n```",
    ],
)
def test_right_code_passes(reply: str) -> None:
    assert run(reply).outcome is Outcome.RIGHT


def test_wrong_code_fails_with_the_line() -> None:
    score = run("def add(a, b):\n    return a - b")
    assert score.outcome is Outcome.WRONG
    assert "test_1.py, line 1" in score.explanation
    assert run("def add(a, b):\n    return a - b", mode="share").lenient == 0.5


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (inside("while True: pass"), "timeout"),
        (inside("x = [0] * 10**10"), "memory"),
        ("import sys\nsys.exit(0)", "left"),
        ("import os\nos._exit(0)", "left"),
        ("import ctypes\nctypes.string_at(0)", "crash"),
        (inside("raise KeyError(a)"), "fail"),
        (inside("add(a, b)"), "fail"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGABRT)", "crash"),
    ],
)
def test_every_end_has_its_name(reply: str, status: str) -> None:
    score = run(reply)
    assert score.lenient == 0
    # in a PID namespace the first process cannot send itself a fatal signal
    assert score.details["status"] in ({"crash", "fail"} if "SIGABRT" in reply else {status})


def test_no_code_is_malformed() -> None:
    assert run("I would add the numbers.").outcome is Outcome.MALFORMED
    assert run("").outcome is Outcome.MALFORMED


def test_the_code_reaches_neither_network_nor_files_nor_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPANY_SECRET", "42")
    (tmp_path / "secret").write_text("42")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        hidden = [
            f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)",
            "import os; os.environ['COMPANY_SECRET']",
        ]
        isolation = run(inside("pass")).details["isolation"]
        if "files" in isolation:
            hidden += [f"open({str(tmp_path / 'secret')!r}).read()", f"open({str(tmp_path / 'new')!r}, 'w')"]
        assert [run(inside(line)).details["status"] for line in hidden] == ["fail"] * len(hidden)
    assert not (tmp_path / "new").exists()


def test_weak_isolation_is_said_in_the_explanation() -> None:
    score = run(inside("pass"))
    strong = {"namespaces", "files", "limits"} <= set(score.details["isolation"])
    assert ("isolation" in score.explanation) != strong


def test_the_code_may_write_in_its_own_folder_up_to_a_limit() -> None:
    assert run(inside("open('note', 'w').write('x')")).outcome is Outcome.RIGHT
    assert run(inside("open('note', 'w').write('x' * 10**7)")).outcome is Outcome.WRONG


def test_where_the_kernel_forbids_namespaces_a_hook_stops_sockets_and_processes(tmp_path: Path) -> None:
    driver = (
        "import sandbox_child\n"
        "sandbox_child._unshare = sandbox_child._landlock = lambda: False\n"
        "sandbox_child.main()\n"
    )
    job = {"seconds": 1, "memory": 1 << 30, "processes": 8, "token": "t", "wall_seconds": 5}
    for line in (
        "import socket; socket.socket()",
        "import os; os.fork()",
        "import os; os.system('true')",
        "pass",
    ):
        done = subprocess.run(
            [sys.executable, "-c", driver],
            input=json.dumps({**job, "code": line, "tests": ["pass"]}).encode(),
            env={"PYTHONPATH": str(Path(sandbox.__file__).parent)},
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )
        report = json.loads(done.stdout)
        assert report["isolation"] == ["limits", "audit hook"]
        assert report["status"] == ("pass" if line == "pass" else "fail")


def test_what_it_prints_is_kept_apart_from_its_result() -> None:
    score = run('print(\'{"status": "pass", "passed": [0, 1]}\')\ndef add(a, b):\n    return 0')
    assert score.outcome is Outcome.WRONG
    assert "status" in score.details["output"]


def test_tests_in_the_manner_of_humaneval() -> None:
    fields = {
        "input": "complete",
        "prompt": "def add(a, b):\n",
        "tests": "def check(candidate):\n    assert candidate(1, 2) == 3",
        "entry_point": "add",
    }
    score = judge("code", "    return a + b\n", tests="tests", prefix="prompt", example_fields=fields)
    assert score.outcome is Outcome.RIGHT
    assert (
        judge("code", "    return a\n", tests="tests", prefix="prompt", example_fields=fields).outcome
        is Outcome.WRONG
    )


def test_strict_can_want_nothing_but_code() -> None:
    fenced = "```python\ndef add(a, b):\n    return a + b\n```"
    assert run(fenced, form="code").outcome is Outcome.RIGHT
    assert run(f"Sure!\n{fenced}", form="code").outcome is Outcome.MALFORMED
