"""OpenAI's fine-tuning with its own unmodified library against a real `baimo serve`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from baimo.tuning.folder import JobFolder
from tests.providers.local_model import smollm2 as smollm2
from tests.server.tuned import BASE, until, uploaded
from tests.serving import Endpoint, serving

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("xllamacpp")

from baimo.providers.gguf_write import gguf_of  # noqa: E402
from tests.tuning.adapters import tuned  # noqa: E402
from tests.waiting import PATIENCE_S  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries about each other

EXAMPLES = Path(__file__).parents[2] / "examples"
TOML = """
[serve]
drain_s = 1.0
[tune]
threads = 1
checkpoint_minutes = 0.03
"""


def tiny(folder: Path) -> str:
    """Settings with a base of a few thousand weights, `local/tiny`."""
    weights = gguf_of(tuned.base(folder / "hf"), folder / "tiny.gguf", "f16", None)
    return f"""{TOML}
[models."local/tiny"]
weights = "file:{weights}"
context_window = 512
input_per_million = 0
output_per_million = 0
[providers.local.options]
engine = "llamacpp"
threads = 1
"""


def client(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{endpoint.address}/v1", api_key=endpoint.key, max_retries=3)


@pytest.mark.slow
def test_the_example_goes_from_upload_to_deletion(tmp_path: Path) -> None:
    with serving(tmp_path / "served", tiny(tmp_path)) as endpoint:
        reached = {"OPENAI_BASE_URL": f"{endpoint.address}/v1", "OPENAI_API_KEY": endpoint.key}
        done = subprocess.run(
            [sys.executable, EXAMPLES / "leaving_openai.py", "local/tiny"],
            env={**os.environ, **reached},
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "New fine-tuned model created: ft:" in done.stdout
        assert done.stdout.splitlines()[-1] == "deleted"
        with client(endpoint) as ours:
            assert [model.id for model in ours.models.list() if model.id.startswith("ft:")] == []
            assert list(ours.files.list()) == []
            (job,) = ours.fine_tuning.jobs.list()
            assert job.status == "succeeded"


@pytest.mark.slow
@pytest.mark.local
def test_a_job_outlives_its_server_and_then_its_own_process(tmp_path: Path, smollm2: Path) -> None:
    with serving(tmp_path, TOML) as endpoint:
        with client(endpoint) as ours:
            id = ours.fine_tuning.jobs.create(
                model=BASE,
                training_file=uploaded(ours),
                seed=3,
                extra_body={"baimo": {"overrides": {"max_steps": 1000, "batch_size": 4}}},
            ).id
            until(ours, id, lambda job: steps(ours, id) >= 2)
        killed(endpoint)
    learning = JobFolder(tmp_path / ".baimo" / "tuning" / id)
    assert learning.pid is not None, "what learns has not noticed"
    with serving(tmp_path, TOML) as endpoint:
        with client(endpoint) as ours:
            until(ours, id, lambda job: steps(ours, id) >= 4)
        killed(endpoint)
        pid = learning.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    walked = max(event["progress"]["step"] for _, event in learning.events() if event["kind"] == "progress")
    with serving(tmp_path, TOML) as endpoint, client(endpoint) as ours:
        until(ours, id, lambda job: steps(ours, id) >= max(7, walked + 1))
        assert ours.fine_tuning.jobs.cancel(id).status == "cancelled"
        events = list(ours.fine_tuning.jobs.list_events(id, limit=100))
        assert len({event.id for event in events}) == len(events)
        started = [event for event in events if event.message == "Fine-tuning job started"]
        assert len(started) == 2, "once at first, once from its checkpoint"
        done = {
            event.data["step"] for event in events if isinstance(event.data, dict) and event.type == "metrics"
        }
        assert done >= set(range(1, 8)), "no step is missing"


def killed(endpoint: Endpoint) -> None:
    """As `kill -9` of the server, and of nothing else."""
    os.kill(endpoint.process.pid, signal.SIGKILL)
    endpoint.process.wait(PATIENCE_S)


def steps(ours: openai.OpenAI, id: str) -> int:
    """Steps that a job has done."""
    described = ours.fine_tuning.jobs.retrieve(id).to_dict()["baimo"]
    assert isinstance(described, dict)
    progress = described["progress"]
    return int(progress["step"]) if progress else 0
