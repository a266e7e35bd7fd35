"""Sampled answers are those of the model itself, however they are computed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is missing: pip install 'baimo[tune]'")
pytest.importorskip("peft", reason="peft is missing: pip install 'baimo[tune]'")

from baimo.tuning.fit import lora, rollout  # noqa: E402
from baimo.tuning.fit.base import LoadedBase  # noqa: E402
from baimo.tuning.fit.branches import Branches, Copies, alike_of, tip  # noqa: E402
from baimo.tuning.fit.rollout import Rollout, Sampling, drawn, rollouts  # noqa: E402
from tests.tuning.fit import tiny  # noqa: E402

BEGINNING = [1, 7, 7, 8, 9, 10, 11, 12, 13, 14]
PROMPTS = [[*BEGINNING, 20], [*BEGINNING, 21, 22, 23, 24], [*BEGINNING, 21, 30]]


def adapted(family: str = "llama") -> LoadedBase:
    base = tiny.base(family)
    weights = lora.adapt(base, rank=4, alpha=8, seed=1)
    with torch.no_grad():
        for weight in weights:
            weight.normal_(std=0.3, generator=torch.Generator().manual_seed(weight.numel()))
    return base


def one_by_one(base: LoadedBase, prompt: list[int], sampling: Sampling) -> list[int]:
    """The likeliest answer, all of it computed again for each token by transformers' own modules."""
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) - len(prompt) < sampling.longest:
            ids.append(int(base.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] in sampling.stops:
                break
    return ids[len(prompt) :]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_greedy_answers_are_those_of_transformers(family: str) -> None:
    base = adapted(family)
    free = Sampling(stops=frozenset(), longest=12, temperature=0)
    expected = [one_by_one(base, prompt, free) for prompt in PROMPTS]
    sampling = Sampling(stops=frozenset({expected[0][4]}), longest=12, temperature=0)
    found = rollouts(base, PROMPTS, 2, sampling, seed=0)
    assert isinstance(tip(base), Branches)
    assert [list(answer.ids) for answer in found] == [
        one_by_one(base, prompt, sampling) for prompt in PROMPTS for _ in range(2)
    ]
    assert [answer.prompt for answer in found] == [0, 0, 1, 1, 2, 2]
    assert found[0].ended and len(found[0].ids) <= 5, "the stop token is part of the answer and its end"
    for answer in found:
        assert answer.ended == (answer.ids[-1] in sampling.stops)


def test_each_tokens_log_probability_is_that_of_the_temperature_it_was_sampled_at() -> None:
    base = adapted()
    sampling = Sampling(stops=frozenset({5}), longest=9, temperature=0.7)
    for answer in rollouts(base, PROMPTS, 3, sampling, seed=1):
        prompt = PROMPTS[answer.prompt]
        with torch.no_grad():
            logits = base.model(input_ids=torch.tensor([[*prompt, *answer.ids]])).logits[0].float() / 0.7
        expected = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
        picked = expected[torch.arange(len(answer.ids)), torch.tensor(answer.ids)]
        assert torch.tensor(answer.logprobs).tolist() == pytest.approx(picked.tolist(), abs=1e-4)


@pytest.mark.parametrize("rows", [1, 4, 128])
def test_an_answer_does_not_depend_on_what_is_decoded_beside_it(rows: int) -> None:
    base = adapted()
    stops = frozenset(range(2, 30))
    together = rollouts(base, PROMPTS, 4, Sampling(stops=stops, longest=8), seed=3)
    assert len({answer.ids for answer in together}) > 3, "answers of one prompt differ"
    apart = rollouts(base, PROMPTS, 4, Sampling(stops=stops, longest=8, rows=rows), seed=3)
    assert [answer.ids for answer in apart] == [answer.ids for answer in together]


def test_a_model_of_any_kind_gives_the_same_answers_through_transformers() -> None:
    base = adapted()
    sampling = Sampling(stops=frozenset(range(2, 20)), longest=8)
    grown = {}
    for kind in (Branches, Copies):
        with torch.no_grad():
            growing = rollout.Growing(base, PROMPTS, 4, sampling, chances(12, 8), kind(base))
            grown[kind] = [answer.ids for answer in growing.grown()]
    assert grown[Branches] == grown[Copies]


def chances(rows: int, tokens: int) -> torch.Tensor:
    return torch.rand(rows, tokens, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_without_the_adapter_the_reference_answers() -> None:
    base = adapted()
    sampling = Sampling(stops=frozenset(), longest=6, temperature=0)
    with base.reference():
        plain = rollouts(base, PROMPTS, 1, sampling, seed=0)
        assert [list(answer.ids) for answer in plain] == [
            one_by_one(base, each, sampling) for each in PROMPTS
        ]
    assert plain != rollouts(base, PROMPTS, 1, sampling, seed=0)


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=9), st.floats(0.2, 3), st.floats(0, 0.999))
def test_a_token_is_taken_where_the_chance_falls_into_its_share(
    logits: list[float], temperature: float, chance: float
) -> None:
    shares = torch.softmax(torch.tensor(logits) / temperature, 0)
    chosen, logprob = drawn(torch.tensor([logits]), torch.tensor([chance]), temperature)
    before, share = float(shares[: chosen[0]].sum()), float(shares[chosen[0]])
    assert before - 1e-5 <= chance <= before + share + 1e-5
    assert logprob.exp().item() == pytest.approx(share, abs=1e-5)


def test_a_chance_next_to_one_takes_no_token_that_cannot_be() -> None:
    logits = torch.tensor([[0.0, 1.0, -300.0, -300.0]])
    chosen, logprob = drawn(logits, torch.tensor([1 - 1e-12], dtype=torch.float64), 1.0)
    assert chosen.item() == 1
    assert logprob.isfinite().all()


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=5))
def test_what_rows_begin_with_alike_leaves_a_token_to_each(rows: list[list[int]]) -> None:
    alike = alike_of(rows)
    assert all(row[:alike] == rows[0][:alike] and len(row) > alike for row in rows)
    longer = {tuple(row[: alike + 1]) for row in rows}
    assert len(longer) > 1 or min(map(len, rows)) == alike + 1


def test_a_rollout_says_which_prompt_it_answers_across_batches() -> None:
    base = adapted()
    found: list[Rollout] = rollouts(base, PROMPTS, 2, Sampling(stops=frozenset(), longest=2, rows=2), seed=0)
    assert [answer.prompt for answer in found] == [0, 0, 1, 1, 2, 2]
    assert not any(answer.ended for answer in found)
