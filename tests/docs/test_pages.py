"""What the pages say can be followed: links lead somewhere, snippets are valid, commands and options exist."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from baimo.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"), ROOT / "benchmarks/README.md"]
)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|#)([^)#\s]+)")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_snippet_is_valid_in_its_language(page: Path) -> None:
    for language, snippet in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            ast.parse(snippet)
        if language == "toml":
            tomllib.loads(snippet)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_shows_exists_with_its_options(page: Path) -> None:
    known = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    shown = "\n".join(snippet for language, snippet in FENCE.findall(page.read_text(encoding="utf-8")) if language == "sh")
    for line in shown.splitlines():
        words = line.partition("#")[0].split()
        if words[:1] != ["baimo"]:
            continue
        command = next(word for word in words[1:] if not word.startswith("-"))
        assert command in COMMANDS, line
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert f"`{option}" in known or f"{option} " in known, f"{line}: {option}"


def test_the_readme_begins_with_the_two_commands() -> None:
    first = FENCE.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert first is not None
    assert [line.split()[:2] for line in first[2].splitlines()] == [["make", "demo"], ["make", "test"]]
