"""Pages of help: every command, in both languages, within the width of the terminal."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.cli.command import anywhere, columns, wrapped
from baimo.errors import UsageError
from tests.cli.runner import baimo, has_chinese, process
from tests.waiting import PATIENCE_S

COMMANDS = [
    "",
    *("adapters", "adapters check", "adapters export", "adapters import", "adapters list", "adapters merge"),
    *("adapters retire", "adapters rm", "adapters show"),
    "compare",
    *("data", "data check", "data clean", "data collect", "data split"),
    *("import", "import litellm", "import openai-evals", "import promptfoo"),
    "import tensorzero",
    *("jobs", "jobs cancel", "jobs events", "jobs list", "jobs pause", "jobs resume", "jobs rm", "jobs show"),
    *("keys", "keys change", "keys create", "keys list", "keys revoke", "keys rotate", "keys show"),
    *("ledger", "ledger export", "ledger forget", "ledger prune", "ledger reconcile", "ledger show"),
    *("ledger sum", "ledger verify"),
    "models",
    "models list",
    *("models promote", "models pull", "models releases", "models rollback"),
    "models search",
    "models show",
    "models test",
    "models vendors",
    "report",
    "runs",
    "serve",
    "runs list",
    "runs show",
    "tasks",
    "tasks check",
    "tasks import",
    "tasks new",
    "tasks show",
    "tasks list",
    "tasks recipe",
    "tasks delete",
    "tasks restore",
    *("tenants", "tenants change", "tenants create", "tenants disable", "tenants forget", "tenants list"),
    "tenants show",
    "tune",
]
PROGRAM = """
import contextlib, io, json, sys
from baimo.cli.main import main
pages = {}
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as page:
        try:
            main([*command.split(), "--help"])
        except SystemExit as ended:
            pages[command] = [ended.code, page.getvalue()]
print(json.dumps(pages))
"""


@cache
def pages(lang: str) -> dict[str, tuple[int, str]]:
    """Exit code and text of every page, from one process: texts keep the language of their import."""
    environment = {"BAIMO_LANG": lang, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-c", PROGRAM, json.dumps(COMMANDS)]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=PATIENCE_S)
    return json.loads(done.stdout)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_in_the_readers_language(command: str, lang: str) -> None:
    code, page = pages(lang)[command]
    assert code == 0
    path = f"baimo {command}".strip()
    assert path in page.splitlines()[0]
    words = page.replace("baimo(百模)", "")
    assert has_chinese(words) == (lang == "zh")
    for english in ("Options:", "Usage:", "Commands:", "Show this", "[default:"):
        assert english not in page or lang == "en"
    assert all(columns(line) <= 80 for line in page.splitlines())
    assert "--help" in page


def test_the_pages_cover_every_command_that_there_is() -> None:
    _, root = pages("en")[""]
    for group in (
        "adapters",
        "data",
        "import",
        "jobs",
        "keys",
        "ledger",
        "models",
        "runs",
        "tasks",
        "tenants",
    ):
        listed = pages("en")[group][1].partition("Commands:\n")[2]
        names = {line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "}
        assert {f"{group} {name}" for name in names} == {
            one for one in COMMANDS if one.startswith(f"{group} ")
        }
    listed = root.partition("Commands:\n")[2]
    assert {line.split()[0] for line in listed.splitlines() if line[2:3] not in (" ", "")} == {
        one for one in COMMANDS if one and " " not in one
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["--lang", "zh", "models", "--help"],
        ["models", "--lang", "zh", "--help"],
        ["models", "--help", "--lang", "zh"],
        ["models", "--help", "--lang=zh"],
    ],
    ids=" ".join,
)
def test_the_language_may_stand_anywhere(arguments: list[str], tmp_path: Path) -> None:
    assert process(*arguments, folder=tmp_path).out.startswith("用法")


def test_what_follows_two_dashes_is_no_language() -> None:
    given = ["tasks", "show", "--", "--lang", "zh"]
    assert anywhere(given, "--lang") == (None, given)
    assert anywhere(["--lang", "en", "x", "--lang=zh"], "--lang") == ("zh", ["x"])
    with pytest.raises(UsageError, match="--lang"):
        anywhere(["x", "--lang"], "--lang")


def test_the_workspace_may_be_named_after_the_command(tmp_path: Path) -> None:
    assert process("runs", "list", "-w", "kept", folder=tmp_path).code == 0
    assert process("--workspace=also", "runs", "list", folder=tmp_path).code == 0
    assert {path.parent.name for path in tmp_path.rglob("baimo.db")} == {"kept", "also"}


@pytest.mark.parametrize(
    ("environment", "chinese"), [({}, True), ({"BAIMO_LANG": "en"}, False), ({"BAIMO_LANG": ""}, True)]
)
def test_the_language_of_the_folder_holds_unless_a_variable_is_stronger(
    environment: dict[str, str], chinese: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BAIMO_LANG")
    (folder / "baimo.toml").write_text('language = "zh"\n', encoding="utf-8")
    (folder / "inner").mkdir()
    shown = process("--help", folder=folder / "inner", environment={"LANG": "en_US.UTF-8", **environment})
    assert has_chinese(shown.out) == chinese


@pytest.mark.parametrize("group", [[], ["models"], ["runs"], ["tasks"]], ids=str)
def test_a_group_without_a_command_shows_what_there_is_and_is_an_error(
    group: list[str], folder: Path
) -> None:
    ended = baimo(*group)
    assert (ended.code, ended.out) == (2, "")
    assert "--help" in ended.err


def test_the_version_is_the_package_s(folder: Path) -> None:
    from baimo import __version__

    assert baimo("--version").out.split() == ["baimo,", "version", __version__]


def test_baimo_runs_as_a_module(folder: Path) -> None:
    command = [sys.executable, "-m", "baimo", "models", "vendors"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=PATIENCE_S)
    assert b"openai\t" in done.stdout
    failed = subprocess.run(
        [*command[:3], "nonsense"], cwd=folder, capture_output=True, check=False, timeout=60
    )
    assert failed.returncode == 2


# wrapping

words = st.text(st.sampled_from("abc 模型,。：（）-"), max_size=120)


@given(words, st.integers(min_value=12, max_value=40))
def test_wrapped_lines_fit_and_lose_nothing(shown: str, width: int) -> None:
    lines = wrapped(shown, width)
    assert "".join("".join(lines).split()) == "".join(shown.split())
    for line in lines:
        # a word longer than the line, or closing punctuation that must not begin one, may stick out
        longest = max((columns(word) for word in line.split()), default=0)
        assert columns(line) <= width or columns(line) == longest


@given(words)
def test_the_width_of_a_line_is_that_of_its_characters(shown: str) -> None:
    wide = sum(unicodedata.east_asian_width(one) in "WF" for one in shown)
    assert columns(shown) == len(shown) + wide


def test_chinese_breaks_anywhere_but_before_punctuation() -> None:
    assert wrapped("模型目录，价格", 8) == ["模型目", "录，价格"]
    assert wrapped("pull a model", 8) == ["pull a", "model"]
