"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public development data beside the checkout; not part of the product."""
    folder = Path(os.environ.get("BAIMO_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"development data not found in {folder}; set BAIMO_SHARED_DATA")
    return folder


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages in English unless a test asks for Chinese."""
    monkeypatch.setenv("BAIMO_LANG", "en")
