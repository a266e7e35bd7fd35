"""Spans as a collector receives them: real receivers of OTLP over HTTP and gRPC, on loopback."""

from __future__ import annotations

import gzip
import http.server
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from baimo.errors import MissingExtra
from baimo.server import traces
from baimo.server.traces import Traces
from baimo.settings import ObserveSettings
from tests.gateway.doubles import House, Script, answer, asking, stream
from tests.server.served import TOML, served

pytest.importorskip("opentelemetry.sdk", reason="the extra is missing: pip install 'baimo[otel]'")
grpc = pytest.importorskip("grpc")

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as wire  # noqa: E402
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service  # noqa: E402

from tests.waiting import PATIENCE_S  # noqa: E402

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """What came."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.raw: list[bytes] = []
        self.address = ""

    def took(self, request: Any, raw: bytes) -> None:
        self.requests.append(request)
        self.raw.append(raw)

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def named(self, name: str) -> Any:
        (only,) = [span for span in self.spans if span.name == name]
        return only


def facts(of: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


@contextmanager
def by_http(status: int = 200) -> Iterator[Collector]:
    made = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            made.took(wire.ExportTraceServiceRequest.FromString(body), body)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def by_grpc() -> Iterator[Collector]:
    made = Collector()

    class Servicer(service.TraceServiceServicer):  # type: ignore[misc]
        def Export(self, request: Any, context: Any) -> Any:
            made.took(request, request.SerializeToString())
            return wire.ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    service.add_TraceServiceServicer_to_server(Servicer(), server)
    made.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield made
    finally:
        server.stop(None).wait()


RECEIVERS: dict[Any, Callable[[], Any]] = {"http": by_http, "grpc": by_grpc}


@pytest.fixture(params=["http", "grpc"])
def collector(request: pytest.FixtureRequest) -> Iterator[tuple[Collector, ObserveSettings]]:
    with RECEIVERS[request.param]() as made:
        yield made, ObserveSettings(otlp_endpoint=made.address, otlp_protocol=request.param)


def test_a_call_becomes_two_spans_in_the_words_of_the_conventions(
    collector: tuple[Collector, ObserveSettings],
) -> None:
    received, settings = collector
    observer = Traces(settings)
    house = House(Script(body=answer("the answer")), observer=observer)
    house.ask(asking(text="the question", max_tokens=50))
    observer.close()
    outer, inner = received.named("serve chat"), received.named("chat acme/one")
    assert inner.parent_span_id == outer.span_id and inner.trace_id == outer.trace_id
    assert not outer.parent_span_id
    assert (outer.kind, inner.kind) == (2, 3)  # SERVER, CLIENT
    assert outer.start_time_unix_nano <= inner.start_time_unix_nano <= inner.end_time_unix_nano
    assert inner.end_time_unix_nano <= outer.end_time_unix_nano
    said = facts(inner)
    assert said.pop("gen_ai.conversation.id")
    assert (
        said
        == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "acme",
            "gen_ai.request.model": "one",
            "gen_ai.request.stream": False,
            "gen_ai.request.max_tokens": 50,
            "gen_ai.response.model": "one-2026",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.usage.cache_read.input_tokens": 0,
        }
        or "gen_ai.usage.cache_read.input_tokens" not in said
    )
    told = facts(outer)
    assert (told["baimo.request"], told["baimo.key"], told["baimo.tenant"]) == ("req-1", "abcdef123456", "t")
    assert (told["baimo.cost"], told["baimo.currency"]) == ("0.00002", "USD")
    assert told["http.response.status_code"] == 200
    resource = facts(received.requests[0].resource_spans[0].resource)
    assert resource["service.name"] == "baimo" and resource["service.version"]
    for raw in received.raw:
        assert b"the question" not in raw and b"the answer" not in raw


def test_a_trace_goes_from_the_client_through_us_to_the_models_server() -> None:
    with by_http() as received:
        observer = Traces(ObserveSettings(otlp_endpoint=received.address, trace_share=0.001))
        house = House(Script(body=answer()), observer=observer)
        house.ask(headers={b"traceparent": f"00-{TRACE}-{SPAN}-01".encode(), b"tracestate": b"vendor=1"})
        observer.close()
        outer, inner = received.named("serve chat"), received.named("chat acme/one")
        assert (outer.trace_id.hex(), outer.parent_span_id.hex()) == (TRACE, SPAN)
        sent = house.pool.sent[0][1]
        assert f"traceparent: 00-{TRACE}-{inner.span_id.hex()}-01\r\n".encode() in sent
        assert b"tracestate" not in sent
        assert sent.count(b"traceparent") == 1


def test_a_client_that_does_not_trace_is_not_traced_and_its_header_goes_on() -> None:
    with by_http() as received:
        observer = Traces(ObserveSettings(otlp_endpoint=received.address))
        house = House(Script(body=answer()), observer=observer)
        header = f"00-{TRACE}-{SPAN}-00".encode()
        house.ask(headers={b"traceparent": header})
        observer.close()
        assert received.requests == []
        assert b"traceparent: " + header in house.pool.sent[0][1]


@pytest.mark.parametrize("header", [b"nonsense", b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", b""])
def test_a_header_that_is_no_parent_begins_a_trace_of_our_own(header: bytes) -> None:
    with by_http() as received:
        observer = Traces(ObserveSettings(otlp_endpoint=received.address))
        house = House(Script(body=answer()), observer=observer)
        house.ask(headers={b"traceparent": header})
        observer.close()
        assert not received.named("serve chat").parent_span_id
        assert header not in house.pool.sent[0][1].replace(b"\r\n", b"") or not header


def test_a_header_that_is_no_parent_is_not_sent_on_where_nothing_is_traced() -> None:
    house = House(Script(body=answer()))
    house.ask(headers={b"traceparent": b"nonsense"})
    assert b"traceparent" not in house.pool.sent[0][1]


def test_the_share_decides_about_calls_that_begin_here() -> None:
    with by_http() as received:
        settings = ObserveSettings(otlp_endpoint=received.address, trace_share=0.3)
        observer = Traces(settings, chance=random.Random(7))
        house = House(Script(body=answer()), observer=observer)
        for _ in range(200):
            house.ask()
        observer.close()
        again = random.Random(7)
        expected = sum(again.random() < 0.3 for _ in range(200))
        assert len([span for span in received.spans if span.name == "serve chat"]) == expected
        assert 30 <= expected <= 90


def test_failures_and_fallbacks_are_told_without_the_vendors_words() -> None:
    with by_http() as received:
        observer = Traces(ObserveSettings(otlp_endpoint=received.address))
        house = House(
            by_model={
                "one": Script(status=500, body=b"the vendor says"),
                "three": Script(status=400, body=b"the vendor says"),
            },
            config={"routes": {"best": {"models": ["acme/one", "bolt/three"]}}},
            observer=observer,
        )
        house.ask(asking("best"))
        observer.close()
        inner = received.named("chat bolt/three")
        assert [event.name for event in inner.events] == ["baimo.attempt_failed"] * 2
        assert facts(inner.events[0])["baimo.model"] == "acme/one"
        assert facts(inner)["error.type"] == house.record.status
        assert inner.status.code == 2
        assert not any(b"the vendor says" in raw for raw in received.raw)


def test_a_stream_tells_when_it_began() -> None:
    with by_http() as received:
        observer = Traces(ObserveSettings(otlp_endpoint=received.address))
        House(stream("a", "b"), observer=observer).ask(asking(stream=True))
        observer.close()
        said = facts(received.named("chat acme/one"))
        assert said["gen_ai.request.stream"] is True
        assert 0 <= said["gen_ai.response.time_to_first_chunk"] < 60


def test_an_answer_of_the_cache_has_no_span_of_a_model() -> None:
    with by_http() as received:
        observer = Traces(ObserveSettings(otlp_endpoint=received.address))
        house = House(Script(body=answer()), config={"policy": {"cache": "on"}}, observer=observer)
        house.ask(asking(temperature=0))
        house.ask(asking(temperature=0))
        observer.close()
        names = sorted(span.name for span in received.spans)
        assert names == ["chat acme/one", "serve chat", "serve chat"]


def test_a_call_that_is_not_let_in_has_one_span_that_says_why() -> None:
    with by_http() as received:
        observer = Traces(ObserveSettings(otlp_endpoint=received.address))
        house = House(Script(body=answer()), observer=observer, config={"serve": {"max_in_flight": 1}})
        parent = {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode()}
        assert house.ask(asking("nobody/nothing", "the question"), headers=parent).status == 404
        house.gateway.stopping = True
        assert house.ask(headers={b"traceparent": f"00-{TRACE}-{SPAN}-00".encode()}).status == 503
        assert house.ask().status == 503
        observer.close()
        unknown, full = received.spans
        assert (unknown.name, unknown.kind) == ("serve chat", 2)
        assert (unknown.trace_id.hex(), unknown.parent_span_id.hex()) == (TRACE, SPAN)
        assert unknown.start_time_unix_nano <= unknown.end_time_unix_nano
        assert facts(unknown) == {
            "gen_ai.operation.name": "chat",
            "http.response.status_code": 404,
            "error.type": "gateway.unknown",
            "baimo.request": "req-1",
            "baimo.key": "abcdef123456",
            "baimo.tenant": "t",
            "baimo.surface": "chat",
        }
        assert (facts(full)["error.type"], facts(full)["http.response.status_code"]) == ("gateway.full", 503)
        assert (unknown.status.code, full.status.code) == (0, 2)  # UNSET: the client is to blame; ERROR
        assert not any(b"nothing" in raw or b"the question" in raw for raw in received.raw)


def test_the_share_holds_for_calls_that_are_not_let_in() -> None:
    with by_http() as received:
        observer = Traces(
            ObserveSettings(otlp_endpoint=received.address, trace_share=0.3), chance=random.Random(7)
        )
        house = House(Script(body=answer()), observer=observer)
        for _ in range(100):
            house.ask(asking("nobody/nothing"))
        observer.close()
        again = random.Random(7)
        assert len(received.spans) == sum(again.random() < 0.3 for _ in range(100))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_collector_that_is_down_harms_nobody(protocol: Any, unused_port: int) -> None:
    observer = Traces(
        ObserveSettings(otlp_endpoint=f"http://127.0.0.1:{unused_port}", otlp_protocol=protocol)
    )
    house = House(Script(body=answer()), observer=observer)
    for _ in range(20):
        assert house.ask().status == 200
    observer.close(0.5)


def test_a_collector_that_says_no_harms_nobody() -> None:
    with by_http(status=400) as received:
        observer = Traces(ObserveSettings(otlp_endpoint=received.address))
        house = House(Script(body=answer()), observer=observer)
        assert house.ask().status == 200
        observer.close()
        assert received.requests


def test_without_an_endpoint_nothing_is_traced() -> None:
    assert not traces.wanted(ObserveSettings(), {})
    assert not traces.wanted(ObserveSettings(otlp_endpoint="http://x", trace_share=0), {})
    assert traces.wanted(ObserveSettings(otlp_endpoint="http://x"), {})
    assert traces.wanted(ObserveSettings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"})


def test_without_the_library_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtra) as caught:
        Traces(ObserveSettings(otlp_endpoint="http://127.0.0.1:9"))
    assert "baimo[otel]" in caught.value.hint


def test_a_served_endpoint_sends_its_traces_and_nothing_secret(tmp_path: Path) -> None:
    with by_http() as received:
        toml = TOML + f'[observe]\notlp_endpoint = "{received.address}/v1/traces"\n'
        with served(tmp_path, toml) as house:
            credential = house.key()
            assert house.chat(credential, "the question", "fast").status == 200
            unknown = "-".join((*credential.split("-")[:2], "x" * 48))
            for wrong in (unknown, "bm-nonsense"):
                assert house.chat(wrong, "the question", "fast").status == 401
            assert house.chat(credential, "the question", "no/such").status == 404
            deadline = time.monotonic() + PATIENCE_S
            while len(received.spans) < 5:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        said = json.dumps([facts(span) for span in received.spans])
        assert credential.split("-")[1] in said
        refused = [facts(one) for one in received.spans if facts(one).get("error.type")]
        assert [(one["error.type"], one["http.response.status_code"]) for one in refused] == [
            ("gateway.unknown_key", 401),
            ("gateway.malformed_key", 401),
            ("gateway.unknown", 404),
        ]
        assert [one.get("baimo.key") for one in refused] == [None, None, credential.split("-")[1]]
        assert all(one["baimo.request"].startswith("req_") for one in refused)
        for raw in received.raw:
            assert credential.split("-")[2].encode() not in raw and b"nonsense" not in raw
            assert b"the question" not in raw and b"It is noon" not in raw
