"""Who works on runs of evaluations in this process."""

from __future__ import annotations

from functools import partial

from baimo.gateway.crew import Crew
from baimo.store.evaluation_runs import EvalRun
from baimo.workspace.eval_work import EvalWork, Tools

AT_ONCE = 4
"""Runs of one process."""


def crew(tools: Tools) -> Crew[EvalRun]:
    """Works on runs of evaluations."""
    return Crew(
        orders=tools.runs,
        holder=tools.holder,
        work=partial(EvalWork, tools),
        at_once=AT_ONCE,
        paused="evaluations.paused",
        faulty="evaluations.faulty",
    )
