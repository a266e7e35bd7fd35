"""What else is measured: workers, ablations, memory over a million requests, a replayed trace, idle connections."""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import ours
from counted import instructions
from figures import Arrival, excess_ms, median, medians, quantile, ratio, schedule, slope
from fleet import NAMES, awake, crowd, faults, milliseconds, running, turned, variants
from machine import Bench, Target, body_file, load_command, loaded, mock

FIRST_US, TOKEN_US = 200_000, 2_000
"""The mock's pace in a trace: first token after 0.2 s, then 500 tokens/s."""
HELD_MS = 1000
"""A rate is held if the 99th percentile beyond the model's own time stays below this."""
TRACE_LOADS = 6
"""A trace lasts this many times --seconds: a p99 needs a thousand requests from the slowest, too."""


def workers(bench: Bench, given: argparse.Namespace) -> dict[str, Any]:
    """Requests/s with several workers over one, same cores for both."""
    names = given.only or ["baimo", "nginx"]
    rows: dict[str, dict[str, list[dict[str, float | None]]]] = {
        name: {"one": [], "several": []} for name in names
    }
    beside = [
        replace(bench, work=bench.work / size, workers=n)
        for size, n in (("one", 1), ("several", given.workers))
    ]
    with mock(bench) as upstream:
        for each in beside:
            each.work.mkdir()
        with running(beside[0], upstream, names) as one, running(beside[1], upstream, names) as several:
            for number in range(given.rounds):
                for name in turned([n for n in names if n in one.targets and n in several.targets], number):
                    for size, fleet in (("one", one), ("several", several)):
                        with awake(fleet.targets[name]):
                            load = crowd(bench, fleet.targets[name], concurrency=64, seconds=given.seconds)
                        row = {"requests_per_s": load["requests_per_s"] or None, "cpu_us": load["cpu_us"]}
                        rows[name][size].append({**row, "errors": load["errors"]})
            facts = {**one.facts(), "missing": one.missing | several.missing}
    found = {}
    shared = bench.gateway_cores == bench.load_cores
    print(
        f"cores {bench.gateway_cores} for the gateway; load and mock {'share them' if shared else bench.load_cores}"
    )
    for name, sizes in rows.items():
        factor = ratio(sizes["several"], sizes["one"], "requests_per_s")
        found[name] = {"factor": factor, **{size: medians(each) for size, each in sizes.items()}}
        if factor is not None:
            print(
                f"{name}: {given.workers} workers make {factor:.2f} times the requests/s of one: {found[name]}"
            )
    return {
        **facts,
        "workers": given.workers,
        "rounds": given.rounds,
        "seconds": given.seconds,
        "scaling": found,
    }


def ablations(bench: Bench, given: argparse.Namespace) -> dict[str, Any]:
    """What budget, limits, route, ledger and policy each cost."""
    with mock(bench) as upstream, variants(bench, upstream, ours.ABLATIONS) as fleet:
        names = list(fleet.targets)
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for number in range(given.rounds):
            for name in turned(names, number):
                target = fleet.targets[name]
                with awake(target):
                    alone = loaded(bench, target, concurrency=1, seconds=given.seconds)
                    many = crowd(bench, target, concurrency=32, seconds=given.seconds)
                rows[name].append(
                    {
                        "p50_ms": milliseconds(alone, "p50_us"),
                        "requests_per_s": many["requests_per_s"] or None,
                        "cpu_us": many["cpu_us"],
                        "errors": alone["errors"] + many["errors"],
                    }
                )
        missing = fleet.missing
    base = rows.get("baimo", [])
    print(
        "| baimo | c=1 p50, ms | c=32 requests/s | × default | CPU per request, µs | errors |",
        "|---|---|---|---|---|---|",
        sep="\n",
    )
    for name, each in rows.items():
        middle, factor = medians(each), ratio(each, base, "requests_per_s")
        cells = (middle["p50_ms"], middle["requests_per_s"], factor, middle["cpu_us"], middle["errors"])
        print(f"| {name} | " + " | ".join("–" if cell is None else f"{cell:.4g}" for cell in cells) + " |")
    says = {name: variant.says for name, variant in ours.ABLATIONS.items()}
    middle = {name: medians(each) for name, each in rows.items()}
    return {
        "says": says,
        "missing": missing,
        "rounds": given.rounds,
        "seconds": given.seconds,
        "medians": middle,
    }


def memory(bench: Bench, given: argparse.Namespace) -> dict[str, Any]:
    """Resident memory over a million requests: the slope after the first tenth, bytes per request."""
    found: dict[str, Any] = {}
    with mock(bench) as upstream, running(bench, upstream, given.only or ["baimo"]) as fleet:
        for name, target in fleet.targets.items():
            with awake(target):
                points, load = _memory_points(bench, target, given.requests, stream=given.stream)
            found[name] = {
                "requests": load["answered_with_warm_up"],
                "resident": _growth([(done, size) for done, size, _ in points], given.requests),
                "without_files": _growth([(done, own) for done, _, own in points], given.requests),
                "faults": faults({"load": load}),
            }
            for kind in ("resident", "without_files"):
                told = {part: value for part, value in found[name][kind].items() if part != "points_mb"}
                print(f"{name}, {kind}: {told}", flush=True)
        facts = fleet.facts()
    return {**facts, "stream": given.stream, "memory": found}


def _growth(points: list[tuple[int, int]], requests: int) -> dict[str, Any]:
    """Start, end and slope of the memory; the slope without the first tenth, in which caches fill."""
    steady = [(done, size) for done, size in points if done >= requests / 10]
    megabytes = [(done, round(size / 1e6, 2)) for done, size in points]
    return {
        "bytes_per_request": round(slope(steady), 3) if len(steady) > 1 else None,
        "start_mb": megabytes[0][1],
        "after_a_tenth_mb": round(steady[0][1] / 1e6, 2) if steady else None,
        "end_mb": megabytes[-1][1],
        "most_mb": max(size for _, size in megabytes),
        "points_mb": megabytes[:: max(1, len(megabytes) // 40)],
    }


def _memory_points(
    bench: Bench, target: Target, requests: int, *, stream: bool
) -> tuple[list[tuple[int, int, int]], dict[str, Any]]:
    """(requests so far, resident bytes, of these no file) about every half second, and the load's figures."""
    process = target.process
    assert process
    body = body_file(bench, target, stream=stream)
    command = load_command(
        bench, target, "--body", body, "--concurrency", "32", "--requests", str(requests), "--progress", "0.5",
        stream=stream,
    )  # fmt: skip
    points = [(0, process.memory_bytes(), process.own_bytes())]
    last: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout
        for line in client.stdout:
            last = json.loads(line)
            done = last.get("answered_with_warm_up", last["answered"])
            points.append((done, process.memory_bytes(), process.own_bytes()))
    return points, last


def idle(bench: Bench, given: argparse.Namespace) -> dict[str, Any]:
    """Ten thousand connections that say nothing: does service go on, and what do they cost?"""
    found: dict[str, Any] = {}
    with mock(bench) as upstream, running(bench, upstream, given.only or NAMES) as fleet:
        for name, target in fleet.targets.items():
            assert target.process
            with awake(target):
                free = loaded(bench, target, concurrency=32, seconds=given.seconds)
                before = target.process.memory_bytes()
                load, most = _beside_idle(bench, target, given.connections, given.seconds)
            held = load["idle_open_at_end"]
            found[name] = {
                "connected": load["idle_opened"],
                "open_at_end": held,
                "requests_per_s_without": free["requests_per_s"],
                "requests_per_s_beside": load["requests_per_s"],
                "p99_ms_beside": milliseconds(load, "p99_us"),
                "memory_mb_before": round(before / 1e6, 1),
                "memory_mb_most": round(most / 1e6, 1),
                "bytes_per_connection": round((most - before) / held) if held else None,
                "faults": faults({"without": free, "beside": load}),
            }
            print(f"{name}: {found[name]}", flush=True)
        facts = fleet.facts()
    return {**facts, "connections": given.connections, "seconds": given.seconds, "idle": found}


def _beside_idle(
    bench: Bench, target: Target, connections: int, seconds: float
) -> tuple[dict[str, Any], int]:
    """A load beside idle connections, and the most memory seen meanwhile."""
    assert target.process
    command = load_command(
        bench, target, "--body", body_file(bench, target), "--concurrency", "32", "--warm", "0.5",
        "--seconds", str(seconds), "--idle", str(connections),
    )  # fmt: skip
    most = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        while client.poll() is None:
            most = max(most, target.process.memory_bytes())
            time.sleep(0.2)
        assert client.stdout
        return json.loads(client.stdout.read().splitlines()[-1]), most


def trace(bench: Bench, given: argparse.Namespace) -> dict[str, Any]:
    """What a gateway adds at the 99th percentile when requests come as they came to a real service."""
    rows = _rows(given.arrivals)
    pace = ("--first-us", str(FIRST_US), "--token-us", str(TOKEN_US))
    seconds = given.seconds * TRACE_LOADS
    runs: list[dict[str, Any]] = []
    with mock(bench, *pace) as upstream:
        names = given.only or ["baimo", "TensorZero", "LiteLLM"]
        with running(bench, upstream, names) as fleet:
            direct = Target(name="direct", port=upstream)
            for rate, group in _rates(bench, fleet.targets, rows, given):
                arrivals = schedule(rows, rate=rate, count=max(2, round(rate * seconds)))
                runs.append(_replays(bench, [direct, *group], arrivals, rate, given))
            facts = fleet.facts()
    return {**facts, "first_us": FIRST_US, "token_us": TOKEN_US, "stream": given.stream, "replays": runs}


def _rates(
    bench: Bench,
    targets: Mapping[str, Target],
    rows: list[tuple[datetime, int, int]],
    given: argparse.Namespace,
) -> list[tuple[float, list[Target]]]:
    """One rate that the slowest holds, for all; one that the second slowest holds, without the slowest."""
    everyone = list(targets.values())
    if given.rate:
        return [(given.rate, everyone)]
    held = {target.name: _held(bench, target, rows, given) for target in everyone}
    print(f"rates that are held, requests/s: {held}", flush=True)
    able = sorted((t for t in everyone if held[t.name]), key=lambda target: held[target.name])
    chosen = [(held[able[0].name], able)] if able else []
    if len(able) > 1:
        chosen.append((held[able[1].name], able[1:]))
    return chosen


def _held(
    bench: Bench, target: Target, rows: list[tuple[datetime, int, int]], given: argparse.Namespace
) -> float:
    """The first of capacity/2, /4, /8 … at which a stretch of the trace makes no queue that grows; 0 if none does."""
    with awake(target):
        # enough clients that the mock's own third of a second does not bound the rate
        rate = max(
            loaded(bench, target, concurrency=clients, seconds=min(3.0, given.seconds))["requests_per_s"]
            for clients in (64, 2048)
        )
        for _ in range(6):
            rate /= 2
            arrivals = schedule(rows, rate=rate, count=max(100, round(rate * given.seconds)))
            file = _written(bench, arrivals)
            tried = _replay(bench, target, arrivals, file, stream=given.stream)
            if not tried["failed"] and tried["p99_ms"] < HELD_MS:
                return round(rate, 1)
    return 0.0


def _written(bench: Bench, arrivals: list[Arrival]) -> Path:
    file = bench.work / "arrivals"
    file.write_text(
        "".join(f"{a.offset_us} {a.prompt_chars} {a.tokens}\n" for a in arrivals), encoding="ascii"
    )
    return file


def _replays(
    bench: Bench, targets: list[Target], arrivals: list[Arrival], rate: float, given: argparse.Namespace
) -> dict[str, Any]:
    """The same schedule through each, in turn, for every round."""
    file = _written(bench, arrivals)
    by_name = {target.name: target for target in targets}
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in by_name}
    for number in range(given.rounds):
        for name in turned(list(by_name), number):
            with awake(by_name[name]):
                rounds[name].append(_replay(bench, by_name[name], arrivals, file, stream=given.stream))
    span = arrivals[-1].offset_us / 1e6
    print(
        f"{len(arrivals)} requests in {span:.0f} s, {rate:.1f}/s on average; beyond the model's own time, ms:"
    )
    summary: dict[str, Any] = {}
    for name, each in rounds.items():
        pairs = zip(each, rounds["direct"], strict=True)
        known = (
            a["p99_ms"] - b["p99_ms"] for a, b in pairs if a["p99_ms"] is not None and b["p99_ms"] is not None
        )
        summary[name] = {**medians([{k: e[k] for k in ("p50_ms", "p99_ms", "most_ms")} for e in each])}
        summary[name]["p99_added_ms"] = _rounded(median(known))
        summary[name]["failed"] = sum(e["failed"] for e in each)
        summary[name]["faults"] = [e["faults"] for e in each if e["faults"]]
        print(f"  {name}: {summary[name]}", flush=True)
    return {"rate": round(rate, 1), "requests": len(arrivals), "span_s": round(span, 1), "gateways": summary}


def _replay(
    bench: Bench, target: Target, arrivals: list[Arrival], file: Path, *, stream: bool
) -> dict[str, Any]:
    took = bench.work / "took"
    command = load_command(
        bench, target, "--arrivals", file, "--model", target.model, "--each", took, stream=stream
    )
    limit = arrivals[-1].offset_us / 1e6 + 120
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=limit)
    columns = [tuple(map(float, line.split())) for line in took.read_text(encoding="ascii").splitlines()]
    # of a stream, the first token counts: what follows comes at the model's pace
    beyond = excess_ms(
        arrivals,
        [row[1 if stream else 0] for row in columns],
        first_us=FIRST_US,
        token_us=0 if stream else TOKEN_US,
    )
    return {
        "p50_ms": _rounded(statistics.median(beyond) if beyond else None),
        "p99_ms": _rounded(quantile(beyond, 0.99)),
        "most_ms": _rounded(max(beyond, default=None)),
        "failed": len(arrivals) - len(beyond),
        "faults": faults({"load": json.loads(done.stdout)}),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _rows(path: Path) -> list[tuple[datetime, int, int]]:
    with path.open(encoding="utf-8", newline="") as file:
        found = [
            (
                datetime.fromisoformat(row["TIMESTAMP"][:26]),
                int(row["ContextTokens"]),
                int(row["GeneratedTokens"]),
            )
            for row in csv.DictReader(file)
        ]
    return sorted(found)


MODES: Mapping[str, Callable[[Bench, argparse.Namespace], dict[str, Any]]] = {
    "workers": workers,
    "ablations": ablations,
    "memory": memory,
    "trace": trace,
    "idle": idle,
    "instructions": instructions,
}
