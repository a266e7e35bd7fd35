"""Jobs that several processes share, started as the command starts them."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import pytest

from baimo.core.registry import Spec
from baimo.core.tuning import TuneSpec
from baimo.tuning.folder import JobFolder
from baimo.tuning.launch import Launch
from tests.tuning.base import answers, tiny_base

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tuning")]
ROOT = Path(__file__).parents[2]


def run(folder: Path, **bench: Any) -> list[dict[str, Any]]:
    """What the job of two processes says."""
    tiny_base(folder / "base")
    job = JobFolder(folder / "ftjob-1")
    args = {"n_epochs": 1, "batch_size": 4, "precision": "f32", **bench.pop("args", {})}
    job.write(TuneSpec(id="ftjob-1", recipe=Spec(name="sft", args=args), base="b"), answers(16))
    given = {"base": str(folder / "base"), "device": "cpu", "threads": 2, "processes": 2, **bench}
    child = Launch(bench=given, directory=ROOT, threads=1).started(job)
    while child.alive:
        time.sleep(0.1)
    return [event for _, event in job.events()]


def test_two_processes_of_this_machine_share_a_job_and_only_one_tells(tmp_path: Path) -> None:
    told = run(tmp_path)
    kinds = [event["kind"] for event in told]
    assert kinds == ["plan", *["progress"] * 4, "checkpoint", "done"], told[-1]
    assert [event["progress"]["examples"] for event in told if event["kind"] == "progress"] == [4, 8, 12, 16]


def test_what_is_wrong_is_told_once_and_ends_them_all(tmp_path: Path) -> None:
    told = run(tmp_path, args={"n_epoch": 3})
    assert [event["kind"] for event in told] == ["failed"] and "n_epochs" in told[0]["message"]


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: baimo[ray]")
def test_two_workers_of_a_ray_cluster_share_a_job(tmp_path: Path) -> None:
    kinds = [event["kind"] for event in run(tmp_path, on="ray://local")]
    assert kinds == ["plan", *["progress"] * 4, "checkpoint", "done"]
