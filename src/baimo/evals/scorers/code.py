"""The model's Python code passes the example's unit tests.

Prevents the failure where code that looks right is taken for code that works. The tests share the process with the
code, as in HumanEval (arXiv 2107.03374): they judge honest code, not code written to fool them.
"""

from __future__ import annotations

import re
import sys
import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from baimo.core.call import Completion
from baimo.core.run import Score
from baimo.core.task import Example
from baimo.evals.scorers.base import Described, accepted, found, judged, no_reference, short, visible
from baimo.evals.scorers.sandbox import run
from baimo.text import text

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Code(Described):
    """Runs the example's tests on the reply's code. The target is test source, or a list of tests run one by one."""

    name: ClassVar[str] = "code"
    tests: str = ""
    """Field or metadata name that holds the tests; empty = the target."""
    prefix: str = ""
    """Field that the code continues, such as a function's head; empty = the reply stands alone."""
    entry: str = "entry_point"
    """Field or metadata name of the function that tests with `def check(candidate)` are given."""
    mode: Literal["all", "share"] = "all"
    """all: every test; share: the share of tests passed."""
    form: Literal["any", "code"] = "any"
    """What strict asks for: code anywhere in the reply, or nothing but code."""
    seconds: int = 10
    """CPU time."""
    memory_mib: int = 1024
    """Address space."""
    processes: int = 16
    """Processes and threads."""

    async def score(self, example: Example, completion: Completion) -> Score:
        """1, 0 or a share; no code that compiles is malformed; `details` has status, tests passed, isolation."""
        if sys.platform == "win32":
            return Score.unscored(text("scorers.code_platform"))
        tests = accepted(self._named(example, self.tests) if self.tests else example.target)
        if not tests:
            return no_reference()
        entry = self._named(example, self.entry)
        tests = tuple(
            f"{test}\n\ncheck({entry})\n" if entry and "def check(" in test else test for test in tests
        )
        reply = visible(completion.text)
        code, bare = self._code(reply, str(self._named(example, self.prefix) or "") if self.prefix else "")
        if code is None:
            return judged(0.0, False, text("scorers.code_none", reply=short(reply)), status="none")
        limits = {"seconds": self.seconds, "memory_mib": self.memory_mib, "processes": self.processes}
        ran = await run(code, tests, **limits)
        if ran.status == "broken":
            return Score.unscored(text("scorers.code_broken", problem=short(ran.detail)))
        right = len(set(ran.passed) & set(range(len(tests))))
        passed = ran.status == "pass" and right == len(tests)
        content = right / len(tests) if self.mode == "share" else float(passed)
        facts = {"detail": short(ran.detail, 300), "seconds": self.seconds, "memory": self.memory_mib}
        why = (
            "" if passed else text(f"scorers.code_{'left' if ran.status == 'pass' else ran.status}", **facts)
        )
        if ran.weak:
            why = "; ".join(
                filter(None, (why, text("scorers.code_weak", isolation=", ".join(ran.isolation))))
            )
        details = {
            "status": ran.status,
            "passed": right,
            "tests": len(tests),
            "output": short(ran.output, 400),
        }
        return judged(content, bare or self.form == "any", why, isolation=list(ran.isolation), **details)

    def _named(self, example: Example, name: str) -> object:
        value = found(example.fields, name)
        return found(example.metadata, name) if value is None else value

    def _code(self, reply: str, prefix: str) -> tuple[str | None, bool]:
        """The last code block that compiles, else the whole reply; and whether the reply is nothing else."""
        blocks = [
            cast("str", body) for language, body in _FENCE.findall(reply) if language.lower() in _PYTHON
        ]
        for block in (*reversed(blocks), reply):
            for source in (block, prefix + block) if prefix else (block,):
                if (
                    source.strip()
                    and _compiles(source)
                    and (not prefix or source != block or "def " in block)
                ):
                    return source, block == reply or _FENCE.sub("", reply).strip() == ""
        return None, False


_PYTHON = frozenset({"", "python", "python3", "py"})


def _compiles(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "solution.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
        return False
    return True
