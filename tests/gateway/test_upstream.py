from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baimo.core.model import Vendor
from baimo.errors import AuthenticationFailed, ConfigError
from baimo.gateway.assembly import checked
from baimo.gateway.upstream import KEY_AGE_S, Upstream
from baimo.models.catalogue import Catalogue
from baimo.server.surfaces.chat import Chat
from baimo.server.surfaces.messages import Messages
from baimo.server.surfaces.transcriptions import Transcriptions
from baimo.settings import ProviderSettings, ServeSettings, Settings
from tests.gateway.doubles import DONE, EVENTS, USAGE, House, Script, answer, asking, chunk, model

CHAT, MESSAGES = Chat(), Messages()


def upstream(
    vendor: dict[str, Any], settings: dict[str, Any] | None = None, now: Any = lambda: 0.0
) -> Upstream:
    facts: dict[str, Any] = {
        "name": "v",
        "title": "V",
        "protocol": "openai",
        "base_url": "https://api.example.com/v1",
    }
    given = msgspec.convert(settings or {}, ProviderSettings)
    return Upstream(Vendor(**{**facts, **vendor}), given, ServeSettings(), now=now)


@pytest.mark.parametrize(
    ("vendor", "surface", "target"),
    [
        ({}, CHAT, b"/v1/chat/completions"),
        ({"base_url": "https://api.example.com"}, CHAT, b"/chat/completions"),
        (
            {"base_url": "https://api.example.com/compatible-mode/v1/"},
            CHAT,
            b"/compatible-mode/v1/chat/completions",
        ),
        ({"protocol": "anthropic", "base_url": "https://api.example.com"}, MESSAGES, b"/v1/messages"),
        ({"protocol": "anthropic", "base_url": "https://api.example.com/v1"}, MESSAGES, b"/v1/messages"),
        (
            {"protocol": "anthropic", "base_url": "https://api.example.com/anthropic"},
            MESSAGES,
            b"/anthropic/v1/messages",
        ),
        (
            {"quirks": ("azure",), "base_url": "https://x.example.com/openai/v1"},
            CHAT,
            b"/openai/v1/chat/completions",
        ),
        (
            {"quirks": ("azure",), "base_url": "https://x.example.com"},
            CHAT,
            b"/openai/deployments/m%2F1/chat/completions?api-version=2024-10-21",
        ),
    ],
)
def test_where_an_operation_is(vendor: dict[str, Any], surface: Any, target: bytes) -> None:
    assert upstream(vendor).outbound(surface, model("v/m/1"), {}).target == target


@pytest.mark.parametrize(
    ("vendor", "line"),
    [
        ({}, b"authorization: Bearer secret\r\n"),
        ({"quirks": ("azure",)}, b"api-key: secret\r\n"),
        ({"protocol": "anthropic"}, b"x-api-key: secret\r\n"),
        ({"protocol": "anthropic", "quirks": ("bearer",)}, b"authorization: Bearer secret\r\n"),
    ],
)
def test_how_the_key_is_presented(
    vendor: dict[str, Any], line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("V_KEY", "secret")
    out = upstream({"key_variable": "V_KEY", **vendor}).outbound(CHAT, model("v/m"), {})
    assert line in out.headers
    assert out.place.quote("it said secret") == "it said ***"


def test_a_key_that_changes_is_read_again(tmp_path: Path) -> None:
    time = 0.0
    place = tmp_path / "key"
    place.write_text("old\n")
    one = upstream({}, {"key": f"file:{place}"}, now=lambda: time)
    assert b"Bearer old" in one.outbound(CHAT, model("v/m"), {}).headers
    place.write_text("new\n")
    time = KEY_AGE_S + 1
    assert b"Bearer new" in one.outbound(CHAT, model("v/m"), {}).headers


def test_whether_a_key_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("V_KEY", raising=False)
    one = upstream({"key_variable": "V_KEY"})
    assert not one.usable()
    with pytest.raises(AuthenticationFailed):
        one.outbound(CHAT, model("v/m"), {})
    monkeypatch.setenv("V_KEY", "x")
    assert one.usable() and upstream({}).usable()


def test_a_key_that_would_break_the_request_is_not_sent(tmp_path: Path) -> None:
    place = tmp_path / "key"
    for text in ("one\ntwo", "ключ"):
        place.write_text(text)
        with pytest.raises(AuthenticationFailed) as caught:
            upstream({}, {"key": f"file:{place}"}).outbound(CHAT, model("v/m"), {})
        assert text.splitlines()[0] not in str(caught.value)


def test_configured_headers_are_sent_and_win() -> None:
    out = upstream({}, {"headers": {"X-Team": "blue", "User-Agent": "us"}}).outbound(CHAT, model("v/m"), {})
    assert b"x-team: blue\r\n" in out.headers
    assert out.headers.count(b"user-agent:") == 1


def test_an_address_that_cannot_be_used_is_told() -> None:
    with pytest.raises(ConfigError):
        upstream({"base_url": None})


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"base_url": "unix:///run/model.sock"}, "providers.bad_address"),
        ({"base_url": "127.0.0.1:8000/v1"}, "providers.bad_address"),
        ({"base_url": "ann:pw@127.0.0.1/v1"}, "providers.bad_address"),
        ({"base_url": "http://127.0.0.1/{/v1"}, "providers.bad_address"),
        ({"base_url": "http://ann:pw@127.0.0.1/v1"}, "providers.password_in_address"),
        ({"base_url": "http://127.0.0.1/{x}/v1"}, "providers.placeholder"),
        ({"base_url": "http://127.0.0.1/v1?token=pw"}, "providers.query_in_address"),
        ({"base_url": "http://127.0.0.1/{x}/v1", "options": {"x": "a?b"}}, "providers.query_in_address"),
        ({"base_url": "http://127.0.0.1/v1#pw"}, "providers.query_in_address"),
        ({"quirks": ["no_temprature"]}, "providers.unknown_quirk"),
        ({"headers": {"Content-Length": "3"}}, "gateway.bad_provider_header"),
        ({"headers": {"X Team": "blue"}}, "gateway.bad_provider_header"),
        ({"headers": {"X-Team": "a\npw: b"}}, "gateway.bad_provider_header"),
        ({"headers": {"X-Team": "\u6c49pw"}}, "gateway.bad_provider_header"),
    ],
)
def test_what_no_call_could_be_sent_with_is_refused_when_settings_are_adopted(
    settings: dict[str, Any], key: str
) -> None:
    given = msgspec.convert({"base_url": "https://api.example.com/v1", **settings}, ProviderSettings)
    with pytest.raises(ConfigError) as caught:
        checked(Settings(providers={"v": given}), Catalogue.load(Settings(providers={"v": given})))
    assert caught.value.key == key
    assert "pw" not in str(caught.value)


def test_a_proxy_that_cannot_be_used_is_refused_when_settings_are_adopted() -> None:
    def adopted(proxy: str) -> None:
        settings = Settings(serve=ServeSettings(proxy=proxy))
        checked(settings, Catalogue.load(settings))

    adopted("proxy.example.com:3128")
    with pytest.raises(ConfigError) as caught:
        adopted("socks5://127.0.0.1:1080")
    assert caught.value.key == "wire.bad_proxy"


def test_what_the_catalogues_address_lacks_may_come_later() -> None:
    given = {"azure": ProviderSettings(key="env:NOT_SET")}
    checked(Settings(providers=given), Catalogue.load(Settings(providers=given)))


def test_headers_and_keys_that_are_references_may_come_later() -> None:
    given = ProviderSettings(
        base_url="https://api.example.com/v1", key="env:NOT_SET", headers={"X-Team": "env:NOT_SET"}
    )
    checked(Settings(providers={"v": given}), Catalogue.load(Settings(providers={"v": given})))


# in a gateway


def test_of_the_clients_headers_only_a_few_are_passed_on() -> None:
    house = House(Script(body=answer()))
    given = {
        b"openai-beta": b"x=1",
        b"idempotency-key": b"abc",
        b"authorization": b"Bearer bm-client-secret",
        b"cookie": b"a=b",
        b"x-forwarded-for": b"1.2.3.4",
        b"host": b"evil.example.com",
        b"accept-encoding": b"gzip, br",
    }
    house.ask(headers=given)
    house.ask()
    (_, first, _), (_, second, _) = house.pool.sent
    assert b"openai-beta: x=1" in first
    assert b"\r\naccept-encoding: identity\r\n" in first
    # all tenants share one account there: a key that two of them chose must not be one
    for absent in (b"bm-client-secret", b"cookie", b"forwarded", b"evil", b"idempotency-key"):
        assert absent not in first
    assert b"openai-beta" not in second  # what one client sent is not kept for the next


def test_a_header_that_would_smuggle_another_one_is_refused() -> None:
    house = House(Script(body=answer()))
    reply = house.ask(headers={b"openai-beta": b"x\r\nauthorization: Bearer mine"})
    assert reply.status == 400
    assert house.pool.sent == []
    assert house.record.cost_micros == 0


def test_only_the_name_of_the_model_changes_on_the_way() -> None:
    house = House(Script(body=answer()))
    body = asking("acme/one", x_vendor_field={"deep": [1, 2.50, "ü"]}, temperature=0.70)
    house.ask(body)
    assert house.pool.sent[0][2] == {**body, "model": "one"}


def test_of_the_models_headers_only_a_few_are_handed_back() -> None:
    headers = {
        b"content-type": b"application/json; charset=utf-8",
        b"openai-processing-ms": b"12",
        b"openai-organization": b"our-company",
        b"set-cookie": b"a=b",
        b"x-ratelimit-limit-requests": b"10000",
        b"content-encoding": b"identity",
    }
    reply = House(Script(body=answer(), headers=headers)).ask()
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert reply.headers["openai-processing-ms"] == "12"
    for absent in ("openai-organization", "set-cookie", "x-ratelimit-limit-requests", "content-encoding"):
        assert absent not in reply.headers


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_that_comes_compressed_all_the_same_is_unpacked(streamed: bool) -> None:
    plain = chunk("a", finish="stop") + chunk(usage=USAGE) + DONE if streamed else answer()
    kind = EVENTS if streamed else {b"content-type": b"application/json"}
    packed = gzip.compress(plain)
    house = House(Script(pieces=[packed[:30], packed[30:]], headers={**kind, b"content-encoding": b"gzip"}))
    reply = house.ask(asking(stream=streamed))
    assert (reply.status, reply.ended, b"hello" in reply.body) == (200, True, not streamed)
    assert (house.record.status, house.record.tokens_out) == ("ok", 5)
    assert "content-encoding" not in reply.headers


def test_a_compressed_refusal_is_read_and_one_that_nobody_can_read_is_one_by_its_status() -> None:
    body = b'{"error": {"message": "bad temperature"}}'
    house = House(Script(status=400, body=gzip.compress(body), headers={b"content-encoding": b"gzip"}))
    assert (house.ask().body, house.record.status) == (body, "providers.refused")
    house = House(Script(status=400, body=b"\x0b\x02", headers={b"content-encoding": b"br"}))
    reply = house.ask()
    assert (reply.status, house.record.status, house.record.unsure) == (400, "providers.refused", 0)


def test_json_is_called_json_whatever_the_client_calls_it_and_a_form_keeps_its_boundary() -> None:
    given = {b"content-type": b"multipart/form-data; boundary=x"}
    json_lines = bytes(upstream({}).outbound(CHAT, model("v/m"), given).headers)
    assert b"content-type: application/json\r\n" in json_lines
    assert b"multipart" not in json_lines
    form_lines = bytes(upstream({}).outbound(Transcriptions(), model("v/m"), given).headers)
    assert b"content-type: multipart/form-data; boundary=x\r\n" in form_lines
