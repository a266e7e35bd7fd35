"""What the commands do, from a fresh folder to a report, in both languages."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.runner import Ended, baimo, has_chinese, process
from tests.cli.tasks import config, task, two_models
from tests.waiting import PATIENCE_S

# models


def test_the_catalogue_lists_models_one_per_line_for_a_pipe(folder: Path, lang: str) -> None:
    ended = baimo("models", "list", "openai")
    rows = [line.split("\t") for line in ended.out.splitlines()]
    assert ended.code == 0
    assert {len(row) for row in rows} == {5}
    assert all(row[0].startswith("openai/") for row in rows)
    assert ["openai/gpt-4.1", "2 USD", "8 USD", "1047576", "tools json_schema vision"] in rows


def test_the_catalogue_lists_models_as_json_with_unknown_as_null(folder: Path) -> None:
    found = baimo("models", "list", "--json").data
    assert len(found) > 500
    by_name = {row["name"]: row for row in found}
    assert by_name["openai/gpt-4.1"]["price"]["input_per_million"] == "2"
    unpriced = next(row for row in found if row["price"] is None)
    assert unpriced["name"]
    assert all(row["context_window"] is None or row["context_window"] > 0 for row in found)


def test_a_search_combines_words_and_conditions(folder: Path) -> None:
    cheap = baimo("models", "search", "gpt", "mini", "--max-price", "2", "--ability", "vision", "--json").data
    assert cheap
    for row in cheap:
        assert "gpt" in row["name"]
        assert "mini" in row["name"]
        assert "vision" in row["abilities"]
        assert float(row["price"]["output_per_million"]) <= 2


def test_a_search_by_country_and_weights_keeps_those_only(folder: Path) -> None:
    vendors = {one["name"]: one for one in baimo("models", "vendors", "--json").data}
    found = baimo("models", "search", "--country", "CN", "--open-weights", "--json").data
    assert found
    assert {vendors[row["name"].partition("/")[0]]["country"] for row in found} == {"CN"}
    assert {row["open_weights"] for row in found} == {True}


def test_a_search_that_finds_nothing_says_so_on_stderr(folder: Path, lang: str) -> None:
    ended = baimo("models", "search", "no-such-model-anywhere")
    assert (ended.code, ended.out) == (0, "")
    assert has_chinese(ended.err) == (lang == "zh")
    assert baimo("models", "search", "no-such-model-anywhere", "--json").data == []


def test_vendors_are_named_in_the_readers_language(folder: Path, lang: str) -> None:
    line = next(one for one in baimo("models", "vendors").out.splitlines() if one.startswith("zhipu\t"))
    assert has_chinese(line) == (lang == "zh")
    assert "ZHIPUAI_API_KEY" in line


def test_one_model_is_shown_with_its_vendor_and_the_source_of_its_price(folder: Path) -> None:
    shown = baimo("models", "show", "openai/gpt-4.1").data
    assert shown["model"]["price"]["source"].startswith("https://")
    assert shown["vendor"]["key_variable"] == "OPENAI_API_KEY"
    assert shown["vendor"]["inside"] is False


def test_a_model_of_the_settings_is_listed_with_the_others(folder: Path) -> None:
    config(folder, '[models."acme/x"]\ninput_per_million = 1.5\n[providers.acme]\nbase_url = "http://h/v1"\n')
    assert baimo("models", "show", "acme/x").data["model"]["price"]["input_per_million"] == "1.5"
    assert "acme/x" in baimo("models", "list", "acme").out


def test_a_probe_says_what_one_call_showed(folder: Path, lang: str) -> None:
    ended = baimo("models", "test", "fake/m", "--json")
    assert ended.code == 0
    assert ended.data["reachable"] is True
    assert has_chinese(baimo("models", "test", "fake/m").out) == (lang == "zh")


# tasks


@pytest.mark.parametrize("kind", ["classify", "extract-json", "qa"])
def test_a_new_task_checks_shows_and_compares_as_it_is(kind: str, folder: Path, lang: str) -> None:
    made = baimo("tasks", "new", "mine", "--kind", kind)
    assert made.code == 0
    assert all((folder / line).is_file() for line in made.out.splitlines())
    assert has_chinese(made.err) == (lang == "zh")
    checked = baimo("tasks", "check", "mine", "--json")
    assert checked.code == 0, checked.out
    assert not [finding for finding in checked.data if finding["severity"] == "error"]
    assert baimo("tasks", "check", "mine").code == 0
    shown = baimo("tasks", "show", "mine", "--json", "--limit", "2").data
    assert (len(shown["first"]), shown["format"]) == (2, "rows")
    assert shown["first"][0]["messages"][-1]["role"] == "user"
    assert shown["first"][0]["id"] in baimo("tasks", "show", "mine").out
    ended = baimo("compare", "mine", "--model", "fake/a", "--model", "fake/b", "--json", "--quiet")
    assert ended.code == 0, ended.err
    assert ended.data["schema"] == "baimo.verdict/1"


def test_a_task_with_something_to_mend_ends_with_code_1_and_lines(folder: Path, lang: str) -> None:
    rows = [{"input": "a", "target": "x"}, {"input": "a", "target": "y"}, {"input": "b"}]
    ended = baimo("tasks", "check", task(folder, rows=rows))
    assert ended.code == 1
    assert "test.jsonl:1" in ended.out
    assert "{" not in ended.out
    assert has_chinese(ended.out) == (lang == "zh")
    found = baimo("tasks", "check", "sums", "--json")
    assert found.code == 1
    assert {"severity", "kind", "detail", "places"} == set(found.data[0])


def test_a_foreign_file_is_imported_and_told_about(folder: Path, lang: str) -> None:
    rows = [{"instruction": f"Add {n}", "input": "", "output": str(n)} for n in range(3)]
    (folder / "alpaca.json").write_text(json.dumps(rows), encoding="utf-8")
    ended = baimo("tasks", "import", "alpaca.json", "taken")
    assert ended.code == 0
    assert (folder / "taken" / "task.toml").is_file()
    assert "3" in ended.err
    assert has_chinese(ended.err) == (lang == "zh")
    assert baimo("tasks", "show", "taken", "--json").data["examples"] == 3


# compare, runs, report


@pytest.fixture
def decided(folder: Path) -> Ended:
    """A finished comparison in the current folder."""
    return baimo("compare", task(folder), *two_models(folder), "--json")


def test_a_comparison_puts_data_on_stdout_and_talk_on_stderr(decided: Ended, folder: Path) -> None:
    assert decided.code == 0
    assert decided.data["winner"] == "knows/m"
    assert decided.data["calls_paid"] <= decided.data["calls_exhaustive"] == 12
    assert "forecast" in decided.err
    page = next((folder / ".baimo" / "reports").glob("*.html"))
    assert str(page.name) in decided.err


def test_quiet_means_that_only_the_page_is_named(folder: Path) -> None:
    ended = baimo("compare", task(folder), *two_models(folder), "--quiet", "--json")
    assert len(ended.err.splitlines()) == 1


def test_the_runs_of_a_workspace_are_listed_and_shown(decided: Ended, lang: str) -> None:
    run = decided.data["run"]["id"]
    listed = baimo("runs", "list", "--json").data
    assert [(row["run"], row["task"], row["status"], row["winner"]) for row in listed] == [
        (run, "sums", "done", "knows/m")
    ]
    assert baimo("runs", "list").out.startswith(f"{run}\tsums\tdone\t")
    assert baimo("runs", "list", "--task", "other", "--json").data == []
    shown = baimo("runs", "show").data
    assert shown["id"] == run
    assert shown["options"]["model"] == ["knows/m", "guesses/m"]
    assert [candidate["model"] for candidate in shown["candidates"]] == ["knows/m", "guesses/m"]
    assert baimo("runs", "show", run).data == shown


def test_an_empty_workspace_has_no_runs_and_says_how_to_make_one(folder: Path, lang: str) -> None:
    ended = baimo("runs", "list")
    assert (ended.code, ended.out) == (0, "")
    assert "baimo compare" in ended.err
    assert has_chinese(ended.err) == (lang == "zh")
    assert baimo("runs", "list", "--json").data == []


def test_a_report_is_made_again_in_every_form(decided: Ended, folder: Path, lang: str) -> None:
    again = baimo("report", "--json")
    assert again.code == 0
    assert again.err == ""
    assert again.data["run"]["id"] == decided.data["run"]["id"]
    assert again.data["standings"] == decided.data["standings"]
    plain = baimo("report")
    assert "knows/m" in plain.out
    assert has_chinese(plain.out) == (lang == "zh")
    markdown = baimo("report", "--markdown")
    assert "knows/m" in markdown.out
    assert "\n| " in markdown.out
    page = baimo("report", "last", "--html", "out/page.html", "--json")
    assert page.code == 0
    assert page.data["winner"] == "knows/m"
    html = (folder / "out" / "page.html").read_text(encoding="utf-8")
    assert "knows/m" in html
    assert "<script src" not in html
    assert "out/page.html" in page.err


def test_a_second_comparison_pays_for_nothing(decided: Ended, folder: Path) -> None:
    again = baimo("compare", "sums", "--model", "knows/m", "--model", "guesses/m", "--json", "--quiet").data
    assert (again["winner"], again["calls_paid"], again["cost_micros"]) == ("knows/m", 0, 0)


def test_a_forecast_makes_no_call_and_no_run(folder: Path, lang: str) -> None:
    arguments = ["compare", task(folder), *two_models(folder), "--forecast"]
    ended = baimo(*arguments)
    assert ended.code == 0
    assert has_chinese(ended.out) == (lang == "zh")
    assert baimo(*arguments, "--json").data["calls_exhaustive"] == 12
    assert baimo("runs", "list", "--json").data == []


def test_one_model_alone_is_measured_on_every_example(folder: Path) -> None:
    task(folder)
    two_models(folder)
    found = baimo("compare", "sums", "--model", "guesses/m", "--json", "--quiet").data
    assert (found["calls"], found["standings"][0]["right"], found["standings"][0]["wrong"]) == (6, 1, 5)


def test_a_requirement_that_holds_changes_nothing(folder: Path) -> None:
    ended = baimo("compare", task(folder), *two_models(folder), "--require", "score>=0.5, certain", "--json")
    assert (ended.code, ended.data["winner"]) == (0, "knows/m")


def test_a_requirement_that_does_not_hold_ends_with_code_6_after_the_verdict(folder: Path, lang: str) -> None:
    ended = baimo("compare", task(folder), *two_models(folder), "--require", "latency_ms<0", "--json")
    assert ended.code == 6
    assert ended.data["winner"] == "knows/m"
    assert "latency_ms<0" in ended.err
    assert has_chinese(ended.err.splitlines()[-1]) == (lang == "zh")


def test_a_limit_of_calls_is_kept_and_named(folder: Path) -> None:
    ended = baimo("compare", task(folder), *two_models(folder), "--max-calls", "3", "--batch", "1", "--json")
    assert ended.code == 0
    assert ended.data["calls_paid"] == 3
    assert ended.data["stopped"] == "max_calls"
    run = baimo("runs", "list", "--json").data[0]
    assert run["status"] == "stopped"


def test_a_workspace_may_be_anywhere(folder: Path) -> None:
    place = folder / "elsewhere"
    assert baimo("-w", str(place), "compare", task(folder), *two_models(folder), "--quiet").code == 0
    assert (place / "baimo.db").is_file()
    assert not (folder / ".baimo").exists()
    assert len(baimo("-w", str(place), "runs", "list", "--json").data) == 1


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}], ids=str)
def test_a_pipe_gets_no_colours(variables: dict[str, str], folder: Path) -> None:
    arguments = ["compare", task(folder), *two_models(folder)]
    ended = process(*arguments, folder=folder, environment=variables)
    assert ended.code == 0
    assert "\x1b" not in ended.all
    assert "\x1b" not in process("compare", "gone", folder=folder, environment=variables).all


def test_every_json_output_is_json_and_nothing_else(decided: Ended) -> None:
    run = decided.data["run"]["id"]
    for arguments in (
        ["models", "list"],
        ["models", "search", "gpt"],
        ["models", "vendors"],
        ["models", "test", "guesses/m"],
        ["tasks", "show", "sums"],
        ["tasks", "check", "sums"],
        ["runs", "list"],
        ["report", run],
        ["compare", "--resume", run],
        ["compare", "sums", "--model", "knows/m", "--forecast"],
    ):
        ended = baimo(*arguments, "--json")
        assert ended.code == 0, arguments
        assert isinstance(ended.data, (dict, list)), arguments


def test_ctrl_c_ends_with_a_verdict_on_what_is_known_and_a_way_to_go_on(folder: Path) -> None:
    config(
        folder,
        "".join(
            f'[providers.{name}]\nprotocol = "fake"\ninside = true\noptions = {{ constant = "2", latency_ms = 200 }}\n'
            for name in ("one", "two")
        ),
    )
    rows = [{"input": f"{n}", "target": "2"} for n in range(400)]
    arguments = ["compare", task(folder, rows=rows), "--model", "one/m", "--model", "two/m", "--exhaustive"]
    command = [sys.executable, "-m", "baimo", *arguments, "--batch", "2", "--json"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        while not (line := running.stderr.readline()).startswith("compare:"):
            assert line, "it ended by itself"
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 130
    assert "Traceback" not in err
    found = json.loads(out)
    assert found["stopped"] == "interrupted"
    assert 0 < found["calls"] < 800
    assert f"baimo compare --resume {found['run']['id']}" in err


def test_columns_of_a_bare_file_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("utterance,intent,who,lang\nhello,greet,a,en\nbye,leave,b,en\n")
    named = ("--input", "utterance", "--target", "intent", "--group", "who", "--metadata", "lang")
    ended = process("tasks", "import", "rows.csv", "task", *named, folder=tmp_path)
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in (tmp_path / "task" / "test.jsonl").read_text().splitlines()]
    assert [(row["target"], row["group"], row["metadata"]) for row in rows] == [
        ("greet", "a", {"lang": "en"}),
        ("leave", "b", {"lang": "en"}),
    ]
