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
