"""Signs that figures are not what they seem."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from baimo.core.run import Score
from baimo.evals.flags import Cell, cell, constant, copies, flags, length_bias, length_controlled, mark


def answers(
    name: str, reply: Callable[[int], str], score: Callable[[int], float] = lambda n: n % 2, count: int = 60
) -> list[Cell]:
    return [cell(name, str(n), reply(n), Score.of(score(n))) for n in range(count)]


def essay(name: str) -> Callable[[int], str]:
    return lambda n: f"{name} writes about question {n}: " + " ".join(f"{name}{n}word{k}" for k in range(20))


def kinds(cells: list[Cell], name: str, *, judged: bool = False) -> set[str]:
    return {flag.kind for flag in flags(cells, judged=judged).get(name, ())}


def test_a_constant_reply_that_a_judge_likes_must_not_win() -> None:
    cells = answers("honest", essay("honest")) + answers(
        "null", lambda n: "My answer is the best one.", lambda n: 1.0
    )
    (flag,) = flags(cells, judged=True)["null"]
    assert (flag.kind, flag.disqualifies) == ("constant", True)
    assert kinds(cells, "honest", judged=True) == set()


def test_a_constant_reply_under_references_is_shown_but_its_score_already_speaks() -> None:
    (flag,) = flags(answers("lazy", lambda n: "yes"), judged=False)["lazy"]
    assert not flag.disqualifies


def test_variations_in_case_and_spacing_do_not_hide_a_constant_reply() -> None:
    cells = answers("null", lambda n: ["Best answer!", "best  ANSWER", "Ｂｅｓｔ answer."][n % 3])
    assert kinds(cells, "null", judged=True) == {"constant"}


def test_a_reply_that_is_usually_right_is_not_called_constant() -> None:
    own = [cell("m", str(n), "no", Score.of(1.0), "no" if n % 10 else "yes") for n in range(60)]
    assert constant(own, judged=True) is None


def test_three_in_four_is_near_constant() -> None:
    cells = answers("m", lambda n: "the same text" if n % 4 else f"text {n}")
    assert kinds(cells, "m", judged=True) == {"near_constant"}


def test_nothing_is_said_about_a_handful_of_cells() -> None:
    assert flags(answers("m", lambda n: "same", count=9), judged=True) == {}


def test_a_copy_is_found_in_both_directions_and_not_disqualified() -> None:
    cells = answers("a", essay("a")) + answers("b", essay("a")) + answers("c", essay("c"))
    found = flags(cells, judged=False)
    assert [(flag.kind, flag.detail["of"], flag.disqualifies) for flag in found["a"]] == [
        ("copy", "b", False)
    ]
    assert [flag.detail["of"] for flag in found["b"]] == ["a"]
    assert "c" not in found


def test_two_prompts_of_one_model_may_answer_alike() -> None:
    cells = answers("a", essay("a")) + answers("b", essay("a"))
    assert flags(cells, judged=False, model_of={"a": "v/m", "b": "v/m"}) == {}
    assert set(flags(cells, judged=False, model_of={"a": "v/m", "b": "v/other"})) == {"a", "b"}


def test_a_copy_of_three_replies_in_four_is_found_when_only_half_of_the_cells_are_seen() -> None:
    chance = random.Random(2)
    copied = answers("b", lambda n: essay("a")(n) if n % 4 else essay("b")(n), count=200)
    everything = answers("a", essay("a"), count=200) + copied + answers("c", essay("c"), count=200)
    seen = [item for item in everything if chance.random() < 0.5]
    assert [(copy.first, copy.second) for copy in copies(seen)] == [("a", "b")]


def test_right_short_answers_are_equal_without_copying() -> None:
    cells = [c for name in "abc" for c in answers(name, lambda n: f"answer {n}", lambda n: 1.0)]
    assert copies(cells) == []


def test_two_labels_make_wrong_answers_equal_without_copying() -> None:
    chance = random.Random(1)
    cells: list[Cell] = []
    for name in "abcde":
        right = [chance.random() < 0.7 for _ in range(200)]
        cells += [
            cell(name, str(n), "yes" if ok else "no", Score.of(float(ok))) for n, ok in enumerate(right)
        ]
    assert copies(cells) == []


def test_equal_wrong_answers_of_many_labels_are_copying() -> None:
    def guess(seed: int) -> Callable[[int], str]:
        return lambda n: f"label {random.Random(1000 * seed + n).randrange(77)}"

    cells = [
        c
        for name, seed in (("a", 1), ("b", 1), ("c", 2), ("d", 3))
        for c in answers(name, guess(seed), lambda n: 0.0)
    ]
    assert [(copy.first, copy.second) for copy in copies(cells)] == [("a", "b")]


def test_empty_replies_and_refusals_are_counted_apart() -> None:
    assert kinds(answers("m", lambda n: "" if n % 5 == 0 else f"text {n}"), "m") == {"empty"}
    for refusal in ("I'm sorry, but I can't help with {}", "抱歉，我无法回答 {}", "As an AI, {}"):
        cells = answers("m", lambda n, refusal=refusal: refusal.format(n) if n % 5 == 0 else f"text {n}")
        assert kinds(cells, "m") == {"refusal"}


def test_verdicts_that_turn_with_the_order_are_counted() -> None:
    own = [replace(c, swayed=n % 3 == 0) for n, c in enumerate(answers("m", essay("m")))]
    assert kinds(own, "m", judged=True) == {"position"}


def test_a_judge_that_likes_length_is_noticed_and_the_longest_candidate_flagged() -> None:
    cells = [
        c
        for k, name in enumerate(["s", "m", "l"])
        for c in answers(name, lambda n, k=k: f"{n} " + "x " * 10**k, lambda n, k=k: k / 2)
    ]
    assert (length_bias(cells) or 0) > 0.9
    assert kinds(cells, "l", judged=True) == {"length"}
    assert kinds(cells, "s", judged=True) == set()
    assert kinds(cells, "l", judged=False) == set()


def test_length_control_takes_away_wins_that_length_explains() -> None:
    chance = random.Random(3)
    own: list[Cell] = []
    for n in range(400):
        longer = chance.random() < 0.8
        won = chance.random() < (0.9 if longer else 0.1)  # length decides, not quality
        made = cell("m", str(n), "x" * (900 if longer else 100), Score.of(float(won)))
        own.append(replace(made, baseline_chars=500))
    rate = length_controlled(own)
    assert rate is not None
    assert rate.raw > 0.7
    assert abs(rate.controlled - 0.5) < 0.08


def test_length_control_leaves_wins_that_length_does_not_explain() -> None:
    own = [
        replace(c, baseline_chars=c.chars + (-1) ** n * 50)
        for n, c in enumerate(answers("m", essay("m"), lambda n: 1.0))
    ]
    rate = length_controlled(own)
    assert rate is not None
    assert rate.controlled > 0.9


@pytest.mark.parametrize("text", ["", "\ud800", "。。。", "🙂"])
def test_every_text_has_a_mark(text: str) -> None:
    assert mark(text) == mark(text)


def test_on_real_replies_only_a_planted_copy_is_found(shared_data: Path) -> None:
    cells: list[Cell] = []
    with gzip.open(shared_data / "zeroeval_crux_replies.jsonl.gz", "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            row = json.loads(line)
            if number % 800 < 200:  # the first 200 examples of each of the 51 models
                cells.append(cell(row["model"], row["id"], row["reply"], Score.of(float(row["ok"]))))
    assert len(cells) == 51 * 200
    assert copies(cells) == []
    chance = random.Random(0)
    planted = [
        replace(c, candidate="copy")
        for c in cells
        if c.candidate == "gpt-4o-2024-08-06" and chance.random() < 0.8
    ]
    (found,) = copies(cells + planted)
    assert {found.first, found.second} == {"copy", "gpt-4o-2024-08-06"}


def test_replies_that_are_cut_off_at_their_length_are_shown() -> None:
    made = [cell("m", str(n), f"reply {n}", Score.of(1.0), cut=n % 5 == 0) for n in range(20)]
    (flag,) = flags(made, judged=True)["m"]
    assert (flag.kind, flag.detail, flag.disqualifies) == ("cut", {"share": 0.2}, False)
    assert flags(made[1:5] + made[6:15], judged=True) == {}
