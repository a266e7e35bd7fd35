"""Requests that mean to slip through: cut differently by two servers, written by the client, aimed at other servers."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.lane_house import H2C
from tests.server.served import TOML, Served, served
from tests.server.upstream import Trap, Upstream, upstream

CHAT = b'{"model": "acme/small", "messages": [{"role": "user", "content": "hello"}]}'


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    with served(tmp_path_factory.mktemp("house")) as endpoint:
        yield endpoint
    patch.undo()


@pytest.fixture(scope="module")
def good(house: Served) -> str:
    return house.key(role="admin")


# header smuggling


def request(
    head: str, body: bytes = CHAT, *, path: str = "/v1/chat/completions", method: str = "POST"
) -> bytes:
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


HIDDEN = b"GET /api/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer KEY\r\n\r\n"
"""What a smuggler wants to be taken for a request of its own."""
SMUGGLED: dict[str, tuple[str, bytes]] = {
    "length and chunks": (
        "Host: x\r\nAuthorization: Bearer KEY\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"0\r\n\r\n" + HIDDEN,
    ),
    "chunks and length": (
        "Host: x\r\nAuthorization: Bearer KEY\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"0\r\n\r\n" + HIDDEN,
    ),
    "two lengths": (
        "Host: x\r\nAuthorization: Bearer KEY\r\nContent-Length: 0\r\nContent-Length: 75\r\n",
        HIDDEN,
    ),
    "lengths in one": ("Host: x\r\nAuthorization: Bearer KEY\r\nContent-Length: 0, 75\r\n", HIDDEN),
    "signed length": ("Host: x\r\nAuthorization: Bearer KEY\r\nContent-Length: +0\r\n", HIDDEN),
    "hexadecimal length": ("Host: x\r\nAuthorization: Bearer KEY\r\nContent-Length: 0x0\r\n", HIDDEN),
    "negative length": ("Host: x\r\nAuthorization: Bearer KEY\r\nContent-Length: -1\r\n", HIDDEN),
    "chunked twice": (
        "Host: x\r\nAuthorization: Bearer KEY\r\nTransfer-Encoding: chunked, chunked\r\n",
        b"0\r\n\r\n" + HIDDEN,
    ),
    "chunked is not last": (
        "Host: x\r\nAuthorization: Bearer KEY\r\nTransfer-Encoding: chunked, identity\r\n",
        b"0\r\n\r\n" + HIDDEN,
    ),
    "almost chunked": (
        "Host: x\r\nAuthorization: Bearer KEY\r\nTransfer-Encoding: xchunked\r\nContent-Length: 0\r\n",
        HIDDEN,
    ),
    "space before the colon": (
        "Host: x\r\nAuthorization: Bearer KEY\r\nContent-Length : 0\r\n",
        HIDDEN,
    ),
    "space before the coding's colon": (
        "Host: x\r\nAuthorization: Bearer KEY\r\nTransfer-Encoding : chunked\r\nContent-Length: 0\r\n",
        HIDDEN,
    ),
    "folded line": (
        "Host: x\r\nAuthorization: Bearer\r\n KEY\r\nContent-Length: 0\r\n",
        HIDDEN,
    ),
    "folded coding": (
        "Host: x\r\nAuthorization: Bearer KEY\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 0\r\n",
        HIDDEN,
    ),
    "bare carriage return": (
        "Host: x\r\nX-A: b\rContent-Length: 0\r\nAuthorization: Bearer KEY\r\n",
        HIDDEN,
    ),
    "NUL": ("Host: x\r\nX-A: b\0c\r\nAuthorization: Bearer KEY\r\nContent-Length: 0\r\n", HIDDEN),
    "two hosts": ("Host: x\r\nHost: y\r\nAuthorization: Bearer KEY\r\nContent-Length: 0\r\n", HIDDEN),
    "no host": ("Authorization: Bearer KEY\r\nContent-Length: 0\r\n", HIDDEN),
    "chunk without a size": (
        "Host: x\r\nAuthorization: Bearer KEY\r\nTransfer-Encoding: chunked\r\n",
        b"zz\r\n\r\n" + HIDDEN,
    ),
    "endless chunk size": (
        "Host: x\r\nAuthorization: Bearer KEY\r\nTransfer-Encoding: chunked\r\n",
        b"fffffffffffffffff\r\n" + HIDDEN,
    ),
    "chunk with more than it says": (
        "Host: x\r\nAuthorization: Bearer KEY\r\nTransfer-Encoding: chunked\r\n",
        b"1\r\nab\r\n0\r\n\r\n" + HIDDEN,
    ),
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/keys"])
@pytest.mark.parametrize("trick", SMUGGLED)
@pytest.mark.parametrize("offer", ["", H2C.decode()], ids=["", "h2c"])
def test_a_request_that_two_servers_could_cut_differently_is_refused(
    house: Served, good: str, trick: str, path: str, offer: str
) -> None:
    head, body = SMUGGLED[trick]
    head = offer + head
    before, acts = house.records, house.workspace.accounts.revision()
    data = request(head, body, path=path).replace(b"KEY", good.encode())
    answer = house.raw(data)
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
    assert len(statuses) == 1, answer
    assert statuses[0] in (400, 401, 413, 501), answer
    assert b"connection: close" in answer.lower()
    assert b'"standing"' not in answer  # a key as /api/keys shows it: the hidden request was answered
    assert (house.records, house.workspace.accounts.revision()) == (before, acts)


def test_a_trailer_says_nothing_about_any_request(house: Served, good: str) -> None:
    start = "Host: x\r\nContent-Type: application/json\r\n"
    chunk = b"%x\r\n%s\r\n0\r\n" % (len(CHAT), CHAT)
    keyless = request(f"{start}Content-Length: {len(CHAT)}\r\n")
    last = request("Host: x\r\nConnection: close\r\n", b"", path="/api/me", method="GET")
    head = request(f"{start}Transfer-Encoding: chunked\r\nAuthorization: Bearer {good}\r\n", b"")
    for trailer in (f"Authorization: Bearer {good}\r\n", f"Authorization: Bearer {good}\r\nX-Last: 1\r\n"):
        with_key = head + chunk + trailer.encode() + b"\r\n"
        answer = house.raw(with_key + keyless + last)
        assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) == [b"200", b"401", b"401"]
        without = head.replace(good.encode(), b"nothing") + chunk + trailer.encode() + b"\r\n"
        assert re.findall(rb"HTTP/1\.1 (\d{3}) ", house.raw(without + last)) == [b"401", b"401"]
        with socket.create_connection(("127.0.0.1", house.port), timeout=5) as line:
            for data in (with_key, keyless):  # each by itself: what came last may be remembered
                line.sendall(data)
                answer = line.recv(65536)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert house.raw(keyless + last).startswith(b"HTTP/1.1 401 ")  # by anybody


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/api/me",
        "//evil.example/api/me",
        "*",
        "evil.example:443",
        "/api/../api/me",
        "/API/me",
    ],
)
def test_an_odd_target_reaches_nothing(house: Served, good: str, target: str) -> None:
    head = f"Host: x\r\nAuthorization: Bearer {good}\r\nConnection: close\r\n"
    answer = house.raw(request(head, b"", path=target, method="GET"))
    assert re.match(rb"HTTP/1\.1 (400|404) ", answer), answer
    assert b'"may"' not in answer


def test_an_address_that_the_client_writes_itself_is_not_believed(house: Served) -> None:
    inside = house.key(networks=("10.0.0.0/8",), role="admin")
    for name in (
        "X-Forwarded-For",
        "Forwarded",
        "X-Real-IP",
        "X-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
    ):
        value = "for=10.1.2.3" if name == "Forwarded" else "10.1.2.3"
        for method, path in (("POST", "/v1/chat/completions"), ("GET", "/api/me"), ("GET", "/v1/models")):
            body = json.loads(CHAT) if method == "POST" else None
            said = house.call(method, path, inside, body, {name: value})
            assert said.status == 403, (name, path, said.body)
    assert house.call("GET", "/api/me", inside).status == 403


def test_a_head_that_was_accepted_once_is_not_accepted_for_ever(house: Served) -> None:
    credential = house.key(role="admin")
    data = request(
        f"Host: x\r\nAuthorization: Bearer {credential}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(CHAT)}\r\nConnection: close\r\n"
    )
    for _ in range(3):
        assert house.raw(data).startswith(b"HTTP/1.1 200 ")
    house.workspace.accounts.revoke(credential[3:15])
    house.settled()
    assert house.raw(data).startswith(b"HTTP/1.1 401 ")


# requests that name addresses


@pytest.fixture(scope="module")
def model_server() -> Iterator[Upstream]:
    with upstream() as server:
        yield server


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, model_server: Upstream) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    toml = (
        TOML
        + f"""
[providers.up]
protocol = "openai"
base_url = "http://127.0.0.1:{model_server.port}/v1"
"""
    )
    with served(tmp_path_factory.mktemp("relay"), toml) as endpoint:
        yield endpoint
    patch.undo()


@pytest.fixture
def trap() -> Iterator[Trap]:
    made = Trap()
    yield made
    made.close()


def aims(port: int) -> list[str]:
    """Names of models that look like addresses."""
    there = f"127.0.0.1:{port}"
    return [
        f"http://{there}/v1",
        f"http://{there}",
        f"//{there}/x",
        f"up/http://{there}/v1",
        f"up/../../../{there}",
        f"up/@{there}/",
        f"up@{there}/x",
        f"{there}/x",
        "up/x?y=z#w",
        "up/..%2f..%2fadmin",
        f"up/x\r\nHost: {there}\r\n\r\nGET /admin HTTP/1.1",
        "up/\x00",
        "file:///etc/passwd",
        "up/" + "a" * 5000,
    ]


@pytest.mark.parametrize("number", range(14))
def test_the_name_of_a_model_leads_to_no_other_server(
    relay: Served, model_server: Upstream, trap: Trap, number: int
) -> None:
    name = aims(trap.port)[number]
    key = relay.key()
    model_server.paths.clear()
    model_server.bodies.clear()
    said = relay.chat(key, model=name)
    assert said.status in (200, 400, 404)
    assert trap.visits == 0
    assert set(model_server.paths) <= {"/v1/chat/completions"}
    for body in model_server.bodies:  # the name goes where names go, and nowhere else
        assert json.loads(body)["model"] == name.removeprefix("up/")


def test_what_a_request_points_at_is_never_fetched(relay: Served, model_server: Upstream, trap: Trap) -> None:
    key, there = relay.key(role="admin"), f"http://127.0.0.1:{trap.port}/secret"
    parts: list[Any] = [
        {"type": "text", "text": f"read {there}"},
        {"type": "image_url", "image_url": {"url": there}},
        {"type": "input_audio", "input_audio": {"data": there, "format": "wav"}},
        {"type": "file", "file": {"file_id": there, "file_data": there}},
    ]
    messages = [{"role": "user", "content": parts}]
    more = {"base_url": there, "api_base": there, "callback_url": there, "url": there, "endpoint": there}
    for model in ("up/small", "acme/small"):
        relay.call("POST", "/v1/chat/completions", key, {"model": model, "messages": messages, **more})
        image = {"type": "image", "source": {"type": "url", "url": there}}
        said = {"role": "user", "content": [image, {"type": "text", "text": "hi"}]}
        relay.call("POST", "/v1/messages", key, {"model": model, "max_tokens": 5, "messages": [said]})
        item = {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": there},
                {"type": "input_file", "file_url": there},
            ],
        }
        tools = [{"type": "mcp", "server_label": "x", "server_url": there}]
        relay.call("POST", "/v1/responses", key, {"model": model, "input": [item], "tools": tools})
        relay.call("POST", "/v1/embeddings", key, {"model": model, "input": there})
        relay.call("POST", "/v1/images/generations", key, {"model": model, "prompt": there, "image": there})
    assert trap.visits == 0


def test_headers_and_queries_lead_to_no_other_server(
    relay: Served, model_server: Upstream, trap: Trap
) -> None:
    key, there = relay.key(role="admin"), f"127.0.0.1:{trap.port}"
    headers = {
        "x-forwarded-host": there,
        "x-original-url": f"http://{there}/",
        "x-base-url": f"http://{there}/",
        "x-litellm-api-base": f"http://{there}/",
        "openai-base-url": f"http://{there}/",
        "proxy": f"http://{there}/",
        "forwarded": f"host={there}",
    }
    body = {"model": "up/small", "messages": [{"role": "user", "content": "hi"}]}
    model_server.headers.clear()
    query = f"?base_url=http://{there}/&url=http://{there}/&api_base=http://{there}/"
    assert relay.call("POST", f"/v1/chat/completions{query}", key, body, headers).status == 200
    raw = request(
        f"Host: {there}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(json.dumps(body))}\r\nConnection: close\r\n",
        json.dumps(body).encode(),
    )
    assert relay.raw(raw).startswith(b"HTTP/1.1 200 ")
    assert trap.visits == 0
    for seen in model_server.headers:
        assert seen["host"] == f"127.0.0.1:{model_server.port}"
        assert key not in str(seen)
        assert not seen.keys() & headers.keys()


def test_no_operation_of_administration_takes_an_address(relay: Served, trap: Trap) -> None:
    key, there = relay.key(role="admin"), f"http://127.0.0.1:{trap.port}/"
    for path in (
        "/api/models",
        "/api/providers",
        "/api/ledger/records",
        "/api/keys",
        "/api/limits",
        "/api/audit",
    ):
        for field in ("url", "text", "vendor", "tenant", "cursor", "model", "subject"):
            said = relay.call("GET", f"{path}?{field}={there}", key)
            assert said.status in (200, 400, 404), (path, field, said.body)
    assert relay.call("POST", "/api/settings/reload", key, {"path": there}).status == 400
    assert trap.visits == 0
