"""A ledger of ten million Records: how fast they are appended, summed by day and model, verified; how big it is.

    python benchmarks/gateway/ledger.py [--rows 10000000] [--batch 1000] [--only sqlite|postgresql] [--folder DIR]

The Records are those of a quarter: 90 days, 40 tenants, 200 keys, 25 models, four surfaces, every hundredth failed and
every thousandth without a price. They are appended as the gateway does it, `--batch` to a transaction, each on disk
when its transaction ends (PostgreSQL: a server of its own, started here, with fsync on). Appends one record per
database to results/gateway.jsonl.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from machine import HERE, save, where

from baimo.store import chain, rollups
from baimo.store.engine import Database
from baimo.store.entry import Entry
from baimo.store.filters import Filters
from baimo.store.ledger import Ledger
from baimo.store.lines import Row, row_of

DAY_MS = 86_400_000
START_MS = 20_600 * DAY_MS
"""2026-05-27."""


def rows(count: int, seed: int = 7, *, start_ms: int = START_MS, teams: int = 0) -> Iterator[Row]:
    """Lines of a quarter in order of time.

    Args:
        count: how many.
        seed: of chance.
        start_ms: when the quarter begins.
        teams: so many values of the tag `team`; 0 = no tags.
    """
    chance = random.Random(seed)
    models = [(f"vendor{n % 6}/model-{n}", chance.randint(20, 3_000) * 1_000) for n in range(25)]
    keys = [(f"k{n:011d}", f"tenant-{n % 40}") for n in range(200)]
    surfaces = ("chat", "chat", "messages", "responses", "embeddings")
    for number in range(count):
        at_ms = start_ms + number * 90 * DAY_MS // count
        model, price = models[min(int(chance.expovariate(0.25)), 24)]
        key, tenant = keys[number * 7919 % 200]
        tokens_in, tokens_out = chance.randint(20, 4_000), chance.randint(1, 900)
        micros, rest = divmod(tokens_in * price + tokens_out * price * 4, 1_000_000)
        failed, unpriced = number % 100 == 0, number % 1000 == 1
        unknown = failed or unpriced
        yield row_of(
            Entry(
                id=f"rec_{at_ms:012x}{number:016x}",
                surface=surfaces[number % 5],
                model=model,
                model_used=model.partition("/")[2],
                tenant=tenant,
                key=key,
                asked="fast",
                route="fallback",
                began_ms=at_ms,
                at_ms=at_ms + 900,
                status="gateway.upstream_error" if failed else "ok",
                http_status=502 if failed else 200,
                streamed=number % 3 == 0,
                tokens_in=None if failed else tokens_in,
                tokens_out=None if failed else tokens_out,
                cost_micros=None if unknown else micros,
                cost_rest=None if unknown else rest,
                price_in=None if unpriced else price,
                price_out=None if unpriced else price * 4,
                charged_micros=0 if unknown else micros,
                charged_tokens=0 if failed else tokens_in + tokens_out,
                latency_ms=900.125,
                first_byte_ms=210.5,
                queue_ms=0.0,
                attempts=1,
                request_hash=f"{number:064x}",
                conversation=f"{number // 4:032x}",
                config_hash="c0ffee" * 10 + "beef",
                tags=f'{{"team":"team-{number % teams}"}}' if teams else "{}",
            )
        )


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came back."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def appended(database: Database, count: int, batch: int) -> dict[str, Any]:
    """Append them all; rates without the time that making the lines took, over all and per tenth."""
    source, tenths, spent, used, done, mark = rows(count), [], 0.0, 0.0, 0, 0.0
    while done < count:
        lines = [line for _, line in zip(range(batch), source, strict=False)]
        start, began = time.perf_counter(), time.process_time()
        with database.writing() as connection:
            chain.append(connection, lines)
        spent += time.perf_counter() - start
        used += time.process_time() - began
        done += len(lines)
        if done * 10 // count > len(tenths):
            tenths.append(round((done - len(tenths) * count / 10) / (spent - mark)))
            mark = spent
            print(f"  {done:,} rows, {tenths[-1]:,} rows/s", flush=True)
    of_this_process = round(
        count / used
    )  # what a busy machine does not change; PostgreSQL's own work is not in it
    return {
        "rows_per_s": round(count / spent),
        "rows_per_cpu_s": of_this_process,
        "rows_per_s_by_tenth": tenths,
    }


def measured(database: Database, size_bytes: Callable[[], int], count: int, batch: int) -> dict[str, Any]:
    """Everything about one database.

    Raises:
        SystemExit: a sum or the verification is wrong: figures of a wrong ledger are worth nothing.
    """
    found = appended(database, count, batch)
    found["bytes_per_row"] = round(size_bytes() / count)
    found["gigabytes"] = round(size_bytes() / 1e9, 3)
    book = Ledger(database)
    counted_s, _ = timed(lambda: rollups.count_in(database))  # as a server does between its calls
    kept_s, kept = timed(lambda: book.sums(("day", "model")))
    # every line has the tag-free empty run, so this filter keeps all and forces the sum over the lines themselves
    lines_s, lines = timed(lambda: book.sums(("day", "model"), Filters(run="")))
    if kept != lines or sum(each.calls for each in kept) != count:
        raise SystemExit("the kept totals are not the sums of the lines")
    month_s, month = timed(
        lambda: book.sums(("tenant",), Filters(since_ms=START_MS, until_ms=START_MS + 30 * DAY_MS))
    )
    page_s, _ = timed(lambda: book.records(Filters(tenant="tenant-7"), cursor=count // 2, limit=100))
    verify_s, proof = timed(book.verify)
    if not proof.ok or proof.lines != count:
        raise SystemExit(f"the ledger does not verify: {proof}")
    return found | {
        "counted_rows_per_s": round(count / counted_s),
        "sum_by_day_and_model_ms": round(kept_s * 1000, 1),
        "groups": len(kept),
        "sum_by_day_and_model_over_lines_s": round(lines_s, 2),
        "sum_of_a_month_by_tenant_ms": round(month_s * 1000, 1),
        "groups_of_the_month": len(month),
        "page_of_one_tenant_ms": round(page_s * 1000, 1),
        "verify_s": round(verify_s, 1),
        "verify_rows_per_s": round(count / verify_s),
    }


def on_sqlite(folder: Path, count: int, batch: int) -> dict[str, Any]:
    """In a file of its own."""
    with tempfile.TemporaryDirectory(prefix="ledger-", dir=folder) as place:
        database = Database(str(Path(place) / "baimo.db"))
        with contextlib.closing(database):
            return measured(
                database, lambda: sum(f.stat().st_size for f in Path(place).iterdir()), count, batch
            )


def on_postgresql(folder: Path, count: int, batch: int) -> dict[str, Any]:
    """In a server of its own, started here; on disk when a transaction ends."""
    sys.path.append(str(HERE.parents[1]))
    from tests import postgres

    if postgres.binaries() is None:
        return {"not_measured": "no PostgreSQL on this machine"}
    tempfile.tempdir = str(folder)
    with postgres.server(fsync=True) as url:
        database = Database(url)
        with contextlib.closing(database):
            with database.reading() as connection:
                version = connection.exec_driver_sql("SHOW server_version").scalar_one()

            def size_bytes() -> int:
                with database.reading() as connection:
                    query = "SELECT pg_database_size(current_database())"
                    return int(connection.exec_driver_sql(query).scalar_one())

            return {"version": version, **measured(database, size_bytes, count, batch)}


DATABASES = {"sqlite": on_sqlite, "postgresql": on_postgresql}


def main() -> None:
    """Read the command line, measure, record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=1_000, help="lines in one transaction")
    parser.add_argument("--only", choices=list(DATABASES))
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the data goes for now"
    )
    parser.add_argument("--note", default="", help="goes into the record")
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    for name, measure in DATABASES.items():
        if given.only in (None, name):
            print(f"{name}:", flush=True)
            begun = {**where(), "mode": "ledger", "note": given.note, "database": name}
            figures = measure(given.folder, given.rows, given.batch)
            print(f"  {figures}", flush=True)
            if not given.no_record:
                save({**begun, "rows": given.rows, "batch": given.batch, **figures})


if __name__ == "__main__":
    main()
