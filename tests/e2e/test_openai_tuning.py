"""OpenAI's fine-tuning with its own unmodified library against a real `baimo serve`, on the embedded model."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import openai
import pytest
from tests.providers.local_model import smollm2 as smollm2
from tests.server.tuned import BASE, ended, until, uploaded
from tests.serving import Endpoint, serving

from baimo.tuning.folder import JobFolder

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytestmark = pytest.mark.local

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
TOML = """
[serve]
drain_s = 1.0
[tune]
threads = 1
checkpoint_minutes = 0.03
"""


def client(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{endpoint.address}/v1", api_key=endpoint.key, max_retries=3)


@pytest.mark.slow
@pytest.mark.parametrize("all_of_it", [False, True], ids=["the_server_alone", "and_what_learns"])
def test_a_job_outlives_the_server_that_was_killed(tmp_path: Path, smollm2: Path, all_of_it: bool) -> None:
    settings = {"max_steps": 7, "batch_size": 4}
    with serving(tmp_path, TOML) as endpoint:
        with client(endpoint) as ours:
            file = uploaded(ours)
            id = ours.fine_tuning.jobs.create(
                model=BASE, training_file=file, seed=3, extra_body={"baimo": {"overrides": settings}}
            ).id
            until(ours, id, lambda job: steps(ours, id) >= 2)
        learning = JobFolder(tmp_path / ".baimo" / "tuning" / id).pid
        assert learning is not None
        os.kill(endpoint.process.pid, signal.SIGKILL)
        endpoint.process.wait(20)
        if all_of_it:
            os.kill(learning, signal.SIGKILL)
    with serving(tmp_path, TOML) as endpoint, client(endpoint) as ours:
        job = ended(ours, id)
        assert job.status == "succeeded", job.error
        events = list(ours.fine_tuning.jobs.list_events(id, limit=100))
        assert len({event.id for event in events}) == len(events)
        assert steps(ours, id) == 7
        started = [event for event in events if event.message == "Fine-tuning job started"]
        assert len(started) == (2 if all_of_it else 1)


def steps(ours: openai.OpenAI, id: str) -> int:
    """Steps that a job has done."""
    described = ours.fine_tuning.jobs.retrieve(id).to_dict()["baimo"]
    assert isinstance(described, dict)
    progress = described["progress"]
    return int(progress["step"]) if progress else 0
