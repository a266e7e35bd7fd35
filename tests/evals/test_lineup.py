from __future__ import annotations

from dataclasses import replace

import pytest

from baimo.core.call import JsonFormat, Sampling
from baimo.core.registry import Spec
from baimo.core.task import Candidate, Example, FewShot, Prompt, Task
from baimo.errors import TaskError, UnknownModel, UsageError
from baimo.evals.compare import Contender
from baimo.evals.lineup import EMBEDDED, described, is_unpriced, judgeable, lineup, lineup_of, subset
from baimo.evals.options import CompareOptions
from baimo.evals.tasks.prompts import Renderer
from baimo.models.catalogue import Catalogue
from baimo.settings import ModelSettings, ProviderSettings, Settings
from tests.evals.doubles import Scripted, model, route
from tests.evals.test_compare import Play, memory

CATALOGUE = Catalogue.load(
    Settings(
        providers={"board": ProviderSettings(base_url="http://127.0.0.1:1/v1")},
        models={f"board/{name}": ModelSettings() for name in ("org/a", "b@v1", "c")},
    )
)


def task(examples: int = 3, *candidates: dict[str, str]) -> Task:
    rows = tuple(Example(id=str(n), fields={"input": "x"}) for n in range(examples))
    return Task(name="t", examples=rows, scorers=(Spec(name="exact"),), candidates=candidates)


def names(one: Task, **options: tuple[str, ...]) -> list[str]:
    return [each.name for each in lineup(one, CompareOptions(task="t", **options), CATALOGUE, lambda _: None)]  # type: ignore[arg-type]


def test_a_pattern_stands_for_every_listed_model_it_fits() -> None:
    assert names(task(), model=("board/*",)) == ["board/b@v1", "board/c", "board/org/a"]


def test_a_model_that_is_named_twice_competes_once() -> None:
    assert names(task(), model=("board/c", "board/*")) == ["board/c", "board/b@v1", "board/org/a"]


def test_a_prompt_that_the_task_does_not_have_is_no_part_of_a_models_name() -> None:
    with pytest.raises(UsageError) as caught:
        names(task(), also=("fake/m@nope",))
    assert "nope" in str(caught.value) and "default" in str(caught.value)
    assert names(task(), also=("fake/m@2025@default", "board/b@v1")) == ["fake/m@2025", "board/b@v1"]


def test_a_pattern_that_fits_nothing_is_an_error() -> None:
    with pytest.raises(UnknownModel):
        names(task(), model=("board/z*",))


def test_a_model_may_join_the_tasks_candidates_under_one_of_its_prompts() -> None:
    one = replace(
        task(3, {"name": "short", "model": "board/c"}), prompts=(Prompt(), Prompt(name="brief", user="?"))
    )
    found = lineup(
        one, CompareOptions(task="t", also=("board/b@v1", "board/b@v1@brief")), CATALOGUE, lambda _: None
    )
    assert [(each.name, each.model, each.prompt.name) for each in found] == [
        ("short", "board/c", "default"),
        ("board/b@v1 default", "board/b@v1", "default"),
        ("board/b@v1 brief", "board/b@v1", "brief"),
    ]


def test_only_keeps_some_of_the_tasks_candidates_and_says_whom_there_is() -> None:
    one = task(3, {"name": "short", "model": "board/c"}, {"name": "long", "model": "board/c"})
    assert names(one, only=("sh*",)) == ["short"]
    with pytest.raises(UsageError) as caught:
        names(one, only=("none",))
    assert "short, long" in caught.value.hint


def test_without_any_candidate_the_embedded_model_answers_and_that_is_said() -> None:
    said: list[str] = []
    found = lineup(task(), CompareOptions(task="t"), CATALOGUE, said.append)
    assert [one.model for one in found] == [EMBEDDED]
    assert EMBEDDED in said[0]


def test_a_run_goes_on_with_exactly_the_candidates_it_began_with() -> None:
    candidate = Candidate(
        name="board/c few-shot",
        model="board/c",
        prompt=Prompt(name="p", system="s", user="{{ input }}", few_shot=FewShot(count=2, by="language")),
        sampling=Sampling(temperature=0.7, max_tokens=9, stop=("\n",)),
        response_format=JsonFormat(schema={"type": "object"}),
    )
    contender = Contender(
        candidate=candidate, route=route(Scripted(), "board/c"), renderer=Renderer(Prompt(), (), seed=0)
    )
    store = memory()
    run = Play(store).made_run(candidates=(described(contender),))
    store.begin(run)
    kept = store.run(run.id)
    store.close()
    assert kept is not None
    assert lineup_of(kept) == (candidate,)


def test_a_subset_is_a_function_of_the_seed_and_keeps_the_order() -> None:
    def ids(seed: int) -> list[str]:
        options = CompareOptions(task="t", examples=5, seed=seed)
        return [example.id for example in subset(task(50), options).examples]

    assert ids(1) == ids(1) != ids(2)
    assert ids(1) == sorted(ids(1), key=int)
    assert len(ids(1)) == 5


def test_a_subset_of_more_than_there_are_is_all_of_them() -> None:
    assert subset(task(3), CompareOptions(task="t", examples=9)) == task(3)


def test_a_model_without_price_is_unpriced() -> None:
    assert is_unpriced(model(price=None))
    assert not is_unpriced(model())


def test_a_task_that_nobody_could_judge_is_refused_before_the_first_call() -> None:
    unjudged = Example(id="1", fields={"input": "a"})
    compared = Task(name="t", examples=(unjudged,), scorers=(Spec(name="exact"),))
    with pytest.raises(TaskError, match="no example has one"):
        judgeable(compared)
    assert judgeable(replace(compared, scorers=(Spec(name="judge"),))).examples == (unjudged,)
