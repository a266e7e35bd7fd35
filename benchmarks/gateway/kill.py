"""`kill -9` under load: has every call that was answered its Record, and does anything stay reserved?

    python benchmarks/gateway/kill.py [--kills 20] [--seed 0]

A real `baimo serve` with `ledger.durability = "answer"` and limits on money, tokens, requests and concurrency is killed
at random moments under the load of 24 clients with distinct calls, whole and streamed, on four surfaces: all of a
server of one process, one of two workers, all of a server of two, in turn, always over the same ledger. After each
kill the books are compared with what the clients saw answered and what the model's server was asked. At the end the
server is drained and the ledger verified. Appends a record to results/gateway.jsonl.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from machine import save, where

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.e2e.killing import house, killed, moments


def main() -> None:
    """Read the command line and kill."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    begun, began = {"mode": "kill", **where()}, time.monotonic()
    wrong, last = 0, None
    with tempfile.TemporaryDirectory() as place, house(Path(place) / "w") as made:
        for number, (moment, last) in enumerate(killed(made, moments(given.kills, given.seed)), 1):
            what = "one of 2 workers" if moment.one else f"all of {moment.workers}"
            print(f"{number:3}  {what:16} answered {last.answered:6}  {last}", flush=True)
            wrong += any(last.wrong)
        with made.serving(1) as endpoint:
            pass
        leases = len(endpoint.rows("SELECT * FROM leases"))
        verified = endpoint.baimo("ledger", "verify")["ok"]
    assert last is not None
    row = {"kills": given.kills, "seed": given.seed, **last._asdict(), "kills_with_a_fault": wrong}
    row |= {"leases_after_drain": leases, "verified": verified, "seconds": round(time.monotonic() - began, 1)}
    print(row)
    save(begun | row)
    if wrong or leases or not verified:
        raise SystemExit("the books are not right")


if __name__ == "__main__":
    main()
