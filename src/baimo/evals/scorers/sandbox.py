"""Starts `sandbox_child.py` on a piece of code, and ends it whatever the code does.

Prevents the failure where one endless loop of one model stops the comparison of all the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHILD = Path(__file__).with_name("sandbox_child.py")
_gates: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a piece of code and its tests ended."""

    status: str
    """pass, fail, left (it exited before the tests were over), timeout, memory, crash; broken = our fault."""
    detail: str
    """Exception and line, or signal."""
    passed: tuple[int, ...]
    """Numbers of the tests that passed, from 0."""
    output: str
    """End of what it printed."""
    isolation: tuple[str, ...]
    """What held: namespaces (no network, no foreign processes), files (Landlock), limits; or only audit hook."""

    @property
    def weak(self) -> bool:
        """Whether the code could have reached more than it should."""
        return not {"namespaces", "files", "limits"} <= set(self.isolation)


async def run(code: str, tests: Sequence[str], *, seconds: int, memory_mib: int, processes: int) -> Ran:
    """Run `code`, then each of `tests` in its namespace.

    Args:
        code: Python source, importable by the tests as `solution`.
        tests: Python sources; one that raises has failed.
        seconds: CPU time for all of it; the wall clock gets four times that and five seconds, because other
            sandboxes share the machine.
        memory_mib: address space.
        processes: processes and threads (not enforced by the kernel for root).
    """
    gate = _gates.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(os.cpu_count() or 1))
    # the code may leave files that cannot be removed, such as folders without write permission
    with tempfile.TemporaryDirectory(prefix="baimo-code-", ignore_cleanup_errors=True) as folder:
        async with gate:
            job = {"code": code, "tests": list(tests), "seconds": seconds, "processes": processes}
            job |= {
                "memory": memory_mib << 20,
                "token": secrets.token_hex(16),
                "wall_seconds": 4 * seconds + 5,
            }
            # the child keeps the time itself and still reports; the longer limit here is for a child that is stuck
            report = await _report(json.dumps(job).encode(), folder, wall_s=4 * seconds + 15)
        return Ran(
            status=str(report.get("status", "broken")),
            detail=str(report.get("detail", "")),
            passed=tuple(report.get("passed", ())),
            output=_tail(Path(folder) / "output.txt"),
            isolation=tuple(report.get("isolation", ())),
        )


async def _report(job: bytes, folder: str, *, wall_s: float) -> dict[str, Any]:
    # -P and -s keep the working folder and the user's packages off the path; the fixed hash seed makes runs repeatable
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-s", "-P", "-B", str(_CHILD),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=folder, start_new_session=True,
        env={"HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "PYTHONUTF8": "1",
             "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        async with asyncio.timeout(wall_s):
            answer, errors = await process.communicate(job)
    except TimeoutError:
        return {"status": "timeout", "detail": "SIGKILL"}
    finally:
        # the group, not the process: what it started must not live on, also when this task is cancelled
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())
    try:
        return json.loads(answer)
    except ValueError:
        return {"status": "broken", "detail": errors[-500:].decode(errors="replace")}


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-2000:].decode(errors="replace")
    except OSError:
        return ""
