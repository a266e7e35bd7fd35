"""`kill -9` under load with `ledger.durability = "answer"`: who was answered is in the ledger, and nothing leaks."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.e2e.clients import PATHS, Answer, asked, post
from tests.e2e.killing import House, house, killed, moments
from tests.serving import Endpoint
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.xdist_group("kill")


def stands(made: House, endpoint: Endpoint) -> None:
    """After a drain: no lease is left, limits are charged what Records say, and the ledger agrees with itself."""
    assert endpoint.rows("SELECT * FROM leases") == []
    assert endpoint.rows("SELECT * FROM holders") == []
    columns = {"cost": "charged_micros", "tokens": "charged_tokens", "requests": "1", "concurrency": "0"}
    used: dict[str, int] = {}
    for bucket, amount in endpoint.rows("SELECT bucket, used FROM meters"):
        counts = bucket.split(":")[2]
        used[counts] = used.get(counts, 0) + amount
    assert used == {
        counts: endpoint.rows(f"SELECT SUM({column}) FROM records")[0][0]
        for counts, column in columns.items()
    }
    verified = endpoint.baimo("ledger", "verify")
    assert verified["ok"], json.dumps(verified, indent=1)


@pytest.mark.slow
def test_every_call_that_was_answered_before_a_kill_has_its_record_and_nothing_stays_reserved(
    tmp_path: Path,
) -> None:
    with house(tmp_path / "w") as made:
        planned = moments(3, seed=3)
        seen = list(killed(made, planned))
        assert [moment for moment, _ in seen] == planned
        for moment, found in seen:
            assert not any(found.wrong), (moment, found)
        assert seen[-1][1].answered >= sum(moment.answers for moment in planned)
        assert seen[-1][1].interrupted > 0
        with made.serving(1) as endpoint:
            pass
        stands(made, endpoint)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_is_told_to_stop_ends_its_calls_first(tmp_path: Path, workers: int) -> None:
    with house(tmp_path / "w") as made:
        made.model.delay_s = 0.15
        bodies = [asked("chat", "mock/model", f"say {n}", stream=n % 2 == 0, most=64) for n in range(40)]
        with made.serving(workers) as endpoint:

            async def stopped() -> list[Answer]:
                calls = [
                    asyncio.create_task(post(endpoint, PATHS["chat"], made.key, body)) for body in bodies
                ]
                while sum(made.model.asked.values()) < len(bodies):  # noqa: ASYNC110 - it is in another thread
                    await asyncio.sleep(0.01)
                endpoint.process.terminate()
                return await asyncio.gather(*calls)

            answers = asyncio.run(stopped())
            assert [(answer.status, answer.whole) for answer in answers] == [(200, True)] * len(bodies)
            assert endpoint.process.wait(PATIENCE_S) in (0, -signal.SIGTERM)
        assert [record["status"] for record in endpoint.records()] == ["ok"] * len(bodies)
        stands(made, endpoint)
