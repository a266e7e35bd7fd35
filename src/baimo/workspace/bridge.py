"""From synchronous callers to the asynchronous inside: the only bridge."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def bridged(work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, whether or not an event loop runs in this thread (as in a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: list[_Result | BaseException] = []

    def apart() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=apart, name="baimo-bridge")
    thread.start()
    thread.join()
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result
