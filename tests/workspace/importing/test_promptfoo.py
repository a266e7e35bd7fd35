"""A promptfoo configuration becomes a task with its models; what cannot come along is listed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from baimo.errors import ConfigError, TaskError
from baimo.evals.tasks.candidates import candidates
from baimo.evals.tasks.folder import load_task
from baimo.evals.tasks.prompts import Renderer
from baimo.workspace.importing.promptfoo import imported_tasks
from baimo.workspace.importing.tasks import ImportedTask, kept_tasks

FIXTURE = Path(__file__).parent / "fixtures" / "promptfooconfig.yaml"


def made_of(folder: Path, words: str) -> ImportedTask:
    (folder / "promptfooconfig.yaml").write_text(words, encoding="utf-8")
    (made,) = imported_tasks(folder)
    return made


def settings(made: ImportedTask) -> dict[str, Any]:
    return tomllib.loads(made.carried.settings)


def test_tests_prompts_assertions_and_models_come_along(tmp_path: Path) -> None:
    (made,) = imported_tasks(FIXTURE)
    (place,) = kept_tasks([made], tmp_path / "greetings", force=False)
    task = load_task(place)
    assert task.description == "Greetings"
    assert [one.metadata["asserts"][0]["type"] for one in task.examples] == ["contains", "icontains"]
    assert Renderer(task.prompts[0]).messages(task.examples[1])[0].content == "Say hello to 小明 in Chinese."
    found = candidates(task)
    assert [one.name for one in found] == ["openai/gpt-4.1-mini", "claude", "ollama/llama3.2"]
    assert found[1].model == "anthropic/claude-sonnet-4-5"
    assert (found[1].sampling.temperature, found[1].sampling.max_tokens) == (0.3, 64)


def test_what_is_left_behind_is_listed_once() -> None:
    (made,) = imported_tasks(FIXTURE)
    notes = [(note.path, note.weight) for note in made.carried.notes]
    assert ("providers[1].config.thinking.type", "lost") in notes
    assert ("providers[2].transform", "lost") in notes
    assert ("providers[3]", "lost") in notes
    words = " ".join(note.why for note in made.carried.notes)
    assert "javascript" in words and "outputPath" in words
    assert len(notes) == len(set(notes))
    assert not made.carried.whole


def test_nothing_left_is_said_to_be_whole(tmp_path: Path) -> None:
    made = made_of(
        tmp_path,
        'prompts: ["{{q}}"]\nproviders: openai:chat:gpt-4.1\ntests:\n'
        '  - {vars: {q: a}, assert: [{type: equals, value: "A"}]}\n',
    )
    assert made.carried.whole
    assert settings(made)["candidates"] == [{"name": "openai/gpt-4.1", "model": "openai/gpt-4.1"}]
    assert settings(made)["scorers"] == [{"name": "exact"}]


@pytest.mark.parametrize(
    ("id", "model"),
    [
        ("openai:gpt-4.1", "openai/gpt-4.1"),
        ("openai:responses:gpt-4.1", "openai/gpt-4.1"),
        ("google:gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("ollama:chat:llama3.2:3b", "ollama/llama3.2:3b"),
        ("openrouter:meta-llama/llama-3.3-70b", "openrouter/meta-llama/llama-3.3-70b"),
        ("exec:python run.py", None),
        ("https://example.org/api", None),
        ("file://provider.js", None),
        ("unheard-of:model", None),
        ("openai", None),
    ],
)
def test_a_provider_is_a_candidate_where_the_catalogue_has_it(
    tmp_path: Path, id: str, model: str | None
) -> None:
    words = f'prompts: ["{{{{q}}}}"]\nproviders: ["{id}"]\ntests: [{{vars: {{q: a}}}}]\n'
    made = made_of(tmp_path, words)
    found = [one["model"] for one in settings(made).get("candidates", [])]
    assert found == ([model] if model else [])
    assert any(note.path == "providers[0]" for note in made.carried.notes) is (model is None)


def test_a_bare_list_of_tests_is_taken_too(tmp_path: Path) -> None:
    (tmp_path / "tests.csv").write_text("q,__expected\n1+1,2\n")
    (made,) = imported_tasks(tmp_path / "tests.csv")
    assert made.examples == 1


def test_what_is_no_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        imported_tasks(tmp_path)
    (tmp_path / "promptfooconfig.yaml").write_text("prompts: [a]\nproviders: [b]\n")
    with pytest.raises(TaskError):
        imported_tasks(tmp_path)
