"""Adapters in the store: names are unique, tenants see their own, every change is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from baimo.core.tuning import Adapter
from baimo.errors import Conflict
from baimo.store.adapters import Adapters
from baimo.store.engine import Database
from baimo.store.store import Store
from tests.store.meeting import meanwhile


@pytest.fixture
def adapters(database_url: str) -> Iterator[Adapters]:
    store = Store(Database(database_url))
    yield Adapters(store.database)
    store.close()


def made(adapters: Adapters, tenant: str = "acme", **facts: object) -> Adapter:
    id = adapters.new_id()
    given = {
        "name": f"ft:base:{tenant}::{id}",
        "base": "local/base",
        "base_hash": "b",
        "folder": f"adapters/{id}",
    }
    adapter = Adapter(id=id, tenant=tenant, created_ms=1, **{**given, **facts})  # type: ignore[arg-type]
    adapters.put(adapter)
    return adapter


def test_what_is_put_is_found_by_id_and_by_name_with_everything_it_says(adapters: Adapters) -> None:
    adapter = made(adapters, kind="full", lineage={"data_hash": "d"}, parity={"differs": ""}, step=7)
    assert adapters.get("acme", adapter.id) == adapter
    assert adapters.named(adapter.name) == adapter


def test_another_tenant_finds_nothing_by_id_name_or_job_and_changes_nothing(adapters: Adapters) -> None:
    adapter = made(adapters, job="ftjob-1")
    assert adapters.get("other", adapter.id) is None
    assert adapters.named(adapter.name, "other") is None
    assert adapters.of_job("other", "ftjob-1") == []
    assert adapters.page("other", limit=10) == []
    assert adapters.change("other", adapter.id, lambda one: replace(one, status="ready")) is None
    assert not adapters.delete("other", adapter.id)
    assert adapters.get("acme", adapter.id) == adapter


def test_a_name_is_taken_once_in_the_whole_workspace(adapters: Adapters) -> None:
    adapter = made(adapters)
    with pytest.raises(Conflict, match=adapter.name):
        made(adapters, tenant="other", name=adapter.name)


def test_every_change_raises_the_revision_and_a_look_does_not(adapters: Adapters) -> None:
    seen = [adapters.revision()]
    adapter = made(adapters)
    seen.append(adapters.revision())
    adapters.change("acme", adapter.id, lambda one: replace(one, status="ready"))
    seen.append(adapters.revision())
    adapters.delete("acme", adapter.id)
    seen.append(adapters.revision())
    assert sorted(set(seen)) == seen
    adapters.page(None, limit=3)
    assert adapters.revision() == seen[-1]


def test_only_what_is_ready_may_answer_and_pages_go_on_where_the_last_one_ended(adapters: Adapters) -> None:
    all = [made(adapters), made(adapters, tenant="other"), made(adapters)]
    adapters.change("other", all[1].id, lambda one: replace(one, status="ready"))
    assert [one.id for one in adapters.ready()] == [all[1].id]
    mine = [one.id for one in adapters.page("acme", limit=1)]
    rest = [one.id for one in adapters.page("acme", limit=5, after=mine[0])]
    assert {*mine, *rest} == {all[0].id, all[2].id}


def test_of_two_that_take_a_name_at_once_one_is_told(adapters: Adapters) -> None:
    def other() -> Adapter:
        return made(adapters, name="ft:same")

    with meanwhile(adapters._database, "INSERT INTO revisions", other) as said:
        assert made(adapters, name="ft:same") == adapters.named("ft:same")
    assert isinstance(said[0], Conflict)
