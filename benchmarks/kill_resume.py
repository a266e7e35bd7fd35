"""`kill -9` in mid-run, again and again: is anything paid twice, and is the verdict the same?

    python benchmarks/kill_resume.py --data shared/data [--kills 10] [--latency-ms 20] [--faults 0.0]

One uninterrupted run gives the verdict to be met. Then, each time in an empty workspace, the same command is killed
when the server has seen a random (seeded) number of requests, and is given again: as it was, or as `--resume last`;
the last trial is killed three times. Checked against the server's log and the database as the kill left it: whatever
the server answered twice was under way at a kill (so its first answer never arrived), and winner, tiers, scores,
intervals and calls per candidate are those of the uninterrupted run.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from http_board import Ended, Upstream, baimo, rows, save, upstream, write_settings, write_task

from baimo.store.engine import Database
from baimo.store.store import Store

RESUME = ("compare", "--resume", "last", "--json", "--quiet")


def essence(verdict: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on a kill."""
    lines = verdict["standings"]
    kept = ("candidate", "tier", "score", "interval", "right", "wrong", "malformed", "unscored", "calls")
    figures = ("winner", "certain", "stopped", "calls", "error_bound", "cost_exhaustive_micros")
    return {
        **{name: verdict[name] for name in figures},
        "standings": [{name: line[name] for name in kept} for line in lines],
    }


def cells(served: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """How often each cell was answered well."""
    return Counter((row["model"], row["example"]) for row in served if row["outcome"] == "ok")


def in_store(folder: Path, examples: dict[str, str]) -> set[tuple[str, str]]:
    """Cells whose answers the database holds; read without a change to what the kill left."""
    path = folder / ".baimo" / "baimo.db"
    if not path.is_file():
        return set()
    store = Store(Database(str(path)))
    hashes = {record.request_hash for record in store.records() if record.status == "ok"}
    answers = store.answers(hashes).values()
    store.close()
    return {(answer.request.model, examples[str(answer.request.messages[-1].content)]) for answer in answers}


def killed_after(server: Upstream, requests: int) -> Any:
    """Whether the server has seen so many requests since now."""
    file = server.log.open("rb")
    file.seek(0, 2)
    seen = 0

    def reached() -> bool:
        nonlocal seen
        seen += file.read().count(b"\n")
        return seen >= requests

    return reached


def trial(
    folder: Path,
    server: Upstream,
    command: tuple[str, ...],
    moments: list[int],
    examples: dict[str, str],
    *,
    resume: bool,
) -> tuple[Ended, dict[str, Any]]:
    """Kill at each moment, then let it end; the figures say what was bought twice."""
    before = len(server.served())
    under_way = Counter[tuple[str, str]]()
    kept_at_kill: list[int] = []
    for life, moment in enumerate(moments):
        start = len(server.served())
        killed = baimo(
            folder, *(RESUME if resume and life else command), kill_when=killed_after(server, moment)
        )
        if killed.code != -9:
            raise SystemExit(f"it ended with {killed.code} before the kill:\n{killed.err}")
        stored = in_store(folder, examples)
        kept_at_kill.append(len(stored))
        under_way.update(cell for cell in cells(server.served()[start:]).elements() if cell not in stored)
    ended = baimo(folder, *(RESUME if resume else command))
    if ended.code:
        raise SystemExit(f"baimo ended with {ended.code}:\n{ended.err}")
    answered = cells(server.served()[before:])
    twice = Counter({cell: count - 1 for cell, count in answered.items() if count > 1})
    paid_twice = twice - under_way
    assert not paid_twice, paid_twice
    return ended, {
        "killed_after_requests": moments,
        "again_with": "--resume last" if resume else "the same command",
        "stored_at_kill": kept_at_kill,
        "under_way_at_kill": under_way.total(),
        "answered_twice": twice.total(),
        "answered_twice_though_stored": paid_twice.total(),
        "requests": sum(answered.values()),
        "calls_paid_by_last_life": ended.verdict["calls_paid"],
    }


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the recorded board")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--latency-ms", type=float, default=20)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_task(root / "task", given.data / "zeroeval_crux_prompts.jsonl")
        examples = {row["prompt"]: row["id"] for row in rows(root / "task" / "test.jsonl")}
        models = sorted({row["model"] for row in rows(given.data / "zeroeval_crux_replies.jsonl.gz")})
        options = [option for model in models for option in ("--model", f"board/{model}")]
        command = ("compare", str(root / "task"), "--json", "--quiet", *options)
        with upstream(
            root, given.data, latency_ms=given.latency_ms, faults=given.faults, slow_ms=500
        ) as server:

            def workspace(name: str) -> Path:
                (root / name).mkdir()
                write_settings(root / name, server.address, concurrency=16)
                return root / name

            whole = baimo(workspace("whole"), *command)
            wanted = essence(whole.verdict)
            paid = whole.verdict["calls_paid"]
            equal = 0
            for number in range(given.kills):
                resume = number % 2 == 1
                last = number == given.kills - 1
                moments = (
                    [chance.randint(1, paid // 4) for _ in range(3)]
                    if last
                    else [chance.randint(1, paid - 20)]
                )
                ended, figures = trial(
                    workspace(f"trial-{number}"), server, command, moments, examples, resume=resume
                )
                same = essence(ended.verdict) == wanted
                equal += same
                save(
                    "kill_resume",
                    {"trial": number, **figures, "verdict_equal": same, "calls": wanted["calls"]},
                )
    if equal < given.kills:
        raise SystemExit(f"{given.kills - equal} of {given.kills} verdicts differ from the uninterrupted one")


if __name__ == "__main__":
    main()
