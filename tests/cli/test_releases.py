"""`baimo models promote|rollback|releases`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.runner import baimo

TOML = """
[providers.acme]
protocol = "fake"
[models."acme/small"]
[models."acme/large"]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAIMO_LANG", "en")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "baimo.toml").write_text(TOML)
    return tmp_path


def test_an_alias_is_promoted_rolled_back_and_its_history_kept(here: Path) -> None:
    assert baimo("models", "promote", "home", "acme/small").code == 0
    done = baimo("models", "promote", "home", "acme/large", "--why", "it is better")
    assert "home now leads to acme/large" in done.all
    assert "home now leads to acme/small" in baimo("models", "rollback", "home").all
    history = baimo("models", "releases", "home", "--json").data
    assert [(one["act"], one["model"]) for one in history] == [
        ("roll_back", "acme/small"),
        ("promote", "acme/large"),
        ("promote", "acme/small"),
    ]
    assert history[1]["why"] == "it is better" and history[0]["tenant"] == "owner"
    shown = baimo("models", "releases").all
    assert "rolled back" in shown and "acme/large" in shown
    assert "what baimo.toml says" in baimo("models", "rollback", "home").all


def test_what_cannot_be_promoted_or_rolled_back_says_why(here: Path) -> None:
    missing = baimo("models", "promote", "home", "nobody/none")
    assert missing.code == 2 and "there is no model nobody/none" in missing.all
    none = baimo("models", "rollback", "home")
    assert none.code == 2 and "nothing was released to home" in none.all
    assert "nothing was released yet" in baimo("models", "releases").all
