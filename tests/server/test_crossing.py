"""Pages of other origins that call the model APIs from a browser (CORS)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from baimo.errors import ConfigError
from baimo.server.lanes import Lanes
from baimo.settings import ServeSettings
from tests.server.served import TOML, Said, Served, served

PAGE, OTHER = "https://app.example.com", "https://evil.example.com"
ALLOW = "access-control-allow-origin"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    toml = f'{TOML}\n[serve]\nallow_origins = ["http://localhost:3000", "{PAGE}"]\n'
    with served(tmp_path_factory.mktemp("house"), toml) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def key(house: Served) -> str:
    return house.key(role="admin")


def preflight(house: Served, path: str, origin: str) -> Said:
    head = {"access-control-request-method": "POST", "access-control-request-headers": "authorization, x-tag"}
    return house.call("OPTIONS", path, headers={"origin": origin, **head})


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/files/file-1", "/v1/models/a/b"])
def test_a_browser_that_asks_ahead_is_told_without_a_key(house: Served, path: str) -> None:
    said = preflight(house, path, PAGE)
    assert (said.status, said.body) == (204, b"")
    assert said.headers[ALLOW] == PAGE and said.headers["vary"] == "origin"
    assert said.headers["access-control-allow-methods"] == "POST"
    assert said.headers["access-control-allow-headers"] == "authorization, x-tag"
    assert ALLOW not in preflight(house, path, OTHER).headers


def test_answers_and_refusals_may_be_read_by_the_pages_that_are_named(house: Served, key: str) -> None:
    chat = {"model": "acme/small", "messages": [{"role": "user", "content": "hello"}]}
    calls = [
        ("POST", "/v1/chat/completions", key, chat, 200),
        ("POST", "/v1/chat/completions", key, {**chat, "stream": True}, 200),
        ("POST", "/v1/chat/completions", None, chat, 401),
        ("GET", "/v1/models", key, None, 200),
        ("GET", "/v1/models", None, None, 401),
    ]
    for method, path, credential, body, status in calls:
        for _ in range(2):  # the second time from a head that is known
            said = house.call(method, path, credential, body, {"origin": PAGE})
            assert (said.status, said.headers[ALLOW]) == (status, PAGE)
            assert (said.headers["vary"], said.headers["access-control-expose-headers"]) == ("origin", "*")
        said = house.call(method, path, credential, body, {"origin": OTHER})
        assert said.status == status and ALLOW not in said.headers and said.headers["vary"] == "origin"
        said = house.call(method, path, credential, body)
        assert said.status == status and not {ALLOW, "vary"} & said.headers.keys()


def test_what_the_connection_itself_refuses_can_be_read_too(
    house: Served, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {"content-length": str(1 << 40), "connection": "close"}
    for origin, allowed in ((PAGE, PAGE), (OTHER, None)):
        said = house.call("POST", "/v1/chat/completions", key, b"", {**long, "origin": origin})
        assert (said.status, said.headers.get(ALLOW), said.headers["vary"]) == (413, allowed, "origin")
    assert "vary" not in house.call("POST", "/v1/files", key, b"", long).headers
    assert "vary" not in house.call("POST", "/api/keys", key, b"", {**long, "origin": PAGE}).headers

    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(house.state["service"].keyring, "authenticate", broken)
    said = house.call("POST", "/v1/chat/completions", key, {"model": "acme/small"}, {"origin": PAGE})
    assert (said.status, said.headers[ALLOW]) == (500, PAGE)


@pytest.mark.parametrize("path", ["/api/me", "/console/sign-in", "/healthz", "/"])
def test_nothing_but_the_model_apis_is_opened_to_pages(house: Served, key: str, path: str) -> None:
    said = house.call("GET", path, key, headers={"origin": PAGE})
    assert said.status == 200 and ALLOW not in said.headers
    assert preflight(house, path, PAGE).status in (401, 404, 405)


def test_without_the_setting_no_page_may_call(house: Served, key: str) -> None:
    house.state["hot"].adopt(ServeSettings())
    try:
        said = house.call("GET", "/v1/models", key, headers={"origin": PAGE})
        assert said.status == 200 and not {ALLOW, "vary"} & said.headers.keys()
        assert preflight(house, "/v1/chat/completions", PAGE).status == 401
        house.state["hot"].adopt(ServeSettings(allow_origins=["*"]))
        assert preflight(house, "/v1/chat/completions", OTHER).headers[ALLOW] == OTHER
    finally:
        house.state["hot"].adopt(house.state["service"].settings.serve)


@pytest.mark.parametrize("entry", [PAGE + "/", "app.example.com", "https://App.example.com", "null", ""])
def test_an_origin_that_no_browser_sends_is_a_mistake_in_the_settings(entry: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Lanes({}, ServeSettings(allow_origins=[entry]))
    assert caught.value.key == "lane.bad_origin"
