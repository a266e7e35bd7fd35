"""baimo as the benchmark runs it: `baimo serve` as it comes, with a key, a budget, limits, a route and the ledger on.

Kept apart from the peers so that it changes with the product alone.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from machine import Bench, Target, Unavailable, free_port, started, wait_for

FAKE_KEY = "sk-benchmark-0123456789abcdef"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What is on. The default is the configuration that is compared with the peers."""

    says: str = "key, budget, limits, route, ledger: as it comes"
    """For the record."""
    budget: bool = True
    """The key has a money limit per month."""
    limits: bool = True
    """The key has limits of requests and tokens per minute."""
    route: bool = True
    """The client asks for a route, not for the model itself."""
    settings: str = ""
    """Added to baimo.toml."""


DEFAULT = Variant()
ABLATIONS: Mapping[str, Variant] = {
    "baimo": DEFAULT,
    "without budget": replace(DEFAULT, says="no money limit on the key", budget=False),
    "without limits": replace(DEFAULT, says="no requests or tokens per minute on the key", limits=False),
    "without route": replace(DEFAULT, says="the model is asked for by its own name", route=False),
    "without all three": replace(
        DEFAULT, says="a key and the ledger alone", budget=False, limits=False, route=False
    ),
    "ledger in the journal only": replace(
        DEFAULT,
        says="Records stay in the journal: nothing is moved into the database during the run",
        settings="[ledger]\nflush_ms = 3600000.0\n",
    ),
    "ledger before the answer": replace(
        DEFAULT,
        says='durability = "answer": an answer leaves when its Record is on disk',
        settings='[ledger]\ndurability = "answer"\n',
    ),
    "policy: personal data masked": replace(
        DEFAULT, says='policy pii = "mask" on every call', settings='[policy]\npii = "mask"\n'
    ),
}


def version() -> str:
    """Of the installed package."""
    return importlib.metadata.version("baimo")


def start(
    bench: Bench,
    upstream: int,
    variant: Variant = DEFAULT,
    *,
    name: str = "baimo",
    under: Sequence[str] = (),
    patience_s: float = 60,
) -> Target:
    """Write a workspace, create a key, serve; `under` another program, if one is given.

    Raises:
        Unavailable: a command failed or the port did not open; with the last words of the command.
    """
    port, work = free_port(), bench.work / name.replace(" ", "-").replace(":", "")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    (work / "baimo.toml").write_text(_settings(bench, port, upstream, variant), encoding="utf-8")
    key = _created_key(work, variant)
    command = [*under, sys.executable, "-m", "baimo", "serve"]
    process = started(
        command, cores=bench.gateway_cores, log=work / "log", environment=_environment(), cwd=work
    )
    try:
        wait_for(port, process, seconds=patience_s)
    except Unavailable:
        process.stop()
        raise
    model = "gpt-4o-mini" if variant.route else "mock/gpt-4o-mini"
    return Target(name=name, port=port, process=process, key=key, model=model, version=version())


def _settings(bench: Bench, port: int, upstream: int, variant: Variant) -> str:
    # models.dev at f3fc6922, 2026-07-02: prices, context and longest answer of openai/gpt-4o-mini
    return f"""[serve]
port = {port}
workers = {bench.workers}

[providers.mock]
protocol = "openai"
base_url = "http://127.0.0.1:{upstream}/v1"
key = "env:BENCHMARK_UPSTREAM_KEY"

[models."mock/gpt-4o-mini"]
upstream = "gpt-4o-mini"
input_per_million = 0.15
cached_per_million = 0.075
output_per_million = 0.6
context_window = 128000
max_output = 16384

[routes.gpt-4o-mini]
models = ["mock/gpt-4o-mini"]

{variant.settings}"""


def _created_key(work: Path, variant: Variant) -> str:
    command = [sys.executable, "-m", "baimo", "keys", "create", "--label", "benchmark"]
    if variant.budget:
        command += ["--limit", "cost=1000000/month"]
    if variant.limits:
        command += ["--limit", "requests=100000000/minute", "--limit", "tokens=100000000000/minute"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, env=_environment(), check=False)
    if found := re.search(r"\bbm-[0-9A-Za-z]{12}-[0-9A-Za-z]{48}\b", done.stdout):
        return found[0]
    raise Unavailable(f"`baimo keys create` ended with {done.returncode}: {done.stderr.strip()[-300:]}")


def _environment() -> dict[str, str]:
    return {**os.environ, "BENCHMARK_UPSTREAM_KEY": FAKE_KEY, "BAIMO_LANG": "en"}
