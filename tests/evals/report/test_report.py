from __future__ import annotations

from baimo.core.message import Message, Part
from baimo.core.run import Sample, Score
from baimo.core.task import Example, Task
from baimo.evals.report.report import asked, expected
from tests.evals.report.reports import full, many, report, samples, standing


def test_the_front_holds_what_no_other_beats_and_leaves_the_disqualified_out() -> None:
    pareto = full().pareto()
    assert [point.candidate for point in pareto.front] == ["local/open", "acme/small", "acme/large"]
    assert [line.candidate for line in pareto.unpriced] == ["other/base"]


def test_of_two_at_one_price_only_the_better_is_on_the_front() -> None:
    lines = [standing("a", 0.9, cost_per_1000_micros=5), standing("b", 0.8, cost_per_1000_micros=5)]
    assert [point.candidate for point in report(lines).pareto().front] == ["a"]


def test_timelines_end_at_the_calls_that_were_made_and_never_fall() -> None:
    made = full()
    for line in made.timelines(steps=7):
        assert line.steps[-1] == (
            len(made.samples),
            sum(sample.candidate == line.candidate for sample in made.samples),
        )
        assert list(line.steps) == sorted(line.steps)


def test_leaders_are_the_winner_the_first_tier_and_runners_up_to_three() -> None:
    assert [line.candidate for line in full().leaders()] == ["acme/large", "acme/small", "local/open"]
    chosen = full(winner="acme/small").leaders()
    assert chosen[0].candidate == "acme/small"


def test_differences_are_the_examples_with_unlike_scores_widest_first_and_capped() -> None:
    lines = [standing("a"), standing("b", 0.8)]
    made = report(lines, samples({"a": [1, 1, 1, 0.5], "b": [1, 0, 0.5, 0.5]}))
    found = made.differences()
    assert [each.example.id for each in found.shown] == ["e1", "e2"]
    assert (found.total, found.compared) == (2, 4)
    assert len(made.differences(most=1).shown) == 1 and made.differences(most=1).total == 2


def test_a_failed_or_unscored_answer_is_no_difference() -> None:
    cells = [
        Sample(candidate="a", example="e0", request_hash="1", score=Score.of(1.0)),
        Sample(candidate="b", example="e0", request_hash="2", score=Score.failed("503")),
        Sample(candidate="a", example="e1", request_hash="3", score=Score.of(1.0)),
        Sample(candidate="b", example="e1", request_hash="4", score=Score.unscored("judge")),
    ]
    assert report([standing("a"), standing("b")], cells).differences().compared == 0


def test_slices_carry_their_n_and_mark_small_ones() -> None:
    (table,) = full().slices()
    assert table.name == "language"
    values = {row.value: row for row in table.slices}
    assert values["en"].examples == 20 and values["en"].means["acme/large"].n == 20
    assert values["de"].means["acme/large"].small and not values["en"].means["acme/large"].small
    assert values["de"].means["other/base"].score is None


def test_metadata_that_names_every_example_apart_is_no_slice() -> None:
    own = tuple(
        Example(id=f"e{n}", fields={"input": "x"}, metadata={"source": f"row {n}", "one": "same"})
        for n in range(40)
    )
    task = Task(name="t", examples=own, scorers=())
    assert report([standing("a")], samples({"a": [1.0] * 40}), task=task).slices() == ()


def test_many_values_are_cut_and_counted() -> None:
    own = tuple(Example(id=f"e{n}", fields={"input": "x"}, metadata={"topic": n % 30}) for n in range(90))
    task = Task(name="t", examples=own, scorers=())
    (table,) = report([standing("a")], samples({"a": [1.0] * 90}), task=task).slices()
    assert (len(table.slices), table.hidden) == (12, 18)


def test_where_the_strict_score_decides_it_decides_in_slices_and_differences_too() -> None:
    lines = [standing("a", 0.2, lenient=0.9, strict=0.2), standing("b", 0.5, lenient=0.5, strict=0.5)]
    cells = [
        Sample(candidate="a", example="e0", request_hash="1", score=Score.of(1.0, 0.0)),
        Sample(candidate="b", example="e0", request_hash="2", score=Score.of(1.0, 1.0)),
    ]
    assert report(lines, cells).differences().total == 1


def test_what_an_example_asks_is_shown_whatever_its_form() -> None:
    parts = (Part(kind="text", data="look"), Part(kind="image_url", data="data:…"))
    assert (
        asked(Example(id="1", fields={}, messages=(Message(role="user", content=parts),)))
        == "look\n[image_url]"
    )
    assert asked(Example(id="1", fields={"question": "中?"})) == '{\n "question": "中?"\n}'
    assert expected(Example(id="1", fields={}, target={"a": [1]})) == '{\n "a": [\n  1\n ]\n}'
    assert expected(Example(id="1", fields={})) == ""


def test_three_hundred_candidates_are_no_trouble() -> None:
    made = many(300)
    assert len(made.timelines()) == 300 and len(made.leaders()) == 3
