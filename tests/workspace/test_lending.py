"""What the workspace lends to a recipe: who may teach, and a task to search a better prompt for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from baimo.core.call import Request
from baimo.core.message import Message
from baimo.core.registry import Spec
from baimo.core.tuning import TuneSpec
from baimo.errors import Forbidden, UsageError
from baimo.evals.tasks.folder import load_task
from baimo.tuning.bench import Bench
from baimo.tuning.folder import JobFolder
from baimo.tuning.recipes import prompt
from baimo.tuning.teaching import permitted
from baimo.workspace.lending import Lent
from baimo.workspace.permit import Permit
from baimo.workspace.workspace import Workspace

TOML = """
[policy]
outside = "public_only"
[providers.echo]
protocol = "fake"
inside = true
[models."echo/echo"]
input_per_million = 1.0
output_per_million = 2.0
"""
TASK = 'name = "again"\n[data]\ntrain = "train.jsonl"\n[[scorers]]\nname = "exact"\n'


@pytest.fixture
def lent(tmp_path: Path) -> Iterator[Lent]:
    (tmp_path / "baimo.toml").write_text(TOML)
    task = tmp_path / "again"
    task.mkdir()
    (task / "task.toml").write_text(TASK)
    for split in ("train", "test"):
        rows = [
            {"id": f"{split}{one}", "input": f"{split} {one}", "target": f"{split} {one}"}
            for one in range(60)
        ]
        (task / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = JobFolder(tmp_path / "job")
    spec = TuneSpec(id="ftjob-1", recipe=Spec(name="prompt"), base="echo/echo", task=str(task))
    folder.write(spec, [])
    made = Lent(Workspace(tmp_path), folder, spec, Permit(data_class="internal"), load_task(task))
    yield made
    made.close()


def test_a_teacher_comes_with_its_terms_its_walls_and_the_policy(lent: Lent) -> None:
    inside, outside = lent.teacher("echo/echo"), lent.teacher("openai/gpt-4.1")
    assert (inside.inside, outside.inside) == (True, False)
    assert (outside.terms.training, outside.outside, outside.data_class) == (
        "competing",
        "public_only",
        "internal",
    )
    with pytest.raises(UsageError):
        permitted(outside, accept_terms=True)


def test_what_was_let_go_is_opened_again_by_the_next_call(lent: Lent) -> None:
    asked = Request(model="echo/echo", messages=(Message(role="user", content="hello"),))
    for _ in range(2):
        assert asyncio.run(lent.ask(asked)).text
        lent.rest()
        lent.rest()


def test_a_search_begins_with_the_prompt_that_was_named(lent: Lent, tmp_path: Path) -> None:
    (tmp_path / "again" / "task.toml").write_text(
        TASK + '[[prompts]]\nname = "long"\nuser = "Say: {{ input }}"\n'
        '[[prompts]]\nname = "short"\nuser = "{{ input }}"\n'
    )
    task, folder = load_task(tmp_path / "again"), JobFolder(tmp_path / "job")
    for named, begun in (("", "long"), ("long", "long"), ("short", "short"), ("other", None)):
        borrowed = Lent(Workspace(tmp_path), folder, replace(folder.spec(), prompt=named), Permit(), task)
        try:
            if begun is None:
                with pytest.raises(UsageError, match="long, short"):
                    borrowed.work()
            else:
                work = borrowed.work()
                assert work is not None and work.prompt.name == begun
        finally:
            borrowed.close()


def test_a_search_on_a_lent_task_pays_records_and_leaves_a_prompt(lent: Lent, tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "job")
    settings = prompt.Settings(calls=120, shots=2, scored=6, confirmed=10, instruct=0.0)
    prompt.run(Bench(folder=folder, base=tmp_path, work=lent.work()), settings)
    kinds = [event["kind"] for _, event in folder.events()]
    figures = json.loads((folder.adapter / "result.json").read_bytes())
    assert kinds.count("record") == figures["calls"] > 0
    assert figures["before"]["mean"] == 1.0  # an echo needs no examples, and they are not forced on it
    assert figures["winner"] == "start"
    assert figures["cost_micros"] > 0


def test_a_job_asks_what_its_order_permits_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "baimo.toml").write_text(TOML)
    folder = JobFolder(tmp_path / "job")
    folder.write(TuneSpec(id="ftjob-2", recipe=Spec(name="grpo"), base="echo/echo"), [])
    hello = Request(model="echo/echo", messages=(Message(role="user", content="hello"),))
    outside = replace(hello, model="openai/gpt-4.1")
    denied = Permit(data_class="internal", outside="public_only")
    for permit, asked, words in (
        (Permit(key="k", models=("other/*",)), hello, "k may not use echo/echo"),
        (Permit(key="k", limited=True), hello, "Money is limited"),
        (denied, outside, "may not go there"),
    ):
        lent = Lent(Workspace(tmp_path), folder, folder.spec(), permit)
        try:
            with pytest.raises(Forbidden, match=words):
                asyncio.run(lent.ask(asked))
        finally:
            lent.close()
    assert not [event for _, event in folder.events() if event["kind"] == "record"]
