# pyright: basic
"""Several processes that learn one thing together.

Each takes its share of a step's items; gradients are added up, so the sum is the one that a single process would have
computed, whatever the number of processes. Only the first one tells, keeps and listens: `Follower` is the folder of the
others. Processes are told apart by torch.distributed, whoever has started them: `torch.distributed.run`, Ray Train.

A base that does not fit one GPU is sharded: FSDP2 keeps a part of every frozen layer on each and gathers a layer when
it is needed (docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html). Adapters stay whole on all of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as distributed

from baimo.tuning.folder import JobFolder

Item = TypeVar("Item")
Value = TypeVar("Value")


class Follower(JobFolder):
    """A job's folder for a process that only computes: it reads, and what it writes is thrown away."""

    def tell(self, kind: str, **facts: Any) -> None: ...

    def wished(self) -> Any:
        return ""

    def checkpoint(self, step: int, fill: Callable[[Path], None]) -> Path:
        return self.path / "checkpoints" / f"{step:06d}"

    def result(self, fill: Callable[[Path], None]) -> Path:
        with tempfile.TemporaryDirectory() as folder:
            fill(Path(folder))  # what many have has to be gathered by many
        return self.adapter


class Team:
    """This process among those that share a job; alone where torch.distributed was not started."""

    def __init__(self) -> None:
        started = distributed.is_available() and distributed.is_initialized()
        self.size = distributed.get_world_size() if started else 1
        """How many there are."""
        self.rank = distributed.get_rank() if started else 0
        """Which one this is, from 0."""

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """What this process computes of a step."""
        return items if self.size == 1 else items[self.rank :: self.size]

    def gathered(self, value: Value) -> list[Value]:
        """Everybody's value, by rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found

    def agreed(self, value: Value) -> Value:
        """The first one's value."""
        if self.size == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    def add_gradients(self, weights: Sequence[torch.nn.Parameter]) -> None:
        """Give every weight the sum of its gradients."""
        if self.size == 1:
            return
        for weight in weights:
            if weight.grad is None:  # nothing of this share reached it
                weight.grad = torch.zeros_like(weight)
        together = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])
        distributed.all_reduce(together)
        place = 0
        for weight in weights:
            assert weight.grad is not None
            weight.grad.copy_(together[place : place + weight.numel()].view_as(weight))
            place += weight.numel()


def shard(base: Any, learnt: Sequence[torch.nn.Parameter]) -> None:
    """Spread the frozen layers of a base over all processes; what is learnt stays whole on each.

    Every process then has to compute as many pieces of a step as the others: a layer is gathered by all of them.
    """
    from torch.distributed.fsdp import fully_shard

    whole = set(learnt)
    for name in ("layers", "lower"):  # what the fast way keeps of whole layers
        base.kept.pop(name, None)
    for layer in base.layers:
        for weight in layer.parameters():
            weight.data = weight.data.contiguous()
        mine = {weight for weight in layer.parameters() if weight in whole}
        # always given back: whoever saves would otherwise gather once more than the others
        fully_shard(layer, ignored_params=mine, reshard_after_forward=True)
    base.kept["sharded"] = True
