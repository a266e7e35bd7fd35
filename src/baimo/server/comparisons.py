"""Comparisons of the endpoint, looked after while this process runs; they go on when it stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from baimo.workspace.compare_queue import tended
from baimo.workspace.serving import Service


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncGenerator[None]:
    """Comparisons are begun, and begun again where one has died."""
    nudged = asyncio.Event()
    service.on_comparison = nudged.set
    task = asyncio.create_task(tended(service.comparisons, nudged), name="baimo-comparisons")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(service.comparisons.close)
