"""Traces: one span for the call and one for the model that is asked, sent to an OpenTelemetry collector.

Names follow the GenAI semantic conventions (opentelemetry.io/docs/specs/semconv/gen-ai, release 1.43, status
"development"), propagation W3C Trace Context (w3.org/TR/trace-context). Prevents three failures: a prompt in a trace
(only what a Record says goes in), a call that waits for the collector (spans are queued and sent by a thread; what
does not fit is dropped), and a server that needs its collector to start or to stop.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import baimo
from baimo.core.registry import require
from baimo.core.tenant import Key, Tenant
from baimo.errors import BaimoError
from baimo.gateway.breaker import State
from baimo.gateway.call import Call, Grant
from baimo.gateway.heads import cost
from baimo.gateway.observe import Asked
from baimo.settings import ObserveSettings
from baimo.store.entry import Entry

QUEUED = 8192
"""Spans that wait to be sent; more are dropped."""
EXPORT_S = 5.0
"""Longest time for one attempt to send, and for sending the rest when the server stops."""
LONGEST = 256
"""Characters of an attribute."""
VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
OPERATIONS = {"messages": "chat", "responses": "chat", "completions": "text_completion"}
"""gen_ai.operation.name where it is not the surface's own."""
PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""gen_ai.provider.name where the convention has another than the catalogue."""
PARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")


class Traced(NamedTuple):
    """The spans of a call under way."""

    outer: Any
    inner: Any
    """Of the model; None = the cache answers."""


def wanted(settings: ObserveSettings, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether there is somewhere to send traces to."""
    named = settings.otlp_endpoint or any(environment.get(one) for one in VARIABLES)
    return bool(named) and settings.trace_share > 0


class Traces:
    """The observer that makes spans. Belongs to one event loop."""

    def __init__(self, settings: ObserveSettings, *, chance: random.Random | None = None) -> None:
        """
        Args:
            settings: where traces go, and which share of the calls.
            chance: draws the share.

        Raises:
            MissingExtra: OpenTelemetry is not installed.
        """
        sdk = require("opentelemetry.sdk.trace", "otel", "observe.purpose_otel")
        export = require("opentelemetry.sdk.trace.export", "otel", "observe.purpose_otel")
        resource = require("opentelemetry.sdk.resources", "otel", "observe.purpose_otel")
        facts = {
            "service.version": baimo.__version__,
            "service.instance.id": f"{os.uname().nodename}:{os.getpid()}",
        }
        if not os.environ.get("OTEL_SERVICE_NAME"):
            facts["service.name"] = "baimo"
        self._provider: Any = sdk.TracerProvider(
            resource=resource.Resource.create(facts),
            sampler=require("opentelemetry.sdk.trace.sampling", "otel", "observe.purpose_otel").ALWAYS_ON,
            span_limits=sdk.SpanLimits(
                max_span_attribute_length=LONGEST, max_event_attributes=8, max_events=32
            ),
            shutdown_on_exit=False,
        )
        self._exporter = _exporter(settings)
        self._provider.add_span_processor(
            export.BatchSpanProcessor(self._exporter, max_queue_size=QUEUED, schedule_delay_millis=1000)
        )
        self._tracer: Any = self._provider.get_tracer("baimo", baimo.__version__)
        api = require("opentelemetry.trace", "otel", "observe.purpose_otel")
        self._api: Any = api
        propagation = require("opentelemetry.trace.propagation.tracecontext", "otel", "observe.purpose_otel")
        self._parents: Any = propagation.TraceContextTextMapPropagator()
        self._share = settings.trace_share
        self._chance = chance or random.Random()
        self._open: dict[str, Traced] = {}

    def admitted(self, call: Call, grant: Grant) -> None:
        """Begin the spans, and let the model's server know of them."""
        api, entry = self._api, grant.entry
        outer = self._begun(entry.surface, call)
        if outer is None:
            return
        inner = None
        if entry.route != "cache":
            inner = self._tracer.start_span(
                f"{_operation(entry.surface)} {entry.model}",
                context=api.set_span_in_context(outer),
                kind=api.SpanKind.CLIENT,
            )
            ids = inner.get_span_context()
            header = b"00-%032x-%016x-01" % (ids.trace_id, ids.span_id)
            call.headers = {**call.headers, b"traceparent": header}
        self._open[entry.id] = Traced(outer, inner)

    def settled(self, call: Call, grant: Grant, entry: Entry, overhead_s: float) -> None:
        """End the spans."""
        traced = self._open.pop(entry.id, None)
        if traced is None:
            return
        outer, inner = traced
        if inner is not None:
            inner.update_name(f"{_operation(entry.surface)} {entry.model}")
            inner.set_attributes(_of_model(grant, entry))
            self._fail(inner, entry)
            inner.end()
        outer.set_attributes(_of_call(call, grant, entry, overhead_s))
        self._fail(outer, entry)
        outer.end()

    def refused(self, error: BaimoError, surface: str, key: Key, tenant: Tenant, asked: Asked) -> None:
        """The only span of a call that was not let in. As HTTP's conventions have it, who is to blame for a 4xx is not
        the server: it has an `error.type`, and no status of its own."""
        span = self._begun(surface, asked)
        if span is None:
            return
        facts: dict[str, Any] = {
            "gen_ai.operation.name": _operation(surface),
            "http.response.status_code": error.http_status,
            "error.type": error.key,
            "baimo.request": asked.request_id,
            "baimo.key": key.public or None,
            "baimo.tenant": tenant.id or None,
            "baimo.surface": surface,
        }
        span.set_attributes({name: value for name, value in facts.items() if value is not None})
        if error.http_status >= 500:
            span.set_status(self._api.Status(self._api.StatusCode.ERROR, error.key))
        span.end()

    def attempt_failed(self, grant: Grant, model: str, error: BaimoError, kind: str, unsure: int) -> None:
        """An event on the model's span."""
        traced = self._open.get(grant.entry.id)
        if traced is not None and traced.inner is not None:
            facts = {
                "baimo.model": model,
                "error.type": error.key,
                "baimo.kind": kind,
                "baimo.unsure": unsure,
            }
            traced.inner.add_event("baimo.attempt_failed", facts)

    def breaker(self, model: str, state: State) -> None:
        """No span."""

    def close(self, patience_s: float = EXPORT_S) -> None:
        """Send what is left; gives up after `patience_s`. Blocks."""
        ending = threading.Thread(target=self._provider.shutdown, name="baimo-traces", daemon=True)
        ending.start()
        ending.join(patience_s)
        if ending.is_alive():  # it sleeps before its next attempt
            self._exporter.shutdown()
            ending.join(1.0)

    def _begun(self, surface: str, asked: Asked) -> Any:
        """The outer span of a request; None = it is not traced."""
        given = asked.headers.get(b"traceparent")
        parent = None if given is None else PARENT.fullmatch(given)
        context = None
        if given is None or parent is None:
            if self._share < 1.0 and self._chance.random() >= self._share:
                return None
        elif int(parent[1], 16) & 1:
            context = self._parents.extract(_carrier(asked.headers, given))
        else:  # whoever began the trace has decided
            return None
        began_ns = time.time_ns() - int((time.monotonic() - asked.began) * 1e9)
        return self._tracer.start_span(
            f"serve {surface}", context=context, kind=self._api.SpanKind.SERVER, start_time=began_ns
        )

    def _fail(self, span: Any, entry: Entry) -> None:
        if entry.status != "ok":
            span.set_attribute("error.type", entry.status)
            span.set_status(self._api.Status(self._api.StatusCode.ERROR, entry.status))


def _exporter(settings: ObserveSettings) -> Any:
    """Where no endpoint is set, the library reads its OTEL_ variables; those for headers and TLS it reads always."""
    endpoint = settings.otlp_endpoint or None
    if settings.otlp_protocol == "grpc":
        module = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"
        return require(module, "otel", "observe.purpose_otel").OTLPSpanExporter(
            endpoint=endpoint, timeout=EXPORT_S
        )
    if endpoint is not None and not endpoint.rstrip("/").endswith("/v1/traces"):
        endpoint = f"{endpoint.rstrip('/')}/v1/traces"
    module = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    return require(module, "otel", "observe.purpose_otel").OTLPSpanExporter(
        endpoint=endpoint, timeout=EXPORT_S
    )


def _carrier(headers: Mapping[bytes, bytes], parent: bytes) -> dict[str, str]:
    state = headers.get(b"tracestate", b"").decode("latin-1")
    return {"traceparent": parent.decode("ascii"), **({"tracestate": state} if state else {})}


def _operation(surface: str) -> str:
    return OPERATIONS.get(surface, surface)


def _of_model(grant: Grant, entry: Entry) -> dict[str, Any]:
    """Attributes of the GenAI conventions. Unknown ones are left out."""
    vendor, _, upstream = entry.model.partition("/")
    found: dict[str, Any] = {
        "gen_ai.operation.name": _operation(entry.surface),
        "gen_ai.provider.name": PROVIDERS.get(vendor, vendor),
        "gen_ai.request.model": upstream,
        "gen_ai.request.stream": bool(entry.streamed),
        "gen_ai.request.max_tokens": grant.peek.max_tokens,
        "gen_ai.request.choice.count": grant.peek.answers if grant.peek.answers != 1 else None,
        "gen_ai.response.model": entry.model_used or None,
        "gen_ai.usage.input_tokens": entry.tokens_in,
        "gen_ai.usage.output_tokens": entry.tokens_out,
        "gen_ai.usage.cache_read.input_tokens": entry.tokens_cached,
        "gen_ai.usage.cache_creation.input_tokens": entry.tokens_cache_write,
        "gen_ai.usage.reasoning.output_tokens": entry.tokens_reasoning,
        "gen_ai.conversation.id": entry.conversation or None,
    }
    if entry.streamed and entry.first_byte_ms is not None:
        found["gen_ai.response.time_to_first_chunk"] = entry.first_byte_ms / 1000
    return {name: value for name, value in found.items() if value is not None}


def _of_call(call: Call, grant: Grant, entry: Entry, overhead_s: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "http.response.status_code": entry.http_status,
        "baimo.request": call.request_id,
        "baimo.record": entry.id,
        "baimo.key": entry.key,
        "baimo.tenant": entry.tenant or None,
        "baimo.surface": entry.surface,
        "baimo.asked": entry.asked or None,
        "baimo.model": entry.model,
        "baimo.route": entry.route,
        "baimo.attempts": entry.attempts,
        "baimo.unsure": entry.unsure or None,
        "baimo.estimated": bool(entry.estimated) or None,
        "baimo.cost": None if entry.cost_micros is None else cost(entry),
        "baimo.currency": entry.currency,
        "baimo.overhead_ms": round(overhead_s * 1000, 3),
        "baimo.queue_ms": round(grant.queue_s * 1000, 3),
    }
    return {name: value for name, value in found.items() if value is not None}
