"""The console over a ledger of a million Records: how long its first page and every view take, what the gateway loses.

    python benchmarks/console.py [--rows 1000000] [--only sqlite|postgresql] [--times 7] [--folder DIR]
    python benchmarks/console.py gateway [--rounds 5] [--seconds 5]

Views: the ledger is filled as benchmarks/gateway/ledger.py fills it (90 days that end today, 40 tenants, 200 keys, 25
models, 12 teams; PostgreSQL: a server of its own), then a real `baimo serve` answers as a browser would ask: `cold` is
a view's first time in this process, after the operating system was told to forget the database's files (as far as it
lets itself be told), `warm_p50` the median of `--times` further times, both milliseconds until the last byte;
`cpu` is what the server and the database spent on one of those, which a busy machine changes least.

`gateway`: requests per second of a closed loop of 32 clients through `baimo serve` while nobody looks at the console,
and while a person does: Home, Usage and its Records one after the other without a pause, over a ledger of 100,000
Records. Rounds alternate; the ratio is the median of the ratios within each round.

Appends to results/console.jsonl.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "gateway"), str(HERE.parent)]

import ledger  # noqa: E402
import machine  # noqa: E402
from http_board import save  # noqa: E402
from tests import postgres  # noqa: E402
from tests.serving import children, serving  # noqa: E402

from baimo.core.rights import limit  # noqa: E402
from baimo.core.tenant import Key, Tenant  # noqa: E402
from baimo.store import chain, tables  # noqa: E402
from baimo.store.engine import Database  # noqa: E402
from baimo.workspace.workspace import Workspace  # noqa: E402

DAYS = 90
MODEL, KEY, TENANT = "vendor3/model-3", "k00000000042", "tenant-7"
VIEWS: Mapping[str, str] = {
    "home": "/",
    "usage, 30 days by model": "/usage",
    "usage, 365 days by model": "/usage?span=365d",
    "usage, 90 days by key": "/usage?span=90d&by=key",
    "usage, 90 days by tenant": "/usage?span=90d&by=tenant",
    "usage, 90 days by surface": "/usage?span=90d&by=surface",
    "usage, 90 days by status": "/usage?span=90d&by=status",
    "usage, 90 days by route": "/usage?span=90d&by=route",
    "usage, 90 days by scenario": "/usage?span=90d&by=tag:team",
    "usage of one tenant by key": f"/usage?span=90d&by=key&tenant={TENANT}",
    "usage of one model by status": f"/usage?span=90d&by=status&model={quote(MODEL, safe='')}",
    "usage of what failed by model": "/usage?span=90d&by=model&status=failed",
    "records": "/usage/records",
    "records of one model": f"/usage/records?model={quote(MODEL, safe='')}",
    "records of one tenant": f"/usage/records?tenant={TENANT}",
    "records of one key": f"/usage/records?key={KEY}",
    "records of a rare status": "/usage/records?status=gateway.upstream_error",
    "records that failed, of one key": f"/usage/records?key={KEY}&status=failed",
    "records of one month": "/usage/records?since=60d&until=30d",
    "one record": "/usage/records/RECORD",
    "one key": f"/keys/{KEY}",
    "one tenant": f"/keys/tenants/{TENANT}",
    "keys": "/keys",
    "models": "/models",
    "settings": "/settings",
}
"""What a person looks at → its address below /console."""


def start_ms() -> int:
    """The first of the days that end today."""
    return (time.time_ns() // 1_000_000 // ledger.DAY_MS - DAYS + 1) * ledger.DAY_MS


def filled(database: Database, count: int) -> None:
    """Append the Records, ten thousand to a transaction."""
    source = ledger.rows(count, start_ms=start_ms(), teams=12)
    for begin in range(0, count, 10_000):
        with database.writing() as connection:
            chain.append(connection, [line for _, line in zip(range(min(10_000, count - begin)), source)])  # noqa: B905


def peopled(workspace: Workspace) -> None:
    """The tenants and keys of which the Records tell."""
    for number in range(40):
        workspace.accounts.create_tenant(Tenant(id=f"tenant-{number}", limits=(limit("cost=100000/month"),)))
    for number in range(200):
        made = workspace.accounts.create_key(Key(tenant=f"tenant-{number % 40}", label=f"program {number}"))
        name = f"k{number:011d}"
        with (
            workspace.store.database.writing() as connection
        ):  # the Records' own names instead of random ones
            table = tables.keys
            found = (
                connection.execute(table.select().where(table.c.public == made.key.public)).mappings().one()
            )
            connection.execute(
                table.update().where(table.c.public == made.key.public).values(
                    public=name, key=found["key"].replace(made.key.public, name)
                )
            )  # fmt: skip


class Reader:
    """One person's browser."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        headers = {"origin": f"http://127.0.0.1:{port}", "content-type": "application/x-www-form-urlencoded"}
        answer, _ = self._asked("POST", "/console/sign-in", urlencode({"key": key, "next": "/"}), headers)
        self._cookie = (answer.getheader("set-cookie") or "").partition(";")[0]

    def get(self, path: str) -> str:
        """The page below /console.

        Raises:
            SystemExit: it is not the page: the time of a refusal is worth nothing.
        """
        answer, body = self._asked("GET", f"/console{path}", None, {"cookie": self._cookie})
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status}\n{body}")
        return body

    def _asked(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Any:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)) as line:
            line.request(method, path, body, dict(headers))
            answer = line.getresponse()
            return answer, answer.read().decode()


def timed(reader: Reader, path: str) -> float:
    """Milliseconds until the page is there."""
    began = time.perf_counter()
    reader.get(path)
    return (time.perf_counter() - began) * 1000


def forgotten(folder: Path) -> None:
    """Tell the operating system that the files of a folder will not be needed."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cpu_ms(pid: int) -> float:
    """Milliseconds of processor time that a process and its children spent so far."""
    spent = 0
    for one in (pid, *children(pid)):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            spent += int(fields[11]) + int(fields[12])
    return spent * 1000 / os.sysconf("SC_CLK_TCK")


def viewed(work: Path, data: Path, config: str, times: int) -> dict[str, dict[str, float]]:
    """View → its times."""
    found: dict[str, dict[str, float]] = {}
    with serving(work, config) as endpoint:
        reader = Reader(endpoint.port, endpoint.new_key("--role", "admin"))
        file = data / "postmaster.pid"
        pids = [endpoint.process.pid, *([int(file.read_text().split()[0])] if file.exists() else [])]
        page = reader.get("/usage/records")
        record = next(part for part in page.split('"') if "/records/rec_" in part).removeprefix("/console")
        for name, path in VIEWS.items():
            path = record if "RECORD" in path else path
            forgotten(data)
            cold = timed(reader, path)
            before = sum(map(cpu_ms, pids))
            warm = sorted(timed(reader, path) for _ in range(times))
            found[name] = {
                "cold": round(cold, 1),
                "warm_p50": round(statistics.median(warm), 1),
                "warm_worst": round(warm[-1], 1),
                "cpu": round((sum(map(cpu_ms, pids)) - before) / times, 1),
            }
            print(f"  {name:34} {found[name]}", flush=True)
    return found


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[tuple[Path, str]]:
    """Folder of the database's files, and the lines of baimo.toml that name it."""
    yield folder / ".baimo", ""


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[tuple[Path, str]]:
    """The same, of a server of its own."""
    if postgres.binaries() is None:
        raise SystemExit("no PostgreSQL on this machine")
    tempfile.tempdir = str(folder)
    folder.chmod(0o755)
    with postgres.server(fsync=True) as url:
        yield next(folder.glob("bm-pg-*")) / "data", f'[workspace]\ndatabase = "{url}"\n'


KINDS = {"sqlite": sqlite, "postgresql": postgresql}


def views(given: argparse.Namespace) -> None:
    """Fill, look, record."""
    for name, kind in KINDS.items():
        if given.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory(prefix="console-", dir=given.folder) as place:
            work = Path(place) / "work"
            work.mkdir()
            begun = machine.where()
            with kind(Path(place)) as (data, store):
                if name == "sqlite":
                    data = work / ".baimo"
                config = f'{store}[providers.acme]\nprotocol = "fake"\n[models."acme/small"]\n'
                (work / "baimo.toml").write_text(config, encoding="utf-8")
                print(f"{name}: filling", flush=True)
                with contextlib.closing(Workspace(work)) as workspace:
                    peopled(workspace)
                    filled(workspace.store.database, given.rows)
                found = viewed(work, data, config, given.times)
            slowest = max(figures["warm_p50"] for figures in found.values())
            row = {"mode": "views", "database": name, "rows": given.rows, "times": given.times}
            print(f"  slowest view, warm: {slowest} ms", flush=True)
            if not given.no_record:
                save("console", {**begun, **row, "note": given.note, "views_ms": found})


@contextlib.contextmanager
def looking(port: int, key: str) -> Iterator[list[int]]:
    """Somebody goes from page to page without a pause; gives how many pages it were."""
    seen, stop = [0], threading.Event()
    reader = Reader(port, key)

    def look() -> None:
        while not stop.is_set():
            for path in ("/", "/usage", "/usage?span=90d&by=status", "/usage/records"):
                reader.get(path)
                seen[0] += 1

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def gateway(given: argparse.Namespace) -> None:
    """Throughput while nobody looks, and while somebody does."""
    import ours

    with (
        tempfile.TemporaryDirectory(prefix="console-", dir=given.folder) as place,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(place)
        machine.build_tools(folder / "tools")
        bench = machine.Bench(
            tools=folder / "tools", peers=folder, work=folder, gateway_cores="0", load_cores="1"
        )
        upstream = stack.enter_context(machine.mock(bench))
        target = ours.start(bench, upstream)
        rounds: dict[str, list[float]] = {"closed": [], "open": []}
        ratios: list[float] = []
        work = bench.work / "baimo"
        with contextlib.closing(Workspace(work)) as workspace:
            filled(workspace.store.database, 100_000)
            admin = workspace.accounts.create_key(Key(role="admin")).credential.written()
        looked = 0
        try:
            machine.check_answers(target, upstream)
            for number in range(given.rounds):
                for state in sorted(rounds, reverse=bool(number % 2)):
                    with (
                        looking(target.port, admin)
                        if state == "open"
                        else contextlib.nullcontext([0]) as seen
                    ):
                        figures = machine.loaded(bench, target, concurrency=32, seconds=given.seconds)
                    rounds[state].append(figures["requests_per_s"])
                    looked += seen[0]
                ratios.append(rounds["open"][-1] / rounds["closed"][-1])
                print(
                    f"  {number + 1}: {rounds['closed'][-1]:,.0f} closed, {rounds['open'][-1]:,.0f} open",
                    flush=True,
                )
        finally:
            if target.process is not None:
                target.process.stop()
    row = {
        "mode": "gateway", "rounds": given.rounds, "seconds": given.seconds, "note": given.note,
        "requests_per_s": {state: round(statistics.median(rates)) for state, rates in rounds.items()},
        "ratio": round(statistics.median(ratios), 3), "pages_looked_at": looked,
    }  # fmt: skip
    if given.no_record:
        print(row)
    else:
        save("console", {**machine.where(), **row})


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("views", "gateway"), default="views")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=list(KINDS))
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--note", default="", help="goes into the record")
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    {"views": views, "gateway": gateway}[given.what](given)


if __name__ == "__main__":
    main()
