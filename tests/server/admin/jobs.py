"""Tuning jobs that nobody works on, to try operations on."""

from __future__ import annotations

from baimo.core.registry import Spec
from baimo.core.tuning import Adapter, JobStatus, TuneJob, TuneSpec
from baimo.errors import ConfigError
from baimo.store.adapters import Adapters
from baimo.store.jobs import Jobs
from baimo.tuning.launch import Launch
from tests.server.served import Served
from tests.server.tuned import client, uploaded


def idle(house: Served) -> None:
    """No job of this endpoint is begun: what is ordered fails as if its base were not to be had."""

    def refused(job: TuneJob) -> Launch:
        raise ConfigError("tune.unknown_recipe", name="idle", known="none")

    tuning = house.state["service"].tuning
    tuning.able, tuning.queue.launch = (lambda recipe: None), refused


def tune_job(house: Served, status: JobStatus, tenant: str = "") -> str:
    """A new job without a folder, so that nobody looks after it."""
    jobs = Jobs(house.workspace.store.database)
    spec = TuneSpec(
        id=jobs.new_id(), recipe=Spec(name="sft"), base="local/smollm2-135m-instruct", tenant=tenant
    )
    jobs.put(TuneJob(spec=spec, status=status, created_ms=jobs.now_ms()))
    return spec.id


def trained_on(house: Served, key: str, name: str = "train.jsonl") -> str:
    """An uploaded training file."""
    with client(house, key) as ours:
        return uploaded(ours, name=name)


BEFORE = {
    "tuning_pause": JobStatus.QUEUED,
    "tuning_resume": JobStatus.PAUSED,
    "tuning_cancel": JobStatus.QUEUED,
}
"""Operation → how a job stands that it can be tried on; others want one that has ended."""


def job_for(house: Served, operation: str, tenant: str) -> str:
    """A new job that an operation can be tried on."""
    return tune_job(house, BEFORE.get(operation, JobStatus.SUCCEEDED), tenant)


def tuned_model(house: Served, tenant: str) -> str:
    """A tuned model without weights that passed its gate."""
    adapters = Adapters(house.workspace.store.database)
    id = adapters.new_id()
    name = f"ft:small:{tenant or 'owner'}::{id}"
    adapters.put(
        Adapter(
            id=id,
            name=name,
            tenant=tenant,
            base="local/smollm2-135m-instruct",
            base_hash="",
            folder=f"adapters/{id}",
            status="ready",
            created_ms=1,
            parity={"differs": "", "prompts": 8},
        )
    )
    return name
