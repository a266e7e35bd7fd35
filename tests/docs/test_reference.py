"""The generated reference pages are current, and nothing that a user can meet is missing from them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest

from baimo import settings as shapes
from baimo import config, errors
from baimo.cli.main import group
from tests.catalogue import messages
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_every_generated_page_is_what_the_code_says() -> None:
    # in a process of its own: help texts keep the language in which their command was imported
    command = [sys.executable, str(ROOT / "scripts" / "reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "kind",
    [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.BaimoError)],
)
def test_every_exception_is_documented_with_its_exit_code(kind: type[errors.BaimoError]) -> None:
    assert f"| `{kind.__name__}` | {kind.exit_code} |" in page("errors.md")


STRUCTS = {
    (kind.__doc__ or "").partition(": ")[0]: kind
    for kind in vars(shapes).values()
    if inspect.isclass(kind) and issubclass(kind, msgspec.Struct) and (kind.__doc__ or "").startswith("[")
}


@pytest.mark.parametrize("section", list(STRUCTS))
def test_every_setting_is_documented_with_a_meaning(section: str) -> None:
    part = page("config.md").partition(f"## {section}\n")[2].partition("\n## ")[0]
    for field in msgspec.structs.fields(STRUCTS[section]):
        assert re.search(rf"^\| `{field.name}` \| .+ \| .* \| .+ \| \S.*\.? \|$", part, re.MULTILINE), (
            field.name
        )


def test_every_section_of_the_settings_is_documented() -> None:
    sections = {re.split(r"[.\]]", title[1:])[0] for title in STRUCTS}
    assert set(shapes.Settings.__struct_fields__) == sections | {"language"}


def test_every_variable_that_is_documented_is_heeded(tmp_path: Path) -> None:
    fields = {
        (section, field.name): field
        for section, kind in config._SECTIONS.items()
        for field in msgspec.structs.fields(kind)
    }
    variables = re.findall(r"^\| `\w+` \| ([^|]*) \|[^|]*\| `BAIMO_([A-Z]+)_(\w+)`", page("config.md"), re.MULTILINE)
    assert len(variables) >= 50
    for kind, section, key in variables:
        value = _a_value(kind)
        found = config.settings(tmp_path, environment={f"BAIMO_{section}_{key}": value})
        field = fields[section.lower(), key.lower()]
        assert str(getattr(getattr(found, section.lower()), field.name)).lower() in (value.lower(), f"{value}.0"), key


def _a_value(kind: str) -> str:
    """Something that the documented type allows."""
    if choices := re.findall(r"`(\w+)`", kind):
        return str(choices[-1])
    if kind.startswith("true"):
        return "true"
    if kind.startswith("text"):
        return "EUR" if "capitals" in kind else "x"
    return "0.5" if "< 1" in kind else "1" if "≤ 1" in kind else "2"


def commands(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command)
    inner = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
    return [(path, command)] + [
        leaf for name, one in inner if one for leaf in commands(one, f"{path} {name}")
    ]


@pytest.mark.parametrize(("path", "command"), commands(group(), "baimo"))
def test_every_command_and_option_is_documented(path: str, command: click.Command) -> None:
    text = page("cli.md")
    if path != "baimo":
        assert f"# {path}\n" in text
    part = text.partition(f"# {path}\n")[2].partition("\n##")[0] if path != "baimo" else text
    for option in command.params:
        if isinstance(option, click.Option):
            assert max(option.opts, key=len) in part, option.name


def test_every_exit_code_is_documented() -> None:
    codes = {
        kind.exit_code
        for kind in vars(errors).values()
        if inspect.isclass(kind) and hasattr(kind, "exit_code")
    }
    for code in codes | {0, 130}:
        assert re.search(rf"^\| {code} \| \S", page("cli.md"), re.MULTILINE)


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_every_page_that_a_message_names_exists(locale: str) -> None:
    named = {
        found for message in messages(locale).values() for found in re.findall(r"docs/[\w./-]+\.md", message)
    }
    assert named
    assert [one for one in sorted(named) if not (ROOT / one).is_file()] == []


def test_every_command_that_a_message_names_exists() -> None:
    tree = dict(commands(group(), "baimo"))
    named = {
        found
        for locale in ("en", "zh")
        for message in messages(locale).values()
        for found in re.findall(r"(?:`|[:\uff1a] ?)(baimo [a-z]+(?: [a-z]+)?)\b", message)
    }
    assert {"baimo models search", "baimo runs list", "baimo tasks new"} <= named
    for words in named:
        verb = " ".join(words.split()[:2])
        assert words in tree or not isinstance(tree.get(verb, click.Group("")), click.Group), words
