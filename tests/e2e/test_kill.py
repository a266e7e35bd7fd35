"""`kill -9` under load with `ledger.durability = "answer"`: who was answered is in the ledger, and nothing leaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.killing import House, house, killed, moments
from tests.serving import Endpoint

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
        planned = moments(5, seed=3)
        seen = list(killed(made, planned))
        assert [moment for moment, _ in seen] == planned
        for moment, found in seen:
            assert not any(found.wrong), (moment, found)
        assert seen[-1][1].answered >= sum(moment.answers for moment in planned)
        assert seen[-1][1].interrupted > 0
        with made.serving(1) as endpoint:
            pass
        stands(made, endpoint)
