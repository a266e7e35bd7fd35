"""Several processes that learn one thing: the same losses as one, whole bases and sharded ones."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import torch.distributed as distributed
import torch.multiprocessing as processes

from baimo.core.registry import Spec
from baimo.core.tuning import TuneSpec
from baimo.tuning.bench import Bench
from baimo.tuning.fit.team import Follower, Team
from baimo.tuning.folder import JobFolder
from baimo.tuning.recipes import sft
from tests.tuning.base import answers, tiny_base

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tuning")]
SETTINGS = sft.Settings(
    n_epochs=2, batch_size=6, learning_rate=1e-3, precision="f32", rank=4, alpha=8, clip=1.0
)
TOLERANCE = 1e-5
"""Gradients are added up in another order."""


def learn(rank: int, size: int, path: str, port: int, shard: bool) -> None:
    """One of `size` processes that run the recipe on the job of a folder."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank)}
    torch.set_num_threads(1)
    if size > 1 or shard:
        distributed.init_process_group("gloo", rank=rank, world_size=size)
    folder = JobFolder(Path(path)) if rank == 0 else Follower(Path(path))
    bench = Bench(folder=folder, base=Path(path).parent / "base", device="cpu", threads=1, shard=shard)
    sft.run(bench, SETTINGS)
    if distributed.is_initialized():
        distributed.destroy_process_group()


def ran(folder: Path, size: int, *, shard: bool = False) -> list[tuple[float, float]]:
    """Losses of every step, learnt and measured."""
    job = JobFolder(folder)
    spec = TuneSpec(id="ftjob-1", recipe=Spec(name="sft"), base="b", valid="valid.jsonl")
    job.write(spec, answers(21), answers(5))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes.spawn(learn, args=(size, str(folder), port, shard), nprocs=size, join=True)
    told = [event for _, event in job.events()]
    assert [event["kind"] for event in told if event["kind"] != "progress"] == [
        "checkpoint",
        "checkpoint",
        "done",
    ]
    steps = [event["progress"] for event in told if event["kind"] == "progress"]
    return [(step["loss"], step.get("valid_loss", 0.0)) for step in steps]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[float, float]]]:
    folder = tmp_path_factory.mktemp("team")
    tiny_base(folder / "base")
    return folder, ran(folder / "alone", 1)


@pytest.mark.parametrize("shard", [False, True], ids=["whole", "sharded"])
def test_two_processes_learn_what_one_does(
    alone: tuple[Path, list[tuple[float, float]]], shard: bool
) -> None:
    folder, losses = alone
    shared = ran(folder / f"two-{shard}", 2, shard=shard)
    assert len(shared) == len(losses) == 8
    for one, other in zip(losses, shared, strict=True):
        assert one == pytest.approx(other, abs=TOLERANCE, rel=0)
    weights = [_weights(folder / each) for each in ("alone", f"two-{shard}")]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-4), name


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter" / "adapter_model.safetensors")


def test_alone_nothing_is_shared_or_asked() -> None:
    team = Team()
    weight = torch.nn.Parameter(torch.ones(2))
    team.add_gradients([weight])
    assert weight.grad is None
    assert (team.share([1, 2]), team.gathered("a"), team.agreed("b")) == ([1, 2], ["a"], "b")


def test_who_only_follows_writes_nothing(tmp_path: Path) -> None:
    folder = Follower(tmp_path / "job")
    JobFolder(tmp_path / "job").write(TuneSpec(id="ftjob-1", recipe=Spec(name="sft"), base="b"), [])
    folder.tell("progress")
    folder.checkpoint(3, lambda at: (at / "x").touch() or None)
    seen: list[Path] = []
    folder.result(seen.append)
    assert len(seen) == 1 and not folder.adapter.exists()
    assert list(folder.events()) == [] and folder.checkpoints() == []
