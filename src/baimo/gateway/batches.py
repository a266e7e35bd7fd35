"""Who answers batches in this process."""

from __future__ import annotations

from functools import partial

from baimo.gateway.batch_work import Tools, Work
from baimo.gateway.crew import Crew
from baimo.store.batches import Batch

AT_ONCE = 8
"""Batches of one process; their lines share the room that there is."""


def crew(tools: Tools) -> Crew[Batch]:
    """Works on batches whose files lie on this machine."""

    def wanted(batch: Batch) -> bool:
        gone = tools.files.get(batch.tenant, batch.input_file) is None
        return gone or tools.files.path(batch.tenant, batch.input_file).exists()

    return Crew(
        orders=tools.batches,
        holder=tools.holder,
        work=partial(Work, tools),
        at_once=AT_ONCE,
        wanted=wanted,
        paused="batches.paused",
        faulty="batches.faulty",
    )
