"""Settings that change while the endpoint runs: what clients are held against, and what waits for a restart."""

from __future__ import annotations

import http.client
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from baimo.server.lanes import graceful_s
from tests.server.served import TOML, Said, Served, served


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as endpoint:
        yield endpoint


def reloaded(house: Served, admin: str, serve: str, more: str = "") -> Said:
    (house.folder / "baimo.toml").write_text(f"{TOML}\n{more}\n[serve]\n{serve}\n", encoding="utf-8")
    return house.call("POST", "/api/settings/reload", admin)


def test_limits_on_clients_follow_the_settings_and_stay_where_these_cannot_be_used(house: Served) -> None:
    admin, service, lanes = house.key(role="admin"), house.state["service"], house.state["hot"]
    long = "q" * 20_000
    assert house.chat(admin, long).status == 200 and lanes.drain_s is None
    changed = (
        "max_body_mib = 0.01\nmax_answer_mib = 1\nmax_connections = 7\nidle_timeout_s = 2\ndrain_s = 3.2"
    )
    assert reloaded(house, admin, changed).data["changed"]
    assert house.chat(admin, long).status == 413 and house.chat(admin).status == 200
    assert (lanes.limits.connections, lanes.limits.idle_s, lanes.tick_s, lanes.drain_s) == (7, 2, 0.5, 3)
    assert lanes.limits_of(b"/v1/files").body_bytes > lanes.limits_of(b"/v1/models").body_bytes
    assert service.pools.limit_bytes == 1024 * 1024
    said = reloaded(house, admin, 'max_body_mib = 1\ntrusted_proxies = ["nonsense"]')
    assert said.status == 409 and b"nonsense" in said.body
    assert house.chat(admin, long).status == 413 and service.settings.serve.max_answer_mib == 1
    assert graceful_s(service.settings.serve) == 3


def test_an_open_connection_of_a_proxy_is_trusted_as_the_settings_say_now(house: Served) -> None:
    admin, inside = house.key(role="admin"), house.key(networks=("10.0.0.0/8",))
    head = {"authorization": f"Bearer {inside}", "x-forwarded-for": "10.1.2.3"}
    line = http.client.HTTPConnection("127.0.0.1", house.port, timeout=10)

    def status() -> int:
        line.request("GET", "/v1/models", headers=head)
        answer = line.getresponse()
        answer.read()
        return answer.status

    assert status() == 403
    reloaded(house, admin, 'trusted_proxies = ["127.0.0.0/8"]')
    assert status() == 200
    reloaded(house, admin, "")
    assert status() == 403
    line.close()


def test_what_waits_for_a_restart_is_told_once_and_stays_as_it_was(
    house: Served, caplog: pytest.LogCaptureFixture
) -> None:
    admin, service = house.key(role="admin"), house.state["service"]
    with caplog.at_level(logging.WARNING, logger="baimo.serve"):
        for retries in (3, 4):
            said = reloaded(house, admin, f"port = 1\nretries = {retries}", "[ledger]\nflush_ms = 99")
            assert said.status == 200 and service.settings.serve.retries == retries
    told = [one.getMessage() for one in caplog.records if "restart" in one.getMessage()]
    assert len(told) == 1 and "serve.port, ledger.flush_ms" in told[0]
    assert service.settings.serve.port == 8000 and service.settings.ledger.flush_ms == 20
    with caplog.at_level(logging.WARNING, logger="baimo.serve"):
        reloaded(house, admin, "")
        reloaded(house, admin, "port = 1")
    told = [one.getMessage() for one in caplog.records if "restart" in one.getMessage()]
    assert len(told) == 2 and told[1].endswith(": serve.port")
