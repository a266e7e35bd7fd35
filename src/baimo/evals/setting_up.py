"""From options, task and contenders to a contest and a forecast: what is known before the first call."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from baimo.core.call import Usage
from baimo.core.money import converted
from baimo.core.task import Task
from baimo.core.verdict import Forecast
from baimo.errors import UsageError
from baimo.evals.answers import Answers, prompt_bytes
from baimo.evals.compare import Contender
from baimo.evals.contest import Contest
from baimo.evals.forecast import calls_until_certain, forecast
from baimo.evals.options import CompareOptions

BYTES_PER_TOKEN = 3.5
"""Of ordinary text in most tokenizers, Latin or Chinese; only the forecast rests on it, no bill."""
TYPICAL_SHARE_OF_MAX = 0.4
"""How much of `max_tokens` an answer typically uses."""
LOOKED_AT = 20
"""Examples that the expected length of a prompt is taken from."""


def contest(options: CompareOptions, task: Task, prices_micros: Sequence[float | None]) -> Contest:
    """The decision to be made, with what is known of prices."""
    known = [price for price in prices_micros if price is not None]
    middle = statistics.median(known) if known else 0.0
    cost = [middle if price is None else price for price in prices_micros] if any(known) else None
    return Contest(
        candidates=len(prices_micros),
        examples=len(task.examples),
        cost=cost,
        # one candidate alone is not chosen but measured
        exhaustive=options.exhaustive or len(prices_micros) == 1,
        groups=groups(task),
        **_question(options),
    )


def groups(task: Task) -> list[int] | None:
    """The cluster of each example; None when every example stands for itself."""
    names = [example.group or f"\0{example.id}" for example in task.examples]
    if len(set(names)) == len(names):
        return None
    number: dict[str, int] = {}
    return [number.setdefault(name, len(number)) for name in names]


def expected_micros(contenders: Sequence[Contender], task: Task, answers: Answers) -> list[float | None]:
    """Expected price of one answer of each contender, in micro-units of the comparison's currency."""
    return [_expected(contender, task, answers) for contender in contenders]


def forecast_of(
    options: CompareOptions, task: Task, contenders: Sequence[Contender], answers: Answers
) -> Forecast:
    """What the comparison will take.

    Raises:
        UsageError: the cheapest is wanted and no price is known.
    """
    prices = expected_micros(contenders, task, answers)
    if options.decision == "cheapest" and len(prices) > 1 and all(price is None for price in prices):
        raise UsageError("compare.cheapest_unpriced")
    calls = calls_until_certain(
        len(contenders), len(task.examples), exhaustive=options.exhaustive, **_question(options)
    )
    routes = {contender.route.spec.name for contender in contenders}
    return forecast(
        calls=calls,
        calls_exhaustive=len(contenders) * len(task.examples),
        stored=_stored(contenders, task, answers),
        prices_micros=prices,
        latencies_s=[answers.latency_s(contender.route.model) for contender in contenders],
        at_once=min(options.batch, 16 * len(routes)),
        currency=answers.currency,
        unpriced=tuple(
            sorted(
                {
                    contender.route.model.name
                    for contender, price in zip(contenders, prices, strict=True)
                    if price is None
                }
            )
        ),
    )


def _question(options: CompareOptions) -> dict[str, Any]:
    return {
        "epsilon": options.epsilon,
        "delta": options.delta,
        "assurance": options.assurance,
        "decision": options.decision,
        "target": options.target,
        "seed": options.seed,
    }


def _expected(contender: Contender, task: Task, answers: Answers) -> float | None:
    price = contender.route.model.price
    if price is None:
        return None
    some = task.examples[:: max(1, len(task.examples) // LOOKED_AT)][:LOOKED_AT]
    lengths = [prompt_bytes(contender.request(example).messages) for example in some]
    usage = Usage(
        tokens_in=round(statistics.mean(lengths) / BYTES_PER_TOKEN),
        tokens_out=round(TYPICAL_SHARE_OF_MAX * (contender.candidate.sampling.max_tokens or 512)),
    )
    micros = converted(price.cost_micros(usage), price.currency, answers.currency, answers.rates)
    return None if micros is None else float(micros)


def _stored(contenders: Sequence[Contender], task: Task, answers: Answers) -> int:
    """How many of all cells are in the store; estimated from a sample of the examples where there are many."""
    some = task.examples[:: max(1, len(task.examples) // LOOKED_AT)][:LOOKED_AT]
    asked = [(contender.route, contender.request(example)) for contender in contenders for example in some]
    return round(answers.stored(asked) * len(task.examples) / len(some))
