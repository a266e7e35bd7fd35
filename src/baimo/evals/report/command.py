"""The command line that repeats a run, from the options that it recorded."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, cast

from baimo.core.run import Run
from baimo.evals.report.figures import name

_POSITIONAL = ("task", "folder")
_SAME_RESULT = ("json", "html", "markdown", "quiet", "output", "require", "yes", "workspace", "seed")


def command(run: Run) -> str:
    """`baimo compare …` with every option that shapes the result, quoted for a shell; the seed always said.

    Options are written as the verb's dataclass has them: `max_cost=2` is `--max-cost 2`, a true flag stands
    alone, a list (`models`, `model`) is repeated in the singular; what is None, false or empty is left out.
    """
    options: Mapping[str, Any] = run.options
    words = ["baimo", "compare", str(options.get("task") or options.get("folder") or run.task)]
    for key, value in options.items():
        if key in _POSITIONAL or key in _SAME_RESULT or value is None or value is False or value == "":
            continue
        flag = "--" + str(key).replace("_", "-")
        if value is True:
            words.append(flag)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            for each in cast("Sequence[Any]", value):
                words += [flag.removesuffix("s") if key == "models" else flag, str(each)]
        elif isinstance(value, (str, int, float)):
            words += [flag, str(value)]
    words += ["--seed", str(run.seed)]
    return name(shlex.join(words))
