from __future__ import annotations

import asyncio
import logging

import pytest
from starlette.requests import Request

from baimo.server.replies import refused


@pytest.mark.parametrize(
    ("error", "told"), [(ConnectionAbortedError(), False), (OSError(), True), (KeyError("secret"), True)]
)
def test_only_what_is_a_fault_is_logged_as_one(
    caplog: pytest.LogCaptureFixture, error: Exception, told: bool
) -> None:
    request = Request(
        {"type": "http", "method": "GET", "path": "/v1/files", "query_string": b"", "headers": []}
    )
    with caplog.at_level(logging.INFO):
        assert asyncio.run(refused(request, error)).status_code == 500
    assert bool(caplog.records) == told
    assert "secret" not in caplog.text
