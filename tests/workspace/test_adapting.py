"""What a job has learnt becomes a model once, after the gate; a prompt becomes one too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from baimo.core.call import Request, Sampling
from baimo.core.ids import canonical
from baimo.core.message import Message
from baimo.core.registry import Spec
from baimo.core.tuning import Adapter, JobStatus, TuneJob, TuneSpec
from baimo.errors import AdapterError, Conflict, NotFound, UnknownModel
from baimo.providers.weights import Weights
from baimo.store.adapters import Adapters
from baimo.tuning.folder import JobFolder
from baimo.tuning.search.served import FILE, Served, Shown
from baimo.workspace.adapted import Adapted
from baimo.workspace.adapting import Adapting, ImportOptions
from baimo.workspace.workspace import Workspace
from tests.providers.local_model import smollm2 as smollm2

BASE = "local/smollm2-135m-instruct"


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "baimo.toml").write_text("")
    with Workspace(tmp_path) as made:
        yield made


def job_of(tenant: str = "") -> TuneJob:
    spec = TuneSpec(
        id="ftjob-1",
        recipe=Spec(name="sft", args={}, version="1"),
        base=BASE,
        suffix="Home lights!",
        tenant=tenant,
    )
    return TuneJob(spec=spec, status=JobStatus.RUNNING, created_ms=1)


def folder_of(path: Path, *, checkpoints: tuple[int, ...] = ()) -> JobFolder:
    folder = JobFolder(path)
    path.mkdir(parents=True)

    def fill(at: Path) -> None:
        (at / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
        (at / "adapter_model.safetensors").write_bytes(b"weights")

    for step in checkpoints:
        folder.checkpoint(step, lambda at: (fill(at), (at / "resume.pt").write_bytes(b"optimizer"))[0])
    folder.result(fill)
    return folder


def adapting(workspace: Workspace, status: str, **parity: object) -> Adapting:
    """With a gate that always says the same, and counts."""
    made = Adapting(workspace, gate=lambda adapter: gate(adapter))
    asked: list[str] = []

    def gate(adapter: Adapter) -> None:
        asked.append(adapter.id)
        change = lambda one: replace(one, status=status, parity=parity)  # noqa: E731
        made.adapters.change(adapter.tenant, adapter.id, change)

    made.asked = asked  # type: ignore[attr-defined]
    return made


def test_a_result_becomes_a_model_once_also_when_it_is_adopted_again(
    workspace: Workspace, tmp_path: Path
) -> None:
    house, folder = (
        adapting(workspace, "ready", differs=""),
        folder_of(tmp_path / "job", checkpoints=(10, 20)),
    )
    job = house.adopted(job_of("acme"), folder)
    assert job.model.startswith("ft:smollm2-135m-instruct:acme:Home-lights:")
    assert house.adopted(job_of("acme"), folder) == job
    assert len(house.asked) == 1  # type: ignore[attr-defined]
    made = house.adapters.of_job("acme", "ftjob-1")
    assert sorted((one.step is not None, one.step or 0) for one in made) == [
        (False, 0),
        (True, 10),
        (True, 20),
    ]
    assert {one.status for one in made} == {"ready"}
    (last,) = [one for one in made if one.id == job.adapter]
    at = house.at(last)
    assert (at / "adapter_model.safetensors").read_bytes() == b"weights"
    assert json.loads((at / "lineage.json").read_text())["lineage"]["recipe"]["name"] == "sft"
    assert BASE in (at / "README.md").read_text()
    checkpoint = next(one for one in made if one.step == 10)
    assert checkpoint.name.endswith(":ckpt-step-10")
    assert not (house.at(checkpoint) / "resume.pt").exists()


def test_a_model_that_serves_otherwise_than_it_was_trained_is_blocked_and_says_why(
    workspace: Workspace, tmp_path: Path
) -> None:
    house = adapting(workspace, "blocked", differs="template", how="one newline", prompts=8)
    with pytest.raises(AdapterError, match="one newline"):
        house.adopted(job_of(), folder_of(tmp_path / "job"))
    (kept,) = house.page()
    assert kept.status == "blocked"
    with pytest.raises(UnknownModel):
        house.weights(kept.name)
    with pytest.raises(UnknownModel):
        workspace.catalogue.model(kept.name)


def test_only_what_is_ready_is_in_memory_and_only_under_its_tenant(
    workspace: Workspace, tmp_path: Path
) -> None:
    house = adapting(workspace, "ready", differs="")
    adapted = Adapted(Adapters(workspace.store.database), lambda: workspace.catalogue)
    adapted.refresh()
    job = house.adopted(job_of("acme"), folder_of(tmp_path / "job"))
    assert adapted.gone(job.model)
    assert adapted.refresh() and not adapted.refresh()
    assert list(adapted.models("acme")) == [job.model]
    assert adapted.models("globex") == adapted.models("") == {}
    model = adapted.models("acme")[job.model]
    base = workspace.catalogue.model(BASE)
    assert (model.vendor, model.price, model.context_window) == ("local", base.price, base.context_window)
    house.retire(house.found(job.model))
    adapted.refresh()
    assert adapted.gone(job.model)
    with pytest.raises(Conflict):
        house.retire(house.found(job.model))
    house.delete(house.found(job.model))
    with pytest.raises(NotFound):
        house.found(job.model)


@pytest.mark.parametrize(
    "folder", ["", ".", "adapters", "adapters/", "adapters/../tuning", "../beside", "{tmp}/beside"]
)
def test_only_a_folder_among_those_of_adapters_is_ever_removed(
    workspace: Workspace, tmp_path: Path, folder: str
) -> None:
    house = adapting(workspace, "ready", differs="")
    job = house.adopted(job_of(), folder_of(tmp_path / "job"))
    made = house.found(job.model)
    for path in (workspace.path / "tuning", workspace.path.parent / "beside", tmp_path / "beside"):
        path.mkdir(exist_ok=True)
        (path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(AdapterError, match="not inside"):
        house.delete(replace(made, folder=folder.format(tmp=tmp_path)))
    assert sorted(tmp_path.rglob("*")) == before
    assert house.found(job.model) == made
    house.delete(made)
    assert not house.at(made).exists() and (workspace.path / "adapters").is_dir()


def test_a_tenant_finds_its_own_adapters_only(workspace: Workspace, tmp_path: Path) -> None:
    house = adapting(workspace, "ready", differs="")
    job = house.adopted(job_of("acme"), folder_of(tmp_path / "job"))
    for name in (job.model, job.adapter, "last"):
        assert house.found(name, "acme").id == job.adapter
        with pytest.raises(NotFound):
            house.found(name, "globex")


@pytest.mark.local
def test_a_tuned_prompt_is_put_before_the_callers_messages(
    workspace: Workspace, tmp_path: Path, smollm2: Path
) -> None:
    pytest.importorskip("gguf")
    turns = (Message(role="user", content="2+2"), Message(role="assistant", content="4"))
    served = Served(
        system="Answer with a number.",
        count=1,
        shown=(Shown(id="a", turns=turns),),
        sampling=Sampling(temperature=0),
    )
    folder = tmp_path / "prompt"
    folder.mkdir()
    (folder / FILE).write_bytes(canonical(served))
    house = Adapting(workspace)
    made = house.imported(ImportOptions(folder=folder, base=BASE))
    assert (made.kind, made.status) == ("prompt", "ready")
    weights = house.weights(made.name)
    assert isinstance(weights, Weights) and weights.put is not None
    asked = Request(
        model="x", messages=(Message(role="user", content="3+3"),), sampling=Sampling(max_tokens=5)
    )
    put = weights.put(asked)
    assert [one.content for one in put.messages] == ["Answer with a number.", "2+2", "4", "3+3"]
    assert (put.sampling.temperature, put.sampling.max_tokens) == (0, 5)
