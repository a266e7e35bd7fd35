# pyright: basic
"""A tuning job that several processes share: of this machine, or of a Ray cluster.

Prevents the failure where one of them dies and the others wait for it for ever: whoever started them ends them all, and
the job goes on from its last checkpoint as if its only child had died.

Sources: docs.pytorch.org/docs/stable/elastic/run.html, docs.ray.io/en/latest/train/api/api.html.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from baimo.core.registry import require
from baimo.errors import ConfigError, ProviderError
from baimo.tuning.folder import JobFolder

LOCAL = "ray://local"
"""A Ray cluster of this machine's processors, started for the job."""


def spread(folder: JobFolder, processes: int, on: str = "") -> None:
    """Work on a job together; returns when all processes have ended.

    Args:
        folder: of the job; every process has to reach it under this path.
        processes: how many.
        on: `ray://host:port`, or `ray://local`; empty = processes of this machine.

    Raises:
        ProviderError: one of them died.
        MissingExtra: Ray is not installed.
        ConfigError: there is no Ray cluster.
    """
    if on:
        _on_ray(folder, processes, on)
    else:
        _here(folder, processes)


def _here(folder: JobFolder, processes: int) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=folder.path.name,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        max_restarts=0,
        monitor_interval=0.2,
    )
    try:
        elastic_launch(config, member)(str(folder.path))
    except ChildFailedError as error:
        _told(folder, error)


def _on_ray(folder: JobFolder, processes: int, on: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to its makers otherwise
    ray = require("ray", "ray", "tune.purpose_ray")
    import torch
    from ray.train import RunConfig, ScalingConfig  # pyright: ignore[reportMissingImports]
    from ray.train.torch import TorchTrainer  # pyright: ignore[reportMissingImports]

    _join(ray, on)
    trainer = TorchTrainer(
        _ray_member,
        train_loop_config={"folder": str(folder.path)},
        scaling_config=ScalingConfig(num_workers=processes, use_gpu=torch.cuda.is_available()),
        run_config=RunConfig(name=folder.path.name, storage_path=str(folder.path / "ray")),
    )
    try:
        trainer.fit()
    except Exception as error:
        _told(folder, error)
    finally:
        ray.shutdown()


def _join(ray: Any, on: str) -> None:
    """
    Raises:
        ConfigError: nobody answers there.
    """
    address = "local" if on == LOCAL else on
    try:
        ray.init(address=address, log_to_driver=True, include_dashboard=False if on == LOCAL else None)
    except ConnectionError as error:
        raise ConfigError("tune.no_cluster", address=on) from error


def _told(folder: JobFolder, error: Exception) -> None:
    """Say that a process died, unless one of them has said what is wrong."""
    events = [event for _, event in folder.events()]
    if not events or events[-1]["kind"] != "failed":
        raise ProviderError("tune.member_died", problem=str(error).strip().splitlines()[-1]) from error


def member(path: str) -> None:
    """What each process of this machine does."""
    import torch
    import torch.distributed as distributed

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        code = _worked(path)
    finally:
        distributed.destroy_process_group()
    if code:
        sys.exit(code)


def _ray_member(config: dict[str, Any]) -> None:
    """What each worker of a cluster does; Ray Train has started torch.distributed."""
    if _worked(config["folder"]):
        raise RuntimeError("the job has failed; its folder says why")


def _worked(path: str) -> int:
    import torch.distributed as distributed

    from baimo.tuning.fit.team import Follower
    from baimo.workspace.tuned import guarded, work

    first = distributed.get_rank() == 0
    folder = JobFolder(Path(path)) if first else Follower(Path(path))
    return guarded(folder, lambda: work(folder))
