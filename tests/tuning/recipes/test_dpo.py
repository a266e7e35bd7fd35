"""Preferences are learnt, from the reference as it was, through kills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: pip install 'baimo[tune]'")
pytest.importorskip("peft", reason="peft is missing: pip install 'baimo[tune]'")

from baimo.core.message import Message  # noqa: E402
from baimo.core.registry import Spec  # noqa: E402
from baimo.core.tuning import Row, TuneSpec  # noqa: E402
from baimo.errors import ConfigError, TaskError  # noqa: E402
from baimo.tuning.bench import Bench, Facts  # noqa: E402
from baimo.tuning.fit import base as bases  # noqa: E402
from baimo.tuning.fit.encode import dialect  # noqa: E402
from baimo.tuning.fit.loss import logprobs  # noqa: E402
from baimo.tuning.folder import JobFolder  # noqa: E402
from baimo.tuning.recipes import dpo  # noqa: E402
from tests.tuning.base import tiny_base  # noqa: E402


def pairs(count: int, start: int = 0) -> list[Row]:
    return [
        Row(
            messages=(
                Message(role="user", content=f"number {number}?"),
                Message(role="assistant", content=f"yes, {number}"),
            ),
            rejected=(Message(role="assistant", content=f"{number} it may be"),),
        )
        for number in range(start, start + count)
    ]


class Killed(BaseException):
    """What a process does not survive."""


class Fragile(JobFolder):
    """A job's folder whose child is killed before it can keep a certain step."""

    def __init__(self, path: Path, at: int) -> None:
        super().__init__(path)
        self.at = at

    def tell(self, kind: str, **facts: Any) -> None:
        if kind == "progress" and facts["progress"].step == self.at:
            raise Killed
        super().tell(kind, **facts)


SETTINGS = dpo.Settings(
    n_epochs=2, batch_size=4, learning_rate=5e-3, rank=4, alpha=8, micro_tokens=256, precision="f32"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


def job(path: Path, rows: list[Row], valid: list[Row] | None = None) -> JobFolder:
    folder = JobFolder(path)
    spec = TuneSpec(
        id="ftjob-1", recipe=Spec(name="dpo"), base="tiny", valid="valid.jsonl" if valid else "", seed=7
    )
    folder.write(spec, rows, valid or ())
    return folder


def bench(folder: JobFolder, base: Path) -> Bench:
    return Bench(folder=folder, base=base, device="cpu", threads=1, checkpoint_minutes=0.0)


def learnt(folder: JobFolder) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder.adapter / "adapter_model.safetensors")


def told(folder: JobFolder, kind: str) -> list[dict[str, Any]]:
    return [event for _, event in folder.events() if event["kind"] == kind]


def test_held_out_pairs_are_preferred_after_training(tmp_path: Path, base: Path) -> None:
    folder = job(tmp_path, pairs(16), pairs(8, start=50))
    dpo.run(bench(folder, base), SETTINGS)
    steps = [event["progress"] for event in told(folder, "progress")]
    assert len(steps) == 8
    assert steps[0]["loss"] == pytest.approx(0.693, abs=0.01), "before the first step nothing is preferred"
    assert steps[-1]["valid_loss"] < steps[3]["valid_loss"] < 0.69
    assert steps[-1]["valid_accuracy"] == 1.0
    assert steps[-1]["reward"] > 0.1, "the margin of the implicit rewards"
    assert told(folder, "done")
    assert learnt(folder)


def test_a_job_that_was_killed_ends_where_an_uninterrupted_one_does(tmp_path: Path, base: Path) -> None:
    whole = job(tmp_path / "whole", pairs(12))
    dpo.run(bench(whole, base), SETTINGS)
    job(tmp_path / "killed", pairs(12))
    for at in (1, 3, 5):
        with pytest.raises(Killed):
            dpo.run(bench(Fragile(tmp_path / "killed", at), base), SETTINGS)
    killed = JobFolder(tmp_path / "killed")
    dpo.run(bench(killed, base), SETTINGS)
    one, other = (told(folder, "progress")[-1]["progress"] for folder in (whole, killed))
    assert other["loss"] == pytest.approx(one["loss"], abs=1e-6)
    for name, weight in learnt(whole).items():
        torch.testing.assert_close(learnt(killed)[name], weight, rtol=0, atol=1e-6)


def test_the_reference_is_the_model_before_training_and_is_computed_once(tmp_path: Path, base: Path) -> None:
    folder = job(tmp_path, pairs(5))
    dpo.run(bench(folder, base), SETTINGS)
    path = tmp_path / dpo.REFERENCE
    kept = msgspec.json.decode(path.read_bytes())["logprobs"]
    fresh = bases.loaded(bench(folder, base), torch.float32)
    rows = [dpo.compared(fresh.dialect, row, at) for at, row in enumerate(pairs(5))]
    with torch.no_grad():
        for pair, two in zip(rows, kept, strict=True):
            alone = [float(logprobs(fresh, [row]).values.sum()) for row in dpo.both(pair)]
            assert two == pytest.approx(alone, abs=1e-3)
    marked = msgspec.json.decode(path.read_bytes())
    marked["logprobs"][0] = [-1.0, -2.0]
    path.write_bytes(msgspec.json.encode(marked))
    again = dpo.referred(path, fresh, rows, 256)
    assert again[0].before == (-1.0, -2.0), "what is kept is used"
    assert dpo.referred(path, fresh, rows[1:], 256)[0].before != (-1.0, -2.0), "but not for other rows"


def test_both_answers_of_a_pair_stay_in_one_micro_batch(base: Path) -> None:
    words = dialect(base)
    rows = [dpo.compared(words, row, at) for at, row in enumerate(pairs(9))]
    for budget in (1, 120, 5000):
        groups = dpo.cut(rows, budget)
        assert sorted(pair.chosen.row for group in groups for pair in group) == list(range(9))
    assert len(dpo.cut(rows, 1)) == 9
    assert len(dpo.cut(rows, 5000)) < 9


def test_only_the_last_turn_of_either_answer_is_learnt(base: Path) -> None:
    words = dialect(base)
    before = (Message(role="user", content="a?"), Message(role="assistant", content="earlier"))
    row = Row(
        messages=(*before, Message(role="user", content="b?"), Message(role="assistant", content="good")),
        rejected=(Message(role="assistant", content="bad"),),
    )
    pair = dpo.compared(words, row, 0)
    for encoded, words_said in ((pair.chosen, "good"), (pair.rejected, "bad")):
        assert words.decoded(encoded.ids[encoded.trained]) == words_said
        assert encoded.ids[encoded.trained][-1] in words.ends


def test_rows_that_are_no_pairs_are_told_and_left_out(tmp_path: Path, base: Path) -> None:
    same = Row(messages=pairs(1)[0].messages, rejected=pairs(1)[0].messages[-1:])
    folder = job(tmp_path, [*pairs(4), Row(messages=pairs(1)[0].messages), same])
    dpo.run(bench(folder, base), msgspec.structs.replace(SETTINGS, max_steps=1))
    (notice,) = [event for event in told(folder, "notice") if event["code"] == "skipped"]
    assert [row["line"] for row in notice["rows"]] == [5, 6]
    with pytest.raises(TaskError, match="none of the 1 rows"):
        dpo.run(bench(job(tmp_path / "none", [same]), base), SETTINGS)


def test_what_the_reference_has_computed_is_not_computed_again_and_gives_the_same(
    tmp_path: Path, base: Path
) -> None:
    ends = []
    for memory in (0.0, 64.0):
        folder = job(tmp_path / str(memory), pairs(8))
        settings = msgspec.structs.replace(SETTINGS, upper=0.5, remember_mb=memory)
        dpo.run(bench(folder, base), settings)
        ends.append(learnt(folder))
    for name, weight in ends[0].items():
        torch.testing.assert_close(ends[1][name], weight, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", ["ipo", "sigmoid"])
def test_every_variant_prefers_what_was_chosen(tmp_path: Path, base: Path, variant: str) -> None:
    folder = job(tmp_path, pairs(8))
    settings = msgspec.structs.replace(SETTINGS, variant=variant, likelihood=0.1, n_epochs=3)
    dpo.run(bench(folder, base), settings)
    margins = [event["progress"]["reward"] for event in told(folder, "progress")]
    assert margins[-1] > margins[0] + 0.01


def test_the_dial_gives_everything_and_openai_names_override_it() -> None:
    facts = Facts(rows=200, tokens=20_000, longest=100, cores=2)
    small, large = (dpo.planned(effort, facts, {}) for effort in ("small", "large"))
    assert small.upper < large.upper
    assert small.n_epochs <= large.n_epochs
    asked = {"beta": 0.3, "n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}
    settings = dpo.planned("small", facts, asked)
    assert (settings.beta, settings.n_epochs, settings.learning_rate_multiplier) == (0.3, 2, 0.5)
    assert settings.batch_size == small.batch_size
    with pytest.raises(ConfigError, match="beta"):
        dpo.planned("small", facts, {"beta": -1})
