"""One secret per workspace."""

from __future__ import annotations

from pathlib import Path

from baimo.store.engine import Database
from baimo.store.secret import LENGTH, workspace_secret


def test_every_process_of_a_workspace_has_the_same_secret(database_url: str) -> None:
    first, second = Database(database_url), Database(database_url)
    assert workspace_secret(first) == workspace_secret(second) == workspace_secret(first)
    assert len(workspace_secret(first)) == LENGTH
    first.close()
    second.close()


def test_two_workspaces_have_two(tmp_path: Path) -> None:
    one, other = Database(str(tmp_path / "one.db")), Database(str(tmp_path / "other.db"))
    assert workspace_secret(one) != workspace_secret(other)
    one.close()
    other.close()
