"""How the fine-tuning API of one process is wired: its queue, its readers of files, its models."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from baimo.core.tuning import Adapter, Row, TuneJob
from baimo.errors import CallRefused, ConfigError, DataError, MissingExtra
from baimo.settings import Settings
from baimo.store.files import Files
from baimo.text import text
from baimo.tuning.folder import JobFolder
from baimo.workspace.fine_tuning import FineTuning, Tunable
from baimo.workspace.fine_tuning_order import Order
from baimo.workspace.fine_tuning_personal import Seen, seen
from baimo.workspace.workspace import Workspace

MOST_NAME = 100
"""Characters of a client's words that are looked at, and said again."""


def fine_tuning(
    workspace: Workspace,
    files: Files,
    tunable: Tunable,
    settings: Callable[[], Settings],
    changed: Callable[[], object],
) -> FineTuning:
    """The tuning jobs of a workspace.

    Args:
        workspace: whose.
        files: of its tenants.
        tunable: bases.
        settings: as they are now.
        changed: called when there is a new model, or one is gone: whoever is told so may ask for it at once.
    """
    queue = workspace.tuning.queue
    adapting = workspace.adapting

    def see(rows: Sequence[Row]) -> Seen:
        now = settings()
        return seen(rows, now.tune.pii, now.policy.pii_kinds or None)

    def removed(adapter: Adapter) -> None:
        adapting.delete(adapter)
        changed()

    tuning = FineTuning(
        queue,
        files,
        adapting.adapters,
        tunable=tunable,
        read=rows,
        remove=removed,
        see=see,
        able=able,
        check=check,
    )
    adopt = queue.adopt

    def adopted(job: TuneJob, folder: JobFolder) -> TuneJob:
        made = adopt(job, folder)
        changed()
        return tuning.results(made)

    queue.adopt = adopted
    return tuning


def rows(path: Path, method: str, param: str, file: str) -> Sequence[Row]:
    """Rows of an uploaded file.

    Args:
        path: where it lies.
        method: OpenAI's.
        param: which of a job's files it is.
        file: its id.

    Raises:
        DataError: it cannot be used; `param` and `code` are among its facts.
    """
    from baimo.tuning.data.formats import read  # loaded where something is tuned
    from baimo.tuning.data.openai import Method, Param, file_faults

    faults = file_faults(path, cast("Method", method), param=cast("Param", param), file=file)
    if faults:
        first = faults[0]
        facts = {"param": first.param or param, "code": first.code or f"invalid_{param}"}
        raise DataError("finetuning.invalid_file", message=first.job_message, **facts)
    reading = read(path)
    for problem in reading.problems:
        problem.facts.setdefault("param", param)
        raise problem
    return reading.rows


def check(order: Order) -> None:
    """Refuse settings that the order's recipe does not have, before a job is made of them.

    Raises:
        CallRefused: there is such a one; `field` says where it stands.
    """
    from baimo.tuning.plans import check as told  # loaded where something is tuned

    short = {name[:MOST_NAME]: value for name, value in order.settings.items()}
    try:
        told(order.recipe, short)
    except ConfigError as error:
        cut = {name: str(fact)[:MOST_NAME] for name, fact in error.facts.items() if name != "near"}
        facts: dict[str, Any] = {**error.facts, **cut}
        place = order.place(str(error.facts["name"]))
        raise CallRefused(error.key, field=place, **facts) from None


def able(recipe: str) -> None:
    """Refuse a job that this machine could not begin.

    Raises:
        MissingExtra: the libraries of tuning are not installed.
    """
    if recipe != "prompt":
        for module in ("torch", "peft"):
            if importlib.util.find_spec(module) is None:
                purpose = text("finetuning.purpose_extra")
                raise MissingExtra("core.missing_extra", module=module, extra="tune", purpose=purpose)
