"""Python graders: `grade(sample, item)` in the sandbox of `evals/scorers`.

Prevents the failure where the code of one client's grader reads what another client keeps on the same machine: it runs
in a process without network, without other processes and without files; `isolated` tells whether that holds here.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from typing import Any

from baimo.errors import ScorerError
from baimo.evals.graders.grade import GradingError
from baimo.evals.graders.kinds import Python
from baimo.evals.graders.template import as_json
from baimo.evals.scorers.base import short
from baimo.evals.scorers.sandbox import Ran, run

SECONDS = 120
"""Longest time of one grading, as OpenAI has it."""
MEMORY_MIB = 2048
PROCESSES = 16
_FAULTS = frozenset({"timeout", "memory", "crash", "broken"})
_isolated: bool | None = None


async def graded(grader: Python, names: Mapping[str, Any]) -> float:
    """What the function returns.

    Raises:
        GradingError: it raised, returned no number, took too long, or could not be run.
    """
    mark = secrets.token_hex(16)
    given = as_json([names["sample"], names["item"]])
    test = (
        "import json as _json, numbers as _numbers\n"
        f"_value = grade(*_json.loads({given!r}))\n"
        "if not isinstance(_value, _numbers.Real) and not hasattr(_value, 'item'):\n"  # numpy's numbers have it
        "    raise TypeError('grade returned ' + type(_value).__name__ + ', not a number')\n"
        f"print('\\n{mark}' + _json.dumps(float(_value)), flush=True)\n"
    )
    try:
        async with asyncio.timeout(SECONDS):
            ran = await run(
                grader.source, [test], seconds=SECONDS, memory_mib=MEMORY_MIB, processes=PROCESSES
            )
    except TimeoutError:
        error = ScorerError("graders.code_broken", problem=f"timeout: {SECONDS} s")
        raise GradingError(error, kind="timeout") from None
    return _value(ran, mark)


def _value(ran: Ran, mark: str) -> float:
    line = next((line for line in reversed(ran.output.splitlines()) if line.startswith(mark)), "")
    if ran.status == "pass" and line:
        value = float(json.loads(line[len(mark) :]))
        if value - value == 0:
            return value
        raise GradingError(ScorerError("graders.code_failed", problem=f"grade returned {value}"))
    detail = short(ran.detail or ran.status, 400)
    if ran.status in _FAULTS:
        error = ScorerError("graders.code_broken", problem=f"{ran.status}: {detail}")
        raise GradingError(error, kind=ran.status)
    raise GradingError(ScorerError("graders.code_failed", problem=detail))


async def isolated() -> bool:
    """Whether code is kept apart here by the kernel, and not only by a hook that stops accidents."""
    global _isolated
    if _isolated is None:
        _isolated = not (await run("", ["pass"], seconds=5, memory_mib=256, processes=PROCESSES)).weak
    return _isolated
