"""Supervised fine-tuning end to end on the tiny model: the dial, the result that others can load, what is told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is missing: pip install 'baimo[tune]'")
pytest.importorskip("peft", reason="peft is missing: pip install 'baimo[tune]'")

from baimo.core.message import Message  # noqa: E402
from baimo.core.registry import Spec  # noqa: E402
from baimo.core.tuning import Row, TuneSpec  # noqa: E402
from baimo.errors import ConfigError, TaskError  # noqa: E402
from baimo.tuning.bench import Bench, Facts  # noqa: E402
from baimo.tuning.fit import base as bases  # noqa: E402
from baimo.tuning.fit import loss  # noqa: E402
from baimo.tuning.fit.encode import encoded_rows  # noqa: E402
from baimo.tuning.folder import JobFolder  # noqa: E402
from baimo.tuning.recipes import sft  # noqa: E402
from tests.tuning.fit import tiny  # noqa: E402

FACTS = Facts(rows=1000, tokens=75_000, longest=120)


def talk(question: str, answer: str) -> Row:
    return Row(
        messages=(Message(role="user", content=question), Message(role="assistant", content=answer)), line=3
    )


ROWS = [talk(f"say {at}", "yes" if at % 2 else "no") for at in range(24)]
QUICK = {"n_epochs": 4, "batch_size": 8, "learning_rate": 3e-2, "precision": "f32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.hf_folder(tmp_path_factory.mktemp("base") / "tiny")


def ran(
    path: Path, base: Path, overrides: Mapping[str, Any], rows: list[Row] = ROWS, valid: tuple[Row, ...] = ()
) -> JobFolder:
    job = JobFolder(path)
    spec = TuneSpec(
        id="ftjob-1", recipe=Spec(name="sft"), base="local/tiny", valid="valid.jsonl" if valid else "", seed=5
    )
    job.write(spec, rows, valid)
    settings = sft.planned("small", FACTS, {**QUICK, **overrides})
    sft.run(Bench(folder=job, base=base, device="cpu", threads=1), settings)
    return job


def told(job: JobFolder, kind: str) -> list[dict[str, Any]]:
    return [event for _, event in job.events() if event["kind"] == kind]


def loss_of(base: bases.LoadedBase) -> float:
    rows, _ = encoded_rows(base.dialect, ROWS)
    with torch.no_grad():
        measured = loss.supervised(base, rows)
    return measured.loss / measured.count


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # PEFT's, not ours
def test_an_adapter_is_learnt_and_peft_loads_it_by_itself(tmp_path: Path, folder: Path) -> None:
    import peft

    job = ran(tmp_path / "job", folder, {}, valid=tuple(ROWS[:3]))
    steps = [event["progress"] for event in told(job, "progress")]
    assert len(steps) == 12
    assert steps[-1]["loss"] < 0.5 * steps[0]["loss"]
    assert [one["step"] for one in steps if "valid_loss" in one] == [3, 6, 9, 12]
    assert told(job, "done")[0]["step"] == 12

    other = bases.opened(folder, torch.device("cpu"), torch.float32)
    untrained = loss_of(other)
    other.peft = peft.PeftModel.from_pretrained(other.model, job.adapter)
    other.kept.clear()
    assert loss_of(other) < 0.5 * untrained
    assert loss_of(other) == pytest.approx(steps[-1]["valid_loss"], rel=0.5)
    config = json.loads((job.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "local/tiny"
    assert (config["r"], config["lora_alpha"], config["layers_to_transform"]) == (16, 32, [1])
    names = {file.name for file in job.adapter.iterdir()}
    assert {"tokenizer.json", "chat_template.jinja", "generation_config.json"} <= names


def test_whole_weights_are_learnt_and_all_others_are_as_before(tmp_path: Path, folder: Path) -> None:
    from safetensors.torch import load_file

    job = ran(tmp_path / "job", folder, {"method": "full", "upper": 1.0, "learning_rate": 1e-2})
    steps = [event["progress"] for event in told(job, "progress")]
    assert steps[-1]["loss"] < 0.7 * steps[0]["loss"]
    before, after = load_file(folder / "model.safetensors"), load_file(job.adapter / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "layers" in name}
    whole = bases.opened(job.adapter, torch.device("cpu"), torch.float32)
    assert loss_of(whole) < 0.7 * loss_of(bases.opened(folder, torch.device("cpu"), torch.float32))


def test_masters_learn_what_bf16_alone_would_lose(tmp_path: Path, folder: Path) -> None:
    from safetensors.torch import load_file

    tiny_steps = {"method": "full", "precision": "bf16", "learning_rate": 1e-6, "n_epochs": 1}
    job = ran(tmp_path / "job", folder, tiny_steps)
    name = "model.layers.1.mlp.up_proj.weight"
    before, after = (
        load_file(folder / "model.safetensors")[name],
        load_file(job.adapter / "model.safetensors")[name],
    )
    moved = (after - before.bfloat16().float()).abs()
    assert 0 < float(moved.max()) < 1e-5


def test_rows_that_are_too_long_are_told_by_line(tmp_path: Path, folder: Path) -> None:
    long = dataclasses.replace(talk("x" * 600, "yes"), line=77)
    job = ran(tmp_path / "job", folder, {"n_epochs": 1}, rows=[*ROWS[:4], long])
    (notice,) = [one for one in told(job, "notice") if one["code"] == "skipped"]
    assert notice["rows"][0]["line"] == 77
    assert "at most 512" in notice["message"]
    with pytest.raises(TaskError, match="line 77"):
        ran(tmp_path / "other", folder, {}, rows=[long])


def test_a_paused_job_has_no_result_and_goes_on(tmp_path: Path, folder: Path) -> None:
    job = JobFolder(tmp_path / "job")
    job.write(TuneSpec(id="ftjob-1", recipe=Spec(name="sft"), base="local/tiny"), ROWS)
    settings = sft.planned("small", FACTS, QUICK)
    bench = Bench(folder=job, base=folder, device="cpu", threads=1)
    job.wish("pause")
    sft.run(bench, settings)
    assert told(job, "paused") and not job.adapter.exists()
    job.wish("")
    sft.run(bench, settings)
    assert told(job, "done") and job.adapter.is_dir()


def test_the_dial_decides_and_every_value_can_be_overridden() -> None:
    small, medium, large = (sft.planned(effort, FACTS, {}) for effort in ("small", "medium", "large"))
    assert (small.upper, medium.upper) == (0.5, 1.0)
    assert small.n_epochs <= medium.n_epochs <= large.n_epochs
    assert large.rank > medium.rank
    large_base = dataclasses.replace(FACTS, parameters=7_000_000_000)
    assert sft.planned("medium", large_base, {}).learning_rate == 2.5e-4 < medium.learning_rate == 1e-3
    auto = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert sft.planned("medium", FACTS, auto) == medium
    mine = sft.planned("medium", FACTS, {"n_epochs": 7, "batch_size": "4", "rank": 3})
    assert (mine.n_epochs, mine.batch_size, mine.rank) == (7.0, 4, 3)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [({"n_epoch": 1}, "n_epoch"), ({"batch_size": 0}, "batch_size"), ({"schedule": "square"}, "schedule")],
)
def test_an_override_that_is_not_possible_names_itself(overrides: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        sft.planned("small", FACTS, overrides)
