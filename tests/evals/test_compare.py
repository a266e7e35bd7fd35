from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from baimo.core.call import Request
from baimo.core.registry import Spec
from baimo.core.run import Run, Score
from baimo.core.task import Candidate, Example, Task
from baimo.core.verdict import Standing, Verdict
from baimo.errors import AuthenticationFailed, ProviderError, ScorerError, StoreError, Unreachable
from baimo.evals.answers import Limits
from baimo.evals.compare import PATIENCE, SILENCE, Comparison, Contender
from baimo.evals.contest import Contest
from baimo.evals.options import CompareOptions
from baimo.evals.report.sentences import account
from baimo.evals.tasks.prompts import Renderer
from baimo.store.store import Store
from tests.e2e.scripted import Listener
from tests.evals.doubles import Script, Scripted, Scripture, buying, made_run, memory, route

SKILLS = {"v/good": 0.95, "v/fair": 0.6, "v/bad": 0.1}


@pytest.fixture
def store() -> Iterator[Store]:
    opened = memory()
    yield opened
    opened.close()


def answering(skills: dict[str, float]) -> Script:
    """Says `yes` in its share of the examples, `no` in the others."""

    def script(request: Request) -> str:
        chance = random.Random(f"{request.model}/{request.messages[-1].content}").random()
        share = next(share for name, share in skills.items() if name.endswith(f"/{request.model}"))
        return f"yes {chance}" if chance < share else f"no {chance}"

    return script


def marks(example: Example, reply: str) -> Score:
    del example
    return Score.of(float(reply.startswith("yes")))


@dataclass
class Play:
    """One comparison of scripted models, ready to run."""

    store: Store
    names: tuple[str, ...] = tuple(SKILLS)
    script: Script = field(default_factory=lambda: answering(SKILLS))
    scorer: Callable[[Example, str], Score] = marks
    scorer_name: str = "exact"
    examples: int = 80
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    run: str = "run_a"
    listener: Listener = field(default_factory=Listener)

    def made(self) -> Comparison:
        task = Task(
            name="t",
            examples=tuple(Example(id=str(n), fields={"input": f"q{n}"}) for n in range(self.examples)),
            scorers=(Spec(name=self.scorer_name),),
        )
        given = {"task": "t", "epsilon": 0.01, "delta": 0.05, "assurance": "guaranteed", **self.options}
        options = CompareOptions(**given)
        self.provider = Scripted(self.script)
        contenders = [
            Contender(
                candidate=Candidate(name=name, model=name),
                route=route(self.provider, name),
                renderer=Renderer(Candidate(name=name, model=name).prompt, (), seed=0),
            )
            for name in self.names
        ]
        contest = Contest(
            candidates=len(self.names),
            examples=self.examples,
            cost=None,
            exhaustive=options.exhaustive,
            epsilon=options.epsilon,
            delta=options.delta,
            assurance=options.assurance,
            decision=options.decision,
        )
        self.answers = buying(self.store, run=self.run, limits=Limits(options.max_calls, None))
        return Comparison(
            run=self.made_run(),
            options=options,
            task=task,
            contenders=contenders,
            scorers=[Scripture(self.scorer)],
            answers=self.answers,
            store=self.store,
            contest=contest,
            watcher=self.listener,
            forecast=None,
        )

    def made_run(self, candidates: tuple[Mapping[str, Any], ...] = ()) -> Run:
        return made_run(self.run, candidates)

    def verdict(self) -> Verdict:
        async def ran() -> Verdict:
            return await self.made().verdict()

        return asyncio.run(ran())


def line(verdict: Verdict, name: str) -> Standing:
    return next(one for one in verdict.standings if one.candidate == name)


def unreachable() -> Unreachable:
    return Unreachable("providers.disconnected", host="h", model="m")


def test_it_stops_when_it_is_certain_and_names_the_best(store: Store) -> None:
    play = Play(store)
    verdict = play.verdict()
    assert (verdict.winner, verdict.stopped, verdict.certain, verdict.calls_left) == (
        "v/good",
        "certain",
        True,
        0.0,
    )
    assert verdict.calls == verdict.calls_paid == play.provider.asked.total() < 240
    assert len(store.samples("run_a")) == verdict.calls
    assert play.listener.seen[-1].calls == verdict.calls


def test_samples_are_kept_in_the_order_in_which_they_decided(store: Store) -> None:
    play = Play(store)
    play.verdict()
    first = [(one.candidate, one.example) for one in store.samples("run_a")]
    again = Play(store, run="run_b")
    again.verdict()
    assert first == [(one.candidate, one.example) for one in store.samples("run_b")]
    assert again.provider.asked.total() == 0


def test_failed_calls_are_not_scored_and_not_lost(store: Store) -> None:
    skilled, lost = answering(SKILLS), {"q3", "q7", "q11"}

    def script(request: Request) -> str | BaseException:
        return unreachable() if request.messages[-1].content in lost else skilled(request)

    verdict = Play(store, script=script, options={"exhaustive": True}).verdict()
    assert verdict.winner == "v/good"
    for name in SKILLS:
        assert (line(verdict, name).failed, line(verdict, name).judged) == (3, 77)
    assert {one.example for one in store.samples("run_a") if one.error} == {"3", "7", "11"}


def test_a_candidate_that_only_fails_is_left_out_after_its_patience(store: Store) -> None:
    skilled = answering(SKILLS)

    def script(request: Request) -> str | BaseException:
        return (
            ProviderError("providers.disconnected", host="h", model="m")
            if request.model == "gone"
            else skilled(request)
        )

    play = Play(store, names=(*SKILLS, "v/gone"), script=script, options={"batch": 4, "exhaustive": True})
    verdict = play.verdict()
    gone = line(verdict, "v/gone")
    assert verdict.winner == "v/good"
    assert gone.failed == PATIENCE
    assert (gone.score, gone.wrong, [flag.kind for flag in gone.flags]) == (None, 0, ["withdrawn"])
    assert any("v/gone" in notice for notice in play.listener.notices)


def test_a_refused_key_is_final_at_once(store: Store) -> None:
    skilled = answering(SKILLS)

    def script(request: Request) -> str | BaseException:
        if request.model == "locked":
            return AuthenticationFailed("providers.disconnected", host="h", model="m")
        return skilled(request)

    play = Play(store, names=("v/locked", *SKILLS), script=script, options={"batch": 4, "exhaustive": True})
    assert line(play.verdict(), "v/locked").failed == 1


def test_a_vendor_that_went_silent_takes_all_its_models_along(store: Store) -> None:
    skilled, answered = answering(SKILLS), 20

    def script(request: Request) -> str | BaseException:
        nonlocal answered
        answered -= 1
        return skilled(request) if answered >= 0 else unreachable()

    play = Play(store, script=script)
    with pytest.raises(ProviderError) as caught:
        play.verdict()
    assert "run_a" in caught.value.hint
    assert play.answers.bill.calls == 20
    assert play.answers.bill.failed < SILENCE + 64
    assert len(store.samples("run_a")) == play.answers.bill.calls + play.answers.bill.failed


def test_when_nobody_ever_answers_the_last_reason_is_told(store: Store) -> None:
    with pytest.raises(ProviderError, match="h"):
        Play(store, script=lambda _: unreachable()).verdict()


def test_few_examples_that_all_fail_are_no_verdict(store: Store) -> None:
    with pytest.raises(ProviderError):
        Play(store, script=lambda _: unreachable(), examples=2).verdict()


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.5, 1.5])
def test_a_score_that_is_none_leaves_the_denominator(store: Store, value: float) -> None:
    def scorer(example: Example, reply: str) -> Score:
        return (
            Score(lenient=value, strict=value, outcome=Score.of(1.0).outcome)
            if example.id == "5"
            else marks(example, reply)
        )

    verdict = Play(store, scorer=scorer, options={"exhaustive": True}).verdict()
    assert verdict.winner == "v/good"
    assert all((one.unscored, one.judged) == (1, 79) for one in verdict.standings)


def test_a_scorer_that_breaks_leaves_the_sample_unscored_with_its_reason(store: Store) -> None:
    def scorer(example: Example, reply: str) -> Score:
        if example.id == "5":
            raise ZeroDivisionError("oops")
        return marks(example, reply)

    verdict = Play(store, scorer=scorer, options={"exhaustive": True}).verdict()
    assert all(one.unscored == 1 for one in verdict.standings)
    reasons = {one.score.explanation for one in store.samples("run_a") if one.example == "5"}
    assert all("ZeroDivisionError" in reason and "oops" in reason for reason in reasons)


def test_when_nothing_can_be_scored_it_stops_paying(store: Store) -> None:
    play = Play(store, scorer=lambda example, reply: Score.unscored("the judge sleeps"))
    with pytest.raises(ScorerError, match="the judge sleeps"):
        play.verdict()
    assert play.answers.bill.calls < 240


def test_trouble_that_is_nobodys_answer_ends_the_run_with_its_own_error(store: Store) -> None:
    def scorer(example: Example, reply: str) -> Score:
        raise StoreError("store.full", where="here", problem="full")

    with pytest.raises(StoreError):
        Play(store, scorer=scorer).verdict()


@pytest.mark.parametrize("options", [{}, {"exhaustive": True}, {"max_calls": 100, "exhaustive": True}])
def test_a_constant_reply_that_charms_the_judge_is_not_crowned(store: Store, options: dict[str, Any]) -> None:
    skilled = answering(SKILLS)

    def script(request: Request) -> str:
        return "yes, whatever you say" if request.model == "charmer" else str(skilled(request))

    play = Play(store, names=("v/charmer", *SKILLS), script=script, scorer_name="judge", options=options)
    verdict = play.verdict()
    assert verdict.winner == "v/good"
    assert any(flag.disqualifies for flag in line(verdict, "v/charmer").flags)


def test_stopping_keeps_what_was_answered_and_gives_up_the_rest(store: Store) -> None:
    skilled = answering(SKILLS)

    async def ran() -> Verdict:
        play = Play(store, options={"exhaustive": True, "batch": 16})
        comparison = play.made()
        answered = 0

        def script(request: Request) -> str | BaseException:
            nonlocal answered
            answered += 1
            if answered == 50:
                comparison.stop()
                play.provider.gate = asyncio.Event()  # nobody else comes back
            return skilled(request)

        play.provider.script = script
        return await comparison.verdict()

    verdict = asyncio.run(ran())
    assert verdict.stopped == "interrupted"
    assert verdict.winner == "v/good"
    assert 48 <= verdict.calls < 240
    assert len(store.samples("run_a")) == verdict.calls
    assert {record.status for record in store.records()} <= {"ok", "cancelled"}


def test_a_limit_of_time_gives_up_calls_that_hang(store: Store) -> None:
    async def ran() -> Verdict:
        play = Play(store, options={"max_minutes": 0.0005})
        comparison = play.made()
        play.provider.gate = asyncio.Event()
        return await comparison.verdict()

    verdict = asyncio.run(ran())
    assert (verdict.stopped, verdict.winner, verdict.certain) == ("max_minutes", None, False)
    assert verdict.calls == 0


@pytest.mark.parametrize("most", [1, 40])
def test_a_limit_of_calls_is_kept_and_named(store: Store, most: int) -> None:
    play = Play(store, options={"max_calls": most, "exhaustive": True})
    verdict = play.verdict()
    assert (verdict.stopped, verdict.calls_paid) == ("max_calls", most)
    assert play.provider.asked.total() == most


def test_strict_scores_decide_when_asked_to(store: Store) -> None:
    def scorer(example: Example, reply: str) -> Score:
        lenient = marks(example, reply).lenient or 0.0
        return Score.of(lenient, 0.0 if "fenced" in reply else lenient)

    skilled = answering(SKILLS)

    def script(request: Request) -> str:
        return f"{skilled(request)} {'fenced' if request.model == 'good' else ''}"

    loose = Play(store, script=script, scorer=scorer, options={"exhaustive": True}).verdict()
    strict = Play(
        store, script=script, scorer=scorer, run="run_b", options={"exhaustive": True, "score": "strict"}
    ).verdict()
    assert (loose.winner, strict.winner) == ("v/good", "v/fair")
    assert line(loose, "v/good").malformed > 60


def test_one_candidate_alone_is_its_own_winner(store: Store) -> None:
    verdict = Play(store, names=("v/fair",)).verdict()
    assert verdict.winner == "v/fair"
    assert (line(verdict, "v/fair").judged, verdict.stopped) == (80, "exhausted")


@pytest.mark.parametrize("assurance", ["calibrated", "guaranteed"])
@pytest.mark.parametrize("fate", [Score.unscored("the judge sleeps"), unreachable()])
def test_a_candidate_without_a_single_score_never_wins(
    store: Store, fate: Score | Unreachable, assurance: str
) -> None:
    """Whatever it would take to find out, the others decide."""
    skilled = answering(SKILLS)

    def script(request: Request) -> str | BaseException:
        lost = request.model == "good"
        return "lost" if lost and isinstance(fate, Score) else fate if lost else skilled(request)  # type: ignore[return-value]

    def scorer(example: Example, reply: str) -> Score:
        return fate if reply == "lost" and isinstance(fate, Score) else marks(example, reply)

    verdict = Play(store, script=script, scorer=scorer, options={"assurance": assurance}).verdict()
    assert verdict.winner == "v/fair"
    assert line(verdict, "v/good").score is None


@pytest.mark.parametrize("decision", ["best", "cheapest"])
@pytest.mark.parametrize("assurance", ["calibrated", "guaranteed"])
def test_a_verdict_on_equals_can_be_stored(store: Store, assurance: str, decision: str) -> None:
    play = Play(
        store,
        names=("v/one", "v/two"),
        script=lambda request: "yes",
        examples=40,
        options={"assurance": assurance, "decision": decision},
    )
    verdict = play.verdict()
    assert type(verdict.certain) is bool
    store.finish(play.made_run(), verdict)
    assert store.verdict("run_a") == verdict


def test_why_calls_failed_and_answers_were_not_scored_is_kept_with_what_to_do(store: Store) -> None:
    skilled = answering(SKILLS)

    def script(request: Request) -> str | BaseException:
        return unreachable() if request.model == "bad" else skilled(request)  # type: ignore[return-value]

    def scorer(example: Example, reply: str) -> Score:
        return marks(example, reply) if reply.startswith("yes") else Score.unscored("the judge sleeps")

    verdict = Play(store, script=script, scorer=scorer, examples=11, options={"exhaustive": True}).verdict()  # type: ignore[arg-type]
    (lost,) = line(verdict, "v/bad").lost
    assert (lost.outcome, lost.reason, lost.samples) == ("failed", str(unreachable()), 11)
    assert lost.hint == unreachable().hint
    assert {each.reason for each in line(verdict, "v/fair").lost} == {"the judge sleeps"}
    told = "\n".join(account(verdict).warnings)
    assert f"v/bad: 11 of 11 failed calls because of: {unreachable()}" in told and "the judge sleeps" in told
