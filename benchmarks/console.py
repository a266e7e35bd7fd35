"""The console over a ledger of a million Records: how long its first page and every view take, what the gateway loses.

    python benchmarks/console.py [--rows 1000000] [--only sqlite|postgresql] [--times 7] [--folder DIR] [--views PART]
    python benchmarks/console.py gateway [--rounds 5] [--seconds 5]

Views: the ledger holds 90 days of 40 tenants, 200 keys, 25 models, 4 surfaces, 4 routes and 5 statuses by chance (which
is the worst for sums: hardly two calls fall together), its roll-ups are up to date as they are soon after a server's
start (PostgreSQL: a server of its own). Then a real `baimo serve` answers as a browser would ask: `cold` is a view's
first time in this process, after the operating system was told to forget the database's files (as far as it lets itself
be told), `warm_p50` the median of `--times` further times, both milliseconds until the last byte; `cpu` is what the
server and the database spent on one of those, which a busy machine changes least. With `--folder` the filled ledgers
stay there for the next run.

`gateway`: requests per second of a closed loop of 32 clients through `baimo serve` while nobody looks at the console
(closed), while a person looks at a page a second (open), and while one goes on without a pause (busy): Home, Usage by
model and by status, Records, over a ledger of 100,000 Records. Rounds alternate; a ratio is the median of the ratios
within each round.

Appends to results/console.jsonl.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import operator
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
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
from baimo.store import chain, rollups, tables  # noqa: E402
from baimo.store.engine import Database  # noqa: E402
from baimo.store.ledger import Ledger  # noqa: E402
from baimo.store.lines import PLACE, Row  # noqa: E402
from baimo.workspace.workspace import Workspace  # noqa: E402

DAYS = 90
FAILURES = ("gateway.upstream_error", "gateway.upstream_timeout", "gateway.rate_limit", "gateway.too_long")
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
    "usage, 90 days by scenario": "/usage?span=90d&by=tag:scenario",
    "usage of one tenant by key": f"/usage?span=90d&by=key&tenant={TENANT}",
    "usage of one key by model": f"/usage?span=90d&by=model&key={KEY}",
    "usage of one model by status": f"/usage?span=90d&by=status&model={quote(MODEL, safe='')}",
    "usage of one model by key": f"/usage?span=90d&by=key&model={quote(MODEL, safe='')}",
    "usage of one surface by tenant": "/usage?span=90d&by=tenant&surface=chat",
    "usage of one route by key": "/usage?span=90d&by=key&route=direct",
    "usage of one label by model": "/usage?span=90d&by=model&tag=team%3Dteam-3",
    "usage of what failed by model": "/usage?span=90d&by=model&status=failed",
    "latency, 90 days by model": "/usage/latency?span=90d",
    "latency of one label by key": "/usage/latency?span=90d&by=key&tag=team%3Dteam-3",
    "records": "/usage/records",
    "records of one model": f"/usage/records?model={quote(MODEL, safe='')}",
    "records of one tenant": f"/usage/records?tenant={TENANT}",
    "records of one key": f"/usage/records?key={KEY}",
    "records of one label": "/usage/records?tag=team%3Dteam-3",
    "records of a rare status": f"/usage/records?status={FAILURES[-1]}",
    "records that failed, of one key": f"/usage/records?key={KEY}&status=failed",
    "records of a model never called": "/usage/records?model=acme%2Fsmall",
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


def filled(database: Database, count: int, first_ms: int) -> None:
    """Append the Records of 90 days from a moment on, ten thousand to a transaction."""
    source = uneven(ledger.rows(count, start_ms=first_ms))
    for begin in range(0, count, 10_000):
        with database.writing() as connection:
            chain.append(connection, [line for _, line in zip(range(min(10_000, count - begin)), source)])  # noqa: B905


def uneven(lines: Iterable[Row], seed: int = 11) -> Iterator[Row]:
    """The same lines with everything that is told apart by chance of its own: hardly any two fall together.

    Some keys call a hundred times as often as others, failures are of four sorts of which one is rare, and a key's
    labels are its own.
    """
    chance = random.Random(seed)
    key, tenant, surface, route, status, tags = (
        PLACE[name] for name in ("key", "tenant", "surface", "route", "status", "tags")
    )
    for line in lines:
        values = list(line)
        number = int(200 * chance.random() ** 2)
        values[key], values[tenant] = f"k{number:011d}", f"tenant-{number % 40}"
        values[tags] = f'{{"team":"team-{number % 12}","scenario":"scenario-{number % 5}"}}'
        values[surface] = chance.choice(("chat", "chat", "messages", "responses", "embeddings"))
        values[route] = chance.choice(
            ("direct", "direct", "direct", "alias", "fallback:first", "fallback:error")
        )
        if values[status] != "ok":
            values[status] = chance.choices(FAILURES, (600, 300, 99, 1))[0]
        yield tuple(values)


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
    """Milliseconds of processor time that a process and its children, those that ended among them, spent so far."""
    spent = 0
    for one in (pid, *children(pid)):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            spent += sum(map(int, fields[11:15]))  # PostgreSQL's helpers end with their query
    return spent * 1000 / os.sysconf("SC_CLK_TCK")


def viewed(work: Path, data: Path, config: str, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """View → its times."""
    found: dict[str, dict[str, float]] = {}
    with serving(work, config) as endpoint:
        reader = Reader(endpoint.port, endpoint.new_key("--role", "admin"))
        file = data / "postmaster.pid"
        pids = [endpoint.process.pid, *([int(file.read_text().split()[0])] if file.exists() else [])]
        page = reader.get("/usage/records")
        record = next(part for part in page.split('"') if "/records/rec_" in part).removeprefix("/console")
        for name, path in VIEWS.items():
            if given.views not in name:
                continue
            path = record if "RECORD" in path else path
            forgotten(data)
            cold = timed(reader, path)
            before = sum(map(cpu_ms, pids))
            warm = sorted(timed(reader, path) for _ in range(given.times))
            found[name] = {
                "cold": round(cold, 1),
                "warm_p50": round(statistics.median(warm), 1),
                "warm_worst": round(warm[-1], 1),
                "cpu": round((sum(map(cpu_ms, pids)) - before) / given.times, 1),
            }
            print(f"  {name:34} {found[name]}", flush=True)
    return found


@contextlib.contextmanager
def sqlite(place: Path) -> Iterator[tuple[Path, str]]:
    """Folder of the database's files, and the lines of baimo.toml that name it."""
    yield place / "work" / ".baimo", ""


@contextlib.contextmanager
def postgresql(place: Path) -> Iterator[tuple[Path, str]]:
    """The same, of a server of its own."""
    if postgres.binaries() is None:
        raise SystemExit("no PostgreSQL on this machine")
    with postgres.server(fsync=True, folder=place) as url:
        yield place / "data", f'[workspace]\ndatabase = "{url}"\n'


KINDS = {"sqlite": sqlite, "postgresql": postgresql}


def views(given: argparse.Namespace) -> None:
    """Fill where nothing is filled yet, look, record."""
    with contextlib.ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="console-")))
        for name, kind in KINDS.items():
            if given.only not in (None, name):
                continue
            place = folder.resolve() / name
            (place / "work").mkdir(parents=True, exist_ok=True)
            with kind(place) as (data, store):
                config = f'{store}[providers.acme]\nprotocol = "fake"\n[models."acme/small"]\n'
                (place / "work" / "baimo.toml").write_text(config, encoding="utf-8")
                first_day = lived_in(place, given.rows)
                if given.views == "none":
                    continue
                begun = machine.where()
                print(f"{name}: load {begun['load_average_before']}", flush=True)
                found = viewed(place / "work", data, config, given)
            row = {"mode": "views", "database": name, "rows": given.rows, "first_day": first_day}
            row |= {"times": given.times, "load_average_after": round(os.getloadavg()[0], 2)}
            slowest = max(found, key=lambda view: found[view]["warm_p50"])
            print(f"  slowest, warm: {slowest}, {found[slowest]['warm_p50']} ms", flush=True)
            if not given.no_record:
                save("console", {**begun, **row, "note": given.note, "views_ms": found})


def lived_in(place: Path, count: int) -> str:
    """Fill the workspace unless it is; returns the day of its first Record.

    Raises:
        SystemExit: it holds something else.
    """
    marker = place / "filled.json"
    if not marker.exists():
        print(f"{place.name}: filling", flush=True)
        first = start_ms()
        with contextlib.closing(Workspace(place / "work")) as workspace:
            if Ledger(workspace.store.database).head().seq:
                raise SystemExit(f"{place} is half full: delete it")
            peopled(workspace)
            filled(workspace.store.database, count, first)
        day = chain.day_name(first // ledger.DAY_MS)
        marker.write_text(json.dumps({"rows": count, "first_day": day}), encoding="utf-8")
    with contextlib.closing(Workspace(place / "work")) as workspace:
        rollups.count_in(workspace.store.database)
        if workspace.store.database.dialect == "postgresql":
            with workspace.store.database.writing() as connection:  # as autovacuum does within minutes
                connection.exec_driver_sql("ANALYZE")
    found = json.loads(marker.read_text(encoding="utf-8"))
    if found["rows"] != count:
        raise SystemExit(f"{place} holds {found['rows']} Records, not {count}")
    return found["first_day"]


STATES = {"closed": None, "open": 1.0, "busy": 0.0}
"""State of the console → seconds that a person looks at a page before the next one; None = nobody looks."""


@contextlib.contextmanager
def looking(port: int, key: str, pause_s: float | None) -> Iterator[list[int]]:
    """Somebody goes from page to page; gives how many pages it were."""
    seen, stop = [0], threading.Event()

    def look(reader: Reader) -> None:
        for path in itertools.cycle(("/", "/usage", "/usage?span=90d&by=status", "/usage/records")):
            if stop.wait(pause_s):
                return
            reader.get(path)
            seen[0] += 1

    threads = (
        [] if pause_s is None else [threading.Thread(target=look, args=(Reader(port, key),), daemon=True)]
    )
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def gateway(given: argparse.Namespace) -> None:
    """Throughput while nobody looks, while somebody does, and while somebody does not stop to."""
    import ours

    rates: dict[str, list[float]] = {state: [] for state in STATES}
    pages = dict.fromkeys(STATES, 0)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="console-")))
        machine.build_tools(folder / "tools")
        bench = machine.Bench(
            tools=folder / "tools", peers=folder, work=folder, gateway_cores="0", load_cores="1"
        )
        begun = machine.where()
        upstream = stack.enter_context(machine.mock(bench))
        target = ours.start(bench, upstream)
        stack.callback(target.process.stop)
        with contextlib.closing(Workspace(bench.work / "baimo")) as workspace:
            filled(workspace.store.database, 100_000, start_ms())
            rollups.count_in(workspace.store.database)
            admin = workspace.accounts.create_key(Key(role="admin")).credential.written()
        machine.check_answers(target, upstream)
        machine.loaded(bench, target, concurrency=32, seconds=given.seconds)  # nobody counts the first
        for number in range(given.rounds):
            for state in sorted(STATES, reverse=bool(number % 2)):
                with looking(target.port, admin, STATES[state]) as seen:
                    figures = machine.loaded(bench, target, concurrency=32, seconds=given.seconds)
                rates[state].append(figures["requests_per_s"])
                pages[state] += seen[0]
            told = ", ".join(f"{rates[state][-1]:,.0f} {state}" for state in STATES)
            print(f"  {number + 1}: {told}", flush=True)
    row = {
        "mode": "gateway", "rounds": given.rounds, "seconds": given.seconds, "note": given.note,
        "load_average_after": round(os.getloadavg()[0], 2), "pages_looked_at": pages,
        "requests_per_s": {state: round(statistics.median(some)) for state, some in rates.items()},
        "ratio": {
            state: round(statistics.median(map(operator.truediv, rates[state], rates["closed"])), 3)
            for state in ("open", "busy")
        },
    }  # fmt: skip
    if given.no_record:
        print(row)
    else:
        save("console", {**begun, **row})


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
    parser.add_argument("--views", default="", help="only those whose name has this in it; none = only fill")
    parser.add_argument("--folder", type=Path, help="where filled ledgers lie and stay")
    parser.add_argument("--note", default="", help="goes into the record")
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    {"views": views, "gateway": gateway}[given.what](given)


if __name__ == "__main__":
    main()
