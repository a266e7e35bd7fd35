"""Every route, hot and cold, with every key that opens nothing, and with the key of another tenant."""

from __future__ import annotations

import base64
import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from starlette.routing import Mount, Route

from baimo.core.tenant import Key
from baimo.gateway import keyring
from baimo.server.admin.routes import Resource
from baimo.server.admin.table import OPERATIONS
from baimo.store.sessions import Sessions
from tests.server.served import TOML, Served, served
from tests.waiting import PATIENCE_S

OPEN = {"/", "/console", "/healthz", "/readyz"}
"""Paths that want no key."""
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
        if isinstance(route, Mount):  # it wants a cookie, and has tests of its own
            assert route.path == "/console"
            continue
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
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=PATIENCE_S)
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


def test_nobody_is_sent_elsewhere_with_a_key(house: Served, keys: Keys) -> None:
    """A client leaves its key behind when it is redirected, or takes it to where nobody encrypts."""
    chat = knock(house, Door("POST", "/v1/chat/completions/"), (f"Bearer {keys.good}",))
    assert chat[0] == 200, chat
    for door in doors(house):
        if door.path not in OPEN:
            assert knock(house, Door(door.method, door.path + "/"), ())[0] == 401, door
    assert house.call("GET", "/console").headers["location"] == "/console/"


def test_a_refused_key_is_never_told_what_is_behind_the_door(house: Served, keys: Keys) -> None:
    existing, missing = (
        knock(house, Door("GET", path), keys.bad["unknown"])[1] for path in ("/api/tenants", "/api/tenantz")
    )
    drop = re.compile(rb'"request_id":"[^"]*"')
    assert drop.sub(b"", existing) == drop.sub(b"", missing)


def test_an_ordinary_key_opens_no_administration(house: Served) -> None:
    app = house.key(role="app")
    allowed = {"/api/me", "/api/sessions", "/api/sessions/x", "/api/openapi.json", "/api/docs"}
    own = tuple(one.path.partition("{")[0] for one in OPERATIONS if one.role == "app")  # its talks and votes
    for door in doors(house):
        if door.path.startswith("/api/") and not door.path.startswith((*allowed, *own, "/api/none")):
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


def test_a_key_or_session_that_another_process_has_just_made_opens_every_kind_of_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "POLL_S", 3600.0)  # nothing is heard of by itself
    with served(tmp_path) as house:
        accounts, database = house.workspace.accounts, house.workspace.store.database

        def fresh() -> str:
            return accounts.create_key(Key(role="admin")).credential.written()

        assert house.chat(fresh()).status == 200
        asked = {"model": "acme/small", "input": "hello"}
        assert house.call("POST", "/v1/responses", fresh(), asked).status == 200
        counted = house.call("POST", "/v1/messages/count_tokens", fresh(), json.loads(CHAT))
        assert counted.status != 401
        assert house.call("GET", "/v1/models", fresh()).status == 200
        basic = base64.b64encode(f"me:{fresh()}".encode()).decode()
        assert (
            house.call("GET", "/api/openapi.json", headers={"authorization": f"Basic {basic}"}).status == 200
        )
        session = Sessions(database).begin(accounts.create_key(Key()).key.public, 60_000)
        cookie = {"cookie": f"baimo_session={session.credential.written()}"}
        assert house.call("GET", "/console/", headers=cookie).status == 200


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


def test_metrics_can_be_opened(tmp_path: Path) -> None:
    with served(tmp_path, TOML + "[observe]\nmetrics_key = false\n") as house:
        assert house.call("GET", "/metrics").status == 200


def test_metrics_want_a_viewer_of_the_workspace_itself(tmp_path: Path) -> None:
    with served(tmp_path) as house:
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
