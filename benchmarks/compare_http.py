"""The whole comparison over HTTP: 51 recorded models behind a server, the real command line in front of it.

    python benchmarks/compare_http.py --data shared/data [--only clean faults priced]

Truth is the full board: our own scorer over every recorded reply, computed offline. Checked in each case: the winner is
the best of the full board (within epsilon where the board ties), every sample that was judged has exactly the offline
score of that recorded reply, a failed call is `failed` and never a wrong answer, and the ledger holds as many attempts
as the server saw requests. Cases: `clean` (20 ms per answer), `faults` (5 % of requests run into 429, 500, truncated,
malformed, reset, slow), `priced` (every model gets a price drawn from the catalogue; cheapest within 0.05 of the best),
`guaranteed` (the other assurance).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from pathlib import Path
from typing import Any

from http_board import Ended, Upstream, baimo, rows, save, upstream, write_settings, write_task
from priced_boards import catalogue_rates

from baimo.core.call import Completion
from baimo.core.task import Task
from baimo.evals.scorers.registry import scorer
from baimo.evals.tasks.folder import load_task
from baimo.store.engine import Database
from baimo.store.store import Store


def drawn_prices(models: list[str], seed: int) -> dict[str, tuple[float, float]]:
    """USD per million tokens in and out: each model is given the price of one model of the catalogue, at random."""
    return dict(zip(models, random.Random(seed).sample(catalogue_rates(), len(models)), strict=True))


def offline(data: Path, task: Task) -> dict[str, dict[str, float]]:
    """model → example → lenient score of its recorded reply, by the task's own scorer."""
    examples = {example.id: example for example in task.examples}
    judge = scorer(task.scorers[0], folder=Path(task.folder))
    board: dict[str, dict[str, float]] = {}

    async def scored() -> None:
        for row in rows(data / "zeroeval_crux_replies.jsonl.gz"):
            score = await judge.score(examples[row["id"]], Completion(text=row["reply"]))
            assert score.lenient is not None
            board.setdefault(row["model"], {})[row["id"]] = score.lenient

    asyncio.run(scored())
    return board


def checked(
    folder: Path, ended: Ended, server: Upstream, board: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Figures of one run, after every promise was held against the offline board, the ledger and the server's log."""
    if ended.code:
        raise SystemExit(f"baimo ended with {ended.code}:\n{ended.err}")
    verdict = ended.verdict
    means = {model: sum(scores.values()) / len(scores) for model, scores in board.items()}
    best = max(means, key=lambda model: means[model])
    chosen = str(verdict["winner"]).removeprefix("board/")
    store = Store(Database(str(folder / ".baimo" / "baimo.db")))
    samples = store.samples(verdict["run"]["id"])
    records = list(store.records(run=verdict["run"]["id"]))
    store.close()
    failed = [sample for sample in samples if sample.error]
    for sample in samples:
        if not sample.error:
            known = board[sample.candidate.removeprefix("board/")][sample.example]
            assert sample.score.lenient == known, (sample, known)
        else:
            assert sample.score.lenient is None and sample.score.outcome == "failed", sample
    stats = server.stats()
    attempts = sum(record.attempts for record in records)
    assert attempts == stats["requests"], (attempts, stats["requests"])
    return {
        "models": len(board),
        "examples": verdict["examples"],
        "assurance": verdict["assurance"],
        "decision": verdict["decision"],
        "epsilon": verdict["epsilon"],
        "winner": chosen,
        "best": best,
        "regret": round(means[best] - means[chosen], 4),
        "stopped": verdict["stopped"],
        "calls": verdict["calls"],
        "share": round(verdict["calls"] / verdict["calls_exhaustive"], 4),
        "failed_samples": len(failed),
        "requests_upstream": stats["requests"],
        "outcomes": stats["outcomes"],
        "cost_usd": None if verdict["cost_micros"] is None else verdict["cost_micros"] / 1e6,
        "cost_exhaustive_usd": None
        if verdict["cost_exhaustive_micros"] is None
        else verdict["cost_exhaustive_micros"] / 1e6,
        "forecast_calls": verdict["forecast"]["calls"],
        "wall_s": round(ended.wall_s, 2),
        "comparing_s": round(60 * verdict["minutes"], 2),
        "calls_per_s": round(verdict["calls"] / (60 * verdict["minutes"]), 1),
        "cpu_s": round(ended.cpu_s, 2),
        "peak_mib": round(ended.peak_mib, 1),
    }


def case(name: str, data: Path, board: dict[str, dict[str, float]], given: argparse.Namespace) -> None:
    """One case from an empty workspace to a saved line."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_task(folder / "task", data / "zeroeval_crux_prompts.jsonl")
        faults = 0.05 if name == "faults" else 0.0
        server_options = {"latency_ms": given.latency_ms, "faults": faults, "slow_ms": given.slow_ms}
        with upstream(folder, data, **server_options) as server:
            prices = drawn_prices(sorted(board), given.seed)
            write_settings(
                folder,
                server.address,
                concurrency=given.concurrency,
                prices=prices if name == "priced" else None,
            )
            options = [option for model in board for option in ("--model", f"board/{model}")]
            if name == "priced":
                options += ["--decision", "cheapest", "--epsilon", "0.05"]
            if name == "guaranteed":
                options += ["--assurance", "guaranteed"]
            ended = baimo(folder, "compare", "task", "--json", "--quiet", "--seed", str(given.seed), *options)
            figures = checked(folder, ended, server, board)
    if name == "priced":
        means = {model: sum(scores.values()) / len(scores) for model, scores in board.items()}
        good = [model for model in means if means[model] >= max(means.values()) - 0.05]
        figures["within_epsilon"] = {model: prices[model] for model in good}
    settings = {"latency_ms": given.latency_ms, "concurrency": given.concurrency, "seed": given.seed}
    save("compare_http", {"case": name, **settings, **figures})


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the recorded board")
    parser.add_argument("--only", nargs="+", default=["clean", "faults", "priced", "guaranteed"])
    parser.add_argument("--latency-ms", type=float, default=20)
    parser.add_argument("--slow-ms", type=float, default=2000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        write_task(Path(place) / "task", given.data / "zeroeval_crux_prompts.jsonl")
        board = offline(given.data, load_task(Path(place) / "task"))
    for name in given.only:
        case(name, given.data, board, given)


if __name__ == "__main__":
    main()
