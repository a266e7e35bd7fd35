"""An endpoint whose tuning jobs are done by a child of few words, and what it takes to follow them."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
from openai.types.fine_tuning import FineTuningJob

from baimo.core.tuning import Adapter, TuneJob
from baimo.store.adapters import Adapters
from baimo.tuning.folder import JobFolder
from baimo.tuning.launch import Launch
from tests.server.served import TOML, Served, served

ROOT = Path(__file__).parents[2]
BASE = "local/smollm2-135m-instruct"
SCRIPTED = Launch(command=(sys.executable, "-m", "tests.tuning.scripted"), directory=ROOT)
ALIASED = f"""{TOML}
[routes."gpt-4o-mini-2024-07-18"]
models = ["{BASE}"]
[serve]
drain_s = 1.0
[tune]
organization = "acme"
jobs = 2
"""


def example(number: int) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "system", "content": "Answer with one word."},
            {"role": "user", "content": f"Question {number}?"},
            {"role": "assistant", "content": f"Answer{number}"},
        ]
    }


def lines(rows: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


GOOD = lines([example(number) for number in range(12)])


@contextlib.contextmanager
def tuned(folder: Path) -> Iterator[Served]:
    """The endpoint; its children count, and what they leave becomes a model without weights."""
    with served(folder, ALIASED) as house:
        tuning = house.state["service"].tuning
        results = tuning.results
        tuning.able = tuning.check = lambda _: None
        tuning.queue.launch = lambda job: SCRIPTED
        tuning.queue.adopt = lambda job, at: results(_adopted(house, job, at))
        yield house


def _adopted(house: Served, job: TuneJob, folder: JobFolder) -> TuneJob:
    """Models as adapters are: one of the end, one of each checkpoint."""
    id = job.spec.id.partition("-")[2]
    name = f"ft:smollm2-135m-instruct:acme:{job.spec.suffix}:{id}"
    steps = [None, *(step for step, _ in folder.checkpoints())]
    made = [
        Adapter(
            id=f"ad_{id}" if step is None else f"ad_{id}{step}",
            name=name if step is None else f"{name}:ckpt-step-{step}",
            tenant=job.spec.tenant,
            base=job.spec.base,
            base_hash="",
            folder=f"adapters/{id}-{step}",
            status="ready",
            created_ms=job.created_ms,
            job=job.spec.id,
            step=step,
        )
        for step in steps
    ]
    adapters = Adapters(house.workspace.store.database)
    for one in made:
        adapters.put(one)
    return replace(job, adapter=made[0].id, model=name)


def client(house: Served, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{house.port}/v1", api_key=key, max_retries=0)


def uploaded(ours: openai.OpenAI, data: bytes = GOOD, name: str = "train.jsonl") -> str:
    return ours.files.create(file=(name, data), purpose="fine-tune").id


def until(ours: openai.OpenAI, id: str, done: Callable[[FineTuningJob], object]) -> FineTuningJob:
    """The job, as soon as something is so."""
    for _ in range(12_000):
        job = ours.fine_tuning.jobs.retrieve(id)
        if done(job):
            return job
        time.sleep(0.05)
    raise AssertionError(f"it never came to be so: {job}")


def ended(ours: openai.OpenAI, id: str) -> FineTuningJob:
    return until(ours, id, lambda job: job.status in ("succeeded", "failed", "cancelled"))


def steps(count: int, **more: Any) -> dict[str, Any]:
    """What makes the scripted child count so far."""
    return {"baimo": {"overrides": {"steps": count, **more}}}
