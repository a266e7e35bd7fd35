"""The recipe `prompt`: whatever it finds was measured where nothing was chosen, and nothing is worse than before."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baimo.core.call import Completion, Request
from baimo.core.message import Message
from baimo.core.registry import Spec
from baimo.core.task import FewShot, Prompt, Task
from baimo.core.tuning import TuneSpec
from baimo.errors import UsageError
from baimo.evals.scorers.registry import scorer
from baimo.evals.tasks.candidates import candidate
from baimo.evals.tasks.folder import load_task
from baimo.evals.tasks.manifest import prompt_table
from baimo.evals.tasks.prompts import Renderer
from baimo.tuning.bench import Bench, Facts
from baimo.tuning.folder import JobFolder
from baimo.tuning.recipes.prompt import Settings, planned, run
from baimo.tuning.search.served import Served
from baimo.tuning.search.work import Work
from baimo.tuning.search.written import served
from baimo.workspace.workspace import Workspace
from tests.tuning.search.doubles import Scripted, examples, knows_what_it_was_shown, work

SMART_HOME = Path(__file__).parents[3] / "examples" / "smart-home"
TRAIN = examples(240, kinds=6)
QUICK = Settings(calls=500, shots=3, scored=24, confirmed=30, instruct=0.0, select="fixed")


def folder(path: Path, *, seed: int = 0) -> JobFolder:
    made = JobFolder(path / "job")
    made.write(TuneSpec(id="ftjob-1", recipe=Spec(name="prompt"), base="small/one", seed=seed), [])
    return made


def searched(
    path: Path, lent: Work, settings: Settings, *, seed: int = 0
) -> tuple[JobFolder, Mapping[str, Any]]:
    job = folder(path, seed=seed)
    run(Bench(folder=job, base=path, work=lent), settings)
    return job, json.loads((job.adapter / "result.json").read_bytes())


def events(job: JobFolder) -> list[dict[str, Any]]:
    return [event for _, event in job.events()]


def lent_by(task: Task, scripted: Scripted) -> Work:
    """As the workspace lends it: the task's own templates and scorer."""
    judge = scorer(task.scorers[0], folder=Path(task.folder))
    renderer = functools.lru_cache(maxsize=None)(lambda prompt: Renderer(prompt, task.train))
    return Work(
        model="small/one",
        prompt=task.prompts[0],
        train=task.train,
        ask=scripted.ask,
        judge=judge.score,
        render=lambda prompt, example: renderer(prompt).messages(example),
        sampling=task.sampling,
    )


def only_late_kinds_help(request: Request) -> str:
    kind = int(str(request.messages[-1].content).split()[1].removeprefix("kind"))
    return "no idea" if kind < 3 else knows_what_it_was_shown(request)


def test_a_block_that_answers_more_becomes_the_result(tmp_path: Path) -> None:
    job, figures = searched(tmp_path, work(TRAIN, Scripted(script=only_late_kinds_help)), QUICK)
    assert figures["winner"] == "blocks"
    assert figures["before"]["mean"] == 0
    assert figures["after"]["mean"] >= 0.3
    assert figures["gain"]["low"] > 0
    assert figures["calls"] <= QUICK.calls
    assert events(job)[-1]["kind"] == "done"


def test_the_figures_come_from_examples_that_nothing_was_chosen_on(tmp_path: Path) -> None:
    scripted = Scripted()
    job, _ = searched(tmp_path, work(TRAIN, scripted), QUICK)
    lines = [json.loads(line) for line in (job.adapter / "history.jsonl").read_text().splitlines()]
    shown = {id for line in lines if line["stage"] == "block" for id in line["ids"]}
    known = {example.id: example for example in TRAIN}
    last = {str(request.messages[-1].content) for request in scripted.asked[-len(known) // 8 :]}
    assert shown
    assert not last & {str(known[id].fields["input"]) for id in shown}
    assert {line["stage"] for line in lines} == {"block", "shown", "confirmed"}


def test_a_prompt_that_is_already_best_stays_the_result(tmp_path: Path) -> None:
    prompt = Prompt(name="mine", system=" ".join(f"rule: kind{number}" for number in range(6)))
    job, figures = searched(tmp_path, work(TRAIN, Scripted(), prompt=prompt), QUICK)
    assert figures["winner"] == "start"
    assert figures["gain"]["mean"] == 0
    assert Served.read(job.adapter).system == prompt.system


def writes_the_rules(request: Request) -> str:
    kinds = dict.fromkeys(
        re.findall(r"rule: kind\d|(?<=Request: )\w\w kind\d", str(request.messages[-1].content))
    )
    return "```\n" + " ".join("rule: " + kind.split()[-1] for kind in kinds) + "\n```"


def test_a_stronger_model_rewrites_the_instruction(tmp_path: Path) -> None:
    settings = Settings(
        calls=900, scored=24, confirmed=30, instruct=1.0, select="similar", reflect_with="big/writer"
    )
    lent = replace(work(TRAIN, Scripted(rewriter=writes_the_rules)), reflect_with="")
    # nothing that is shown helps, so only words can
    lent = replace(
        lent,
        render=lambda prompt, example: work(TRAIN, Scripted()).render(
            replace(prompt, few_shot=None), example
        ),
    )
    job, figures = searched(tmp_path, lent, settings)
    assert figures["winner"] == "instructed"
    assert figures["after"]["mean"] > 0.6
    assert figures["cost_micros"] > figures["calls"]  # the rewriter's price is in it
    assert "rule: kind" in (job.adapter / "prompt.toml").read_text()


@pytest.mark.parametrize("better", [True, False])
def test_the_result_is_a_candidate_of_the_task_and_renders_as_it_was_measured(
    tmp_path: Path, better: bool
) -> None:
    task = load_task(SMART_HOME)
    targets = {str(one.fields["input"]): json.dumps(one.target) for one in task.train}
    task_prompt = Renderer(task.prompts[0], task.train)
    usual = {task_prompt.messages(one)[1] for one in task.train[::30]}

    def answers(request: Request) -> str:
        """Right when the block is another one than the usual, or only then when it is the usual one."""
        return targets[str(request.messages[-1].content)] if (request.messages[1] in usual) != better else "?"

    settings = Settings(calls=400, scored=12, confirmed=24, instruct=0.0, select="fixed")
    job, figures = searched(tmp_path, lent_by(task, Scripted(script=answers)), settings)
    assert figures["winner"] == ("blocks" if better else "start")
    table = msgspec.to_builtins(prompt_table(job.adapter / "prompt.toml"))
    made = candidate(task, {"model": "small/one", "prompt": table})
    before_callers = Served.read(job.adapter)
    renderer = Renderer(made.prompt, task.train)
    for example in task.examples[::40]:
        asked = (Message(role="user", content=str(example.fields["input"])),)
        language = str(example.metadata["language"])
        assert before_callers.messages(asked, language) == renderer.messages(example)
        if not better:
            assert renderer.messages(example) == task_prompt.messages(example)


def test_a_wish_ends_the_search_and_the_next_life_goes_on_from_there(tmp_path: Path) -> None:
    scripted = Scripted(script=only_late_kinds_help)
    lent = work(TRAIN, scripted)
    whole = Scripted(script=only_late_kinds_help)
    _, expected = searched(tmp_path / "whole", work(TRAIN, whole), QUICK)
    job = folder(tmp_path)

    async def ask(request: Request) -> Completion:
        if len(scripted.asked) == 100:
            job.wish("pause")
        return await scripted.ask(request)

    bench = Bench(folder=job, base=tmp_path, work=replace(lent, ask=ask))
    run(bench, QUICK)
    assert events(job)[-1]["kind"] == "paused"
    assert not job.adapter.exists()
    job.wish("")
    run(bench, QUICK)
    assert json.loads((job.adapter / "result.json").read_bytes()) == expected
    assert len(scripted.asked) == len(whole.asked)


def test_the_dial_decides_how_many_calls_and_overrides_win() -> None:
    facts = Facts(rows=1800, tokens=0, longest=0)
    small, large = planned("small", facts, {}), planned("large", facts, {"shots": 3})
    assert small.calls < large.calls
    assert small.confirmed < large.confirmed
    assert large.shots == 3
    assert planned("small", Facts(rows=40, tokens=0, longest=0), {}).confirmed == 8


@pytest.mark.parametrize(
    ("lent", "settings", "key"),
    [
        (None, QUICK, "search.no_work"),
        (work(TRAIN[:5], Scripted()), QUICK, "search.too_few"),
        (work(TRAIN, Scripted()), Settings(calls=100, confirmed=30), "search.too_few_calls"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_the_first_call(
    tmp_path: Path, lent: Work | None, settings: Settings, key: str
) -> None:
    with pytest.raises(UsageError) as caught:
        run(Bench(folder=folder(tmp_path), base=tmp_path, work=lent), settings)
    assert caught.value.key == key
    assert str(caught.value) and caught.value.hint


def test_served_turns_stand_between_system_and_question_whoever_wrote_the_system() -> None:
    lent = work(TRAIN, Scripted())
    prompt = Prompt(system="Ours.", few_shot=FewShot(count=2, by="language", ids=("en000", "zh001", "en002")))
    made = served(lent, prompt)
    question = Message(role="user", content="hello")
    assert [one.content for one in made.messages((question,), "zh")][:3] == [
        "Ours.",
        "zh kind1 word7",
        "answer1",
    ]
    theirs = Message(role="system", content="Theirs.")
    assert made.messages((theirs, question))[0].content == "Ours.\n\nTheirs."
    assert made.messages((replace(theirs, content="Ours."), question))[0].content == "Ours."
    assert len(made.messages((question,))) == 1 + 2 * 2 + 1


def test_the_nearest_are_served_nearest_last() -> None:
    task = load_task(SMART_HOME)
    lent = lent_by(task, Scripted())
    prompt = replace(task.prompts[0], few_shot=FewShot(count=3, by="language", select="similar"))
    made, renderer = served(lent, prompt), Renderer(prompt, task.train)
    for example in task.examples[::60]:
        asked = (Message(role="user", content=str(example.fields["input"])),)
        assert made.messages(asked, str(example.metadata["language"])) == renderer.messages(example)


@pytest.mark.local
@pytest.mark.slow
def test_chosen_examples_are_no_worse_than_fixed_ones_for_the_embedded_model(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    task = load_task(SMART_HOME)
    task = replace(task, scorers=task.scorers[::-1])  # shares of fields: the whole action is out of its reach
    english = tuple(one for one in task.train if one.metadata["language"] == "en")
    workspace = Workspace(tmp_path)
    loops: dict[asyncio.AbstractEventLoop, Any] = {}

    async def ask(request: Request) -> Completion:
        providers = loops.setdefault(asyncio.get_running_loop(), workspace.providers())
        return await providers.provider("local").complete(
            replace(request, model=request.model.partition("/")[2])
        )

    lent = replace(
        lent_by(replace(task, train=english), Scripted()), model="local/smollm2-135m-instruct", ask=ask
    )
    settings = Settings(calls=70, shots=2, by="", scored=4, confirmed=8, instruct=0.0)
    lent = replace(lent, prompt=replace(lent.prompt, few_shot=FewShot(count=2)))
    _, figures = searched(tmp_path, lent, settings)
    assert figures["finalists"].keys() >= {"start", "blocks", "similar"}
    assert figures["after"]["mean"] >= figures["before"]["mean"] > 0
    assert figures["finalists"]["blocks"]["high"] >= figures["before"]["mean"]
