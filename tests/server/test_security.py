"""Every route, hot and cold, with every key that opens nothing; and requests that mean to slip through."""

from __future__ import annotations

import base64
import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.routing import Route

from baimo.server.admin.routes import Resource
from tests.server.served import TOML, Served, served
from tests.server.upstream import Trap, Upstream, upstream

OPEN = {"/", "/healthz", "/readyz", "/metrics"}
"""Paths that want no key; /metrics wants one with observe.metrics_key."""
CHAT = b'{"model": "acme/small", "messages": [{"role": "user", "content": "hello"}]}'


class Door(NamedTuple):
    """One method of one path."""

    method: str
    path: str


class Keys(NamedTuple):
    """Headers that open nothing, and one that does."""

    bad: dict[str, tuple[str, ...]]
    """Name → values of Authorization."""
    good: str


def doors(house: Served) -> list[Door]:
    """Every route that there is, read from the application; nothing can be served and be missing here."""
    found = [
        Door(method.decode(), path.decode())
        for method, paths in house.state["hot"].hot.items()
        for path in paths
    ]
    for route in house.app.routes:
        assert isinstance(route, Route)
        path = re.sub(r"\{\w+(:path)?\}", "x", route.path)
        if isinstance(route.endpoint, Resource):
            methods = {*route.endpoint.operations, "HEAD", "PUT"}
        else:
            methods = route.methods or {"GET", "POST"}
        found += [Door(method, path) for method in sorted(methods)]
    found += [
        Door(method, path)
        for method in ("GET", "POST", "DELETE")
        for path in ("/v1/none", "/none", "/api/none")
    ]
    return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    with served(tmp_path_factory.mktemp("house")) as endpoint:
        yield endpoint
    patch.undo()


@pytest.fixture(scope="module")
def keys(house: Served) -> Keys:
    good = house.key(role="admin")
    revoked, short = (
        house.key(role="admin"),
        house.key(role="admin", expires_ms=time.time_ns() // 1_000_000 + 400),
    )
    house.workspace.accounts.revoke(revoked[3:15])
    house.settled()
    house.tenant("closed", disabled=True)
    time.sleep(0.5)
    unknown = f"bm-{'0' * 12}-{'0' * 48}"
    wrong = good[:-1] + ("0" if good[-1] != "0" else "1")
    bad = {
        "none": (),
        "empty": ("",),
        "no_scheme": (good,),
        "other_scheme": (f"Basic {good}",),
        "no_value": ("Bearer ",),
        "malformed": ("Bearer sk-proj-0123456789",),
        "longer": (f"Bearer {good}0",),
        "unknown": (f"Bearer {unknown}",),
        "wrong_secret": (f"Bearer {wrong}",),
        "expired": (f"Bearer {short}",),
        "revoked": (f"Bearer {revoked}",),
        "two": (f"Bearer {unknown}", f"Bearer {good}"),
        "two_of_the_same": (f"Bearer {good}", f"Bearer {good}"),
        "two_in_one": (f"Bearer {good}, Bearer {good}",),
        "digest": (f"Bearer bm-{good[3:15]}-{house.workspace.accounts.key(good[3:15]).digest[:48]}",),
    }
    return Keys(bad, good)


BAD = (
    *("none", "empty", "no_scheme", "other_scheme", "no_value", "malformed", "longer", "unknown"),
    *("wrong_secret", "expired", "revoked", "two", "two_of_the_same", "two_in_one", "digest"),
)


def knock(house: Served, door: Door, authorization: tuple[str, ...]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=20)
    try:
        connection.putrequest(door.method, door.path)
        for value in authorization:
            connection.putheader("Authorization", value)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(CHAT)))
        connection.endheaders(CHAT)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("kind", BAD)
def test_no_route_opens_to_a_key_that_is_none(house: Served, keys: Keys, kind: str) -> None:
    assert keys.bad.keys() == set(BAD)
    before, acts = house.records, house.workspace.accounts.revision()
    answers = {door: knock(house, door, keys.bad[kind])[0] for door in doors(house)}
    closed = {door: status for door, status in answers.items() if door.path not in OPEN}
    assert {door: status for door, status in closed.items() if status != 401} == {}
    assert len(closed) > 80
    assert (house.records, house.workspace.accounts.revision()) == (before, acts)


def test_the_open_routes_are_those_that_are_written_down(house: Served) -> None:
    answers = {door: knock(house, door, ())[0] for door in doors(house)}
    assert {door.path for door, status in answers.items() if status != 401} <= OPEN
    assert {"/", "/healthz", "/readyz"} <= {door.path for door, status in answers.items() if status == 200}


def test_a_refused_key_is_never_told_what_is_behind_the_door(house: Served, keys: Keys) -> None:
    existing, missing = (
        knock(house, Door("GET", path), keys.bad["unknown"])[1] for path in ("/api/tenants", "/api/tenantz")
    )
    drop = re.compile(rb'"request_id":"[^"]*"')
    assert drop.sub(b"", existing) == drop.sub(b"", missing)


def test_an_ordinary_key_opens_no_administration(house: Served) -> None:
    app = house.key(role="app")
    allowed = {"/api/me", "/api/openapi.json", "/api/docs"}
    for door in doors(house):
        if door.path.startswith("/api/") and door.path not in {*allowed, "/api/none"}:
            assert knock(house, door, (f"Bearer {app}",))[0] in (403, 405), door


def test_a_key_in_the_address_or_a_cookie_is_none(house: Served, keys: Keys) -> None:
    for path in (f"/api/me?key={keys.good}", f"/api/me?api_key={keys.good}&access_token={keys.good}"):
        assert house.call("GET", path).status == 401
    cookie = {"cookie": f"session={keys.good}; authorization=Bearer {keys.good}"}
    assert house.call("GET", "/api/me", headers=cookie).status == 401


def test_basic_opens_the_description_and_nothing_else(house: Served, keys: Keys) -> None:
    sent = {"authorization": "Basic " + base64.b64encode(f"me:{keys.good}".encode()).decode()}
    assert house.call("GET", "/api/docs", headers=sent).status == 200
    assert house.call("GET", "/api/openapi.json", headers=sent).status == 200
    for door in doors(house):
        if door.path not in {*OPEN, "/api/docs", "/api/openapi.json"}:
            assert knock(house, door, (sent["authorization"],))[0] == 401, door
    asked = house.call("GET", "/api/docs")
    assert (asked.status, asked.headers["www-authenticate"].partition(" ")[0]) == (401, "Basic")


# another tenant's key on the model APIs


def test_what_one_tenant_keeps_is_not_there_for_another(house: Served) -> None:
    house.tenant("amber")
    house.tenant("beryl")
    mine, other = house.key(tenant="amber"), house.key(tenant="beryl", role="admin")
    kept = house.call("POST", "/v1/responses", mine, {"model": "acme/small", "input": "the amber question"})
    assert kept.status == 200, kept.body
    id = kept.data["id"]
    assert house.call("GET", f"/v1/responses/{id}", mine).status == 200
    for method, path in (
        ("GET", f"/v1/responses/{id}"),
        ("DELETE", f"/v1/responses/{id}"),
        ("GET", f"/v1/responses/{id}/input_items"),
    ):
        said = house.call(method, path, other)
        assert said.status == 404
        assert b"amber" not in said.body
    body = {"model": "acme/small", "input": "and then?", "previous_response_id": id}
    assert house.call("POST", "/v1/responses", other, body).status in (400, 404)
    assert house.call("GET", f"/v1/responses/{id}", mine).status == 200


def test_files_and_batches_of_one_tenant_are_not_there_for_another(house: Served) -> None:
    house.tenant("garnet")
    house.tenant("topaz")
    mine, other = house.key(tenant="garnet"), house.key(tenant="topaz", role="admin")
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": json.loads(CHAT)}
    form = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="garnet.jsonl"\r\n\r\n'
        + json.dumps(line).encode()
        + b"\r\n--b--\r\n"
    )
    kept = house.call("POST", "/v1/files", mine, form, {"content-type": "multipart/form-data; boundary=b"})
    assert kept.status == 200, kept.body
    asked = {"input_file_id": kept.data["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = house.call("POST", "/v1/batches", mine, asked)
    assert batch.status == 200, batch.body
    file, work = f"/v1/files/{kept.data['id']}", f"/v1/batches/{batch.data['id']}"
    for method, path in (
        ("GET", file),
        ("GET", f"{file}/content"),
        ("DELETE", file),
        ("GET", work),
        ("POST", f"{work}/cancel"),
    ):
        said = house.call(method, path, other)
        assert said.status == 404, (method, path, said.body)
        assert b"garnet" not in said.body
    for path in ("/v1/files", "/v1/batches"):
        assert house.call("GET", path, other).data["data"] == []
    assert house.call("POST", "/v1/batches", other, asked).status in (400, 404)
    assert house.call("GET", file, mine).status == house.call("GET", work, mine).status == 200


def test_metrics_can_be_closed(tmp_path: Path) -> None:
    with served(tmp_path, TOML + "[observe]\nmetrics_key = true\n") as house:
        house.tenant("onyx")
        keys = {
            "none": None,
            "app": house.key(),
            "tenant's": house.key(tenant="onyx", role="admin"),
            "viewer": house.key(role="viewer"),
        }
        answers = {name: house.call("GET", "/metrics", key).status for name, key in keys.items()}
        assert answers == {"none": 401, "app": 403, "tenant's": 403, "viewer": 200}


def test_what_is_open_tells_nothing_of_tenants_keys_and_places(house: Served) -> None:
    house.tenant("lapis-tenant")
    key = house.key(tenant="lapis-tenant", label="lapis-label")
    assert house.chat(key, "the lapis question").status == 200
    for path in ("/", "/healthz", "/readyz"):
        said = house.call("GET", path)
        for word in ("lapis", key[3:15], str(house.folder), "baimo.db"):
            assert word.encode() not in said.body, path


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
def test_a_request_that_two_servers_could_cut_differently_is_refused(
    house: Served, keys: Keys, trick: str, path: str
) -> None:
    head, body = SMUGGLED[trick]
    before, acts = house.records, house.workspace.accounts.revision()
    data = request(head, body, path=path).replace(b"KEY", keys.good.encode())
    answer = house.raw(data)
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
    assert len(statuses) == 1, answer
    assert statuses[0] in (400, 401, 413, 501), answer
    assert b"connection: close" in answer.lower()
    assert b'"standing"' not in answer  # a key as /api/keys shows it: the hidden request was answered
    assert (house.records, house.workspace.accounts.revision()) == (before, acts)


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
def test_an_odd_target_reaches_nothing(house: Served, keys: Keys, target: str) -> None:
    head = f"Host: x\r\nAuthorization: Bearer {keys.good}\r\nConnection: close\r\n"
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
