"""Rewards are learnt from: by the answers of the very step, through kills, past judges that fail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: pip install 'baimo[tune]'")
pytest.importorskip("peft", reason="peft is missing: pip install 'baimo[tune]'")

from baimo.core.message import Message  # noqa: E402
from baimo.core.registry import Spec  # noqa: E402
from baimo.core.tuning import Row, TuneSpec  # noqa: E402
from baimo.errors import ConfigError, ScorerError, TaskError  # noqa: E402
from baimo.tuning.bench import Bench, Facts, Reward  # noqa: E402
from baimo.tuning.fit.rollout import Rollout, Sampling  # noqa: E402
from baimo.tuning.folder import JobFolder  # noqa: E402
from baimo.tuning.recipes import grpo  # noqa: E402
from tests.tuning.base import tiny_base  # noqa: E402
from tests.tuning.recipes.test_dpo import Fragile, Killed, learnt, told  # noqa: E402

SETTINGS = grpo.Settings(
    n_epochs=8,
    batch_size=4,
    answers=8,
    longest_answer=8,
    learning_rate=2e-2,
    rank=4,
    alpha=8,
    micro_tokens=256,
    precision="f32",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.torch import load_file, save_file

    folder = tiny_base(tmp_path_factory.mktemp("base"))
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():  # else no answer is much likelier than another, whatever is learnt
        weight *= 1 if "norm" in name else 6 if "layers" in name else 3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def rows(count: int) -> list[Row]:
    return [
        Row(messages=(Message(role="user", content=f"say {at}"),), item={"at": at}) for at in range(count)
    ]


def letters(row: Row, said: str) -> float:
    """Share of a few letters: common enough for random weights to find them."""
    return sum(letter in "abcdefgh" for letter in said) / 8


def job(path: Path, count: int = 8, valid: int = 0) -> JobFolder:
    folder = JobFolder(path)
    name = "valid.jsonl" if valid else ""
    spec = TuneSpec(id="ftjob-1", recipe=Spec(name="grpo"), base="tiny", valid=name, seed=7)
    folder.write(spec, rows(count), rows(valid))
    return folder


def bench(folder: JobFolder, base: Path, reward: Reward = letters) -> Bench:
    return Bench(
        folder=folder, base=base, rewards={"task": reward}, device="cpu", threads=1, checkpoint_minutes=0.0
    )


def test_what_is_rewarded_becomes_likelier(tmp_path: Path, base: Path) -> None:
    folder = job(tmp_path, valid=4)
    grpo.run(bench(folder, base), msgspec.structs.replace(SETTINGS, n_epochs=12))
    steps = [event["progress"] for event in told(folder, "progress")]
    assert len(steps) == 24
    first, last = (sum(step["reward"] for step in some) / 3 for some in (steps[:3], steps[-3:]))
    assert last > 2 * first
    assert steps[-1]["valid_accuracy"] > steps[1]["valid_accuracy"]
    answers = told(folder, "answers")
    assert [event["step"] for event in answers] == list(range(1, 25))
    assert answers[0]["reward"] == pytest.approx(steps[0]["reward"])
    assert answers[0]["spread"] > 0
    assert answers[0]["answers"] == 32


def test_a_job_that_was_killed_ends_where_an_uninterrupted_one_does(tmp_path: Path, base: Path) -> None:
    settings = msgspec.structs.replace(SETTINGS, n_epochs=3, kl=0.05)
    whole = job(tmp_path / "whole")
    grpo.run(bench(whole, base), settings)
    job(tmp_path / "killed")
    for at in (1, 4):
        with pytest.raises(Killed):
            grpo.run(bench(Fragile(tmp_path / "killed", at), base), settings)
    killed = JobFolder(tmp_path / "killed")
    grpo.run(bench(killed, base), settings)
    one, other = (told(folder, "progress")[-1]["progress"] for folder in (whole, killed))
    assert (other["step"], other["reward"]) == (one["step"], pytest.approx(one["reward"], abs=1e-6))
    for name, weight in learnt(whole).items():
        torch.testing.assert_close(learnt(killed)[name], weight, rtol=0, atol=1e-6)


def test_a_judge_that_fails_now_and_then_is_left_out_and_told(tmp_path: Path, base: Path) -> None:
    def moody(row: Row, said: str) -> float:
        if row.item["at"] == 2:
            raise ScorerError("tune.no_reward", scorer="moody", reason="not today")
        return letters(row, said)

    folder = job(tmp_path, count=4)
    grpo.run(bench(folder, base, moody), msgspec.structs.replace(SETTINGS, n_epochs=2))
    (first, *_) = told(folder, "answers")
    assert first["ungraded"] == 8
    assert not math.isnan(first["reward"])
    assert (
        "not today" in next(each for each in told(folder, "notice") if each["code"] == "ungraded")["message"]
    )


def test_a_judge_that_always_fails_ends_the_job(tmp_path: Path, base: Path) -> None:
    def broken(row: Row, said: str) -> float:
        raise ScorerError("tune.no_reward", scorer="broken", reason="never")

    with pytest.raises(ScorerError, match="never"):
        grpo.run(bench(job(tmp_path), base, broken), SETTINGS)


def test_equal_rewards_teach_nothing(tmp_path: Path, base: Path) -> None:
    folder = job(tmp_path, count=4)
    grpo.run(bench(folder, base, lambda row, said: 0.5), msgspec.structs.replace(SETTINGS, n_epochs=2))
    assert [event["teaching"] for event in told(folder, "answers")] == [0.0, 0.0]
    assert told(folder, "progress")[-1]["progress"]["reward"] == 0.5
    assert all(float(weight.abs().max()) == 0 for name, weight in learnt(folder).items() if "lora_B" in name)


def test_another_engine_may_sample(tmp_path: Path, base: Path) -> None:
    asked: list[tuple[int, int, float, int]] = []

    def engine(prompts: Sequence[Sequence[int]], group: int, sampling: Sampling, seed: int) -> list[Rollout]:
        asked.append((len(prompts), group, sampling.temperature, seed))
        ids = ([68, 69], [200, 201, 202])
        return [
            Rollout(at, tuple(ids[number % 2]), (-5.0,) * len(ids[number % 2]), ended=False)
            for at in range(len(prompts))
            for number in range(group)
        ]

    folder = job(tmp_path, count=4)
    settings = msgspec.structs.replace(SETTINGS, n_epochs=2, compute_multiplier=0.5, temperature=0.8)
    grpo.run(bench(folder, base), settings, engine)
    assert [each[:3] for each in asked] == [(4, 4, 0.8)] * 2
    assert asked[0][3] != asked[1][3], "every step samples anew"
    assert told(folder, "answers")[0]["tokens"] == 2.5


def test_a_row_with_an_answer_is_a_prompt_without_it_and_one_without_room_is_told(
    tmp_path: Path, base: Path
) -> None:
    folder = JobFolder(tmp_path)
    answered = Row(messages=(*rows(1)[0].messages, Message(role="assistant", content="0")))
    long = Row(messages=(Message(role="user", content="x" * 3000),))
    folder.write(TuneSpec(id="ftjob-1", recipe=Spec(name="grpo"), base="tiny"), [answered, long])
    grpo.run(bench(folder, base), msgspec.structs.replace(SETTINGS, n_epochs=1))
    (notice,) = [event for event in told(folder, "notice") if event["code"] == "skipped"]
    assert [row["line"] for row in notice["rows"]] == [2]
    folder.write(TuneSpec(id="ftjob-1", recipe=Spec(name="grpo"), base="tiny"), [long])
    with pytest.raises(TaskError, match="none of the 1 rows"):
        grpo.run(bench(folder, base), SETTINGS)


def test_the_grader_of_the_job_decides_unless_weights_say_otherwise() -> None:
    def one(row: Row, said: str) -> float:
        return 1.0

    def other(row: Row, said: str) -> float:
        return 2.0

    lent = {"json": other, "task": other, "grader": one}
    assert grpo.chosen_rewards(lent, {}) == [(one, 1.0)]
    assert grpo.chosen_rewards(lent, {"json": 0.5, "grader": 2.0}) == [(other, 0.5), (one, 2.0)]
    with pytest.raises(ConfigError, match="json, task, grader"):
        grpo.chosen_rewards(lent, {"jsn": 1.0})
    with pytest.raises(ConfigError, match="nothing to judge"):
        grpo.chosen_rewards({}, {})


def test_openai_names_of_reinforcement_are_heard() -> None:
    facts = Facts(rows=100, tokens=9000, longest=90, window=8192)
    asked = {
        "compute_multiplier": 2.0,
        "eval_interval": 5,
        "eval_samples": 3,
        "n_epochs": 2,
        "reasoning_effort": "high",
        "batch_size": "auto",
    }
    settings = grpo.planned("small", facts, asked)
    assert (settings.group, settings.room) == (16, 256)
    assert (settings.eval_interval, settings.eval_samples) == (5, 3)
    assert settings.max_steps == 0, "who names epochs gets all of them"
    assert grpo.planned("small", facts, {"n_epochs": "auto"}).max_steps > 0
    with pytest.raises(ConfigError, match="reasoning_effort"):
        grpo.planned("small", facts, {"reasoning_effort": "extreme"})
