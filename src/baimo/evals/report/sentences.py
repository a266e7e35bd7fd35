"""The verdict in sentences: what was decided, how sure it is, what it cost, and what to be careful about.

Every rendering takes its words from here, so a terminal, a page and a pull request never say different
things."""

from __future__ import annotations

import math
from typing import NamedTuple

from baimo.core.verdict import Interval, Standing, Verdict
from baimo.evals.report.figures import (
    about,
    count,
    counted,
    duration,
    flag,
    known,
    latency,
    listed,
    money,
    money_span,
    name,
    ranked,
    say,
    score,
    share,
    shortened,
)

FORM_LOSS = 0.05
"""Strict below lenient by this much is worth a warning: the answers are right and their form is not."""

REASONS = 5
"""Most reasons of failed or unscored samples that are told."""
REASON = 300
"""Most columns of one."""


class Account(NamedTuple):
    """A verdict in sentences; an empty one has nothing to say."""

    headline: str
    """What was decided."""
    figures: str
    """The winner's score, price and latency."""
    stopped: str
    """Why the comparison ended."""
    tiers: str
    """Who is separated from whom, and what telling the rest apart would take."""
    assurance: str
    """Which assurance was used and what it means."""
    spent: str
    """Calls and money against an exhaustive evaluation."""
    forecast: str
    """What was forecast against what came."""
    warnings: tuple[str, ...]
    """What a careful reader should know."""

    @property
    def body(self) -> tuple[str, ...]:
        """Every sentence but headline and warnings, in reading order."""
        parts = (self.figures, self.tiers, self.stopped, self.assurance, self.spent, self.forecast)
        return tuple(part for part in parts if part)


def account(verdict: Verdict) -> Account:
    """The verdict in the reader's language."""
    return Account(
        headline=headline(verdict),
        figures=figures(verdict),
        stopped=stopped(verdict),
        tiers=tiers(verdict),
        assurance=assurance(verdict),
        spent=spent(verdict),
        forecast=forecast(verdict),
        warnings=tuple(warnings(verdict)),
    )


def winner(verdict: Verdict) -> Standing | None:
    """The winner's line."""
    return next((line for line in verdict.standings if line.candidate == verdict.winner), None)


def first_tier(verdict: Verdict) -> list[Standing]:
    """Judged candidates that are not separated from the best, best first."""
    return [line for line in rivals(verdict) if line.tier == 1]


def rivals(verdict: Verdict) -> list[Standing]:
    """Candidates with a score, best first: who was never judged, or was left out, is behind nobody."""
    return [line for line in verdict.standings if ranked(line)]


def headline(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    chosen = winner(verdict)
    if chosen is None:
        judged = any(line.judged for line in verdict.standings)
        return say("headline_flagged" if judged else "headline_nothing")
    facts = {
        "winner": name(chosen.candidate),
        "epsilon": f"{verdict.epsilon:g}",
        "examples": count(verdict.examples),
    }
    if len(rivals(verdict)) == 1:
        return say("headline_only", score=score(chosen.score), **facts)
    if not verdict.certain and verdict.stopped != "exhausted":
        return say("headline_leads", **facts)
    if verdict.decision == "cheapest":
        unpriced = [line.candidate for line in rivals(verdict) if line.cost_per_1000_micros is None]
        if chosen.cost_per_1000_micros is None:
            return say("headline_unpriced", **facts)
        return (
            counted("headline_priced", len(unpriced), names=listed(unpriced), **facts)
            if unpriced
            else say("headline_cheapest", **facts)
        )
    if verdict.stopped == "exhausted":
        return counted("headline_exhausted", verdict.examples, winner=facts["winner"])
    return say("headline_best" if len(first_tier(verdict)) == 1 else "headline_within", **facts)


def figures(verdict: Verdict) -> str:
    """The winner's figures."""
    chosen = winner(verdict)
    if chosen is None:
        return ""
    facts = {
        "score": score(chosen.score),
        "low": score(chosen.interval.low),
        "high": score(chosen.interval.high),
    }
    parts = [say("winner_score", **facts)]
    if chosen.cost_per_1000_micros is not None:
        parts.append(say("winner_cost", cost=money(chosen.cost_per_1000_micros, verdict.currency)))
    else:
        parts.append(say("winner_cost_unknown"))
    if known(chosen.latency_ms_median):
        parts.append(say("winner_latency", latency=latency(chosen.latency_ms_median)))
    return say("clause").join(parts) + say("stop")


def stopped(verdict: Verdict) -> str:
    """Why it ended, and the probability of error reached where that is not below the aim."""
    if len(rivals(verdict)) < 2 or winner(verdict) is None:
        return ""
    reason = verdict.stopped
    if reason == "certain" or verdict.certain:
        return say("stopped_certain", bound=share(verdict.error_bound), delta=share(verdict.delta))
    if reason == "exhausted":
        return counted("stopped_exhausted", verdict.examples)
    kinds = ("max_cost", "over_limit", "max_calls", "max_minutes", "interrupted")
    facts = {"bound": share(verdict.error_bound), "delta": share(verdict.delta)}
    return say(f"stopped_{reason}" if reason in kinds else "stopped_other", **facts)


def tiers(verdict: Verdict) -> str:
    """Who is separated from whom; what it would take to tell the first tier apart."""
    top, everyone = first_tier(verdict), rivals(verdict)
    if len(everyone) < 2 or not top:
        return ""
    rest = len(everyone) - len(top)
    if len(top) == 1:
        return counted("tier_alone", rest, winner=name(top[0].candidate))
    names = listed(line.candidate for line in top)
    if rest:
        shown = counted("tier_shared", rest, top=len(top), names=names)
    else:
        shown = say("tier_all", n=len(top))
    if verdict.certain:
        return shown + say("tier_certain", epsilon=f"{verdict.epsilon:g}")
    if verdict.stopped == "exhausted":
        return shown + say("tier_exhausted")
    if verdict.calls_left is None or not math.isfinite(verdict.calls_left):
        return shown + say("tier_left_unknown")
    facts = {"calls": about(verdict.calls_left), "cost": money(verdict.cost_left_micros, verdict.currency)}
    return shown + say("tier_left" if verdict.cost_left_micros is not None else "tier_left_unpriced", **facts)


def assurance(verdict: Verdict) -> str:
    """Which assurance was used, in one sentence, and what the claim is about."""
    if len(rivals(verdict)) < 2:
        return ""
    key = "assurance_guaranteed" if verdict.assurance == "guaranteed" else "assurance_calibrated"
    shown = say(
        key, epsilon=f"{verdict.epsilon:g}", delta=share(verdict.delta), sure=share(1 - verdict.delta)
    )
    target = "target_population" if verdict.target == "population" else "target_set"
    return shown + counted(target, verdict.examples)


def spent(verdict: Verdict) -> str:
    """What it took, against every candidate on every example."""
    facts = {
        "calls": count(verdict.calls),
        "all": count(verdict.calls_exhaustive),
        "share": share(verdict.calls / verdict.calls_exhaustive) if verdict.calls_exhaustive else share(None),
        "cost": money(verdict.cost_micros, verdict.currency),
        "full": money(verdict.cost_exhaustive_micros, verdict.currency),
        "time": duration(60 * verdict.minutes),
    }
    if verdict.cost_micros is None:
        key = "spent_unknown"
    elif verdict.cost_exhaustive_micros is None:
        key = "spent_full_unknown"
    else:
        key = "spent"
    shown = say(key, **facts)
    stored = verdict.calls - verdict.calls_paid
    return shown + counted("spent_stored", stored) if stored > 0 else shown


def forecast(verdict: Verdict) -> str:
    """Forecast against fact."""
    before = verdict.forecast
    if before is None:
        return ""
    facts = {
        "calls": f"{about(before.calls.low)}–{about(before.calls.high)}",
        "cost": money_span(before.cost_micros, before.currency),
        "time": say("minutes_span", low=f"{before.minutes.low:.2g}", high=f"{before.minutes.high:.2g}"),
        "fact_calls": count(verdict.calls),
        "fact_cost": money(verdict.cost_micros, verdict.currency),
        "fact_time": duration(60 * verdict.minutes),
        "held": say(f"forecast_{_side(verdict.calls, before.calls)}"),
    }
    return say("forecast", **facts)


def _side(fact: float, interval: Interval) -> str:
    if fact < interval.low:
        return "below"
    return "above" if fact > interval.high else "within"


def warnings(verdict: Verdict) -> list[str]:
    """What a careful reader should know, gravest first."""
    chosen, lines = winner(verdict), verdict.standings
    found: list[str] = []
    if chosen is not None:
        found += [say("warn_winner", winner=name(chosen.candidate), flag=flag(each)) for each in chosen.flags]
        place = lines.index(chosen)
        for line in lines[:place]:
            found += [
                say("warn_disqualified", candidate=name(line.candidate), flag=flag(each))
                for each in line.flags
                if each.disqualifies
            ]
    others = [line for line in lines if line.flags and line is not chosen]
    if others:
        found.append(counted("warn_flagged", len(others), names=listed(line.candidate for line in others)))
    failed = [line for line in lines if line.failed]
    if failed:
        worst = max(failed, key=lambda line: line.failed)
        facts = {"worst": name(worst.candidate), "most": count(worst.failed)}
        found.append(counted("warn_failed", sum(line.failed for line in failed), **facts))
    if unscored := sum(line.unscored for line in lines):
        found.append(counted("warn_unscored", unscored))
    found += _lost(lines)
    if unseen := [line.candidate for line in lines if not line.judged]:
        found.append(counted("warn_unjudged", len(unseen), names=listed(unseen)))
    found += _form(lines)
    unpriced = {line.candidate for line in lines if line.calls and line.cost_per_1000_micros is None}
    if unpriced := sorted(
        unpriced | set(verdict.forecast.unpriced if verdict.forecast and not unpriced else ())
    ):
        found.append(counted("warn_unpriced", len(unpriced), names=listed(unpriced)))
    return found


def _lost(lines: tuple[Standing, ...]) -> list[str]:
    """Why calls failed and answers were not scored, for the candidates that lost most."""
    reasons = sorted(
        ((line, each) for line in lines for each in line.lost if each.reason),
        key=lambda pair: -pair[1].samples,
    )
    return [
        say(
            f"why_{each.outcome}",
            candidate=name(line.candidate),
            n=count(each.samples),
            all=count(line.failed if each.outcome == "failed" else line.unscored),
            reason=shortened(name(each.reason), REASON),
            hint=say("hint", hint=shortened(name(each.hint), REASON)) if each.hint else "",
        )
        for line, each in reasons[:REASONS]
    ]


def _form(lines: tuple[Standing, ...]) -> list[str]:
    lost = [
        (line.lenient - line.strict, line)
        for line in lines
        if line.lenient is not None and line.strict is not None and line.lenient - line.strict >= FORM_LOSS
    ]
    if not lost:
        return []
    loss, line = max(lost, key=lambda pair: pair[0])
    facts = {"worst": name(line.candidate), "lenient": score(line.lenient), "strict": score(line.strict)}
    return [counted("warn_form", len(lost), loss=score(loss), **facts)]
