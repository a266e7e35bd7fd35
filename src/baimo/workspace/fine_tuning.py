"""Tuning jobs that clients of OpenAI's API order: from uploaded files to a queued job, and from its end to its files.

Prevents three failures: a job that stays in `validating_files` for ever because the server died over it (whoever
comes next validates it again, one process at a time), a training file that is deleted before it was read, and a base
that is another tenant's.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from baimo.core.ids import digest
from baimo.core.model import Model
from baimo.core.registry import Spec
from baimo.core.tenant import DataClass, Key
from baimo.core.tuning import Adapter, JobStatus, Row, TuneJob, TuneSpec
from baimo.errors import BaimoError, CallRefused, LimitReached, NotFound
from baimo.gateway.keyring import permits_name
from baimo.store.adapters import Adapters
from baimo.store.files import Files, StoredFile
from baimo.store.jobs import JobEvent, Jobs
from baimo.text import text
from baimo.tuning.bench import RECIPES
from baimo.workspace.fine_tuning_order import Order
from baimo.workspace.fine_tuning_personal import See, Seen
from baimo.workspace.fine_tuning_results import results_kept
from baimo.workspace.queue import Queue

PURPOSE = "fine-tune"
LONG = 2 * 1024 * 1024
"""Bytes of files from which on they are validated in another process."""
MOST_WAITING = 100
"""Jobs of one tenant that have not ended."""
LOOK_S = 2.0
"""How often it is looked whether there is a job to validate."""
_FIRST_LINES = 50
VALID = "valid.jsonl"
HIDDEN = frozenset({"record"})
"""Events that are about our books."""

log = logging.getLogger("baimo.tune")


Reader = Callable[[Path, str, str, str], Sequence[Row]]
"""Rows of an uploaded file, given its path, OpenAI's method, the parameter that named it, and its id.

Raises BaimoError whose facts hold `param` and `code`, in OpenAI's words.
"""
Tunable = Callable[[str | None, Key], Sequence[Model]]
"""The models of this machine that a name stands for; of None, all that a key may ask for."""


class Page(NamedTuple):
    """A page of something, and whether there is more."""

    rows: list[Any]
    more: bool


class FineTuning:
    """What clients may do with tuning jobs. Every method blocks.

    Args:
        queue: whose jobs they are.
        files: training files and results.
        adapters: models that jobs have made.
        tunable: bases.
        read: reads training files.
        remove: serves a model no more, and removes its files.
        see: looks for personal data in them.
        able: refuses a recipe that this machine could not begin.
        check: refuses what a recipe cannot be told.
    """

    def __init__(
        self,
        queue: Queue,
        files: Files,
        adapters: Adapters,
        *,
        tunable: Tunable,
        read: Reader,
        remove: Callable[[Adapter], object],
        see: See = Seen,
        able: Callable[[str], None] = lambda recipe: None,
        check: Callable[[Order], None] = lambda order: None,
    ) -> None:
        self.queue = queue
        self.jobs: Jobs = queue.jobs
        self.adapters = adapters
        self._files = files
        self.able, self.check = able, check
        self.apart: Callable[[], None] | None = None
        """Validates what waits for it in another process; None = there is no other."""
        self._tunable = tunable
        self._read = read
        self.see = see
        self._remove = remove

    def order(self, order: Order, key: Key, tenant: str, data: DataClass = "public") -> TuneJob:
        """Enter a job, whose files are still to be validated.

        Args:
            order: what is asked.
            key: who asks.
            tenant: for whom.
            data: class of what the job learns from.

        Raises:
            CallRefused: a file is not there or is for something else, no such model can be tuned here, or the recipe
                knows no such setting.
            LimitReached: this tenant has too many jobs.
        """
        for param in ("training_file", "validation_file"):
            if given := getattr(order, param):
                self._training(tenant, given, param)
        if order.recipe not in RECIPES:
            known = ", ".join(RECIPES)
            raise CallRefused("finetuning.recipe", field="baimo.recipe", name=order.recipe[:40], known=known)
        self.check(order)
        base = self.base(order.model, key, tenant)
        self.able(order.recipe)
        self.room(tenant)
        drawn = int.from_bytes(os.urandom(4), "big") >> 1
        spec = TuneSpec(
            id=self.jobs.new_id(),
            recipe=Spec(name=order.recipe, args=order.settings),
            base=base,
            valid=VALID if order.validation_file else "",
            effort=order.effort,
            seed=drawn if order.seed is None else order.seed,
            suffix=order.suffix,
            tenant=tenant,
        )
        job = self.queue.submit(
            spec, (), asked=order.asked, key=key.public, data_class=data, status=JobStatus.VALIDATING
        )
        files = {"training": order.training_file, "validation": order.validation_file}
        self.jobs.tell(spec.id, "validating_both" if order.validation_file else "validating", **files)
        if order.integrations:
            self.jobs.tell(spec.id, "ignored_integrations", count=order.integrations)
        return job

    def room(self, tenant: str) -> None:
        """
        Raises:
            LimitReached: this tenant has as many jobs as it may.
        """
        waiting = sum(1 for job in self.jobs.unended() if job.spec.tenant == tenant)
        if waiting >= MOST_WAITING:
            raise LimitReached("finetuning.too_many", limit=MOST_WAITING)

    def validate(self) -> int:
        """Validate the files of every job that waits for it and that nobody else validates; how many that were."""
        count = 0
        for job in self.jobs.unended(status=(JobStatus.VALIDATING,)):
            if self.apart is not None and self._length(job) > LONG and not self.queue.at(job.spec.id).kept:
                self._validated_apart(job, self.apart)
                count += 1
                continue
            with self.queue.at(job.spec.id).keeper() as mine:
                now = self.jobs.get(job.spec.tenant, job.spec.id) if mine else None
                if now is not None and now.status is JobStatus.VALIDATING:
                    self._validated(now)
                    count += 1
        return count

    def _length(self, job: TuneJob) -> int:
        """Bytes of a job's files."""
        ids = (str(job.asked.get(param) or "") for param in ("training_file", "validation_file"))
        found = (self._files.get(job.spec.tenant, id) for id in ids if id)
        return sum(file.bytes for file in found if file is not None)

    def _validated_apart(self, job: TuneJob, apart: Callable[[], None]) -> None:
        """In another process; if that dies over it, the job has failed: else it would die again and again."""
        try:
            apart()
        except BaimoError as error:
            if not self.queue.at(job.spec.id).kept:  # else a third process is at it
                self.queue.refused(job, error, code="server_error")

    def _validated(self, job: TuneJob) -> None:
        param = "training_file"
        try:
            train = self.see(self._rows(job, param))
            param = "validation_file"
            valid = self.see(self._rows(job, param) if job.spec.valid else ())
        except BaimoError as error:
            code = str(error.facts.get("code") or f"invalid_{param}")
            error.facts.setdefault("param", param)
            self.queue.refused(job, error, code=code)
            return
        id, masked = job.spec.id, bool(train.cleaned)
        if train.found or valid.found:
            kind = "personal_data_masked" if masked else "personal_data"
            kinds = ", ".join(f"{name} ({count})" for name, count in (train.found or valid.found).items())
            self.jobs.tell(id, kind, kinds=kinds, training=train.found, validation=valid.found)
        self.jobs.tell(id, "validated", rows=len(train.rows), valid=len(valid.rows))
        data_hash = digest([row.hash for row in train.rows])
        spec = replace(job.spec, data_hash=data_hash, cleaned=train.cleaned)
        self.queue.queued(job, spec, train.rows, valid.rows)

    def _rows(self, job: TuneJob, param: str) -> Sequence[Row]:
        file = self._training(job.spec.tenant, str(job.asked.get(param) or ""), param)
        method: Mapping[str, Any] = job.asked.get("method") or {}
        kind = str(method.get("type", "supervised"))
        return self._read(self._files.path(file.tenant, file.id), kind, param, file.id)

    def _training(self, tenant: str, id: str, param: str) -> StoredFile:
        file = self._files.get(tenant, id)
        if file is None:
            raise CallRefused("finetuning.no_file", field=param, param=param, file=id[:100])
        if file.purpose != PURPOSE:
            raise CallRefused(
                "finetuning.purpose", field=param, param=param, file=file.id, purpose=file.purpose
            )
        if not self._files.path(tenant, id).exists():
            raise NotFound("files.not_here", id=id)
        return file

    def base(self, asked: str, key: Key, tenant: str) -> str:
        """Full name of the model to start from.

        Raises:
            CallRefused: this key can have none of that name tuned here.
        """
        if asked.startswith("ft:"):
            adapter = self.adapters.named(asked, tenant)
            if adapter is not None and adapter.status != "retired" and permits_name(key, asked):
                return adapter.name
        elif asked:
            models = self._tunable(asked, key)
            permitted = [one for one in models if permits_name(key, asked) or permits_name(key, one.name)]
            if permitted:
                return permitted[0].name
        known = ", ".join(one.name for one in self._tunable(None, key)) or text("finetuning.no_bases")
        raise CallRefused("finetuning.not_available", field="model", name=asked[:200], known=known)

    # what there is

    def job(self, tenant: str, id: str) -> TuneJob:
        """A tenant's job.

        Raises:
            NotFound: there is none, or it is another's.
        """
        job = self.jobs.get(tenant, id)
        if job is None:
            raise NotFound("finetuning.unknown", field="fine_tune_id", id=id[:100])
        return self.planned(job)

    def page(self, tenant: str, *, limit: int, after: str, labels: Mapping[str, str] | None) -> Page:
        """A tenant's jobs, the newest first.

        Args:
            tenant: whose.
            limit: most that are wanted.
            after: id of the last one that is known; empty = begin.
            labels: metadata that they must have; None = must have none; empty = whatever.
        """
        found: list[TuneJob] = []
        while len(found) <= limit:
            some = self.jobs.page(tenant, limit=limit + 1, after=after)
            found += [job for job in some if _labelled(job, labels)]
            if len(some) <= limit:
                break
            after = some[-1].spec.id
        return Page([self.planned(job) for job in found[:limit]], len(found) > limit)

    def events(self, job: TuneJob, *, limit: int, after: str) -> Page:
        """What happened to a job, the newest first."""
        found: list[JobEvent] = []
        while len(found) <= limit:
            some = self.jobs.events(job.spec.id, limit=limit + 1, after=after)
            found += [event for event in some if event.kind not in HIDDEN]
            if len(some) <= limit:
                break
            after = some[-1].id
        return Page(found[:limit], len(found) > limit)

    def checkpoints(self, job: TuneJob) -> list[tuple[Adapter, Mapping[str, Any]]]:
        """Models of a job's checkpoints, the newest first, each with the figures of its step."""
        made = [one for one in self.adapters.of_job(job.spec.tenant, job.spec.id) if one.step is not None]
        if not made:
            return []
        figures: dict[int, dict[str, Any]] = {}
        place = 0
        while events := self.jobs.since(job.spec.id, place):
            place = events[-1].place
            for event in events:
                if event.kind in ("progress", "checkpoint"):
                    told: Mapping[str, Any] = event.facts.get("progress") or {}
                    known = figures.setdefault(int(event.facts.get("step") or told.get("step") or 0), {})
                    known.update({name: one for name, one in told.items() if one is not None})
        return [
            (one, figures.get(one.step or 0, {})) for one in sorted(made, key=lambda one: -(one.step or 0))
        ]

    def planned(self, job: TuneJob) -> TuneJob:
        """The job with the settings that its recipe has derived, where that is known on this machine."""
        for _, line in islice(self.queue.at(job.spec.id).events(), _FIRST_LINES):
            if line.get("kind") == "plan":
                settings = line.get("settings") or line
                return replace(job, asked={**job.asked, "planned": settings})
        return job

    def using(self, tenant: str, file: str) -> str | None:
        """Id of a job that still has to read this file."""
        for job in self.jobs.unended(status=(JobStatus.VALIDATING,)):
            if job.spec.tenant == tenant and file in (
                job.asked.get("training_file"),
                job.asked.get("validation_file"),
            ):
                return job.spec.id
        return None

    def forget(self, tenant: str, name: str) -> bool:
        """Delete a tuned model; whether this tenant had one of that name."""
        found = self.adapters.named(name, tenant)
        if found is not None:
            self._remove(found)
        return found is not None

    def results(self, job: TuneJob) -> TuneJob:
        """The job with its figures as a file, at its good end, which is told."""
        self.jobs.tell(job.spec.id, "model_created", model=job.model)
        return replace(job, files=(results_kept(self._files, self.queue.at(job.spec.id), job),))


def _labelled(job: TuneJob, labels: Mapping[str, str] | None) -> bool:
    known: Mapping[str, str] = job.asked.get("metadata") or {}
    if labels is None:
        return not known
    return all(known.get(name) == value for name, value in labels.items())


async def validating(tuning: FineTuning, nudged: asyncio.Event, ready: asyncio.Event) -> None:
    """Validate files until cancelled; whatever goes wrong is logged, and tried again.

    Args:
        tuning: whose.
        nudged: set when there is a new job.
        ready: set when one is through.
    """
    while True:
        try:
            if await asyncio.to_thread(tuning.validate):
                ready.set()
        except (BaimoError, OSError) as error:
            log.warning(text("finetuning.not_validated", problem=error))
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await nudged.wait()
        nudged.clear()
