"""A recipe without a model: counts rows, and asks whoever it may ask. Stands in the place of a real one in tests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from baimo.core.call import Request
from baimo.core.ids import plain
from baimo.core.message import Message
from baimo.core.tuning import Effort
from baimo.errors import TaskError
from baimo.tuning.bench import Bench, Facts, overridden

VERSION = "7"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What it can be told."""

    micro_tokens: int = 64
    """Bounds nothing."""
    ask: str = ""
    """Model to ask."""
    fail: str = ""
    """user or fault."""


def planned(effort: Effort, facts: Facts, overrides: Mapping[str, Any]) -> Settings:
    """As told."""
    return overridden("counting", Settings(), overrides)


def run(bench: Bench, settings: Settings) -> None:
    """Count, ask, judge, and keep what was found."""
    if settings.fail == "user":
        raise TaskError("tune.no_train", task="t")
    if settings.fail == "fault":
        raise ZeroDivisionError("of ours")
    rows = bench.folder.train()
    found: dict[str, Any] = {"rows": len(rows)}
    if settings.ask and bench.ask is not None:
        request = Request(model=settings.ask, messages=(Message(role="user", content="hi"),))
        found["said"] = asyncio.run(bench.ask(request)).text
    found["rewards"] = {name: reward(rows[0], "4") for name, reward in bench.rewards.items()}
    found["work"] = None if bench.work is None else plain(bench.work.prompt)
    bench.folder.result(lambda at: (at / "found.json").write_bytes(msgspec.json.encode(found)))
    bench.folder.tell("done")
