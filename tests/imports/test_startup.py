"""What a start may load. Modules are counted, not milliseconds: a busy machine must not fail a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "aiohttp",
    "asyncio",
    "gguf",
    "hypothesis",
    "jinja2",
    "jsonschema",
    "msgspec",
    "numpy",
    "openvino",
    "openvino_genai",
    "pyarrow",
    "psycopg",
    "rapidfuzz",
    "regex",
    "rich",
    "sacrebleu",
    "sqlalchemy",
    "tomlkit",
    "torch",
    "transformers",
    "xllamacpp",
    "yaml",
}


def loaded(program: str, folder: Path) -> set[str]:
    """Top-level modules, and modules of baimo, that are loaded when `program` ends in a new process."""
    report = "import json, sys; sys.stderr.write('\\n' + json.dumps(sorted(sys.modules)))"
    source = f"try:\n    {program}\nexcept SystemExit: pass\n{report}"
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=folder, capture_output=True, check=True, timeout=60, text=True
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def of_command(*arguments: str) -> str:
    return f"from baimo.cli.main import main; main({list(arguments)})"


def test_importing_baimo_loads_nothing_but_itself(tmp_path: Path) -> None:
    ours = {name for name in loaded("import baimo", tmp_path) if name.startswith("baimo")}
    assert ours == {"baimo"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["--lang", "zh", "--help"],
        ["compare", "--help"],
        ["tasks", "--help"],
        ["keys", "create", "--help"],
        ["tenants", "--help"],
        ["ledger", "reconcile", "--help"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_a_page_of_help_loads_no_room_and_no_heavy_library(arguments: list[str], tmp_path: Path) -> None:
    modules = loaded(of_command(*arguments), tmp_path)
    assert not {name.partition(".")[0] for name in modules} & HEAVY
    rooms = {name for name in modules if name.startswith(("baimo.store", "baimo.providers", "baimo.models"))}
    assert rooms == set()


def test_the_root_help_loads_no_command(tmp_path: Path) -> None:
    modules = loaded(of_command("--help"), tmp_path)
    assert {name for name in modules if name.startswith("baimo.cli.")} == {
        "baimo.cli.command",
        "baimo.cli.main",
    }


def test_the_catalogue_is_read_without_a_server_a_database_or_an_engine(tmp_path: Path) -> None:
    modules = {name.partition(".")[0] for name in loaded(of_command("models", "list"), tmp_path)}
    assert not modules & (HEAVY - {"msgspec"})


def test_a_task_is_written_and_checked_without_a_server_or_a_database(tmp_path: Path) -> None:
    loaded(of_command("tasks", "new", "t"), tmp_path)
    modules = {name.partition(".")[0] for name in loaded(of_command("tasks", "check", "t"), tmp_path)}
    assert not modules & {"aiohttp", "sqlalchemy", "openvino", "xllamacpp", "torch"}


def test_a_server_begins_without_what_only_comparisons_and_tuning_need(tmp_path: Path) -> None:
    modules = loaded("import baimo.server.run, baimo.server.app", tmp_path)
    assert not modules & {"numpy", "rapidfuzz", "tomlkit", "jsonschema", "openvino", "torch"}
    assert not modules & {"aiohttp", "sqlalchemy.dialects.postgresql"}  # what only some servers need


@pytest.mark.parametrize("name", ["Workspace", "__version__"])
def test_every_public_name_can_be_reached(name: str) -> None:
    import baimo

    assert name in baimo.__all__
    assert getattr(baimo, name) is not None


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    import baimo

    with pytest.raises(AttributeError, match="no attribute 'Workspce'"):
        baimo.Workspce  # noqa: B018
