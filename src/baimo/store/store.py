"""The store's nouns over one database: answers, runs with their samples and verdicts, the ledger, blobs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, RowMapping, bindparam, delete, func, insert, select, update

from baimo.core.call import Completion, Request
from baimo.core.ids import plain
from baimo.core.record import Record
from baimo.core.run import Run, Sample, StoredAnswer
from baimo.core.verdict import Verdict
from baimo.errors import TaskError, UsageError
from baimo.store import tables
from baimo.store.accounts import forgotten_until, holding_revision
from baimo.store.chain import append
from baimo.store.dialects import inserting
from baimo.store.engine import Database
from baimo.store.lines import record_of, row_of_record
from baimo.store.purses import Purse
from baimo.typed import from_json

_Noun = TypeVar("_Noun")

# built once: to build a statement anew for every call takes longer than the database does
_ANSWER = select(tables.answers).where(tables.answers.c.hash == bindparam("wanted"))


class Spend(NamedTuple):
    """One line of a ledger sum."""

    group: str
    currency: str
    calls: int
    unpriced: int
    """Calls whose cost is not known; they are not in `cost_micros`."""
    cost_micros: int
    tokens_in: int
    tokens_out: int


class Store:
    """Reads and writes the workspace's memory. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._new_answer: Any = inserting(self.database.dialect, tables.answers).on_conflict_do_nothing()

    # answers

    def answer(self, hash: str) -> StoredAnswer | None:
        """The stored answer to exactly this request, or None."""
        with self.database.reading() as connection:
            row = connection.execute(_ANSWER, {"wanted": hash}).mappings().first()
        return None if row is None else _answer(row)

    def answers(self, hashes: Iterable[str]) -> dict[str, StoredAnswer]:
        """Those of the asked answers that are stored, by hash."""
        table, found = tables.answers, dict[str, StoredAnswer]()
        with self.database.reading() as connection:
            for some in _chunks(list(hashes), 500):
                for row in connection.execute(select(table).where(table.c.hash.in_(some))).mappings():
                    found[row["hash"]] = _answer(row)
        return found

    def settle(self, record: Record, answer: StoredAnswer | None = None, purse: Purse | None = None) -> None:
        """Write a call's Record and, if there is one, its answer, and charge it to limits: all or nothing. The answer
        of a run that was deleted meanwhile is not kept."""
        with self.database.writing() as connection:
            record = record if purse is None else purse.charged(connection, record)
            append(connection, [row_of_record(record)])
            if answer is not None and (not record.run or _is_there(connection, record.run)):
                row = {
                    "hash": answer.hash,
                    "model": answer.request.model,
                    "request": _encoded(answer.request),
                    "completion": _encoded(answer.completion),
                    "price_micros": answer.price_micros,
                    "currency": answer.currency,
                    "created_ms": answer.created_ms,
                    "tenant": record.tenant,
                }
                # another process may have bought the same answer meanwhile: the first one stays
                connection.execute(self._new_answer, row)

    # runs

    def begin(self, run: Run, task: bytes = b"") -> None:
        """Enter a run that starts now, and keep its task under `Run.task_blob`.

        Args:
            run: as it is now.
            task: canonical JSON; empty = it is kept already.

        Raises:
            TaskError: its tenant was forgotten since it was made.
        """
        row = {
            "id": run.id,
            "task": run.task,
            "task_hash": run.task_hash,
            "status": run.status,
            "started_ms": run.started_ms,
            "ended_ms": run.ended_ms,
            "run": _encoded(run),
            "tenant": run.tenant,
        }
        with self.database.writing() as connection:
            holding_revision(connection)
            if run.started_ms <= forgotten_until(connection)(run.tenant):
                raise TaskError("compare.no_task", run=run.id)
            if task:
                blob = {"hash": run.task_blob, "kind": "task", "data": task}
                kept = inserting(self.database.dialect, tables.blobs).values(blob)
                connection.execute(kept.on_conflict_do_nothing())
            connection.execute(insert(tables.runs).values(row))

    def finish(self, run: Run, verdict: Verdict | None) -> None:
        """Enter how a run ended."""
        values = {
            "status": run.status,
            "ended_ms": run.ended_ms,
            "run": _encoded(run),
            "verdict": None if verdict is None else _encoded(verdict),
        }
        with self.database.writing() as connection:
            connection.execute(update(tables.runs).where(tables.runs.c.id == run.id).values(values))

    def run(self, id: str) -> Run | None:
        """A run by its id."""
        with self.database.reading() as connection:
            found = connection.execute(select(tables.runs.c.run).where(tables.runs.c.id == id)).scalar()
        return None if found is None else _decoded(found, Run)

    def runs(self, task: str | None = None, *, limit: int = 50) -> list[Run]:
        """The newest runs first."""
        query = select(tables.runs.c.run).order_by(tables.runs.c.started_ms.desc(), tables.runs.c.id.desc())
        if task is not None:
            query = query.where(tables.runs.c.task == task)
        with self.database.reading() as connection:
            return [_decoded(found, Run) for found in connection.execute(query.limit(limit)).scalars()]

    def verdict(self, run: str) -> Verdict | None:
        """The verdict of a run; None while it has none."""
        with self.database.reading() as connection:
            found = connection.execute(select(tables.runs.c.verdict).where(tables.runs.c.id == run)).scalar()
        return None if found is None else _decoded(found, Verdict)

    def add_samples(self, run: str, samples: Sequence[Sample], *, first_position: int) -> None:
        """Enter a batch of samples; a sample that is entered again replaces the old one.

        Raises:
            UsageError: the run was deleted.
        """
        if not samples:
            return
        statement = inserting(self.database.dialect, tables.samples)
        replace = {name: statement.excluded[name] for name in ("position", "outcome", "sample")}
        rows = [
            {
                "run": run,
                "candidate": sample.candidate,
                "example": sample.example,
                "position": first_position + offset,
                "outcome": sample.score.outcome.value,
                "sample": _encoded(sample),
            }
            for offset, sample in enumerate(samples)
        ]
        with self.database.writing() as connection:
            if not _is_there(connection, run):
                raise UsageError("compare.no_run", id=run, where=self.database.where)
            connection.execute(
                statement.on_conflict_do_update(index_elements=["run", "candidate", "example"], set_=replace),
                rows,
            )

    def forget_samples(self, run: str) -> None:
        """Begin a run's samples anew; the answers stay."""
        with self.database.writing() as connection:
            connection.execute(delete(tables.samples).where(tables.samples.c.run == run))

    def samples(self, run: str) -> list[Sample]:
        """Every sample of a run, in the order in which they were decided on."""
        table = tables.samples
        query = select(table.c.sample).where(table.c.run == run).order_by(table.c.position)
        with self.database.reading() as connection:
            return [_decoded(found, Sample) for found in connection.execute(query).scalars()]

    # ledger

    def records(self, *, run: str | None = None, since_ms: int = 0) -> Iterator[Record]:
        """Records in the order of their time."""
        table = tables.records
        query = select(table).where(table.c.at_ms >= since_ms).order_by(table.c.at_ms, table.c.id)
        if run is not None:
            query = query.where(table.c.run == run)
        with self.database.reading() as connection:
            for row in connection.execute(query).mappings():
                yield record_of(row)

    def spend(self, *, by: str = "model", run: str | None = None) -> list[Spend]:
        """Sums of the ledger grouped by a column of it: model, surface, run, tenant, key, status."""
        table = tables.records
        group = table.c[by]
        query = (
            select(
                group,
                table.c.currency,
                func.count(),
                func.count() - func.count(table.c.cost_micros),
                func.coalesce(func.sum(table.c.cost_micros), 0),
                func.coalesce(func.sum(table.c.tokens_in), 0),
                func.coalesce(func.sum(table.c.tokens_out), 0),
            )
            .group_by(group, table.c.currency)
            .order_by(group, table.c.currency)
        )
        if run is not None:
            query = query.where(table.c.run == run)
        with self.database.reading() as connection:
            return [Spend(str(row[0]), str(row[1]), *map(int, row[2:])) for row in connection.execute(query)]

    def latency_ms(self, model: str, *, newest: int = 100) -> float | None:
        """Median latency of the newest answered calls of a model, milliseconds; None when there are none."""
        table = tables.records
        query = (
            select(table.c.latency_ms)
            .where(table.c.model == model, table.c.latency_ms.is_not(None))
            .order_by(table.c.at_ms.desc())
            .limit(newest)
        )
        with self.database.reading() as connection:
            seen = list(connection.execute(query).scalars())
        return statistics.median(seen) if seen else None

    # blobs

    def blob(self, hash: str) -> bytes | None:
        """The bytes with this hash, or None."""
        with self.database.reading() as connection:
            found = connection.execute(
                select(tables.blobs.c.data).where(tables.blobs.c.hash == hash)
            ).scalar()
        return None if found is None else bytes(found)

    def close(self) -> None:
        """Give back every connection."""
        self.database.close()


def _is_there(connection: Connection, run: str) -> bool:
    """Whether there is such a run; who deletes it waits for us."""
    query = select(tables.runs.c.id).where(tables.runs.c.id == run).with_for_update(read=True)
    return connection.execute(query).first() is not None


def _encoded(noun: object) -> str:
    return msgspec.json.encode(plain(noun)).decode()


def _decoded(text: str, kind: type[_Noun]) -> _Noun:
    return from_json(text, kind)


def _answer(row: RowMapping) -> StoredAnswer:
    return StoredAnswer(
        hash=row["hash"],
        request=_decoded(row["request"], Request),
        completion=_decoded(row["completion"], Completion),
        price_micros=row["price_micros"],
        currency=row["currency"],
        created_ms=row["created_ms"],
    )


def _chunks(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
