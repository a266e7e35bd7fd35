"""Sketches propose every pair that is really near, and not many others."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz import fuzz

from baimo.evals.tasks.near import Pair, proposed

LATIN = "abcdefghijklmnopqrstuvwxyz "
HAN = "的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可里后小么心多天"


def _edited(text: str, edits: int, letters: str, dice: random.Random) -> str:
    places = dice.sample(range(len(text)), edits)
    return "".join(dice.choice(letters) if place in places else letter for place, letter in enumerate(text))


def test_nearly_every_near_pair_is_proposed_with_and_without_spaces() -> None:
    dice = random.Random(5)
    for letters in (LATIN, HAN):
        texts: list[str] = []
        for _ in range(300):
            text = "".join(dice.choices(letters, k=dice.randint(30, 120)))
            texts += [text, _edited(text, len(text) // 20, letters, dice)]
        found = set(proposed(texts))
        wanted = {Pair(place, place + 1) for place in range(0, len(texts), 2)}
        assert len(wanted - found) <= 6  # 2 % of 300
        assert len(found) < 3 * len(wanted)


def test_a_crowd_of_equal_texts_does_not_explode() -> None:
    texts = ["turn the light on please"] * 3000
    assert 2999 <= len(set(proposed(texts))) < 3000 * 20


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=12))
def test_equal_texts_are_always_proposed_and_any_text_is_accepted(texts: list[str]) -> None:
    found = list(proposed(texts))
    assert len(found) == len(set(found))
    assert all(0 <= first < second < len(texts) for first, second in found)
    for first, text in enumerate(texts):
        for second in range(first + 1, len(texts)):
            if text == texts[second]:
                assert Pair(first, second) in found


def test_texts_that_share_nothing_are_not_proposed() -> None:
    dice = random.Random(1)
    texts = ["".join(dice.choices(LATIN, k=60)) for _ in range(400)]
    assert all(fuzz.ratio(texts[a], texts[b]) > 40 for a, b in proposed(texts))
