"""Runs the real command line, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from baimo.cli.main import main

HAN = "\u4e00", "\u9fff"


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """stdout as JSON."""
        return json.loads(self.out)

    @property
    def all(self) -> str:
        return self.out + self.err


def baimo(*arguments: str) -> Ended:
    """`baimo ARGUMENTS` in this process, in the current folder and environment."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    ctrl_c = signal.getsignal(signal.SIGINT)
    code: object = None
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = ended.code
        finally:
            signal.signal(signal.SIGINT, ctrl_c)
    assert isinstance(code, int)
    out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    return Ended(code, out, err)


def process(
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    stdout: Any = subprocess.PIPE,
) -> Ended:
    """`baimo ARGUMENTS` in a process of its own.

    Args:
        folder: where it runs.
        environment: variables on top of those of the tests.
        before: Python statements to run first.
        stdout: where its output goes.
    """
    program = [*before, "from baimo.cli.main import main", "main()"]
    command = [sys.executable, "-W", "error", "-c", "\n".join(program), *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **(environment or {})},
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        timeout=120,
    )
    return Ended(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())


def has_chinese(shown: str) -> bool:
    """Whether a Chinese character is in it."""
    return any(HAN[0] <= character <= HAN[1] for character in shown)
