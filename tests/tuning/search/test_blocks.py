from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from baimo.core.call import Request
from baimo.core.task import FewShot, Prompt
from baimo.tuning.search.blocks import Chosen, chosen_blocks, with_blocks
from baimo.tuning.search.parts import parts_of
from baimo.tuning.search.trials import Trials
from tests.tuning.search.doubles import Scripted, examples, knows_what_it_was_shown, work

TRAIN = examples(240, kinds=12)


def searched(
    folder: Path, *, calls: int, by: str = "language", seed: int = 0, scripted: Scripted | None = None
) -> tuple[list[Chosen], Trials]:
    trials = Trials(work=work(TRAIN, scripted or Scripted()), journal=folder / f"t{seed}.jsonl", calls=calls)
    parts = parts_of(TRAIN, by, seed, confirmed=30)
    search = chosen_blocks(trials, parts, Prompt(), count=6, by=by, calls=calls, seed=seed)
    return asyncio.run(search), trials


def covered(block: tuple[str, ...]) -> int:
    """Kinds of questions that a block shows; the best possible is its length."""
    known = {example.id: example for example in TRAIN}
    return len({known[id].target for id in block})


def test_each_slice_gets_a_block_of_its_own_examples(tmp_path: Path) -> None:
    found, trials = searched(tmp_path, calls=400)
    assert [one.slice for one in found] == ["en", "zh"]
    for one in found:
        assert len(set(one.block)) == 6
        assert all(id.startswith(one.slice) for id in one.block)
    assert trials.bill.calls <= 400


def test_nothing_is_shown_that_choices_are_made_on(tmp_path: Path) -> None:
    parts = parts_of(TRAIN, "language", 0, confirmed=30)
    found, _ = searched(tmp_path, calls=300)
    assert {id for one in found for id in one.block} <= {example.id for example in parts.shown}


def only_rare_kinds_help(request: Request) -> str:
    """Questions of kinds 0 to 5 are never answered, so a block should spend nothing on them."""
    kind = int(str(request.messages[-1].content).split()[1].removeprefix("kind"))
    return "no idea" if kind < 6 else knows_what_it_was_shown(request)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_trying_finds_what_chance_and_variety_do_not(tmp_path: Path, seed: int) -> None:
    found, _ = searched(
        tmp_path, calls=3000, by="", seed=seed, scripted=Scripted(script=only_rare_kinds_help)
    )
    known = {example.id: example for example in TRAIN}
    kinds = {int(str(known[id].target).removeprefix("answer")) for id in found[0].block}
    first = {int(str(known[id].target).removeprefix("answer")) for id in found[0].tries[0][0]}
    useful = sum(kind >= 6 for kind in kinds)
    assert useful >= 5
    assert useful >= sum(kind >= 6 for kind in first)


def test_when_the_calls_are_gone_the_best_so_far_is_the_result(tmp_path: Path) -> None:
    found, trials = searched(tmp_path, calls=14, by="")
    assert len(found[0].block) == 6
    assert trials.bill.calls <= 14


def test_the_same_seed_walks_the_same_path(tmp_path: Path) -> None:
    first, _ = searched(tmp_path, calls=300)
    (tmp_path / "t0.jsonl").unlink()
    again, _ = searched(tmp_path, calls=300)
    assert first == again


def test_blocks_become_one_prompt_in_which_slices_take_turns() -> None:
    chosen = [Chosen(slice="en", block=("a", "b")), Chosen(slice="zh", block=("c", "d", "e"))]
    prompt = with_blocks(Prompt(system="s"), chosen, count=3, by="language")
    assert prompt.few_shot == FewShot(count=3, by="language", ids=("a", "c", "b", "d", "e"))
