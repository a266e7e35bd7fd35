"""The verdict as one self-contained page.

Prevents the failure where a model's reply becomes part of the page: everything from outside is escaped, the
page holds no script at all, and its content security policy forbids scripts, requests, forms and any style
but its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, cast

from jinja2 import BaseLoader, Environment, StrictUndefined
from markupsafe import Markup

from baimo.core.verdict import Standing, Verdict
from baimo.evals.report import figures, plots
from baimo.evals.report.command import command
from baimo.evals.report.differing import Shown, shown
from baimo.evals.report.figures import (
    amount,
    clean,
    count,
    counted,
    duration,
    money,
    name,
    say,
    score,
    share,
    span,
)
from baimo.evals.report.report import (
    SMALL,
    Answer,
    Difference,
    Mean,
    Pareto,
    Report,
    Slicing,
    asked,
    expected,
)
from baimo.evals.report.sentences import account, rivals, winner
from baimo.evals.report.terminal import marks
from baimo.text import language

WIDE, NARROW = 960.0, 320.0
"""Widths for which every plot is drawn; the style sheet shows the one that fits."""
OPEN = 20
"""Rows of the table that are shown before the rest is folded away."""


class Card(NamedTuple):
    """One figure of the verdict card."""

    value: str
    label: str
    note: str


class Shade(NamedTuple):
    """One cell of the heat map."""

    text: str
    level: int | None
    """0..9, darker is better; None = nothing there."""
    small: bool
    n: str


class Side(NamedTuple):
    """One leader's reply to an example."""

    candidate: str
    score: str
    reply: Shown | None
    """None = not kept."""
    explanation: str
    outcome: str


class Pair(NamedTuple):
    """An example where the leaders differ, ready to print."""

    id: str
    asked: Shown
    target: Shown | None
    sides: tuple[Side, ...]


def html(report: Report) -> str:
    """The page, in the reader's language; a few hundred kilobytes, however large the comparison was."""
    style = _data("report.css")
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    verdict = report.verdict
    environment = Environment(
        loader=BaseLoader(), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        name=name,
        score=score,
        span=span,
        amount=amount,
        count=count,
        latency=figures.latency,
        tier=figures.tier,
    )
    differences = report.differences()
    page = environment.from_string(_data("report.html")).render(
        say=say,
        counted=counted,
        language="zh-CN" if language() == "zh" else "en",
        style=Markup(style),
        style_hash=digest,
        report=report,
        verdict=verdict,
        told=account(verdict),
        cards=cards(verdict),
        state=state(verdict),
        plots=drawings(report),
        pareto=report.pareto(),
        heat=heat(report.slices()),
        differences=differences,
        pairs=[pair(each) for each in differences.shown],
        flagged=flagged(verdict),
        method=method(report),
        prices=prices(report),
        command=command(report.run),
        marks=marks,
        rows=verdict.standings,
        open_rows=OPEN,
        small=SMALL,
        unpriced=unpriced,
    )
    return page + "\n"


@cache
def _data(file: str) -> str:
    return (resources.files("baimo.evals.report") / "templates" / file).read_text(encoding="utf-8")


def state(verdict: Verdict) -> str:
    """certain, exhausted or not_certain; empty where there was nothing to decide."""
    if len(rivals(verdict)) < 2 or winner(verdict) is None:
        return ""
    return "certain" if verdict.certain else "exhausted" if verdict.stopped == "exhausted" else "not_certain"


def cards(verdict: Verdict) -> list[Card]:
    """The figures that a reader looks for first."""
    chosen = winner(verdict)
    found: list[Card] = []
    if chosen is not None:
        found.append(Card(score(chosen.score), say("card_score"), span(chosen.interval)))
        price = chosen.cost_per_1000_micros
        found.append(
            Card(amount(price), say("card_cost"), name(verdict.currency) if price is not None else "")
        )
    if len(rivals(verdict)) > 1 and chosen is not None:
        aim = say("card_error_aim", delta=share(verdict.delta))
        found.append(Card(share(verdict.error_bound), say("card_error"), aim))
    if verdict.calls_exhaustive:
        of = say("card_calls_of", calls=count(verdict.calls), all=count(verdict.calls_exhaustive))
        found.append(Card(share(verdict.calls / verdict.calls_exhaustive), say("card_calls"), of))
    whole = verdict.cost_exhaustive_micros
    full = say("card_spent_of", full=money(whole, verdict.currency)) if whole is not None else ""
    unit = (
        f"{say('card_spent')} ({name(verdict.currency)})"
        if verdict.cost_micros is not None
        else say("card_spent")
    )
    found.append(Card(amount(verdict.cost_micros), unit, full))
    found.append(Card(duration(60 * verdict.minutes), say("card_time"), ""))
    return found


def drawings(report: Report) -> Mapping[str, tuple[Markup, Markup] | None]:
    """Every plot, wide and narrow; None where there is nothing to draw."""
    lines, timelines = report.verdict.standings, report.timelines()
    calls = both(plots.calls, timelines, lines) if len(timelines) > 1 else None
    return {**standing(lines, report.verdict.winner, report.pareto()), "calls": calls}


def standing(
    lines: Sequence[Standing], winner: str | None, pareto: Pareto
) -> Mapping[str, tuple[Markup, Markup] | None]:
    """The plots that need nothing but the standings, wide and narrow; None where there is nothing to draw."""
    judged = any(line.judged for line in lines)
    called = any(line.judged or line.failed or line.unscored for line in lines)
    return {
        "intervals": both(plots.intervals, lines, winner) if judged else None,
        "cost": both(plots.quality_cost, pareto, lines) if pareto.points else None,
        "outcomes": both(plots.outcomes, lines) if called else None,
    }


def both(draw: Any, *facts: Any) -> tuple[Markup, Markup]:
    """A plot for wide and one for narrow pages."""
    # safe: plots escape every text that they draw
    return Markup(draw(*facts, width=WIDE)), Markup(draw(*facts, width=NARROW))


class Heat(NamedTuple):
    """The slices of one metadata name as shaded cells."""

    name: str
    candidates: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Shade, ...]], ...]
    """(value, examples, one cell per candidate)."""
    hidden: int


def heat(tables: Sequence[Slicing]) -> list[Heat]:
    """Slices as heat maps, shaded over the range of each map's well-founded means."""
    maps: list[Heat] = []
    for table in tables:
        means = [mean for row in table.slices for mean in row.means.values() if mean.score is not None]
        firm = [mean.score for mean in means if mean.score is not None and not mean.small]
        low, high = (min(firm), max(firm)) if firm else (0.0, 1.0)
        names = tuple(table.slices[0].means)
        rows = tuple(
            (
                clean(row.value),
                count(row.examples),
                tuple(_shade(row.means[each], low, high) for each in names),
            )
            for row in table.slices
        )
        maps.append(Heat(table.name, names, rows, table.hidden))
    return maps


def _shade(mean: Mean, low: float, high: float) -> Shade:
    n = f"n={count(mean.n)}" if mean.n is not None else ""
    if mean.score is None:
        return Shade("–", None, False, n)
    place = 0.5 if high <= low else min(1.0, max(0.0, (mean.score - low) / (high - low)))
    return Shade(f"{mean.score:.2f}", None if mean.small else round(9 * place), mean.small, n)


def pair(difference: Difference) -> Pair:
    """One example with the leaders' replies, marked against the best reply (that one against the worst)."""
    best = max(difference.answers, key=lambda answer: answer.score)
    worst = min(difference.answers, key=lambda answer: answer.score)
    target = expected(difference.example)
    return Pair(
        id=clean(difference.example.id),
        asked=shown(asked(difference.example), longest=1200),
        target=shown(target, longest=600) if target else None,
        sides=tuple(_side(answer, worst if answer is best else best) for answer in difference.answers),
    )


def _side(answer: Answer, other: Answer) -> Side:
    return Side(
        candidate=answer.candidate,
        score=f"{answer.score:.2f}".rstrip("0").rstrip("."),
        reply=None if answer.reply is None else shown(answer.reply, other.reply),
        explanation=clean(answer.sample.score.explanation)[:300],
        outcome=answer.sample.score.outcome.value,
    )


def flagged(verdict: Verdict) -> list[tuple[Standing, list[tuple[str, bool]]]]:
    """Every flagged candidate with its flags in words and whether they disqualify."""
    return [
        (line, [(figures.flag(each), each.disqualifies) for each in line.flags])
        for line in verdict.standings
        if line.flags
    ]


def method(report: Report) -> list[tuple[str, str, bool]]:
    """What is needed to judge and to repeat it: (label, figure, whether it is code)."""
    run, verdict = report.run, report.verdict
    started = datetime.fromtimestamp(run.started_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    assured = verdict.assurance if verdict.assurance in ("calibrated", "guaranteed") else None
    return [
        (say("method_assurance"), say(assured) if assured else name(verdict.assurance), False),
        (say("method_epsilon"), f"{verdict.epsilon:g}", False),
        (say("method_delta"), f"{verdict.delta:g}", False),
        (
            say("method_decision"),
            say("decision_cheapest" if verdict.decision == "cheapest" else "decision_best"),
            False,
        ),
        (
            say("method_target"),
            say("about_population" if verdict.target == "population" else "about_set"),
            False,
        ),
        (say("method_seed"), str(run.seed), True),
        (say("method_run"), name(run.id), True),
        (say("method_task"), name(run.task), True),
        (say("method_task_hash"), name(run.task_hash), True),
        (say("method_config_hash"), name(run.config_hash), True),
        (say("method_version"), name(run.version), True),
        (say("method_started"), started, False),
    ]


class Rate(NamedTuple):
    """The price of one candidate as it was used."""

    candidate: str
    tokens_in: str
    tokens_out: str
    currency: str
    source: str


def prices(report: Report) -> list[Rate]:
    """The prices that the run used, as it recorded them."""
    rates: list[Rate] = []
    for entry in report.run.candidates:
        price = entry.get("price")
        facts: Mapping[str, Any] = cast("Mapping[str, Any]", price) if isinstance(price, Mapping) else {}
        source = " ".join(str(facts[key]) for key in ("source", "as_of") if facts.get(key))
        rates.append(
            Rate(
                name(str(entry.get("name", figures.UNKNOWN))),
                _rate(facts.get("input_per_million")),
                _rate(facts.get("output_per_million")),
                name(str(facts.get("currency", "USD"))) if facts else "",
                clean(source),
            )
        )
    return rates


def _rate(value: Any) -> str:
    return figures.UNKNOWN if value is None else name(str(value))


def unpriced(pareto: Pareto) -> str:
    """Names of the scored candidates without a price."""
    return figures.listed((line.candidate for line in pareto.unpriced), most=12)
