"""The machine under the benchmark: C tools, pinned processes and what they use, loads, and where results go."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "gateway.jsonl"
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


class Unavailable(Exception):
    """A gateway that cannot be had or does not answer; the text says why, and goes into the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and how everything runs."""

    tools: Path
    """Folder of the built C tools."""
    peers: Path
    """Folder of the peers' environments."""
    work: Path
    """Configurations and logs of this run; deleted afterwards."""
    gateway_cores: str
    """As taskset takes them."""
    load_cores: str
    """Of load client and mock upstream."""
    workers: int = 1
    """Worker processes of each gateway that has such a setting."""


@dataclass(slots=True, kw_only=True)
class Process:
    """A pinned process with all its children: they share a session."""

    popen: subprocess.Popen[bytes]
    log: Path

    def members(self) -> list[int]:
        """Ids of the processes of the session."""
        return [pid for pid, fields in _stats() if int(fields[3]) == self.popen.pid]

    def memory_bytes(self) -> int:
        """Resident memory of all members; what they share counts for each."""
        return sum(int(fields[21]) * PAGE for _, fields in _stats() if int(fields[3]) == self.popen.pid)

    def own_bytes(self) -> int:
        """The part of it that is no file: what a leak would make grow, where mapped journals come and go."""
        found = 0
        for pid in self.members():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
                found += int(status.partition("RssAnon:")[2].split(maxsplit=1)[0]) * 1024
        return found

    def cpu_seconds(self) -> float:
        """Time on a processor so far, of all members alive."""
        used = [int(f[11]) + int(f[12]) for _, f in _stats() if int(f[3]) == self.popen.pid]
        return sum(used) / TICKS

    def signal(self, number: int) -> None:
        """Send it to every member."""
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        """End it: politely, then after ten seconds by force."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while self.members() and time.monotonic() < deadline:
            self.popen.poll()
            time.sleep(0.05)
        self.signal(signal.SIGKILL)
        self.popen.wait()

    def last_words(self) -> str:
        """The end of its log."""
        return " ".join(self.log.read_text(errors="replace").split())[-400:]


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Process id and the fields of /proc/ID/stat after the name (state is field 0), without zombies."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                yield int(entry.name), fields


def started(
    command: Sequence[str | Path],
    *,
    cores: str,
    log: Path,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Process:
    """Start it on these cores, in a session of its own."""
    with log.open("wb") as out:
        popen = subprocess.Popen(
            ["taskset", "-c", cores, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
            start_new_session=True,
        )
    return Process(popen=popen, log=log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How to reach a gateway, or the mock itself."""

    name: str
    port: int
    process: Process | None = None
    """None for the mock reached directly."""
    path: str = "/v1/chat/completions"
    key: str | None = None
    model: str = "gpt-4o-mini"
    headers: tuple[str, ...] = ()
    """Further header lines."""
    version: str = ""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def build_tools(folder: Path) -> None:
    """Compile the C tools into `folder`."""
    subprocess.run(["make", "--silent", "-C", str(HERE), f"BUILD={folder}"], check=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:  # every gateway inherits it: ten thousand connections need as many descriptors
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def mock(bench: Bench, *options: str) -> Iterator[int]:
    """The mock upstream; yields its port."""
    port = free_port()
    command = [bench.tools / "upstream", "--port", str(port), *options]
    process = started(command, cores=bench.load_cores, log=bench.work / f"upstream-{port}.log")
    try:
        wait_for(port, process, seconds=10)
        yield port
    finally:
        process.stop()


def wait_for(port: int, process: Process, *, seconds: float) -> None:
    """Until the port is open."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.popen.poll() is not None:
            raise Unavailable(f"it ended with {process.popen.returncode}: {process.last_words()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise Unavailable(f"nothing listens after {seconds:.0f} s: {process.last_words()}")


def asked_of(upstream: int) -> int:
    """How many answers and streams were asked of the mock so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{upstream}/count", timeout=10) as reply:
        return sum(json.load(reply).values())


def check_answers(target: Target, upstream: int, *, seconds: float = 120) -> None:
    """One request through the gateway must come back with usage, and must have reached the mock."""
    before, said = asked_of(upstream), "no answer"
    deadline = time.monotonic() + seconds
    body = (HERE / "body.json").read_bytes().replace(b'"gpt-4o-mini"', f'"{target.model}"'.encode())
    headers = {"content-type": "application/json", "authorization": f"Bearer {target.key}"}
    headers |= dict(line.split(": ", 1) for line in target.headers)
    request = urllib.request.Request(f"http://127.0.0.1:{target.port}{target.path}", body, headers)
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                said = reply.read().decode(errors="replace")
            if '"prompt_tokens"' in said and asked_of(upstream) > before:
                return
        except urllib.error.HTTPError as error:
            said = f"{error.code} {error.read().decode(errors='replace')}"
        except OSError as error:
            said = str(error)
        time.sleep(0.3)
    raise Unavailable(f"no sound answer within {seconds:.0f} s: {said[:300]}")


def load_command(bench: Bench, target: Target, *options: str | Path, stream: bool = False) -> list[str]:
    """The load client's command line for this target, pinned."""
    command = ["taskset", "-c", bench.load_cores, str(bench.tools / "load"), "--port", str(target.port)]
    command += ["--path", target.path, *(["--key", target.key] if target.key else [])]
    command += [part for line in target.headers for part in ("--header", line)]
    return [*command, *(["--stream"] if stream else []), *map(str, options)]


def body_file(bench: Bench, target: Target, *, stream: bool = False) -> Path:
    """The request's body with the name that the target knows the model by."""
    name = "body_stream.json" if stream else "body.json"
    file = bench.work / f"{target.name.replace('/', '-')}-{name}"
    text = (HERE / name).read_text(encoding="utf-8")
    file.write_text(text.replace('"gpt-4o-mini"', json.dumps(target.model)), encoding="utf-8")
    return file


def loaded(
    bench: Bench, target: Target, *options: str | Path, concurrency: int, seconds: float, stream: bool = False
) -> dict[str, Any]:
    """A closed-loop load; the load client's figures."""
    warm = min(1.0, seconds / 3)
    command = load_command(
        bench, target, "--body", body_file(bench, target, stream=stream), "--concurrency", str(concurrency),
        "--warm", str(warm), "--seconds", str(seconds), *options, stream=stream,
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 120)
    return json.loads(done.stdout.splitlines()[-1])


def where() -> dict[str, Any]:
    """Date, commit, machine and how busy it is."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), "")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "machine": f"{platform.machine()} {model}, {os.cpu_count()} CPUs, Linux {platform.release()}, "
        f"Python {' '.join(sys.version.split())}",
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def save(row: Mapping[str, Any]) -> None:
    """Append one record to the results."""
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
