"""What /metrics answers: the counts of all workers, with what can only be looked up at that moment.

Rendered by prometheus_client, in the text format or OpenMetrics, as the scraper asks.
"""

from __future__ import annotations

import os
import platform
import time
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import baimo
from baimo.core.tenant import Limit
from baimo.server.metrics import BY_NAME, TABLE, Histogram, Labels, Metrics
from baimo.server.snapshots import Snapshot, Sum
from baimo.store.buckets import bucket_of
from baimo.store.spent import used_of

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

    from baimo.server.lanes import Lanes
    from baimo.workspace.serving import Service

MOST_BUDGETS = 1000
"""Money limits that are shown, of keys and of tenants."""
STATES = {"closed": 0, "half_open": 1, "open": 2}
_BEGAN_S = time.time()


class Lag:
    """How old the oldest ended call is that the database does not have yet; exact to the second."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque([(float("-inf"), 0)])

    def seen(self, now: float, ended: int, behind: int) -> float:
        """Seconds.

        Args:
            now: on a clock that never goes back.
            ended: calls that have ended in this process.
            behind: of those, how many the database does not have.
        """
        if ended != self._seen[-1][1]:
            self._seen.append((now, ended))
        while len(self._seen) > 1 and self._seen[0][1] <= ended - behind:
            self._seen.popleft()
        return max(0.0, now - self._seen[0][0]) if behind and self._seen[0][1] > ended - behind else 0.0


class Moment(NamedTuple):
    """What the timer of this process has seen last."""

    loop_lag_s: float = 0.0
    ledger_lag_s: float = 0.0


def snapshot(id: str, metrics: Metrics, service: Service, lanes: Lanes, moment: Moment) -> Snapshot:
    """Everything that this worker has counted, and how it is."""
    pid = os.getpid()
    counters = metrics.counters()
    for key, count in lanes.refused.items():
        counters["baimo_rejected_total", key] = count
    usage = os.times()
    counters[("baimo_process_cpu_seconds_total",)] = usage.user + usage.system
    histograms = metrics.histograms().items()
    return Snapshot(
        id,
        pid,
        list(counters.items()),
        [(labels, one.counts, one.total_s) for labels, one in histograms if any(one.counts)],
        list(_gauges(pid, metrics, service, lanes, moment)),
    )


def _gauges(
    pid: int, metrics: Metrics, service: Service, lanes: Lanes, moment: Moment
) -> Generator[tuple[Labels, int | float]]:
    health, worker = service.books.health(), str(pid)
    yield ("baimo_in_flight",), service.gateway.in_flight
    yield ("baimo_connections",), lanes.connections
    for model in metrics.troubled:
        breaker = service.parts.breakers.get(model)
        state = 0 if breaker is None else STATES[breaker.state]
        yield ("baimo_upstream_state", model.partition("/")[0], model), state
    yield ("baimo_ledger_lag_seconds",), moment.ledger_lag_s
    yield ("baimo_ledger_behind",), health.behind
    yield ("baimo_contents_lost",), health.contents_lost
    yield ("baimo_journal_bytes",), service.books.journal_bytes
    yield ("baimo_event_loop_lag_seconds",), moment.loop_lag_s
    yield ("baimo_workers",), 1
    yield ("baimo_ledger_ok",), int(health.ok)
    yield ("baimo_process_start_time_seconds", worker), _BEGAN_S
    with suppress(OSError, ValueError):  # there is no /proc
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        yield ("baimo_process_resident_bytes", worker), pages * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError):
        yield ("baimo_process_open_files", worker), len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def budgets(service: Service) -> dict[Labels, int | float]:
    """What is left of money limits, by what the database knows; blocks.

    Raises:
        StoreError: the database cannot be read.
    """
    now_ms = service.books.now_ms()
    places: dict[Labels, tuple[str, Limit]] = {}

    def note(metric: str, scope: str, shown: str, meter: str, limits: tuple[Limit, ...]) -> None:
        for limit in limits:
            if limit.counts == "cost" and len(places) < MOST_BUDGETS:
                places[metric, shown, limit.window] = bucket_of(scope, meter, limit, now_ms), limit

    for tenant in service.keyring.every_tenant():
        note("baimo_tenant_budget_remaining_micros", "tenant", tenant.id, tenant.id, tenant.limits)
    for key in service.keyring.every_key():
        over = min((moment for moment in (key.expires_ms, key.revoked_ms) if moment), default=None)
        if over is None or over > now_ms:
            note("baimo_budget_remaining_micros", "key", key.public, key.meter, key.limits)
    used = used_of(service.workspace.store.database, [bucket for bucket, _ in places.values()])
    return {labels: max(0, limit.amount - used.get(bucket, 0)) for labels, (bucket, limit) in places.items()}


def rendered(found: Sum, left: dict[Labels, int | float], accept: str) -> tuple[bytes, str]:
    """The page and its content type; blocks for milliseconds.

    Args:
        found: the counts of all workers.
        left: of `budgets`.
        accept: header of the scraper.
    """
    from prometheus_client.exposition import choose_encoder

    workers = found.gauges.get(("baimo_workers",), 1)
    gauges: dict[Labels, int | float] = {
        **found.gauges,
        **left,
        ("baimo_ledger_ok",): int(found.gauges.get(("baimo_ledger_ok",), 0) == workers),
        ("baimo_build_info", baimo.__version__, platform.python_version()): 1,
    }
    values = {"counter": found.counters, "gauge": gauges}
    encode, content_type = choose_encoder(accept)
    collector: Any = _Collector(values, found.histograms)
    return encode(collector), content_type


class _Collector:
    """Fits what prometheus_client calls a registry."""

    def __init__(
        self, values: dict[str, dict[Labels, int | float]], histograms: dict[Labels, Histogram]
    ) -> None:
        self._values, self._histograms = values, histograms

    def collect(self) -> Generator[Family]:
        """Every metric of the table, also those that were never counted: then without a sample."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        families: dict[str, Any] = {}
        kinds = {
            "counter": CounterMetricFamily,
            "gauge": GaugeMetricFamily,
            "histogram": HistogramMetricFamily,
        }
        for metric in TABLE:
            families[metric.name] = kinds[metric.kind](metric.name, metric.means, labels=metric.labels)
            if metric.kind == "counter" and not metric.labels:
                self._values["counter"].setdefault((metric.name,), 0)
        for values in self._values.values():
            for (name, *labels), value in sorted(values.items()):
                families[name].add_metric(labels, value)
        for (name, *labels), one in sorted(self._histograms.items(), key=lambda pair: pair[0]):
            families[name].add_metric(labels, _cumulated(BY_NAME[name].bounds, one), one.total_s)
        yield from families.values()


def _cumulated(bounds: tuple[float, ...], histogram: Histogram) -> list[tuple[str, int]]:
    """Buckets as Prometheus wants them: each with everything below its bound."""
    total, found = 0, list[tuple[str, int]]()
    for bound, count in zip((*map(str, bounds), "+Inf"), histogram.counts, strict=True):
        total += count
        found.append((bound, total))
    return found
