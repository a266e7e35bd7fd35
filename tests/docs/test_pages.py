"""What the pages say can be followed: links lead somewhere, snippets are valid, commands and options exist."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from baimo.cli.main import COMMANDS
from baimo.models.catalogue import Catalogue
from baimo.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"), ROOT / "benchmarks/README.md"]
)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|#)([^)#\s]+)")
GUIDES = [page for page in PAGES if not page.is_relative_to(ROOT / "docs/findings")]
MODEL = re.compile(r"(?<![\w./-])[a-z0-9-]+/[a-z0-9][\w.-]*(?<![.-])")
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


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_model_of_the_catalogue_in_an_example_is_priced_and_stays(page: Path) -> None:
    listed = {model.name: model for model in Catalogue.load(Settings()).models()}
    shown = "\n".join(snippet for _, snippet in FENCE.findall(page.read_text(encoding="utf-8")))
    for model in [listed[name] for name in MODEL.findall(shown) if name in listed]:
        assert model.price is not None, f"{model.name}: keys with a money limit could not use it"
        assert not model.shutdown, f"{model.name} ends on {model.shutdown}"


@pytest.mark.parametrize("ending", [".zh.md", ".md"])
def test_keys_of_different_pages_have_different_labels(ending: str) -> None:
    pages = [page for page in GUIDES if page.name.endswith(ending) and (ending != ".md" or ".zh." not in page.name)]
    made = [one for page in pages for one in re.findall(r"keys create .*?--label (\S+)", page.read_text(encoding="utf-8"))]
    assert len(made) == len(set(made)), "a command that names a key by its label would not know which one is meant"


def test_the_readme_begins_with_the_two_commands() -> None:
    first = FENCE.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert first is not None
    assert [line.split()[:2] for line in first[2].splitlines()] == [["make", "demo"], ["make", "test"]]
