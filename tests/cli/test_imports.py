from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.bad_input import CANARY
from tests.cli.runner import baimo, has_chinese

WHOLE = "model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY}}]\n"
LEFT = f"{WHOLE}general_settings: {{master_key: {CANARY}}}\n"


def source(folder: Path, words: str) -> str:
    (folder / "config.yaml").write_text(words, encoding="utf-8")
    return "config.yaml"


def test_settings_go_to_standard_output_and_what_is_left_to_the_other(folder: Path, lang: str) -> None:
    ended = baimo("import", "litellm", source(folder, LEFT))
    assert ended.code == 1
    assert "[routes.a]" in ended.out
    assert "general_settings.master_key" in ended.err
    assert has_chinese(ended.err) == (lang == "zh")
    assert CANARY not in ended.all


def test_nothing_left_to_look_at_ends_with_zero(folder: Path) -> None:
    assert baimo("import", "litellm", source(folder, WHOLE)).code == 0


def test_the_written_settings_are_those_that_every_command_reads(folder: Path) -> None:
    assert baimo("import", "litellm", source(folder, WHOLE), "--out", "baimo.toml").code == 0
    shown = baimo("models", "show", "openai/gpt-4o")
    assert (
        shown.code,
        "baimo.toml" in baimo("import", "litellm", "config.yaml", "--out", "baimo.toml").err,
    ) == (0, True)


def test_the_report_is_json_and_nothing_else(folder: Path) -> None:
    ended = baimo("import", "litellm", source(folder, LEFT), "--json")
    assert (ended.code, ended.err) == (1, "")
    assert ended.data["whole"] is False
    assert {"path": "model_list[0].model_name", "setting": "routes.a.models"} in ended.data["carried"]
    assert [note["weight"] for note in ended.data["notes"]] == ["secret"]
    assert CANARY not in ended.out


def test_tensorzero_is_read_too(folder: Path) -> None:
    words = '[functions.f.variants.v]\ntype = "chat_completion"\nmodel = "openai::gpt-4o"\n'
    (folder / "tensorzero.toml").write_text(words, encoding="utf-8")
    ended = baimo("import", "tensorzero", "tensorzero.toml")
    assert (ended.code, "[routes.f]" in ended.out) == (0, True)


@pytest.mark.parametrize(
    ("words", "arguments", "names"),
    [
        (None, ("litellm", "gone.yaml"), "gone.yaml"),
        (None, ("litellm",), "FILE"),
        (None, ("portkey", "x"), "litellm"),
        ("model_list: [", ("litellm", "config.yaml"), "config.yaml:1"),
        ("a: 1", ("litellm", "config.yaml"), "model_list"),
        ("[x", ("tensorzero", "config.yaml"), "config.yaml"),
        (WHOLE, ("litellm", "config.yaml", "--out", "config.yaml"), "--force"),
        (WHOLE, ("litellm", "config.yaml", "--out", "no/such/baimo.toml"), "baimo.toml"),
    ],
)
def test_bad_input_is_named_with_its_place(
    words: str | None, arguments: tuple[str, ...], names: str, folder: Path, lang: str
) -> None:
    if words is not None:
        source(folder, words)
    ended = baimo("import", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert names in ended.err
    assert "Traceback" not in ended.err
    assert has_chinese(ended.err) == (lang == "zh")


EVALS = Path(__file__).parents[1] / "workspace" / "importing" / "fixtures"


def test_evaluations_become_a_task_that_the_next_command_reads(folder: Path, lang: str) -> None:
    ended = baimo("import", "openai-evals", str(EVALS / "openai-evals"), "--out", "tickets")
    assert (ended.code, ended.out) == (1, "")
    assert "eval.testing_criteria[3]" in ended.err
    assert has_chinese(ended.err) == (lang == "zh")
    shown = baimo("tasks", "show", "tickets", "--json")
    assert (shown.code, shown.data["examples"]) == (0, 3)
    again = baimo("import", "openai-evals", str(EVALS / "openai-evals"), "--out", "tickets")
    assert again.code == 2


def test_without_a_folder_the_manifest_is_shown_and_nothing_is_written(folder: Path) -> None:
    ended = baimo("import", "promptfoo", str(EVALS / "promptfooconfig.yaml"))
    assert ended.code == 1
    assert '[[candidates]]\nname = "claude"' in ended.out
    assert list(folder.glob("*/task.toml")) == []


def test_of_several_evaluations_one_can_be_chosen(folder: Path) -> None:
    ended = baimo("import", "openai-evals", str(EVALS / "openai-registry"), "--only", "places", "--json")
    assert [task["name"] for task in ended.data["tasks"]] == ["places"]
    assert (ended.code, ended.data["written"]) == (0, [])
    assert baimo("import", "openai-evals", str(EVALS / "openai-registry"), "--only", "gone").code == 2
