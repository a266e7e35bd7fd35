"""Continued pretraining lowers the perplexity of text that was held out, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is missing: pip install 'baimo[tune]'")
pytest.importorskip("peft", reason="peft is missing: pip install 'baimo[tune]'")

from baimo.core.registry import Spec
from baimo.core.tuning import Row, TuneSpec
from baimo.errors import TaskError
from baimo.tuning.bench import Bench, Facts
from baimo.tuning.folder import JobFolder
from baimo.tuning.recipes import cpt
from tests.tuning.fit import tiny

FACTS = Facts(rows=40, tokens=4000, longest=100)
QUICK = {"window": 32, "batch_size": 4, "learning_rate": 2e-2, "n_epochs": 6, "precision": "f32"}


def ran(path: Path, rows: list[Row], **overrides: object) -> JobFolder:
    base = tiny.hf_folder(path / "base")
    job = JobFolder(path / "job")
    job.write(TuneSpec(id="ftjob-1", recipe=Spec(name="cpt"), base="local/tiny"), rows)
    settings = cpt.planned("medium", FACTS, {**QUICK, **overrides})
    cpt.run(Bench(folder=job, base=base, device="cpu", threads=1), settings)
    return job


def test_the_perplexity_of_unseen_text_falls_and_is_told_before_and_after(tmp_path: Path) -> None:
    rows = [Row(text=f"The kettle number {at} sings in the kitchen at noon. ") for at in range(20)]
    job = ran(tmp_path, rows)
    found = {event["when"]: event["value"] for _, event in job.events() if event["kind"] == "measured"}
    assert found["after"] < 0.5 * found["before"]
    assert job.adapter.is_dir()


def test_texts_of_one_group_are_not_divided() -> None:
    rows = [Row(text=f"{at}", group="one" if at < 5 else f"own {at}") for at in range(10)]
    for seed in range(20):
        learnt, unseen = cpt.divided(rows, [], 0.3, seed)
        assert sorted(learnt + unseen) == [f"{at}" for at in range(10)]
        assert unseen
        assert len({f"{at}" for at in range(5)} & set(unseen)) in (0, 5)


def test_a_file_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no text"):
        ran(tmp_path, [Row(text="")])
