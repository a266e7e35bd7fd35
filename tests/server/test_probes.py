from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from baimo.errors import ConfigError, StoreError
from baimo.settings import PolicySettings, Settings
from baimo.store.writer import Health
from baimo.workspace.serving import checked_masking
from tests.server.served import TOML, Served, served
from tests.waiting import PATIENCE_S

DOWN = """
[providers.down]
base_url = "http://127.0.0.1:9/v1"
inside = true
[providers.up]
protocol = "fake"
inside = true
[providers.up.options]
constant = "It is noon."
[serve]
breaker_failures = 1
retries = 0
[routes.only]
models = ["down/model"]
"""


def ready(house: Served) -> tuple[int, list[str]]:
    said = house.call("GET", "/readyz")
    return said.status, [one["check"] for one in said.data["reasons"]]


def test_a_process_that_lives_says_so_without_a_key(tmp_path: Path) -> None:
    with served(tmp_path) as house:
        said = house.call("GET", "/healthz").data
        assert said["status"] == "ok" and said["uptime_s"] >= 0 and said["pid"] > 0
        assert ready(house) == (200, [])


def test_a_ledger_that_fails_is_a_reason_and_where_it_is_stays_ours(tmp_path: Path) -> None:
    with served(tmp_path) as house:
        service = house.state["service"]
        books = service.books
        service.books = Unwell(books)
        try:
            assert ready(house) == (200, ["ledger"])  # calls go on
            shown = house.call("GET", "/api/health", house.key(role="admin")).data
            assert shown["status"] == "ready" and len(shown["trouble"]) == 1
            service.away_since -= 59.0
            assert ready(house) == (200, ["ledger"])
            service.away_since -= 1.0
            assert ready(house) == (503, ["ledger"])
            assert b"somewhere" not in house.call("GET", "/readyz").body
        finally:
            service.books = books
        assert ready(house) == (200, [])
        service.books = Unwell(books)
        try:
            assert ready(house) == (200, ["ledger"])  # the grace begins anew
        finally:
            service.books = books


def test_a_disk_that_takes_no_calls_is_a_reason_at_once(tmp_path: Path) -> None:
    with served(tmp_path) as house:
        books, key = house.state["service"].books, house.key()
        journal, writer = books._journal, books._writer
        books._journal = Full()
        writer._succeeded = lambda trade: None  # the database's disk is the same
        writer._error = StoreError("store.full", where="/somewhere")
        try:
            assert house.chat(key).status == 503
            assert ready(house) == (503, ["ledger"])
        finally:
            books._journal, writer._error = journal, None
            del writer._succeeded
        assert ready(house) == (200, [])
        assert house.chat(key).status == 200


class Full:
    """A journal without room."""

    def opened(self, id: str, payload: bytes) -> None:
        raise StoreError("store.full", where="/somewhere")


def test_without_a_grace_the_first_trouble_is_a_reason(tmp_path: Path) -> None:
    with served(tmp_path, TOML + "[serve]\nready_grace_s = 0\n") as house:
        service = house.state["service"]
        service.keyring.trouble = StoreError("store.failed", where="/somewhere", problem="broken")
        assert ready(house) == (503, ["keys"])


class Unwell:
    """Books that do not reach their database."""

    def __init__(self, books: Any) -> None:
        self._books = books

    def health(self) -> Health:
        problem = StoreError("store.failed", where="/somewhere", problem="broken")
        return Health(False, 1, str(problem), 3, 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._books, name)


def test_a_process_that_stops_wants_no_more_calls(tmp_path: Path) -> None:
    with served(tmp_path) as house:
        house.state["service"].gateway.stopping = True
        assert ready(house) == (503, ["stopping"])


def test_it_is_not_ready_while_no_model_that_it_offers_answers(tmp_path: Path) -> None:
    with served(tmp_path, DOWN) as house:
        credential = house.key()
        assert ready(house) == (200, [])  # nobody has tried yet
        assert house.chat(credential, model="only").status == 502
        assert ready(house) == (503, ["models"])
        shown = house.call("GET", "/api/health", house.key(role="admin")).data
        assert shown["status"] == "not ready" and len(shown["trouble"]) == 1


def test_one_model_that_answers_is_enough(tmp_path: Path) -> None:
    toml = DOWN.replace('["down/model"]', '["down/model", "up/model"]')
    with served(tmp_path, toml) as house:
        credential = house.key()
        assert house.chat(credential, model="only").status == 200
        assert ready(house) == (200, [])
        gauge = next(
            line
            for line in house.call("GET", "/metrics", house.key(role="viewer")).body.decode().splitlines()
            if "upstream_state{" in line
        )
        assert gauge.startswith('baimo_upstream_state{model="down/model",vendor="down"} 2')


def test_a_changed_log_setting_is_followed(tmp_path: Path) -> None:
    with served(tmp_path) as house:
        watching = house.state["watching"]
        assert not watching._access
        (tmp_path / "baimo.toml").write_text(TOML + "[observe]\naccess_log = true\n")
        deadline = time.monotonic() + PATIENCE_S
        while not watching._access:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_kind_of_personal_data_that_nothing_looks_for_is_refused_at_start() -> None:
    checked_masking(Settings(policy=PolicySettings(pii="mask", pii_kinds=["email", "cn_id"])))
    with pytest.raises(ConfigError, match="e-mail") as caught:
        checked_masking(Settings(policy=PolicySettings(pii="mask", pii_kinds=["e-mail"])))
    assert "cn_id" in caught.value.hint
