"""Fixtures that the surfaces' tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.surfaces import endpoint


@pytest.fixture(scope="session", autouse=True)
def one_listener() -> Iterator[None]:
    """The server of `endpoint.listening` ends with the session."""
    yield
    endpoint.stop()
