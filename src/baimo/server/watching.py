"""Everything that watches one process's calls, put together: counts, log, traces, and the timer behind them.

Prevents the failure where seeing is what breaks serving: a disk without room for the counts, a collector that is down
or a broken figure is said in the log, and calls go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from baimo.core.tenant import Key, Tenant
from baimo.errors import BaimoError, MissingExtra, StoreError
from baimo.gateway.breaker import State
from baimo.gateway.call import Call, Grant
from baimo.gateway.observe import Asked
from baimo.gateway.routing import models_of
from baimo.server import logs, scrape, traces
from baimo.server.lanes import Lanes
from baimo.server.logs import Lines
from baimo.server.metrics import Labels, Metrics
from baimo.server.snapshots import Snapshot, Snapshots, Sum
from baimo.store.entry import Entry
from baimo.text import text
from baimo.workspace.workspace import Workspace

if TYPE_CHECKING:
    from baimo.models.catalogue import Catalogue
    from baimo.workspace.serving import Service

TICK_S = 1.0
"""How often this worker's counts are written for the others."""
IDLE_TICKS = 10
"""Where nothing was counted, they are written every tenth time only."""
PATIENCE_S = 5.0
"""Longest wait for the database to say what is left of budgets."""
log = logging.getLogger("baimo.serve")


class Watching:
    """The observer of a process; an asynchronous context manager around its `Service`."""

    def __init__(self, workspace: Workspace) -> None:
        """
        Args:
            workspace: whose settings say what is written and where.

        Raises:
            StoreError: the workspace cannot be written.
            MissingExtra: traces are wanted, and OpenTelemetry is not installed.
        """
        settings = workspace.settings.observe
        self._settings = settings
        self.metrics = Metrics(self._is_listed)
        self._lines = Lines(access=settings.access_log)
        self._access = settings.access_log
        self._traces = _traces(workspace)
        folder = workspace.path / "run"
        try:
            workspace.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._snapshots = Snapshots(folder)
        except OSError as error:
            raise StoreError("store.cannot_create", where=folder, problem=error.strerror) from error
        self._service: Service | None = None
        self._lanes: Lanes | None = None
        self._catalogue: Catalogue | None = None
        self._names: dict[str, frozenset[str]] = {}
        """Models by vendor; those of the routes under the empty name."""
        self._lag = scrape.Lag()
        self._moment = scrape.Moment()
        self._paging = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watching:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.gather(self._timer, return_exceptions=True)
        await asyncio.to_thread(self._leave)

    def over(self, service: Service, lanes: Lanes) -> None:
        """Watch this service, which runs."""
        self._service, self._lanes = service, lanes
        self._timer = asyncio.create_task(self._follow(), name="baimo-watching")

    # the observer

    def admitted(self, call: Call, grant: Grant) -> None:
        """See `Observer`."""
        if self._traces is not None:
            self._traces.admitted(call, grant)

    def settled(self, call: Call, grant: Grant, entry: Entry, overhead_s: float) -> None:
        """See `Observer`."""
        self.metrics.settled(call, grant, entry, overhead_s)
        if entry.status != "ok" or self._access or entry.cost_micros is None or entry.estimated:
            self._lines.settled(call, grant, entry, overhead_s)
        if self._traces is not None:
            self._traces.settled(call, grant, entry, overhead_s)

    def refused(self, error: BaimoError, surface: str, key: Key, tenant: Tenant, asked: Asked) -> None:
        """See `Observer`."""
        self.metrics.refused(error, surface, key, tenant, asked)
        self._lines.refused(error, surface, key, tenant, asked)
        if self._traces is not None:
            self._traces.refused(error, surface, key, tenant, asked)

    def attempt_failed(self, grant: Grant, model: str, error: BaimoError, kind: str, unsure: int) -> None:
        """See `Observer`."""
        self.metrics.attempt_failed(grant, model, error, kind, unsure)
        self._lines.attempt_failed(grant, model, error, kind, unsure)
        if self._traces is not None:
            self._traces.attempt_failed(grant, model, error, kind, unsure)

    def breaker(self, model: str, state: State) -> None:
        """See `Observer`."""
        self.metrics.breaker(model, state)
        self._lines.breaker(model, state)

    # what /metrics answers

    async def page(self, accept: str) -> tuple[bytes, str]:
        """The counts of all workers, and the content type."""
        async with self._paging:  # whoever asks for many pages waits for each
            left: dict[Labels, int | float] = {}
            with suppress(TimeoutError, BaimoError):  # /readyz says what is wrong with the database
                async with asyncio.timeout(PATIENCE_S):
                    left = await asyncio.to_thread(scrape.budgets, self._running)
            found = await asyncio.to_thread(self._sum, self._snapshot())
            return await asyncio.to_thread(scrape.rendered, found, left, accept)

    def _sum(self, own: Snapshot) -> Sum:
        try:
            return self._snapshots.sum(own)
        except OSError as error:
            self._cannot_write(error)
            alone = Sum()
            alone.add(own, gauges=True)
            return alone

    # behind the scenes

    @property
    def _running(self) -> Service:
        assert self._service is not None, "over() comes first"
        return self._service

    def _snapshot(self) -> Snapshot:
        assert self._lanes is not None, "over() comes first"
        return scrape.snapshot(self._snapshots.id, self.metrics, self._running, self._lanes, self._moment)

    async def _follow(self) -> None:
        idle, before = 0, -1
        while True:
            due = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            ended = self.metrics.settled_calls
            lag_s = self._lag.seen(now, ended, self._running.books.health().behind)
            self._moment = scrape.Moment(max(0.0, now - due), lag_s)
            self._adopt()
            idle = 0 if ended != before else idle + 1
            if idle % IDLE_TICKS == 0:
                before = ended
                try:
                    await asyncio.to_thread(self._snapshots.write, self._snapshot())
                except OSError as error:
                    self._cannot_write(error)

    def _adopt(self) -> None:
        """Follow changed settings of the log."""
        settings = self._running.settings.observe
        if settings != self._settings:
            self._settings = settings
            self._access = self._lines.access = settings.access_log
            logs.follow(settings)

    def _leave(self) -> None:
        if self._service is not None:
            with suppress(OSError):
                self._snapshots.write(self._snapshot())
        self._snapshots.close()
        if self._traces is not None:
            self._traces.close()

    def _cannot_write(self, error: OSError) -> None:
        log.warning(text("observe.not_written", problem=error.strerror), extra={"repeats": "not_written"})

    def _is_listed(self, model: str) -> bool:
        """Whether the catalogue or the settings name it."""
        if self._service is None:
            return False
        catalogue, vendor = self._service.catalogue, model.partition("/")[0]
        if catalogue is not self._catalogue:
            self._catalogue = catalogue
            routes = self._service.parts.router.routes.values()
            self._names = {"": frozenset(one.name for route in routes for one in models_of(route))}
        if model in self._names[""] or model == self._service.settings.serve.default_model:
            return True
        names = self._names.get(vendor)
        if names is None:
            try:
                names = frozenset(one.name for one in catalogue.models(vendor))
            except BaimoError:
                return False
            self._names[vendor] = names
        return model in names


def _traces(workspace: Workspace) -> traces.Traces | None:
    settings = workspace.settings.observe
    if not traces.wanted(settings):
        return None
    try:
        return traces.Traces(settings)
    except MissingExtra as error:
        if settings.otlp_endpoint:
            raise
        log.warning("%s: %s", error, error.hint)  # the variable may be meant for others
        return None
