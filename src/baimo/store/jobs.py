"""Tuning jobs: what was asked, how far it is, what happened meanwhile.

Prevents three failures: progress that overwrites a wish to cancel (every change reads the row that it changes, in one
transaction, and may be bound to the statuses that it is meant for), an event that is told twice because a process died
between reading it and entering it (its place is that of its line in the job's folder), and two processes that look
after the same job (a change may be bound to the process whose name is beside it; who that is, the lock in the job's
folder decides, because the kernel lets go of it when a process dies).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, func, insert, select, update

from baimo.core.ids import base32, plain, sortable_id
from baimo.core.tuning import JobStatus, TuneJob
from baimo.store import tables
from baimo.store.dialects import inserting
from baimo.store.engine import Database
from baimo.store.shelf import Shelf
from baimo.typed import from_json

UNENDED = tuple(status for status in JobStatus if not status.ended)
"""Statuses of jobs that something may still happen to."""
_BESIDE = 20
"""Bits of an event's place that count what was told beside the lines of the folder."""
_DIGITS = 13
_ALPHABET = {base32(number, 1): number for number in range(32)}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Something that happened to a job."""

    job: str
    """TuneSpec.id."""
    place: int = 0
    """Where it stands among the events of its job; 0 = not yet entered."""
    at_ms: int
    """Wall clock, milliseconds since 1970."""
    kind: str
    """plan, progress, notice, checkpoint, done, failed … of the child; created, queued, started … of its keepers."""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What it says: the fields of TuneProgress, the key and facts of a message …"""

    @property
    def id(self) -> str:
        """ftevent-… sortable among the events of its job."""
        return f"ftevent-{self.job.partition('-')[2]}-{base32(self.place, _DIGITS)}"


class Jobs(Shelf):
    """Reads and changes tuning jobs. Every method is one transaction; all block."""

    def __init__(self, database: Database, now_ms: Callable[[], int] | None = None) -> None:
        """
        Args:
            database: where they are kept.
            now_ms: wall clock, milliseconds since 1970.
        """
        super().__init__(database, now_ms)
        self._event: Any = inserting(database.dialect, tables.job_events).on_conflict_do_nothing()

    def new_id(self) -> str:
        """An id that nobody has."""
        return sortable_id("ftjob", self.now_ms(), os.urandom(7)).replace("_", "-", 1)

    def put(self, job: TuneJob) -> None:
        """Enter a new one, and that it was made."""
        with self._database.writing() as connection:
            connection.execute(insert(tables.jobs).values({**_row(job), "holder": ""}))
            self._enter(connection, [JobEvent(job=job.spec.id, at_ms=job.created_ms, kind="created")])

    def get(self, tenant: str, id: str) -> TuneJob | None:
        """A tenant's job; None when there is none, or it is another's."""
        with self._database.reading() as connection:
            return _job(_found(connection, tenant, id))

    def find(self, id: str) -> TuneJob | None:
        """A job, whoever's it is: for who runs the machine."""
        with self._database.reading() as connection:
            return _job(connection.execute(select(tables.jobs).where(tables.jobs.c.id == id)).first())

    def page(self, tenant: str | None, *, limit: int, after: str = "") -> list[TuneJob]:
        """A tenant's jobs, the newest first.

        Args:
            tenant: whose; None = everybody's, for who runs the machine.
            limit: most that are wanted.
            after: id of the last one that is known already; empty = begin with the newest.
        """
        table = tables.jobs
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        query = query if tenant is None else query.where(table.c.tenant == tenant)
        return self._all(query.where(table.c.id < after) if after else query)

    def unended(self, *, status: Collection[JobStatus] = UNENDED) -> list[TuneJob]:
        """Jobs of everybody that something may still happen to, the oldest first."""
        table = tables.jobs
        return self._all(
            select(table).where(table.c.status.in_(status)).order_by(table.c.created_ms, table.c.id)
        )

    def change(
        self,
        tenant: str,
        id: str,
        changed: Callable[[TuneJob], TuneJob],
        *,
        when: Collection[JobStatus] | None = None,
        holder: str | None = None,
        events: Iterable[JobEvent] = (),
    ) -> TuneJob | None:
        """Change a job, and enter what happened.

        Args:
            tenant: whose.
            id: its id.
            changed: given it as it is now; what it returns is kept.
            when: only while its status is one of these.
            holder: only while this process looks after it.
            events: entered with the change, or not at all; one whose place is taken is left out, one without a place
                gets the next.

        Returns:
            It as it is afterwards; None when there is none, or `when` or `holder` forbid it.
        """
        table = tables.jobs
        with self._database.writing() as connection:
            row = _found(connection, tenant, id, lock=self._database.dialect == "postgresql")
            before = _job(row)
            if row is None or before is None or (holder is not None and row.holder != holder):
                return None
            if when is not None and before.status not in when:
                return None
            after = changed(before)
            if after != before:
                which = (table.c.tenant == tenant, table.c.id == id)
                connection.execute(update(table).where(*which).values(_row(after)))
            self._enter(connection, list(events))
        return after

    def delete(self, tenant: str, id: str) -> bool:
        """Forget one that has ended, with its events; whether there was such a one."""
        table, events = tables.jobs, tables.job_events
        ended = table.c.status.not_in(UNENDED)
        with self._database.writing() as connection:
            query = table.delete().where(table.c.tenant == tenant, table.c.id == id, ended)
            done: Any = connection.execute(query)
            if done.rowcount:
                connection.execute(events.delete().where(events.c.job == id))
        return bool(done.rowcount)

    # who looks after it

    def claim(self, job: TuneJob, holder: str) -> TuneJob | None:
        """Write down who looks after a job from now on: who has the lock in its folder.

        Returns:
            The job as it is now; None when it is gone.
        """
        table = tables.jobs
        tenant, id = job.spec.tenant, job.spec.id
        which = (table.c.tenant == tenant, table.c.id == id)
        with self._database.writing() as connection:
            connection.execute(update(table).where(*which).values(holder=holder))
            return _job(_found(connection, tenant, id))

    # what happened

    def tell(self, id: str, kind: str, **facts: Any) -> JobEvent:
        """Enter something that happened beside the job's folder, behind everything that is known."""
        event = JobEvent(job=id, at_ms=self.now_ms(), kind=kind, facts=plain(facts))
        table = tables.jobs
        with self._database.writing() as connection:
            # who else enters something about this job waits: its place is the next one
            connection.execute(select(table.c.id).where(table.c.id == id).with_for_update()).first()
            return self._enter(connection, [event])[0]

    def events(
        self, id: str, *, limit: int, after: str = "", besides: Collection[str] = ()
    ) -> list[JobEvent]:
        """What happened to a job, the newest first.

        Args:
            id: the job's; whether it may be seen is known already.
            limit: most that are wanted.
            after: id of the last one that is known already; empty = begin with the newest.
            besides: kinds that are left out.
        """
        table = tables.job_events
        query = select(table).where(table.c.job == id).order_by(table.c.seq.desc()).limit(limit)
        for kind in besides:  # as `_enter` writes them
            query = query.where(table.c.event.not_like(f'{{"kind":"{kind}",%'))
        if after:
            query = query.where(table.c.seq < _place(after))
        with self._database.reading() as connection:
            return [_event(row) for row in connection.execute(query)]

    def since(self, id: str, place: int, *, limit: int = 1000) -> list[JobEvent]:
        """What happened behind a place, the oldest first: for who follows a job."""
        table = tables.job_events
        query = select(table).where(table.c.job == id, table.c.seq > place).order_by(table.c.seq).limit(limit)
        with self._database.reading() as connection:
            return [_event(row) for row in connection.execute(query)]

    def read_to(self, id: str) -> int:
        """Byte of the folder's events up to which they are entered."""
        with self._database.reading() as connection:
            return self._last(connection, id) >> _BESIDE

    def _last(self, connection: Connection, id: str) -> int:
        table = tables.job_events
        return connection.execute(select(func.max(table.c.seq)).where(table.c.job == id)).scalar() or 0

    def _enter(self, connection: Connection, events: list[JobEvent]) -> list[JobEvent]:
        placed: list[JobEvent] = []
        for event in events:
            if not event.place:
                last = placed[-1].place if placed else self._last(connection, event.job)
                event = replace(event, place=last + 1)
            placed.append(event)
        rows = [
            {
                "job": event.job,
                "seq": event.place,
                "at_ms": event.at_ms,
                "event": msgspec.json.encode({"kind": event.kind, "facts": event.facts}).decode(),
            }
            for event in placed
        ]
        if rows:
            connection.execute(self._event, rows)
        return placed

    def _all(self, query: Select[Any]) -> list[TuneJob]:
        with self._database.reading() as connection:
            return [_decoded(row.job) for row in connection.execute(query)]


def line_event(job: str, behind: int, line: Mapping[str, Any]) -> JobEvent:
    """The event that a line of a job's folder is.

    Args:
        job: TuneSpec.id.
        behind: byte behind the line, as `JobFolder.events` says it.
        line: {at_ms, kind, …}.
    """
    facts = {name: value for name, value in line.items() if name not in ("at_ms", "kind")}
    return JobEvent(
        job=job, place=behind << _BESIDE, at_ms=int(line["at_ms"]), kind=str(line["kind"]), facts=facts
    )


def _place(id: str) -> int:
    """The place that an event's id names; 0 = it is no such id."""
    place = 0
    for digit in id.rpartition("-")[2]:
        if digit not in _ALPHABET:
            return 0
        place = place << 5 | _ALPHABET[digit]
    return place if place < 1 << 63 else 0


def _event(row: Row[Any]) -> JobEvent:
    said = msgspec.json.decode(row.event)
    return JobEvent(job=row.job, place=row.seq, at_ms=row.at_ms, kind=said["kind"], facts=said["facts"])


def _found(connection: Connection, tenant: str, id: str, *, lock: bool = False) -> Row[Any] | None:
    table = tables.jobs
    query = select(table).where(table.c.tenant == tenant, table.c.id == id)
    return connection.execute(query.with_for_update() if lock else query).first()


def _job(row: Row[Any] | None) -> TuneJob | None:
    return None if row is None else _decoded(row.job)


def _decoded(text: str) -> TuneJob:
    return from_json(text, TuneJob)


def _row(job: TuneJob) -> dict[str, Any]:
    return {
        "tenant": job.spec.tenant,
        "id": job.spec.id,
        "status": job.status.value,
        "created_ms": job.created_ms,
        "job": msgspec.json.encode(plain(job)).decode(),
    }
