"""How little must be paid for a decision, and how often is it wrong? Replays the product's own engine on known boards.

    python benchmarks/decision_cost.py --matrix board.npz --epsilon 0.01 --delta 0.05 --replays 200 --json

A board file holds `scores` float32 [models, examples] in [0, 1], NaN = missing, and optionally `cost_usd` of the same
shape and `groups` [examples]. Each replay draws another order of the examples, buys what the engine proposes in
batches, and stops when the engine says so. An error is a chosen model worse than best - epsilon.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from baselines import oracle_budgets, wrong_choices
from numpy.typing import NDArray

from baimo.evals.engine import Engine

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What one replay is asked."""

    epsilon: float
    delta: float
    assurance: Any
    decision: Any
    target: Any
    batch: int
    by_money: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBoard:
    """A board of which every cell is known."""

    name: str
    scores: NDArray[np.float64]
    cost_usd: NDArray[np.float64] | None
    groups: NDArray[np.int64] | None


class Replay(NamedTuple):
    """One decision."""

    calls: float
    money: float | None
    wrong: bool
    milliseconds: float
    batches: int


def read_board(path: Path) -> KnownBoard:
    with np.load(path, allow_pickle=False) as file:
        cost = file["cost_usd"].astype(float) if "cost_usd" in file else None
        groups = np.unique(file["groups"], return_inverse=True)[1] if "groups" in file else None
        return KnownBoard(name=path.stem, scores=file["scores"].astype(float), cost_usd=cost, groups=groups)


def replay(seed: int, board: KnownBoard, setting: Setting) -> Replay:
    """Run one engine to its end; milliseconds of engine time (proposing, observing, standing) per batch."""
    scores, cost = board.scores, board.cost_usd
    price = np.nanmean(cost, axis=1) if cost is not None and setting.by_money else None
    began = time.perf_counter()
    engine = Engine(
        candidates=scores.shape[0],
        examples=scores.shape[1],
        epsilon=setting.epsilon,
        delta=setting.delta,
        assurance=setting.assurance,
        decision=setting.decision,
        target=setting.target,
        cost=price,
        groups=board.groups,
        seed=seed,
    )
    batches, calls, money = 0, 0, 0.0
    while not engine.done and (cells := engine.propose(setting.batch)):
        batches += 1
        calls += len(cells)
        for cell in cells:
            score = scores[cell]
            paid = None if cost is None else float(np.nan_to_num(cost[cell]))
            money += paid or 0.0
            engine.observe(cell, None if np.isnan(score) else float(score), paid)
    elapsed = (time.perf_counter() - began) * 1000.0
    wrong = wrong_choices(scores, setting.epsilon)[engine.standing().leader]
    share = None if cost is None else money / float(np.nansum(cost))
    return Replay(calls / scores.size, share, bool(wrong), elapsed / max(batches, 1), batches)


def replays(board: KnownBoard, setting: Setting, count: int, processes: int) -> list[Replay]:
    work = partial(replay, board=board, setting=setting)
    if processes < 2:
        return [work(seed) for seed in range(count)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return pool.map(work, range(count), chunksize=max(1, count // (4 * processes)))


def summary(board: KnownBoard, setting: Setting, found: list[Replay]) -> dict[str, Any]:
    calls = np.array([one.calls for one in found])
    money = [one.money for one in found if one.money is not None]
    return {
        "board": board.name,
        "models": int(board.scores.shape[0]),
        "examples": int(board.scores.shape[1]),
        "assurance": setting.assurance,
        "replays": len(found),
        "error_rate": float(np.mean([one.wrong for one in found])),
        "calls_median": float(np.median(calls)),
        "calls_p90": float(np.quantile(calls, 0.9)),
        "money_median": float(np.median(money)) if money else None,
        "engine_ms_per_decision": float(np.median([one.milliseconds for one in found])),
        "baselines": {"uniform": None, "ucb_e": None, "sysrs": None},
    }


def record(name: str, rows: list[dict[str, Any]], facts: dict[str, Any]) -> None:
    """Append rows to benchmarks/results/NAME.jsonl with machine, commit and date."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=RESULTS
    )
    where = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()} {platform.system()} python {platform.python_version()}",
    }
    with (RESULTS / f"{name}.jsonl").open("a") as file:
        file.writelines(json.dumps({**where, **facts, **row}) + "\n" for row in rows)


def table(rows: list[dict[str, Any]]) -> str:
    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.2f} %"

    lines = [f"{'board':34}{'size':>11}{'delta':>7}{'error':>8}{'calls':>9}{'p90':>9}{'money':>9}{'ms':>6}"]
    lines[0] += f"{'uniform':>10}{'UCB-E':>9}{'SySRs':>9}"
    for row in rows:
        size, base = f"{row['models']}x{row['examples']}", row["baselines"]
        lines.append(
            f"{row['board'][:33]:34}{size:>11}{row.get('delta', ''):>7}{row['error_rate']:8.3f}"
            f"{share(row['calls_median']):>9}{share(row['calls_p90']):>9}{share(row['money_median']):>9}"
            f"{row['engine_ms_per_decision']:6.2f}"
            + "".join(
                f"{share(base[key]):>{width}}" for key, width in (("uniform", 10), ("ucb_e", 9), ("sysrs", 9))
            )
        )
    return "\n".join(lines)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--matrix", type=Path, nargs="+", required=True)
    parser.add_argument("--epsilon", type=float, default=0.01)
    parser.add_argument("--delta", type=float, default=0.05)
    parser.add_argument("--assurance", choices=["calibrated", "guaranteed"], default="calibrated")
    parser.add_argument("--decision", choices=["best", "cheapest"], default="best")
    parser.add_argument("--target", choices=["set", "population"], default="set")
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument(
        "--batch", type=int, default=64, help="the most answers bought at once; 1 = look after each"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--calibration", action="store_true", help="error for delta 0.01, 0.05, 0.1 and 0.2")
    parser.add_argument(
        "--calls-only", action="store_true", help="hide prices from the engine; money is still counted"
    )
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument("--record", metavar="NAME", help="append to benchmarks/results/NAME.jsonl")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    args = options()
    rows: list[dict[str, Any]] = []
    for path in args.matrix:
        board = read_board(path)
        base = None
        if not (args.no_baselines or args.calibration):
            base = oracle_budgets(board.scores, epsilon=args.epsilon, delta=args.delta, replays=args.replays)
        for delta in (0.01, 0.05, 0.1, 0.2) if args.calibration else (args.delta,):
            setting = Setting(
                epsilon=args.epsilon,
                delta=delta,
                assurance=args.assurance,
                decision=args.decision,
                target=args.target,
                batch=args.batch,
                by_money=not args.calls_only,
            )
            row = summary(board, setting, replays(board, setting, args.replays, args.processes))
            row["baselines"] = base or row["baselines"]
            if args.calibration:
                row["delta"] = delta
            rows.append(row)
            if not args.json:
                print(table([row]) if len(rows) == 1 else table([row]).splitlines()[1], flush=True)
    if args.record:
        facts = {"epsilon": args.epsilon, "delta": args.delta, "decision": args.decision, "batch": args.batch}
        record(args.record, rows, {**facts, "target": args.target, "by_money": not args.calls_only})
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
