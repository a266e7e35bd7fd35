"""One endpoint for the tests of a file; each test makes the tenants and keys that it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.served import TOML, Served, served

HEAVY = f"""{TOML}
[models."acme/heavy"]
weights = "file:/nowhere/heavy.gguf"
"""
"""With a model whose weights could be fetched, if they were there."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    with served(tmp_path_factory.mktemp("house"), HEAVY) as endpoint:
        yield endpoint
    patch.undo()
