"""The loop learns, is paused and cancelled, and ends with the same weights however often it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is missing: pip install 'baimo[tune]'")
pytest.importorskip("peft", reason="peft is missing: pip install 'baimo[tune]'")

from baimo.errors import ProviderError  # noqa: E402
from baimo.tuning.fit.loop import RESUME  # noqa: E402
from tests.tuning.fit import journey  # noqa: E402


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """Figures of a job that nobody interrupts."""
    folder = journey.folder(tmp_path_factory.mktemp("whole") / "job")
    assert journey.ended(folder) == "done"
    return journey.progress(folder)


def test_the_loss_falls_and_every_step_tells_its_figures(whole: list[dict[str, float]]) -> None:
    assert [one["step"] for one in whole] == list(range(1, 21))
    assert whole[-1]["loss"] < 0.8 * whole[0]["loss"]
    assert [one["step"] for one in whole if "valid_loss" in one] == [4, 8, 12, 16, 20]
    assert [one["learning_rate"] for one in whole[:2]] == [1e-2, pytest.approx(1e-2)]
    assert whole[-1]["learning_rate"] < 2e-3
    last = whole[-1]
    assert (last["epoch"], last["examples"], last["steps"]) == (5.0, 120, 20)
    assert last["memory_mb"] > 10 and last["eta_s"] == 0
    assert 0 <= last["accuracy"] <= 1


def test_micro_batches_change_memory_and_not_the_result(
    tmp_path: Path, whole: list[dict[str, float]]
) -> None:
    folder = journey.folder(tmp_path / "job")
    journey.ended(folder, micro_tokens=10_000)
    for mine, theirs in zip(journey.progress(folder), whole, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)


def test_a_job_stopped_between_steps_ends_as_if_it_had_not_been(
    tmp_path: Path, whole: list[dict[str, float]]
) -> None:
    folder = journey.folder(tmp_path / "job")
    for step in (3, 4, 11):  # in an epoch, at its end, in a later one
        with pytest.raises(journey.Stop):
            journey.loop(folder, stop_at=step).run()
    assert journey.ended(folder) == "done"
    assert journey.progress(folder)[-1]["valid_loss"] == whole[-1]["valid_loss"]
    assert [one["loss"] for one in journey.progress(folder)] == [one["loss"] for one in whole]


def test_a_killed_job_ends_as_if_it_had_not_been(tmp_path: Path, whole: list[dict[str, float]]) -> None:
    folder = journey.folder(tmp_path / "job")
    command = [sys.executable, "-W", "ignore", "-m", "tests.tuning.fit.journey", str(folder.path), "6"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.run(command, cwd=Path(__file__).parents[3], env=environment, check=False)
    assert child.returncode == -signal.SIGKILL
    assert len(journey.progress(folder)) == 6
    assert journey.ended(folder) == "done"
    assert journey.progress(folder)[-1]["valid_loss"] == pytest.approx(whole[-1]["valid_loss"], rel=1e-6)
    assert journey.progress(folder)[-1]["loss"] == pytest.approx(whole[-1]["loss"], rel=1e-6)


def test_a_wish_to_pause_is_heard_after_a_step_and_the_job_goes_on_later(
    tmp_path: Path, whole: list[dict[str, float]]
) -> None:
    folder = journey.folder(tmp_path / "job")
    folder.wish("pause")
    assert journey.ended(folder) == "paused"
    assert len(journey.progress(folder)) == 1
    folder.wish("")
    assert journey.ended(folder) == "done"
    assert journey.progress(folder)[-1]["loss"] == whole[-1]["loss"]


def test_a_wish_to_cancel_keeps_a_checkpoint(tmp_path: Path) -> None:
    folder = journey.folder(tmp_path / "job")
    folder.wish("cancel")
    assert journey.ended(folder) == "cancelled"
    assert [step for step, _ in folder.checkpoints()] == [1]


def test_checkpoints_at_the_end_of_an_epoch_stay_as_adapters_and_the_others_go(tmp_path: Path) -> None:
    folder = journey.folder(tmp_path / "job")
    journey.ended(folder)
    assert [step for step, _ in folder.checkpoints()] == [4, 8, 12, 16, 19, 20]
    kept = {step: (path / "adapter_config.json").is_file() for step, path in folder.checkpoints()}
    assert kept == {4: True, 8: True, 12: True, 16: True, 19: False, 20: True}
    assert [step for step, path in folder.checkpoints() if (path / RESUME).is_file()] == [19, 20]


def test_a_step_that_runs_out_of_memory_is_taken_again_in_smaller_pieces(tmp_path: Path) -> None:
    roomy, folder = journey.folder(tmp_path / "roomy"), journey.folder(tmp_path / "job")
    assert journey.ended(roomy, batch_size=24, micro_tokens=1024) == "done"
    assert journey.ended(folder, batch_size=24, micro_tokens=1024, fits=18) == "done"
    notices = [event for _, event in folder.events() if event["kind"] == "notice"]
    assert [one["micro_tokens"] for one in notices] == [512, 256]
    for mine, theirs in zip(journey.progress(folder), journey.progress(roomy), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)


def test_memory_that_no_piece_is_small_enough_for_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="out of memory even with"):
        journey.ended(journey.folder(tmp_path / "job"), fits=0, micro_tokens=1024)


def test_memory_above_the_limit_makes_the_pieces_smaller_before_the_kernel_does(tmp_path: Path) -> None:
    folder = journey.folder(tmp_path / "job")
    loop = journey.loop(folder, memory_mb=1.0, micro_tokens=2048)
    assert loop.run() == "done"
    assert (
        loop.state.micro_tokens == 1024
    )  # once: a peak never falls, so staying above the limit says nothing new
    (notice,) = [event for _, event in folder.events() if event["kind"] == "notice"]
    assert (notice["code"], notice["micro_tokens"]) == ("smaller", 1024)


def test_where_pieces_cannot_be_smaller_layers_are_computed_twice_and_that_is_kept(tmp_path: Path) -> None:
    folder = journey.folder(tmp_path / "job")
    first = journey.loop(folder, memory_mb=1.0, micro_tokens=256)
    folder.wish("pause")
    assert first.run() == "paused" and first.base.frugal
    folder.wish("")
    again = journey.loop(folder, micro_tokens=256)
    assert again.run() == "done" and again.base.frugal


def test_a_loss_that_is_no_number_ends_the_job_and_spoils_no_weight(tmp_path: Path) -> None:
    loop = journey.loop(journey.folder(tmp_path / "job"), broken=True)
    before = [weight.detach().clone() for weight in loop.weights]
    with pytest.raises(ProviderError, match="step 1"):
        loop.run()
    assert all(torch.equal(one, other) for one, other in zip(before, loop.weights, strict=True))
