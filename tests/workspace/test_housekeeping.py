"""What is too old goes, once an hour and by one process; what is not stays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import insert

from baimo.core.moments import DAY_MS
from baimo.core.record import Record
from baimo.core.tenant import Tenant
from baimo.settings import Settings
from baimo.store import tables
from baimo.store.audit import acts
from baimo.store.contents import sealed
from baimo.store.engine import Database
from baimo.store.files import Files
from baimo.store.ledger import Ledger
from baimo.store.responses import KeptResponse, Responses
from baimo.store.store import Store
from baimo.store.uploads import Uploads
from baimo.workspace.housekeeping import House, due, swept
from tests.store.test_responses import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def house(database_url: str, tmp_path: Path, clock: Clock) -> Iterator[House]:
    database = Database(database_url)
    files = Files(database, tmp_path / "files", clock)
    uploads = Uploads(database, files, clock)
    tenants = [Tenant(id="brief", contents_days=1)]
    yield House(database, files, uploads, Responses(database, clock), lambda: tenants, clock, tmp_path)
    database.close()


def test_an_hour_is_seen_to_by_whoever_comes_first_and_only_once(house: House, clock: Clock) -> None:
    assert [due(house), due(house)] == [True, False]
    clock.now_ms += 3_600_000
    assert [due(house), due(house)] == [True, False]
    clock.now_ms -= 3_600_000  # a clock that was set back
    assert not due(house)


def test_everything_that_is_too_old_goes_and_the_ledger_still_verifies(house: House, clock: Clock) -> None:
    kept(house, clock)
    settings = msgspec.convert({"ledger": {"records_days": 10, "contents_days": 5}}, Settings)
    assert swept(house, settings) == {}
    clock.now_ms += 2 * DAY_MS
    assert swept(house, settings) == {
        "files": 1,
        "uploads": 1,
        "cached": 1,
        "contents": 1,
    }  # of the tenant that said one day
    clock.now_ms += 40 * DAY_MS
    Store(house.database).settle(Record(id="rec_new", at_ms=clock.now_ms, surface="chat", model="a/b"))
    assert swept(house, settings) == {"responses": 1, "contents": 1, "records": 2}
    findings = Ledger(house.database).verify()
    assert not findings.problems and swept(house, settings) == {}
    assert [(act.act, act.facts) for act in acts(house.database)] == [
        ("house.sweep", {"responses": 1, "contents": 1, "records": 2}),
        ("house.sweep", {"files": 1, "uploads": 1, "cached": 1, "contents": 1}),
    ]


def kept(house: House, clock: Clock) -> None:
    incoming = house.files.incoming("brief", 10)
    incoming.write(b"x")
    house.files.keep(incoming, tenant="brief", key="k", name="n", purpose="batch", lives_s=86_400)
    house.uploads.begin(tenant="brief", key="k", name="n", purpose="evals", size=1, lives_s=None)
    house.responses.put(KeptResponse(id="resp_1", tenant="brief", given=b"[]", response=b"{}"))
    store = Store(house.database)
    with house.database.writing() as connection:
        connection.execute(
            insert(tables.cache).values(tenant="brief", hash="h", at_ms=clock.now_ms, data=b"d")
        )
        for id, tenant in (("rec_1", "brief"), ("rec_2", "long")):
            hash, stored = sealed(b"said")
            row = {"record": id, "tenant": tenant, "at_ms": clock.now_ms, "hash": hash, "content": stored}
            connection.execute(insert(tables.contents).values(row))
    for id, tenant in (("rec_1", "brief"), ("rec_2", "long")):
        store.settle(Record(id=id, at_ms=clock.now_ms, surface="chat", model="a/b", tenant=tenant))


def test_files_of_examples_that_nobody_stored_go_after_a_day(house: House, clock: Clock) -> None:
    for tenant in (house.folder, house.folder / "tenants" / "acme"):
        for name, age_ms in (("up_old", DAY_MS + 1), ("up_new", 1)):
            path = tenant / "task-uploads" / name
            path.mkdir(parents=True)
            (path / "rows.jsonl").write_text("said")
            os.utime(path, ns=(0, (clock.now_ms - age_ms) * 1_000_000))
    assert swept(house, Settings())["task_uploads"] == 2
    assert {path.name for path in house.folder.rglob("up_*")} == {"up_new"}
