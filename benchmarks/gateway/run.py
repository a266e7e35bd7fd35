"""The gateway beside its peers, on one core: latency added, requests/s, stream chunks/s, memory, CPU per request.

    python benchmarks/gateway/run.py [table] [--only nginx,baimo] [--rounds 5] [--seconds 5] [--quick]
    python benchmarks/gateway/run.py workers|ablations|memory|idle|instructions
    python benchmarks/gateway/run.py trace --arrivals azure_llm_2023_conv.csv

Builds the C tools (mock upstream, load client), installs the peers into environments of their own (--peers), starts
everything on loopback with fake keys, and pins the gateways to one core (--gateway-cores), load and mock to another
(--load-cores). All gateways run from the start, but only one is awake at a time; their order turns with each round.
Prints the table and appends one record to results/gateway.jsonl, with what could not be measured, and why.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import modes
import peers
from figures import medians, ratio_lines, ratios, table
from fleet import NAMES, awake, crowd, faults, milliseconds, running, turned
from machine import Bench, Target, build_tools, loaded, mock, save, where

COMPARED = ("nginx", "TensorZero", "LiteLLM")
"""Whom the ratios are stated against."""


def main() -> None:
    """Read the command line, measure, print, record."""
    given = _options()
    row: dict[str, Any] = {**where(), "mode": given.mode, "note": given.note}
    with tempfile.TemporaryDirectory(prefix="gateway-") as work:
        bench = _bench(given, Path(work))
        row |= {"gateway_cores": bench.gateway_cores, "load_cores": bench.load_cores}
        build_tools(bench.tools)
        row |= {"table": _table, **modes.MODES}[given.mode](bench, given)
    row["load_average_after"] = round(os.getloadavg()[0], 2)
    if not given.no_record:
        save(row)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", nargs="?", default="table", choices=["table", *modes.MODES])
    parser.add_argument("--only", default="", help="comma-separated: baimo, " + ", ".join(peers.PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load, after a warm-up")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument("--peers", type=Path, default=_cache(), help="folder of the peers' environments")
    parser.add_argument("--gateway-cores", default="", help="as taskset takes them (default 0)")
    parser.add_argument("--load-cores", default="", help="of load client and mock (default 1)")
    parser.add_argument("--workers", type=int, default=2, help="for the mode workers")
    parser.add_argument("--requests", type=int, default=1_000_000, help="for the mode memory")
    parser.add_argument("--connections", type=int, default=10_000, help="for the mode idle")
    parser.add_argument(
        "--arrivals", type=Path, help="for the mode trace: TIMESTAMP,ContextTokens,GeneratedTokens"
    )
    parser.add_argument(
        "--rate", type=float, help="for the mode trace: mean requests/s, instead of half a capacity"
    )
    parser.add_argument("--stream", action="store_true", help="for the mode trace: streamed answers")
    parser.add_argument("--note", default="", help="goes into the record")
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds = 1, 1.0
    given.only = [name for name in given.only.split(",") if name]
    if unknown := set(given.only) - {"baimo", *peers.PEERS}:
        parser.error(f"--only knows baimo, {', '.join(peers.PEERS)}; not {', '.join(sorted(unknown))}")
    if given.mode == "trace" and not given.arrivals:
        parser.error("the mode trace needs --arrivals FILE")
    return given


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "baimo-benchmarks"


def _bench(given: argparse.Namespace, work: Path) -> Bench:
    enough = (os.cpu_count() or 1) >= 4
    several = given.mode == "workers"
    gateway = given.gateway_cores or ("0,1" if several else "0")
    load = given.load_cores or (("2,3" if enough else "0,1") if several else "1")
    folder = given.peers.resolve()
    return Bench(tools=folder / "tools", peers=folder, work=work, gateway_cores=gateway, load_cores=load)


def measured(bench: Bench, target: Target, seconds: float) -> dict[str, Any]:
    """One gateway's figures in one round, and what went wrong."""
    alone = loaded(bench, target, concurrency=1, seconds=seconds)
    many = crowd(bench, target, concurrency=32, seconds=seconds)
    stream = crowd(bench, target, concurrency=32, seconds=seconds, stream=True)
    return {
        "p50_ms": milliseconds(alone, "p50_us"),
        "requests_per_s": many["requests_per_s"] or None,
        "p99_ms": milliseconds(many, "p99_us"),
        "chunks_per_s": stream["chunks_per_s"] or None,
        "memory_mb": round(target.process.memory_bytes() / 1e6, 1) if target.process else None,
        "cpu_us": many["cpu_us"],
        "stream_cpu_us": stream["cpu_us"],
        "faults": faults({"c=1": alone, "c=32": many, "stream": stream}),
    }


def _table(bench: Bench, given: argparse.Namespace) -> dict[str, Any]:
    """The table of latencies and rates, with ratios."""
    with mock(bench) as upstream, running(bench, upstream, given.only or NAMES) as fleet:
        direct = Target(name="direct", port=upstream)
        rounds: dict[str, list[dict[str, Any]]] = {"direct": [], **{name: [] for name in fleet.targets}}
        for number in range(given.rounds):
            rounds["direct"].append(measured(bench, direct, given.seconds))
            for name in turned(list(fleet.targets), number):
                with awake(fleet.targets[name]):
                    rounds[name].append(measured(bench, fleet.targets[name], given.seconds))
            print(f"round {number + 1} of {given.rounds}", flush=True)
        facts = fleet.facts()
    return {**facts, "rounds": given.rounds, "seconds": given.seconds, **_reported(rounds)}


def _reported(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Print the table and the ratios; what goes into the record."""
    for name, each in rounds.items():
        for here, there in zip(each, rounds["direct"], strict=True):
            known = name != "direct" and here["p50_ms"] is not None and there["p50_ms"] is not None
            here["added_p50_ms"] = round(here["p50_ms"] - there["p50_ms"], 4) if known else None
    wrong = {name: [each.pop("faults") for each in rows] for name, rows in rounds.items()}
    wrong = {name: rows for name, rows in wrong.items() if any(rows)}
    compared = ratios(rounds, COMPARED)
    print(table(rounds))
    print(*ratio_lines(compared), sep="\n")
    for name, rows in wrong.items():
        print(f"{name}, faults: {rows}")
    middle = {name: medians(each) for name, each in rounds.items()}
    return {"medians": middle, "ratios": compared, "faults": wrong, "each": rounds}


if __name__ == "__main__":
    main()
