"""What is counted, and the counts of this process.

Prevents three failures: counting that costs more than the call (plain integers behind one look-up per call), names
that clients invent and that fill the monitoring system (a model that is in no list becomes a label only once it has
answered), and an unknown cost or usage that looks like 0 (each has a counter of its own).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from baimo.core.tenant import Key, Tenant
from baimo.errors import BaimoError
from baimo.gateway.breaker import State
from baimo.gateway.call import Call, Grant
from baimo.gateway.observe import Asked
from baimo.gateway.settling import GONE
from baimo.store.entry import Entry

MOST_SERIES = 4096
"""Combinations of labels that are kept apart; beyond, models are counted as one."""
MOST_PROVEN = 200
"""Models that are in no list and become labels because they have answered."""
OTHER = "other"
PICO = 1_000_000
"""`cost_rest` that make a micro-unit."""

QUICK_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
LONG_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
"""Upper bounds of the histograms' buckets, seconds."""

Labels = tuple[str, ...]
"""A metric's name and the values of its labels."""
Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """One metric, as it is offered and documented."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    means: str
    bounds: tuple[float, ...] = ()
    """Of a histogram's buckets."""
    workers: Literal["sum", "max"] = "sum"
    """What is made of the gauges of several workers."""


def _counter(name: str, labels: str, means: str) -> Metric:
    return Metric(name, "counter", tuple(labels.split()), means)


def _gauge(name: str, labels: str, means: str, workers: Literal["sum", "max"] = "sum") -> Metric:
    return Metric(name, "gauge", tuple(labels.split()), means, workers=workers)


def _histogram(name: str, labels: str, means: str, bounds: tuple[float, ...]) -> Metric:
    return Metric(name, "histogram", tuple(labels.split()), means, bounds)


# fmt: off
TABLE = (
    _counter("baimo_requests_total", "surface model status", "Admitted calls by their end: ok, or what went wrong."),
    _counter("baimo_routed_total", "route", "Admitted calls by the reason for their model; cache = none was asked."),
    _counter(
        "baimo_tokens_total",
        "kind model",
        "Tokens as the Records have them. cached and cache_write are parts of input, reasoning of output.",
    ),
    _counter("baimo_cost_micros_total", "model currency", "Known cost, millionths of a unit of the price's currency."),
    _counter("baimo_unpriced_requests_total", "model", "Calls whose cost is unknown because no price is for them."),
    _counter("baimo_uncounted_requests_total", "model", "Calls whose tokens are unknown because none were reported."),
    _counter("baimo_estimated_requests_total", "model", "Calls whose tokens were counted here: none were reported."),
    _counter("baimo_unsure_attempts_total", "model", "Attempts that may have been billed although no usage came back."),
    _counter("baimo_refused_total", "surface reason", "Calls that were not let in; they have no Record."),
    _counter("baimo_rejected_total", "reason", "Requests that were turned away while they were read."),
    _counter("baimo_failed_attempts_total", "model kind", "Attempts that gave no answer; kinds as in fallback_on."),
    _counter("baimo_retries_total", "", "Attempts after the first of a call: repetitions, fallbacks and hedges."),
    _counter("baimo_fallbacks_total", "reason", "Calls that another model answered than the one chosen first."),
    _counter("baimo_cache_hits_total", "kind", "Calls that the cache answered: exact or similar."),
    _counter("baimo_client_disconnects_total", "surface", "Calls whose client left before the end."),
    _counter("baimo_limit_wait_seconds_total", "", "Time that calls waited for limits."),
    _counter("baimo_upstream_opened_total", "model", "How often a model was left alone because it only failed."),
    _counter("baimo_process_cpu_seconds_total", "", "Processor time of all workers."),
    _histogram(
        "baimo_gateway_overhead_seconds",
        "surface",
        "Time that the gateway itself took: neither the model nor the wait for limits.",
        QUICK_S,
    ),
    _histogram("baimo_ttft_seconds", "surface model", "Time until a stream's first piece left.", LONG_S),
    _histogram("baimo_request_seconds", "surface model", "Time of the whole call.", LONG_S),
    _gauge("baimo_in_flight", "", "Calls under way."),
    _gauge("baimo_connections", "", "Client connections."),
    _gauge("baimo_upstream_state", "vendor model", "0 = called, 1 = being tried, 2 = left alone.", "max"),
    _gauge("baimo_budget_remaining_micros", "key window", "What ended calls have left of a key's money limit."),
    _gauge("baimo_tenant_budget_remaining_micros", "tenant window", "Likewise, of a tenant's money limit."),
    _gauge("baimo_ledger_lag_seconds", "", "Age of the oldest ended call that is not in the database yet.", "max"),
    _gauge("baimo_ledger_behind", "", "Ended calls that are not in the database yet; the journal has them."),
    _gauge("baimo_ledger_ok", "", "1 = the database takes Records from every worker."),
    _gauge("baimo_contents_lost", "", "Kept contents that found no room on a full disk; their Records are there."),
    _gauge("baimo_journal_bytes", "", "Disk space of the journals."),
    _gauge("baimo_event_loop_lag_seconds", "", "How late the last timer was.", "max"),
    _gauge("baimo_process_resident_bytes", "worker", "Memory of a worker, by its process id."),
    _gauge("baimo_process_open_files", "worker", "Open files and connections of a worker."),
    _gauge("baimo_process_start_time_seconds", "worker", "When a worker started, seconds since 1970."),
    _gauge("baimo_workers", "", "Workers that live."),
    _gauge("baimo_build_info", "version python", "Always 1.", "max"),
)
# fmt: on
BY_NAME = {metric.name: metric for metric in TABLE}


class Histogram:
    """How often which time was seen."""

    __slots__ = ("counts", "total_s")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.total_s = 0.0


class Series:
    """The calls that share all labels."""

    __slots__ = (
        "cache_write", "cached", "calls", "cost_micros", "cost_rest", "currency", "first", "first_s", "model",
        "overhead", "overhead_s", "reasoning", "route", "status", "surface", "tokens_in", "tokens_out", "whole",
        "whole_s",
    )  # fmt: skip

    def __init__(self, surface: str, model: str, status: str, currency: str, route: str) -> None:
        self.surface, self.model, self.status = surface, model, status
        self.currency, self.route = currency, route
        self.calls = self.tokens_in = self.tokens_out = 0
        self.cached = self.cache_write = self.reasoning = 0
        self.cost_micros = self.cost_rest = 0
        self.overhead = [0] * (len(QUICK_S) + 1)
        self.first = [0] * (len(LONG_S) + 1)
        self.whole = [0] * (len(LONG_S) + 1)
        self.overhead_s = self.first_s = self.whole_s = 0.0


class Metrics:
    """The counts of this process. Belongs to one event loop; called on the request path."""

    def __init__(self, listed: Callable[[str], bool]) -> None:
        """
        Args:
            listed: whether a model's name is the catalogue's or the settings', and not a client's.
        """
        self._listed = listed
        self._proven: set[str] = set()
        self._series: dict[tuple[str, str, str, str, str], Series] = {}
        self._kept: dict[tuple[str, str, str, str, str], Series] = {}
        self.rare: Counter[Labels] = Counter()
        """Everything that does not happen to every call."""
        self.queued_s = 0.0
        """Time that calls waited for limits."""
        self.troubled: set[str] = set()
        """Models that were left alone at least once."""

    # the observer

    def admitted(self, call: Call, grant: Grant) -> None:
        """Nothing is counted before the end."""

    def settled(self, call: Call, grant: Grant, entry: Entry, overhead_s: float) -> None:
        """Count a Record."""
        series = self._series.get((entry.surface, entry.model, entry.status, entry.currency, entry.route))
        if series is None:
            series = self._found(entry)
        series.calls += 1
        if entry.queue_ms:
            self.queued_s += entry.queue_ms * 0.001
        series.overhead[bisect_left(QUICK_S, overhead_s)] += 1
        series.overhead_s += overhead_s
        whole_s = (entry.latency_ms or 0.0) * 0.001
        series.whole[bisect_left(LONG_S, whole_s)] += 1
        series.whole_s += whole_s
        if entry.streamed and entry.first_byte_ms is not None:
            first_s = entry.first_byte_ms * 0.001
            series.first[bisect_left(LONG_S, first_s)] += 1
            series.first_s += first_s
        micros, tokens_in, tokens_out = entry.cost_micros, entry.tokens_in, entry.tokens_out
        if (
            micros is None
            or tokens_in is None
            or tokens_out is None
            or entry.attempts != 1
            or entry.unsure
            or entry.estimated
            or entry.http_status == GONE
        ):
            self._odd(grant, entry, series)
        else:
            series.tokens_in += tokens_in
            series.tokens_out += tokens_out
            series.cost_micros += micros
            series.cost_rest += entry.cost_rest  # type: ignore[operator]
        if entry.tokens_cached or entry.tokens_reasoning or entry.tokens_cache_write:
            series.cached += entry.tokens_cached or 0
            series.reasoning += entry.tokens_reasoning or 0
            series.cache_write += entry.tokens_cache_write or 0

    def refused(self, error: BaimoError, surface: str, key: Key, tenant: Tenant, asked: Asked) -> None:
        """Count a call that was not let in."""
        self.rare["baimo_refused_total", surface, error.key] += 1

    def attempt_failed(self, grant: Grant, model: str, error: BaimoError, kind: str, unsure: int) -> None:
        """Count an attempt that gave nothing."""
        self.rare["baimo_failed_attempts_total", self.label(model), kind] += 1

    def breaker(self, model: str, state: State) -> None:
        """Remember whose server had trouble."""
        label = self.label(model)
        if label == model:
            self.troubled.add(model)
        if state == "open":
            self.rare["baimo_upstream_opened_total", label] += 1

    # what was counted

    def label(self, model: str) -> str:
        """The model's name, if no client made it up."""
        if model in self._proven or self._listed(model):
            return model
        return f"{model.partition('/')[0]}/{OTHER}"

    @property
    def settled_calls(self) -> int:
        """How many Records were closed."""
        return sum(series.calls for series in self._kept.values())

    def counters(self) -> dict[Labels, int | float]:
        """Every counter of the request path."""
        found: defaultdict[Labels, int | float] = defaultdict(int, self.rare)
        cost: defaultdict[Labels, int] = defaultdict(int)
        for series in self._kept.values():
            model = series.model
            found["baimo_requests_total", series.surface, model, series.status] += series.calls
            found["baimo_routed_total", series.route] += series.calls
            for kind, count in _tokens(series):
                found["baimo_tokens_total", kind, model] += count
            place = ("baimo_cost_micros_total", model, series.currency)
            cost[place] += series.cost_micros * PICO + series.cost_rest
            if series.route.startswith("fallback:"):
                found["baimo_fallbacks_total", series.route.partition(":")[2]] += series.calls
        found.update((place, exact / PICO) for place, exact in cost.items())
        found[("baimo_limit_wait_seconds_total",)] = self.queued_s
        return dict(found)

    def histograms(self) -> dict[Labels, Histogram]:
        """Every histogram."""
        found: dict[Labels, Histogram] = {}
        for series in self._kept.values():
            surface, model = series.surface, series.model
            for labels, counts, total_s in (
                (("baimo_gateway_overhead_seconds", surface), series.overhead, series.overhead_s),
                (("baimo_ttft_seconds", surface, model), series.first, series.first_s),
                (("baimo_request_seconds", surface, model), series.whole, series.whole_s),
            ):
                add(found, labels, counts, total_s)
        return found

    # rare things

    def _found(self, entry: Entry) -> Series:
        """The series of a Record that is not in `_series` yet."""
        if entry.status == "ok" and len(self._proven) < MOST_PROVEN and entry.route != "cache":
            self._proven.add(entry.model)
        label = self.label(entry.model)
        if len(self._kept) >= MOST_SERIES:
            label = OTHER
        place = (entry.surface, label, entry.status, entry.currency, entry.route)
        series = self._kept.get(place)
        if series is None:
            series = self._kept[place] = Series(*place)
        if label == entry.model:  # names that clients make up are looked up each time, and kept nowhere
            self._series[place] = series
        return series

    def _odd(self, grant: Grant, entry: Entry, series: Series) -> None:
        rare, model = self.rare, series.model
        series.tokens_in += entry.tokens_in or 0
        series.tokens_out += entry.tokens_out or 0
        series.cost_micros += entry.cost_micros or 0
        series.cost_rest += entry.cost_rest or 0
        if entry.attempts > 1:
            rare[("baimo_retries_total",)] += entry.attempts - 1
        if entry.route == "cache":
            kind = "exact" if grant.looked_up.how == b"hit" else "similar"
            rare["baimo_cache_hits_total", kind] += 1
        if entry.http_status == GONE:
            rare["baimo_client_disconnects_total", entry.surface] += 1
        if entry.estimated:
            rare["baimo_estimated_requests_total", model] += 1
        if entry.unsure:
            rare["baimo_unsure_attempts_total", model] += entry.unsure
        counted = entry.tokens_in is not None and entry.tokens_out is not None
        if not counted:
            rare["baimo_uncounted_requests_total", model] += 1
        if entry.cost_micros is None and (counted or grant.terms.price is None):
            rare["baimo_unpriced_requests_total", model] += 1


def add(found: dict[Labels, Histogram], labels: Labels, counts: list[int], total_s: float) -> None:
    """Add to a histogram; one whose buckets are another version's is left out."""
    there = found.get(labels)
    if there is None:
        there = found[labels] = Histogram(BY_NAME[labels[0]].bounds)
    if len(there.counts) == len(counts):
        there.counts = list(map(int.__add__, there.counts, counts))
        there.total_s += total_s


def _tokens(series: Series) -> Iterator[tuple[str, int]]:
    yield "input", series.tokens_in
    yield "output", series.tokens_out
    if series.cached:
        yield "cached", series.cached
    if series.cache_write:
        yield "cache_write", series.cache_write
    if series.reasoning:
        yield "reasoning", series.reasoning
