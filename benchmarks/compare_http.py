"""The whole comparison over HTTP: 51 recorded models behind a server, the real command line in front of it.

    python benchmarks/compare_http.py --data shared/data [--only clean faults priced]

Truth is the full board: our own scorer over every recorded reply, computed offline. Checked in each case: the winner is
the best of the full board (within epsilon where the board ties), every sample that was judged has exactly the offline
score of that recorded reply, a failed call is `failed` and never a wrong answer, and the ledger holds as many attempts
as the server saw requests. Cases: `clean` (20 ms per answer), `faults` (5 % of requests run into 429, 500, truncated,
malformed, reset, slow), `priced` (prices from the catalogue of public prices; cheapest within 0.05 of the best),
`guaranteed` (the other assurance).
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

from http_board import Ended, Upstream, baimo, rows, save, upstream, write_settings, write_task

from baimo.core.call import Completion
from baimo.core.task import Task
from baimo.evals.scorers.registry import scorer
from baimo.evals.tasks.folder import load_task
from baimo.store.engine import Database
from baimo.store.store import Store

PRICES = {
    # USD per million tokens in and out, as the vendors listed them when the replies were recorded (2024);
    # for the open models the usual price of a hosted copy by size
    "o1-preview": (15, 60), "o1-mini": (3, 12), "chatgpt-4o": (5, 15), "gpt-4o-2024-05": (5, 15),
    "gpt-4o-mini": (0.15, 0.6), "gpt-4o": (2.5, 10), "gpt-4-turbo": (10, 30), "gpt-4-0": (30, 60),
    "gpt-3.5": (0.5, 1.5), "claude-3-opus": (15, 75), "claude-3-5-haiku": (1, 5), "claude-3-haiku": (0.25, 1.25),
    "claude": (3, 15), "gemini-1.5-flash": (0.075, 0.3), "gemini-1.5-pro": (1.25, 5), "grok": (2, 10),
    "Mistral-Large": (2, 6), "Mixtral": (0.5, 0.5), "deepseek": (0.14, 0.28), "reka-core": (3, 15), "reka": (0.8, 2),
    "yi-large": (3, 3), "405B": (3, 3), "70B": (0.8, 0.8), "72B": (0.8, 0.8), "34B": (0.6, 0.6), "32B": (0.6, 0.6),
    "27b": (0.3, 0.3),
}  # fmt: skip
SMALL = (0.1, 0.1)


def price(model: str) -> tuple[float, float]:
    """Dollars per million tokens in and out."""
    return next((rate for part, rate in PRICES.items() if part in model), SMALL)


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
            prices = {model: price(model) for model in board} if name == "priced" else None
            write_settings(folder, server.address, concurrency=given.concurrency, prices=prices)
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
        figures["within_epsilon"] = {model: price(model) for model in good}
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
