"""Counting tokens where the model's tokenizer is here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.server.served import TOML, served


def test_a_count_that_takes_too_long_is_told_as_such(tmp_path: Path) -> None:
    async def loading(*_: Any) -> int:
        await asyncio.sleep(60)
        return 0

    with served(tmp_path, f"{TOML}\n[serve]\ncall_timeout_s = 0.1\n") as house:
        house.state["service"].counts = lambda model: True
        house.state["service"].count_tokens = loading
        address = f"http://127.0.0.1:{house.port}"
        with (
            anthropic.Anthropic(base_url=address, api_key=house.key(), max_retries=0) as sdk,
            pytest.raises(anthropic.APIStatusError) as caught,
        ):
            sdk.messages.count_tokens(model="acme/small", messages=[{"role": "user", "content": "hi"}])
        assert caught.value.status_code == 504
        assert "had not answered completely" in str(caught.value)
