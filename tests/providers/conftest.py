"""The key that every provider here is given."""

from __future__ import annotations

import pytest
from local_model import on_llamacpp, on_openvino, smollm2, weights_cache  # noqa: F401
from provider_doubles import CANARY, KEY_VARIABLE


@pytest.fixture(autouse=True)
def acme_key(monkeypatch: pytest.MonkeyPatch) -> str:
    """A key that can be recognised wherever it turns up; and no proxy."""
    monkeypatch.setenv(KEY_VARIABLE, CANARY)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return CANARY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process of the tests loads the engines, for all tests that use them."""
    for item in items:
        if {"on_openvino", "on_llamacpp"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("engines"))
