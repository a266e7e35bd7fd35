from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from baimo.tuning.search.pareto import drawn, front

BOARDS = st.dictionaries(
    st.sampled_from("abcdef"),
    st.fixed_dictionaries(dict.fromkeys("12345", st.sampled_from([0.0, 0.5, 1.0]))),
    min_size=1,
)


@given(scores=BOARDS)
def test_the_front_reaches_the_best_of_every_example_and_holds_nobody_in_vain(
    scores: dict[str, dict[str, float]],
) -> None:
    kept = front(scores)
    for example in "12345":
        best = max(one[example] for one in scores.values())
        assert any(scores[id][example] == best for id in kept)
    for id in kept:
        if len(kept) > 1:  # without it, some example's best is not reached
            others = [other for other in kept if other != id]
            assert any(
                scores[id][example] == max(one[example] for one in scores.values())
                and all(scores[other][example] < scores[id][example] for other in others)
                for example in "12345"
            )


def test_one_that_is_best_at_one_thing_alone_stays_beside_the_better_mean() -> None:
    scores = {"broad": {"1": 1.0, "2": 1.0, "3": 0.0}, "narrow": {"1": 0.0, "2": 0.0, "3": 1.0}}
    assert front(scores) == {"broad": 2, "narrow": 1}
    found = [drawn(scores, random.Random(seed)) for seed in range(200)]
    assert 0 < found.count("narrow") < found.count("broad")
