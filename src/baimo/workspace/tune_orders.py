"""Tuning jobs as the console and other clients of the admin API order them: from a task by its name, or from a file.

Prevents two failures: an hour that is spent before anybody has seen what a job will take (it stops after its first
steps and asks), and a tenant whose job asks models or runs scorers past the limits that hold for its calls.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from baimo.core.ids import digest
from baimo.core.registry import Spec
from baimo.core.tenant import OWNER, Key
from baimo.core.tuning import Effort, TuneJob, TuneSpec
from baimo.errors import CallRefused, Conflict, Forbidden, UsageError
from baimo.models.catalogue import TUNED
from baimo.models.pull import located
from baimo.providers import gguf
from baimo.tuning.bench import Facts
from baimo.tuning.options import EMBEDDED
from baimo.workspace.care import ASK_FIRST
from baimo.workspace.fine_tuning import FineTuning
from baimo.workspace.fine_tuning_order import Order
from baimo.workspace.known_tasks import KnownTasks
from baimo.workspace.training import Training, training
from baimo.workspace.tuning import base_hash, recipe_version

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace

Recipe = Literal["sft", "dpo", "grpo", "cpt", "distill", "prompt"]
OF_ROWS = frozenset({"sft", "dpo", "cpt"})
"""Recipes that learn from rows alone: no model is asked, no scorer runs."""
OF_FILES: Mapping[str, str] = {"sft": "supervised", "dpo": "dpo"}
"""Recipes that an uploaded file is enough for, with OpenAI's name."""
Word = Annotated[str, msgspec.Meta(max_length=200)]
Suffix = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[\w.-]*$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOrder:
    """A tuned model that is wanted."""

    task: Word | None = None
    """Name of the task whose train split is learnt; else `file`."""
    file: Word | None = None
    """Id of an uploaded file of purpose fine-tune; else `task`."""
    valid_file: Word | None = None
    """Id of an uploaded file that is only measured."""
    model: Word = EMBEDDED
    """Base: a model of this machine, or a tuned one."""
    recipe: Recipe = "sft"
    """How it learns."""
    effort: Effort = "small"
    """The dial from which everything else follows."""
    overrides: dict[str, Any] = field(default_factory=dict[str, Any])
    """Settings of the recipe that are wanted otherwise."""
    prompt: Word | None = None
    """Name of the task's prompt that is learnt; null = the first."""
    suffix: Suffix = ""
    """Part of the tuned model's name."""
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    """Of every random choice; null = one is drawn."""
    start: bool = False
    """Go on after the first steps without asking."""


class TuneOrders:
    """Takes orders. Every method blocks.

    Args:
        workspace: whose.
        tuning: the fine-tuning API beside it, whose checks hold here, too.
    """

    def __init__(self, workspace: Workspace, tuning: FineTuning) -> None:
        self._workspace = workspace
        self._tuning = tuning
        self.tasks = KnownTasks(workspace)

    def order(self, asked: TuneOrder, key: Key, tenant: str) -> TuneJob:
        """Enter a job; unless it is to start, it stops after its first steps and waits for a yes.

        Args:
            asked: what is wanted.
            key: who asks.
            tenant: for whom.

        Raises:
            UsageError, TaskError, DataError: what is to be learnt cannot be used.
            CallRefused: there is no such file, task or base for this key, or the recipe is not open to tenants.
            MissingExtra: the libraries of tuning are not installed.
        """
        if (asked.task is None) == (asked.file is None):
            raise UsageError("tuning.one_source", field="/task")
        if tenant != OWNER and asked.recipe not in OF_ROWS:
            raise Forbidden("tuning.owners_recipe", recipe=asked.recipe, field="/recipe")
        self._check(asked)
        return self._of_file(asked, key, tenant) if asked.file else self._of_task(asked, key, tenant)

    def derived(self, asked: TuneOrder, key: Key, tenant: str) -> tuple[Mapping[str, Any], int, int]:
        """What would follow from the dial, as far as it is known before the first steps; with rows and weights.

        Raises:
            BaimoError: as `order`.
        """
        from baimo.tuning.plans import PLANS  # loaded where something is tuned

        self._check(asked)
        try:
            base = self._base(asked, key, tenant)
        except Conflict:  # it can be fetched until the job is ordered
            base = None
        rows = len(self._training(asked, tenant).train) if asked.task else 0
        weights = _weights(base) if base is not None else 0
        facts = Facts(rows=rows, tokens=0, longest=0, parameters=weights, cores=os.cpu_count() or 1)
        made = importlib.import_module(PLANS[asked.recipe]).planned(asked.effort, facts, asked.overrides)
        return msgspec.to_builtins(made), rows, weights

    def _of_file(self, asked: TuneOrder, key: Key, tenant: str) -> TuneJob:
        if asked.recipe not in OF_FILES:
            raise UsageError("tuning.wants_task", recipe=asked.recipe, field="/task")
        return self._tuning.order(_order(asked), key, tenant)

    def _of_task(self, asked: TuneOrder, key: Key, tenant: str) -> TuneJob:
        base = self._base(asked, key, tenant)
        self._tuning.able(asked.recipe)
        self._tuning.room(tenant)
        found = self._training(asked, tenant)
        seen = self._tuning.see(found.train)
        task = found.task
        assert task is not None
        model = asked.model if base is None else self._tuning.base(asked.model, key, tenant)
        spec = TuneSpec(
            id=self._tuning.jobs.new_id(),
            recipe=Spec(name=asked.recipe, args=asked.overrides, version=recipe_version(asked.recipe)),
            base=model,
            base_hash=base_hash(base) if base is not None else "",
            data_hash=digest([row.hash for row in seen.rows]),
            cleaned=(*found.cleaned, *seen.cleaned),
            task=str(Path(task.folder).absolute()) if task.folder else "",
            prompt=asked.prompt or "",
            effort=asked.effort,
            seed=int.from_bytes(os.urandom(4), "big") >> 1 if asked.seed is None else asked.seed,
            suffix=asked.suffix,
            tenant=tenant,
        )
        said = {"task": asked.task, **_asked(asked)}
        return self._tuning.queue.submit(spec, seen.rows, asked=said, key=key.public)

    def _training(self, asked: TuneOrder, tenant: str) -> Training:
        folder = self.tasks.folder(asked.task or "", tenant)
        return training(folder, asked.recipe, valid=None, task=None, prompt=asked.prompt)

    def _base(self, asked: TuneOrder, key: Key, tenant: str) -> Path | None:
        """Where the base's weights lie; None = it is asked, not loaded.

        Raises:
            CallRefused: there is none such for this key.
            Conflict: it is not on this machine yet: a fetch is no part of an order.
        """
        name = self._tuning.base(asked.model, key, tenant)
        if name.startswith(TUNED):
            return self._workspace.adapting.whole(name)
        model = self._workspace.catalogue.model(name)
        if self._workspace.catalogue.vendor(model.vendor).protocol != "local":
            return None
        path = located(model, self._workspace.models)
        if path is None:
            raise Conflict("tuning.not_here", model=name, field="/model")
        return path

    def _check(self, asked: TuneOrder) -> None:
        try:
            self._tuning.check(_order(asked))
        except CallRefused as error:
            raise UsageError(error.key, **{**error.facts, "field": "/overrides"}) from None


def _order(asked: TuneOrder) -> Order:
    """What is wanted in the words of the fine-tuning API."""
    method = OF_FILES.get(asked.recipe, "supervised")
    said = {"training_file": asked.file, "validation_file": asked.valid_file, "method": {"type": method}}
    return Order(
        model=asked.model,
        training_file=asked.file or "",
        validation_file=asked.valid_file or "",
        method=method,
        recipe=asked.recipe,
        overrides=asked.overrides,
        effort=asked.effort,
        suffix=asked.suffix,
        seed=asked.seed,
        asked={**said, **_asked(asked)},
    )


def _asked(asked: TuneOrder) -> dict[str, Any]:
    return {} if asked.start else {ASK_FIRST: True}


def _weights(base: Path) -> int:
    """Weights of a GGUF file; 0 = it is none."""
    if base.is_dir():
        return 0
    return sum(math.prod(tensor.shape) for tensor in gguf.read(base).tensors)
