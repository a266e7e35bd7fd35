from __future__ import annotations

from typing import Any

from baimo.errors import BaimoError
from baimo.gateway.call import Call, Grant
from baimo.gateway.observe import Silent
from tests.gateway.doubles import House, Script, answer, asking, key


class Noting(Silent):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def admitted(self, call: Call, grant: Grant) -> None:
        self.told.append(("admitted", grant.entry.model))

    def settled(self, call: Call, grant: Grant, entry: Any, overhead_s: float) -> None:
        assert overhead_s >= 0
        self.told.append(("settled", entry.status, entry.route))

    def refused(self, error: BaimoError, surface: str, key: Any, tenant: Any, asked: Any) -> None:
        self.told.append(("refused", error.key, surface))
        assert (asked.request_id, asked.began > 0) == ("req-1", True)

    def attempt_failed(self, grant: Grant, model: str, error: BaimoError, kind: str, unsure: int) -> None:
        self.told.append(("failed", model, error.key, kind))

    def breaker(self, model: str, state: Any) -> None:
        self.told.append(("breaker", model, state))


def test_an_observer_is_told_of_everything_once_and_in_order() -> None:
    noting = Noting()
    house = House(
        by_model={"one": Script(status=500, body=b"x"), "three": Script(body=answer())},
        config={"routes": {"best": {"models": ["acme/one", "bolt/three"]}}, "serve": {"breaker_failures": 1}},
        observer=noting,
    )
    house.ask(asking("best"))
    assert noting.told == [
        ("admitted", "acme/one"),
        ("breaker", "acme/one", "open"),
        ("failed", "acme/one", "providers.server_error", "error"),
        ("settled", "ok", "fallback:error"),
    ]
    noting.told.clear()
    house.ask(asking("nobody"), key=key(models=("acme/*",)))
    assert noting.told == [("refused", "gateway.unknown", "chat")]
