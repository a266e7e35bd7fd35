"""All gateways of a run: started and checked once, asleep except the one that is measured."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ours
import peers
from machine import Bench, Target, Unavailable, check_answers, loaded

NAMES = ("baimo", *peers.PEERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What runs, and what could not be had."""

    targets: dict[str, Target]
    missing: dict[str, str]
    """Name → reason."""

    def versions(self) -> dict[str, str]:
        """Name → version."""
        return {name: target.version for name, target in self.targets.items()}

    def facts(self) -> dict[str, Any]:
        """For the record: versions, terms of the peers, and what is missing."""
        terms = {name: peers.PEERS[name].terms for name in self.targets if name in peers.PEERS}
        return {"versions": self.versions(), "terms": terms, "missing": self.missing}


@contextlib.contextmanager
def running(bench: Bench, upstream: int, names: Sequence[str]) -> Iterator[Fleet]:
    """These gateways, asleep."""
    fleet = Fleet(targets={}, missing={})
    try:
        for name in names:
            try:
                fleet.targets[name] = _started(bench, name, upstream)
            except Unavailable as reason:
                fleet.missing[name] = str(reason)
                print(f"{name}: not measured: {reason}", flush=True)
        yield fleet
    finally:
        for target in fleet.targets.values():
            stop(target)


@contextlib.contextmanager
def variants(bench: Bench, upstream: int, wanted: Mapping[str, ours.Variant]) -> Iterator[Fleet]:
    """baimo in these variants, asleep."""
    fleet = Fleet(targets={}, missing={})
    try:
        for name, variant in wanted.items():
            try:
                target = ours.start(bench, upstream, variant, name=name)
                fleet.targets[name] = asleep(target, upstream)
            except Unavailable as reason:
                fleet.missing[name] = str(reason)
                print(f"{name}: not measured: {reason}", flush=True)
        yield fleet
    finally:
        for target in fleet.targets.values():
            stop(target)


def _started(bench: Bench, name: str, upstream: int) -> Target:
    if name == "baimo":
        target = ours.start(bench, upstream)
    else:
        version = peers.available(name, bench.peers)
        target = peers.PEERS[name].start(bench, bench.peers / name.lower(), upstream)
        target = replace(target, version=version)
    return asleep(target, upstream)


def asleep(target: Target, upstream: int) -> Target:
    """The target, once it has been seen to answer, put to sleep.

    Raises:
        Unavailable: it does not answer soundly; it is stopped then.
    """
    assert target.process
    try:
        check_answers(target, upstream)
    except Unavailable:
        target.process.stop()
        raise
    target.process.signal(signal.SIGSTOP)
    print(f"{target.name} {target.version}: answers", flush=True)
    return target


@contextlib.contextmanager
def awake(target: Target) -> Iterator[None]:
    """Let this one run while the others sleep; the mock itself never sleeps."""
    if target.process:
        target.process.signal(signal.SIGCONT)
        time.sleep(0.3)
    try:
        yield
    finally:
        if target.process:
            target.process.signal(signal.SIGSTOP)


def stop(target: Target) -> None:
    """End its processes."""
    if target.process:
        target.process.stop()


def turned(names: Sequence[str], number: int) -> list[str]:
    """The names in this round's order: each goes first once."""
    start = number % max(len(names), 1)
    return [*names[start:], *names[:start]]


def crowd(
    bench: Bench, target: Target, *, concurrency: int, seconds: float, stream: bool = False
) -> dict[str, Any]:
    """A closed-loop load with what it cost the gateway's processor; `cpu_us` is None where it cannot be known."""
    before = target.process.cpu_seconds() if target.process else 0.0
    load = loaded(bench, target, concurrency=concurrency, seconds=seconds, stream=stream)
    answered = load["answered_with_warm_up"]
    used = target.process.cpu_seconds() - before if target.process else None
    load["cpu_us"] = round(used / answered * 1e6, 1) if used is not None and answered else None
    return load


def milliseconds(load: Mapping[str, Any], name: str) -> float | None:
    """A latency of a load; None if nothing was answered."""
    return round(load[name] / 1000, 4) if load["answered"] else None


def faults(loads: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What went wrong in these loads; empty if nothing did."""
    found: dict[str, dict[str, Any]] = {}
    for name, load in loads.items():
        kinds = ("errors", "retried", "without_usage", "without_done", "first_error")
        wrong = {kind: load[kind] for kind in kinds if load[kind]}
        if wrong:
            found[name] = wrong
    return found
