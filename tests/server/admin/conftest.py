"""One endpoint for the tests of a file; each test makes the tenants and keys that it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.served import Served, served


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    with served(tmp_path_factory.mktemp("house")) as endpoint:
        yield endpoint
    patch.undo()
