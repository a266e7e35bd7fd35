"""The child process of a tuning job: `python -m baimo.workspace.tuned FOLDER`.

Prevents two failures: a child that dies without a word (whatever goes wrong is an event in the folder, a fault of ours
with its traceback in the log), and two children at work on one job (the second one finds the lock taken and leaves).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from baimo.core.ids import plain
from baimo.core.registry import Spec
from baimo.core.task import Task
from baimo.core.tuning import TuneSpec
from baimo.errors import BaimoError, ConfigError
from baimo.text import text
from baimo.tuning.bench import RECIPES, Bench, Facts
from baimo.tuning.folder import JobFolder
from baimo.tuning.forecast import enough
from baimo.tuning.launch import TAKEN
from baimo.typed import from_json
from baimo.workspace.permit import Permit

NICE = 10
"""Calls that are served here come first."""
ASKING = frozenset({"grpo", "distill", "prompt"})
"""Recipes that ask models or judge answers."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent settles for the child: `bench.json` of the job's folder."""

    base: str = ""
    """GGUF file, or folder of Hugging Face form; empty = the recipe asks a model by its name."""
    device: str = "auto"
    """[tune].device."""
    threads: int = 0
    """[tune].threads."""
    memory_mb: float = 0.0
    """[tune].memory_gib; 0 = what is free."""
    checkpoint_minutes: float = 5.0
    """[tune].checkpoint_minutes."""
    grader: dict[str, Any] | None = None
    """Grader of a reinforcement job, as the client sent it."""
    calibrating: bool = False
    """Pause once the first steps have shown how long the others will take."""
    workspace: str = "."
    """Folder in which baimo.toml is looked for."""
    flags: dict[str, Any] = {}
    """Settings that are stronger than that file."""
    permit: Permit = Permit()
    """Which models it may ask."""
    processes: int = 1
    """Processes that share the job, one per GPU."""
    on: str = ""
    """Ray cluster on which they run; empty = here."""

    @classmethod
    def of(cls, folder: JobFolder) -> Given:
        """As the parent wrote it."""
        return from_json((folder.path / "bench.json").read_bytes(), cls)


def main(arguments: list[str], recipes: Mapping[str, str] = RECIPES) -> int:
    """Work on the job of a folder; returns the exit code: 0, 1 after a failure, 75 where another child is at work."""
    folder = JobFolder(Path(arguments[0]))
    with folder.held() as mine:
        if not mine:
            return TAKEN
        with suppress(OSError):
            os.nice(NICE)
        signal.signal(signal.SIGTERM, _pausing(folder))
        folder.sweep()
        return guarded(folder, lambda: _begun(folder, recipes))


def _begun(folder: JobFolder, recipes: Mapping[str, str]) -> None:
    given = Given.of(folder)
    if given.processes > 1 or given.on:
        from baimo.workspace.spread import spread

        spread(folder, given.processes, given.on)
    else:
        work(folder, recipes)


def guarded(folder: JobFolder, working: Callable[[], object]) -> int:
    """Work, and tell whatever goes wrong; returns the exit code."""
    try:
        working()
    except BaimoError as error:
        return _failed(folder, error, " → ".join(filter(None, (str(error), error.hint))))
    except Exception as error:
        traceback.print_exc()
        problem = f"{type(error).__name__}: {error}"
        return _failed(folder, error, text("tune.fault", problem=problem, log=folder.path / "log"))
    return 0


def work(folder: JobFolder, recipes: Mapping[str, str] = RECIPES) -> None:
    """Plan the job, tell the plan, and run its recipe.

    Raises:
        BaimoError: something that a person can mend.
    """
    spec = folder.spec()
    given = Given.of(folder)
    recipe = _recipe(spec.recipe, recipes)
    bench, lent = _bench(folder, spec, given)
    try:
        known = _facts(folder, bench, given)
        names = recipe.Settings.__struct_fields__
        stronger = {name: value for name, value in folder.overrides().items() if name in names}
        settings = recipe.planned(spec.effort, known, {**spec.recipe.args, **stronger})
        version = str(getattr(recipe, "VERSION", ""))
        folder.tell(
            "plan",
            recipe=spec.recipe.name,
            version=version,
            settings=msgspec.to_builtins(settings),
            facts=known,
        )
        _must_fit(known, settings)
        if given.processes > 1:
            bench = replace(bench, shard=2 * known.parameters / 2**20 > known.memory_mb / 2 > 0)
        if given.calibrating:
            threading.Thread(target=_pausing_soon, args=(folder,), daemon=True).start()
        recipe.run(bench, settings)
    finally:
        if lent is not None:
            lent.close()


def _recipe(spec: Spec, recipes: Mapping[str, str]) -> Any:
    import importlib

    if spec.name not in recipes:
        raise ConfigError("tune.unknown_recipe", name=spec.name, known=", ".join(recipes))
    return importlib.import_module(recipes[spec.name])


def _bench(folder: JobFolder, spec: TuneSpec, given: Given) -> tuple[Bench, Any]:
    lent, rewards, ask, searched, teachers = None, {}, None, None, None
    together = given.processes > 1 and not given.on
    if spec.recipe.name in ASKING or given.grader:
        from baimo.workspace.lending import Lent
        from baimo.workspace.workspace import Workspace

        task = _task(spec)
        lent = Lent(Workspace(given.workspace, flags=given.flags), folder, spec, given.permit, task)
        rewards, ask, searched = lent.rewards(given.grader), lent.ask, lent.work()
        teachers = lent.teacher
    bench = Bench(
        folder=folder,
        base=Path(given.base),
        rewards=rewards,
        ask=ask,
        rest=(lambda: None) if lent is None else lent.rest,
        work=searched,
        teachers=teachers,
        device=_device(given),
        threads=max(1, (given.threads or os.cpu_count() or 1) // given.processes)
        if together
        else given.threads,
        memory_mb=given.memory_mb,
        checkpoint_minutes=given.checkpoint_minutes,
    )
    return bench, lent


def _device(given: Given) -> str:
    """`device`, and which GPU of several is this process's: torch.distributed and Ray Train say so in LOCAL_RANK."""
    if given.processes == 1 or given.device == "cpu":
        return given.device
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


def _task(spec: TuneSpec) -> Task | None:
    if not spec.task:
        return None
    from baimo.evals.tasks.folder import load_task

    return load_task(spec.task)


def _facts(folder: JobFolder, bench: Bench, given: Given) -> Facts:
    """Counted once for all lives of the job: its plan must not change when it is resumed."""
    kept = folder.path / "facts.json"
    with suppress(OSError, msgspec.DecodeError):
        return from_json(kept.read_bytes(), Facts)
    from baimo.tuning.facts import facts

    base = device = None
    if given.base:
        from baimo.providers.hf import hf_folder
        from baimo.tuning.fit.base import device as device_of

        base, device = hf_folder(bench.base, bench.cache), str(device_of(bench.device))
    known = facts(
        base,
        folder.train(),
        device=device or "cpu",
        cores=bench.threads,
        memory_mb=bench.memory_mb or _gpu_memory_mb(device or "cpu"),
    )
    if int(os.environ.get("RANK", 0)) == 0:
        kept.write_bytes(msgspec.json.encode(plain(known)))
    return known


def _gpu_memory_mb(device: str) -> float:
    """What is free on a GPU, MiB; 0 = it is none."""
    if not device.startswith("cuda"):
        return 0.0
    import torch

    return torch.cuda.mem_get_info(device)[0] / 2**20


def _pausing(folder: JobFolder) -> Any:
    """SIGTERM is what a machine says that is shut down: stop at a checkpoint, to go on later."""

    def paused(_: int, __: FrameType | None) -> None:
        if not folder.wished():
            folder.wish("pause")

    return paused


def _pausing_soon(folder: JobFolder) -> None:
    """Pause as soon as the first steps say enough."""
    place = 0
    while True:
        time.sleep(0.1)
        for behind, event in folder.events(place):
            place = behind
            step = event.get("progress") if event["kind"] == "progress" else None
            if step is None:
                continue
            if enough(step["step"], step.get("elapsed_s", 0.0), step.get("eta_s") or 0.0):
                folder.wish("pause")
                return


def _must_fit(known: Facts, settings: Any) -> None:
    """Refuse what cannot fit, before a model is loaded that the kernel would end the process for.

    Weights in the 2 bytes of bf16 are the least; learning all of them takes 16 (f32 master, gradient, two moments).
    """
    whole = getattr(settings, "method", "") == "full"
    least_mb = known.parameters * (16 if whole else 2) / 2**20
    if known.memory_mb and least_mb > known.memory_mb:
        key = "tune.full_does_not_fit" if whole else "tune.does_not_fit"
        raise ConfigError(key, least=round(least_mb), most=round(known.memory_mb))


def _failed(folder: JobFolder, error: Exception, message: str) -> int:
    code = error.key.replace(".", "_") if isinstance(error, BaimoError) else "internal_error"
    folder.tell("failed", code=code, message=message, type=type(error).__name__)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
