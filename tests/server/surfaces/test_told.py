from __future__ import annotations

import logging
from pathlib import Path

import pytest

from baimo.errors import AuthenticationFailed, BaimoError, StoreError, Unreachable
from baimo.providers.faults import Place, http_fault
from baimo.server.surfaces.openai_errors import error_object
from tests.server.served import TOML, served
from tests.server.upstream import upstream

PLACE = Place(host="10.0.0.5:8000", model="acme/small", key="file:/run/secrets/acme")
REFUSED = "[Errno 111] Connect call failed ('10.0.0.5', 8000)"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            http_fault(502, {}, b"<html>nginx at 10.0.0.5</html>", PLACE, 0),
            "acme failed while answering for acme/small (HTTP 502): –",
        ),
        (http_fault(404, {}, b"<html>10.0.0.5</html>", PLACE, 0), "acme knows neither this path"),
        (
            http_fault(400, {}, b'{"error": {"message": "too hot"}}', PLACE, 0),
            "acme refuses the request for acme/small (HTTP 400): too hot",
        ),
        (
            http_fault(401, {}, b'{"error": {"message": "bad"}}', PLACE, 0),
            "check the key in [providers.acme]",
        ),
        (
            Unreachable(
                "wire.refused",
                sent=False,
                stage="connect",
                host="10.0.0.5:8000",
                problem=REFUSED,
                model="acme/small",
            ),
            "acme/small cannot be reached: connect",
        ),
        (
            Unreachable("wire.reset", stage="body", host="10.0.0.5:8000", problem="x"),
            "the connection to the model's server broke",
        ),
        (
            StoreError("store.unreachable", where="postgresql://baimo@10.0.0.5/baimo", problem="no"),
            "try again in a moment",
        ),
    ],
)
def test_clients_are_told_names_and_no_addresses(error: BaimoError, message: str) -> None:
    shown = error_object(error)["message"]
    assert shown is not None and message in shown
    assert "10.0.0.5" not in shown and "html" not in shown and "/run/secrets" not in shown


def test_the_log_has_what_clients_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        error_object(StoreError("store.unreachable", where="postgresql://db/baimo", problem="no"))
    assert "postgresql://db/baimo" in caplog.text


def test_an_error_stays_what_it_is() -> None:
    error = AuthenticationFailed(
        "providers.key_refused", host="h", model="m", key="–", status=401, detail="d"
    )
    error.http_status = 418
    assert error_object(error)["code"] == "upstream_key_refused"


def test_a_server_that_fails_is_named_by_its_model(tmp_path: Path) -> None:
    with upstream() as server:
        where = f'base_url = "http://127.0.0.1:{server.port}/v1"\ninside = true\n'
        toml = TOML + f"[providers.near]\n{where}[serve]\nretries = 0\n"
        with served(tmp_path, toml + '[providers.gone]\nbase_url = "http://127.0.0.1:9/v1"\n') as house:
            server.status = 500
            failed = house.chat(house.key(), model="near/x").data["error"]["message"]
            gone = house.chat(house.key(), model="gone/x").data["error"]["message"]
    assert "near failed while answering for near/x" in failed
    assert "gone/x cannot be reached: connect" in gone
    assert "127.0.0.1" not in failed + gone
