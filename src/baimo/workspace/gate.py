"""The gate of an adapter: `python -m baimo.workspace.gate FOLDER TENANT ID` judges it and enters the judgement.

A process of its own, because the judge holds the model three times: as it was trained, and on the engine that serves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from baimo.core.call import Request
from baimo.core.tuning import Adapter
from baimo.providers import gguf, openvino
from baimo.providers.local_options import LocalOptions
from baimo.providers.weights import Weights
from baimo.settings import ProviderSettings
from baimo.tuning.folder import rows
from baimo.tuning.parity import TOKENS, Parity, loss, ordinary, parity
from baimo.tuning.reference import Reference
from baimo.tuning.serving_side import EngineSide

if TYPE_CHECKING:
    from baimo.workspace.adapting import Adapting

PROMPTS = 8
"""Conversations that the gate compares: two thirds from the training data, where they are here."""


def judged(adapting: Adapting, adapter: Adapter, *, prompts: int = PROMPTS) -> Parity:
    """Hold what serves an adapter against what was trained.

    Raises:
        AdapterError, ProviderError: one of the two cannot be loaded.
        MissingExtra: the libraries of training are not installed.
    """
    workspace = adapting.workspace
    given = workspace.settings.providers.get("local", ProviderSettings()).options
    options = LocalOptions.read(given)
    below = adapting.based(adapter.base)
    threads = options.threads or workspace.settings.tune.threads
    requests = asked(adapting, adapter, prompts)
    trained = Reference(below.hf, adapting.at(adapter), threads=threads, foreign=not adapter.job)
    weights = adapting.files.weights(adapter, [])
    engine = engine_of(weights, options)
    with EngineSide(weights, engine, form=options.weights_format, threads=threads) as side:
        found = parity(trained, side, requests)
    if not found.good or engine != "openvino" or options.precision == "f32":
        return found
    # judged in f32; what the serving precision changes is stated beside
    expected = trained.answers([trained.spoken(one).ids for one in requests], TOKENS)
    with EngineSide(
        weights, engine, form=options.weights_format, threads=threads, precision=options.precision
    ) as side:
        served = [side.answer(one, side.spoken(one).ids, TOKENS) for one in requests]
    changed = loss([one.text for one in expected], [one.text for one in served])
    serving = {**found.serving, "loss": {"precision": options.precision, **changed}}
    return replace(found, serving=serving)


def engine_of(weights: Weights, options: LocalOptions) -> Literal["openvino", "llamacpp"]:
    """The engine that will serve these weights."""
    known = gguf.read(weights.path).architecture in openvino.ARCHITECTURES
    if weights.adapter is not None or options.preferred != "openvino" or not known:
        return "llamacpp"
    return "openvino"


def asked(adapting: Adapting, adapter: Adapter, count: int) -> list[Request]:
    """Conversations to compare: some that it was trained on, up to the answer, and some that everybody has."""
    usual = ordinary()
    folder = adapting.workspace.path / "tuning" / adapter.job
    learnt: list[Request] = []
    if adapter.job and (folder / "train.jsonl").is_file():
        for row in rows(folder / "train.jsonl"):
            turns = list(row.messages)
            while turns and turns[-1].role == "assistant":
                turns.pop()
            if turns and all(isinstance(turn.content, str) for turn in turns):
                learnt.append(Request(model="", messages=tuple(turns), tools=row.tools))
            if len(learnt) >= 50 * count:
                break
    wanted = max(count - len(usual) // 2, 0) if learnt else 0
    step = max(1, len(learnt) // max(wanted, 1))
    mine: Sequence[Request] = learnt[::step][:wanted]
    return [*mine, *usual[: count - len(mine)]]


def main(folder: str, tenant: str, id: str) -> None:
    """Judge one adapter."""
    from baimo.errors import BaimoError
    from baimo.workspace.workspace import Workspace

    with Workspace(folder) as workspace:
        adapter = workspace.adapting.adapters.get(tenant, id)
        assert adapter is not None, id
        try:
            workspace.adapting.check(adapter, prompts=PROMPTS)
        except BaimoError as error:
            print(error, file=sys.stderr)
            sys.exit(error.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:4])
    sys.stdout.flush()
