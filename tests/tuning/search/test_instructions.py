from __future__ import annotations

import asyncio
import re
from pathlib import Path

from baimo.core.call import Request
from baimo.core.task import Prompt
from baimo.tuning.search.instructions import Evolution
from baimo.tuning.search.trials import Purse, Trials
from tests.tuning.search.doubles import Script, Scripted, examples, work

TRAIN = examples(120, kinds=6)


def writes_a_rule_for_what_it_saw(request: Request) -> str:
    """Adds a rule for the first failed kind to the instruction it was shown; merges rules of both."""
    words = str(request.messages[-1].content)
    rules = dict.fromkeys(re.findall(r"rule: kind\d", words))
    failed = re.search(r"(?:Request|请求).*?(kind\d).*\n.*\n.*no idea", words)
    if failed:
        rules[f"rule: {failed[1]}"] = None
    return "What was missing:\n```\n" + " ".join(rules) + "\n```"


def evolved(folder: Path, rewriter: Script, *, calls: int, system: str = "") -> tuple[Evolution, Prompt]:
    scripted = Scripted(rewriter=rewriter)
    trials = Trials(work=work(TRAIN, scripted), journal=folder / "trials.jsonl", calls=calls)
    evolution = Evolution(
        trials=trials,
        start=Prompt(system=system),
        feedback=TRAIN[:60],
        scored=TRAIN[60:84],
        batch=4,
        language="en",
        purse=Purse(calls),
    )
    return evolution, asyncio.run(evolution.run())


def test_rules_are_gathered_until_everything_is_answered(tmp_path: Path) -> None:
    evolution, _ = evolved(tmp_path, writes_a_rule_for_what_it_saw, calls=1200)
    best = evolution.scores[evolution.best()]
    start = evolution.scores["start"]
    assert sum(start.values()) == 0
    assert sum(best.values()) / len(best) >= 5 / 6
    assert any(idea.id.startswith("m") for idea in evolution.ideas)


def test_a_rewrite_that_is_no_better_on_its_own_examples_costs_no_scored_call(tmp_path: Path) -> None:
    count = iter(range(10_000))
    evolution, _ = evolved(tmp_path, lambda request: f"```\nTry harder, {next(count)}.\n```", calls=150)
    assert set(evolution.scores) == {"start"}
    assert {idea.outcome for idea in evolution.ideas} == {"accepted", "no better"}


def test_a_model_that_cannot_rewrite_changes_nothing_and_the_search_ends(tmp_path: Path) -> None:
    evolution, found = evolved(tmp_path, lambda request: "", calls=120, system="Say the kind.")
    assert found == Prompt(system="Say the kind.")
    assert {idea.outcome for idea in evolution.ideas} == {"accepted", "unusable"}


def test_the_rewriter_never_sees_a_scored_example(tmp_path: Path) -> None:
    seen: list[str] = []

    def rewriter(request: Request) -> str:
        seen.append(str(request.messages[-1].content))
        return writes_a_rule_for_what_it_saw(request)

    evolved(tmp_path, rewriter, calls=600)
    hidden = {str(example.fields["input"]) for example in TRAIN[60:84]}
    shown = {str(example.fields["input"]) for example in TRAIN[:60]}
    requests = {words for text in seen for words in re.findall(r"Request: (.*)", text)}
    assert requests and requests <= shown
    assert hidden - shown


def test_too_few_calls_for_a_start_leave_the_prompt_as_it_is(tmp_path: Path) -> None:
    _, found = evolved(tmp_path, writes_a_rule_for_what_it_saw, calls=3, system="as it is")
    assert found == Prompt(system="as it is")


def test_everything_answered_from_the_start_ends_too(tmp_path: Path) -> None:
    rules = " ".join(f"rule: kind{number}" for number in range(6))
    _, found = evolved(tmp_path, writes_a_rule_for_what_it_saw, calls=200, system=rules)
    assert found == Prompt(system=rules)


def test_a_rewriter_without_ideas_is_not_asked_for_ever(tmp_path: Path) -> None:
    evolution, _ = evolved(tmp_path, lambda request: "", calls=5000)
    assert len(evolution.ideas) == 1 + evolution.patience
    assert evolution.trials.bill.calls < 200
