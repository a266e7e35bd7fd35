"""The task's own scorer: a Python file with `def score(example, completion)`.

Prevents the failure where a bug in a task's scorer makes every model look bad: whatever it raises leaves the cell
unscored, with the line. The file is code and runs with the rights of whoever runs the comparison.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import sys
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from baimo.core.call import Completion
from baimo.core.ids import canonical, digest
from baimo.core.run import Score
from baimo.core.task import Example
from baimo.errors import BudgetExceeded, TaskError
from baimo.evals.scorers.base import Described, is_object, judged
from baimo.text import text

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script(Described):
    """What the file's function returns: 0..1, a bool, a Score, or {"score", "strict", "explanation", …}."""

    name: ClassVar[str] = "python"
    file: str = "scorer.py"
    """Python file, from the task's folder."""
    function: str = "score"
    """Its function; it may be async."""
    folder: Path = Path()
    """Where `file` is looked for."""
    runs: bool = True
    """Whether the file is run; else it is only read."""
    _source: str = field(init=False, repr=False, compare=False, default="")
    _call: Callable[..., Any] = field(init=False, repr=False, compare=False, default=lambda *_: None)

    def __post_init__(self) -> None:
        """Run or at least read the file once, so that a broken one is found before the first call is paid for."""
        path = self.folder / self.file
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TaskError("scorers.bad_file", scorer=self.name, path=self.file, problem=error) from error
        object.__setattr__(self, "_source", source)
        code = _compiled(path, source)
        if self.runs:
            _log.warning(text("scorers.script_runs", path=path))
            object.__setattr__(self, "_call", _loaded(path, source, code, self.function))

    def sources(self) -> object:
        """The file."""
        return self._source

    async def score(self, example: Example, completion: Completion) -> Score:
        """The file's judgement; what it raises or returns out of range leaves the cell unscored."""
        try:
            if inspect.iscoroutinefunction(self._call):
                given = await self._call(example, completion)
            else:
                given = await asyncio.to_thread(self._call, example, completion)
                if inspect.isawaitable(given):
                    given = await given
            score = _as_score(given)
            canonical(score)  # details that cannot be stored must not end a run
            return score
        except (BudgetExceeded, asyncio.CancelledError):
            raise
        except Exception as error:
            facts = {"path": self.file, "line": _line(error, str(self.folder / self.file))}
            return Score.unscored(
                text("scorers.script_failed", **facts, problem=f"{type(error).__name__}: {error}")
            )


def _compiled(path: Path, source: str) -> types.CodeType:
    try:
        return compile(source, str(path), "exec")
    except Exception as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> TaskError:
    problem = f"{type(error).__name__}: {error}"
    return TaskError("scorers.script_broken", path=path, line=_line(error, str(path)), problem=problem)


def _loaded(path: Path, source: str, code: types.CodeType, function: str) -> Callable[..., Any]:
    module = types.ModuleType(f"baimo_scorer_{digest([str(path), source])[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up there
    try:
        exec(code, module.__dict__)
    except Exception as error:
        raise _broken(path, error) from error
    call = getattr(module, function, None)
    if not callable(call):
        raise TaskError("scorers.script_no_function", path=path, function=function)
    return call


def _as_score(given: Any) -> Score:
    if isinstance(given, Score):
        return given
    if isinstance(given, (bool, int, float)):
        return judged(_share(given), True)
    if is_object(given) and "score" in given:
        fields = {**given}
        lenient, strict = _share(fields.pop("score")), fields.pop("strict", None)
        explanation = str(fields.pop("explanation", ""))
        malformed = bool(fields.pop("malformed", False))
        strict = None if strict is None else _share(strict)
        return Score.of(lenient, strict, explanation=explanation, malformed=malformed, **fields)
    raise TypeError(text("scorers.script_type", kind=type(given).__name__))


def _share(value: Any) -> float:
    share = float(value)
    if not (math.isfinite(share) and 0 <= share <= 1):
        raise ValueError(text("scorers.script_range", value=value))
    return share


def _line(error: BaseException, path: str) -> int | str:
    """The last line of the file that the error passed through."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno or "?"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return (lines or ["?"])[-1] or "?"
