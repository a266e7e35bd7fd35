"""The guide for people who leave OpenAI: both languages show the same, and what it promises is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from baimo.server.app import routes
from baimo.server.files import PURPOSES
from baimo.server.fine_tuning_wire import OURS
from baimo.tuning.bench import RECIPES

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
PAGES = {
    name: (GUIDES / name).read_text(encoding="utf-8")
    for name in ("leaving-openai.md", "leaving-openai.zh.md")
}


def snippets(page: str) -> list[str]:
    return re.findall(r"^ *```\w+\n(.*?)^ *```", PAGES[page], re.MULTILINE | re.DOTALL)


def test_both_languages_show_the_same_code() -> None:
    english, chinese = (snippets(page) for page in PAGES)
    assert english == chinese and len(english) == 5


@pytest.mark.parametrize("page", PAGES)
def test_every_purpose_that_is_served_is_named_and_no_other(page: str) -> None:
    (row,) = re.findall(r"^\| `files.create\(purpose=…\)` \|(.*)\|$", PAGES[page], re.MULTILINE)
    served = re.split(r"[;；]", row)[0]
    assert set(re.findall(r"`([a-z-]+)`", served)) == set(PURPOSES)


@pytest.mark.parametrize("page", PAGES)
def test_every_recipe_is_named(page: str) -> None:
    (row,) = re.findall(r"^\| `recipe` \|(.*)\|$", PAGES[page], re.MULTILINE)
    assert set(re.findall(r"`([a-z]+)`", row)) == set(RECIPES)
    assert f'extra_body={{"{OURS}"' in PAGES[page]


@pytest.mark.parametrize("page", PAGES)
def test_every_call_that_is_named_has_a_route(page: str) -> None:
    paths = {getattr(route, "path", "") for route in routes()}
    for call, path in {
        "uploads.*": "/v1/uploads/{id}/complete",
        "jobs.list_events": "/v1/fine_tuning/jobs/{id}/events",
        "jobs.checkpoints.list": "/v1/fine_tuning/jobs/{id}/checkpoints",
        "fine_tuning.checkpoints.permissions": "/v1/fine_tuning/checkpoints/{name:path}/permissions",
    }.items():
        assert f"`{call}`" in PAGES[page] and path in paths
