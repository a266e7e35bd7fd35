"""A board of recorded models behind HTTP, and the real `baimo compare` in front of it."""

from __future__ import annotations

import gzip
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TASK = """
name = "crux"
description = "What does this Python function return? One JSON object with reasoning and answer."
license = "Apache-2.0"
data_class = "public"

[data]
test = "test.jsonl"

[prompt]
user = "{{ prompt }}"

[sampling]
temperature = 0
max_tokens = 2048

[[scorers]]
name = "json"
answer = "answer"
texts = "unquoted"
"""


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """A file of JSON lines, gzipped or not."""
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as file
    ):
        for line in file:
            yield json.loads(line)


def write_task(folder: Path, prompts: Path, *, examples: int | None = None) -> list[str]:
    """A task folder of the recorded prompts; returns the ids of its examples."""
    folder.mkdir(parents=True)
    (folder / "task.toml").write_text(TASK, encoding="utf-8")
    chosen = list(rows(prompts))[:examples]
    with (folder / "test.jsonl").open("w", encoding="utf-8") as file:
        for row in chosen:
            file.write(json.dumps({"id": row["id"], "prompt": row["prompt"], "answer": row["answer"]}) + "\n")
    return [row["id"] for row in chosen]


def write_settings(
    folder: Path, address: str, *, concurrency: int, prices: dict[str, tuple[float, float]] | None = None
) -> None:
    """baimo.toml that names the upstream as provider `board`, and what its models cost per million tokens."""
    lines = [
        "[providers.board]",
        f'base_url = "{address}/v1"',
        "inside = true",
        f"concurrency = {concurrency}",
    ]
    for model, (tokens_in, tokens_out) in (prices or {}).items():
        lines += [f'[models."board/{model}"]', f"input_per_million = {tokens_in}"]
        lines += [f"output_per_million = {tokens_out}"]
    (folder / "baimo.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass
class Upstream:
    """The server of recorded models, as a process."""

    address: str
    log: Path
    process: subprocess.Popen[str] = field(repr=False)

    def stats(self) -> dict[str, Any]:
        """What it counted."""
        with urlopen(f"{self.address}/stats") as response:
            return json.load(response)

    def served(self) -> list[dict[str, Any]]:
        """Every request that arrived, in order."""
        return list(rows(self.log))


@contextmanager
def upstream(folder: Path, data: Path, **options: Any) -> Iterator[Upstream]:
    """The server, until the block ends; options as `upstream.py` takes them."""
    log = folder / "served.jsonl"
    log.touch()
    command = [sys.executable, str(HERE / "upstream.py"), "--port", "0", "--log", str(log)]
    command += ["--replies", str(data / "zeroeval_crux_replies.jsonl.gz")]
    command += ["--prompts", str(data / "zeroeval_crux_prompts.jsonl")]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Upstream(address=f"http://127.0.0.1:{port}", log=log, process=process)
    finally:
        process.terminate()
        process.wait()


class Ended(NamedTuple):
    """A process of baimo that has ended."""

    code: int
    """Exit code; negative = killed by that signal."""
    out: str
    err: str
    wall_s: float
    cpu_s: float
    peak_mib: float

    @property
    def verdict(self) -> dict[str, Any]:
        """What `--json` printed."""
        return json.loads(self.out)


def baimo(folder: Path, *arguments: str, kill_when: Any = None) -> Ended:
    """Run the command line in `folder`; with `kill_when`, `kill -9` it as soon as that returns true."""
    environment = {**os.environ, "BAIMO_LANG": "en"}
    out, err = folder / "stdout.txt", folder / "stderr.txt"
    started = time.monotonic()
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "baimo", *arguments],
            cwd=folder,
            stdout=stdout,
            stderr=stderr,
            env=environment,
        )
        while kill_when is not None and process.poll() is None:
            if kill_when():
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        if process.returncode is None:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu_s, peak_mib = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
        else:
            cpu_s = peak_mib = 0.0  # polled to its end, so the kernel's figures are gone
    wall_s = time.monotonic() - started
    return Ended(process.returncode, out.read_text(), err.read_text(), wall_s, cpu_s, peak_mib)


def answered_twice(served: Sequence[dict[str, Any]]) -> dict[tuple[str, str], int]:
    """Cells that the upstream answered well more than once."""
    counts = Counter((row["model"], row["example"]) for row in served if row["outcome"] == "ok")
    return {cell: count for cell, count in counts.items() if count > 1}


def save(name: str, row: dict[str, Any]) -> None:
    """Append one result with where and when it was measured, and print it."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    ).stdout.strip()
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    where = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit, "machine": machine}
    line = json.dumps({**where, **row}, ensure_ascii=False)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, flush=True)
