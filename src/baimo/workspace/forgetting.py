"""What tuning has made of what a tenant said, taken away: children at work, copies of rows, models.

Prevents two failures: a model that goes on learning from somebody who was forgotten (children are stopped before
anything is removed), and a half-done removal that nobody can repeat (the rows of jobs go last, with everything else).
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from baimo.errors import Conflict, NotFound
from baimo.text import text
from baimo.tuning.folder import JobFolder
from baimo.tuning.launch import Child

if TYPE_CHECKING:
    from baimo.workspace.adapting import Adapting
    from baimo.workspace.queue import Queue

PATIENCE_S = 10.0
"""How long a child may take to end by itself, and whoever looks after a job to let go of it."""
_LOOK_S = 0.05
_PAGE = 200


def stopped(queue: Queue, tenant: str, *, patience_s: float = PATIENCE_S) -> int:
    """Cancel all tuning jobs of a tenant, end their children, and remove their folders; how many jobs there are.

    The rows of the jobs stay, cancelled, until `Contents.forget_tenant`.

    Args:
        queue: the workspace's.
        tenant: its id.
        patience_s: how long children and their keepers may take.

    Raises:
        Conflict: a child cannot be ended; nothing is removed.
    """
    jobs = list(_jobs(queue, tenant))
    for job in jobs:
        with contextlib.suppress(Conflict, NotFound):  # it has ended
            queue.cancel(tenant, job)
    folders = [queue.at(job) for job in sorted({*jobs, *_unentered(queue, tenant)})]
    there = [folder for folder in folders if folder.path.exists()]
    for folder in there:
        folder.wish("cancel")  # also a child of a job that has ended, if nobody has stopped it yet
    deadline = time.monotonic() + patience_s
    for folder in there:
        _ended(folder, deadline)
    for folder in there:
        shutil.rmtree(folder.path, ignore_errors=True)
    return len(jobs)


def removed(adapting: Adapting, tenant: str) -> int:
    """Delete all adapters of a tenant, with their files and what was made of them to be served; how many.

    Raises:
        AdapterError: the folder of one is none of those that adapters are kept in.
    """
    count = 0
    while found := adapting.page(tenant, limit=_PAGE):
        for adapter in found:
            adapting.delete(adapter)
        count += len(found)
    return count


def _jobs(queue: Queue, tenant: str) -> Iterator[str]:
    after = ""
    while page := queue.jobs.page(tenant, limit=_PAGE, after=after):
        yield from (job.spec.id for job in page)
        after = page[-1].spec.id


def _unentered(queue: Queue, tenant: str) -> Iterator[str]:
    """Jobs that there is a folder of only: being forecast, or left over."""
    for path in queue.folder.glob("ftjob-*"):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            if JobFolder(path).spec().tenant == tenant:
                yield path.name


def _ended(folder: JobFolder, deadline: float) -> None:
    child = Child(folder)
    while child.alive:
        late_s = time.monotonic() - deadline
        if late_s > PATIENCE_S:  # on another machine, out of reach
            raise Conflict("tune.not_ended", job=folder.path.name, status=text("tune.status_running"))
        if late_s > 0:
            child.signalled(signal.SIGKILL)
        time.sleep(_LOOK_S)
    while folder.kept and time.monotonic() < deadline:  # whoever keeps it may be making a model of it
        time.sleep(_LOOK_S)
