"""Conversations are their keeper's, their tenant may read what is shared, and nothing outlives its time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from baimo.core.moments import DAY_MS
from baimo.errors import NotFound
from baimo.store import audit
from baimo.store.audit import Actor
from baimo.store.contents import Contents
from baimo.store.conversations import Conversations
from baimo.store.engine import Database
from tests.store.meeting import meanwhile


class House:
    now_ms = 1_800_000_000_000

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.kept = Conversations(self.database, lambda: self.now_ms)

    def keep(self, said: str, *, tenant: str = "red", key: str = "mine", title: str = "a talk") -> str:
        self.now_ms += 1
        return self.kept.keep(tenant, key, title, said.encode()).id


@pytest.fixture
def house(database_url: str) -> Iterator[House]:
    made = House(database_url)
    yield made
    made.database.close()


def test_what_is_kept_comes_back_and_is_changed(house: House) -> None:
    id = house.keep('{"said": "héllo 你好"}')
    house.now_ms += 5
    assert house.kept.get("red", "mine", id).content.decode() == '{"said": "héllo 你好"}'
    changed = house.kept.change("red", "mine", id, title="another", content=b"more")
    assert house.kept.get("red", "mine", id) == changed
    assert (changed.title, changed.updated_ms - changed.created_ms) == ("another", 5)
    assert house.kept.change("red", "mine", id, title="third").content == b"more"


@pytest.mark.parametrize(("tenant", "key"), [("red", "other"), ("blue", "mine"), ("", "mine")])
def test_nobody_else_reads_changes_shares_or_deletes(house: House, tenant: str, key: str) -> None:
    id = house.keep("secret")
    for act in (
        lambda: house.kept.get(tenant, key, id),
        lambda: house.kept.change(tenant, key, id, title="x"),
        lambda: house.kept.share(tenant, key, id, True),
        lambda: house.kept.delete(tenant, key, id),
        lambda: house.kept.page(tenant, key, after=id),
    ):
        with pytest.raises(NotFound):
            act()
    assert house.kept.page(tenant, key) == []
    assert house.kept.get("red", "mine", id).title == "a talk"


def test_a_share_opens_inside_the_tenant_until_it_is_taken_back(house: House) -> None:
    id = house.keep("for us")
    first = house.kept.share("red", "mine", id, True).share
    assert first is not None and len(first) == 32
    assert house.kept.share("red", "mine", id, True).share == first
    assert house.kept.shared("red", first).content == b"for us"
    for tenant in ("blue", ""):
        with pytest.raises(NotFound):
            house.kept.shared(tenant, first)
    assert house.kept.share("red", "mine", id, False).share is None
    with pytest.raises(NotFound):
        house.kept.shared("red", first)
    assert house.kept.share("red", "mine", id, True).share != first


def test_lists_are_paged_and_searched_by_title_and_words(house: House) -> None:
    ids = [house.keep(f"word{number} said", title=f"Title {number}") for number in range(5)]
    first = house.kept.page("red", "mine", limit=3)
    assert [one.id for one in first] == ids[:1:-1]
    assert [one.id for one in house.kept.page("red", "mine", after=first[-1].id)] == ids[1::-1]
    assert [one.id for one in house.kept.page("red", "mine", words="WORD3")] == [ids[3]]
    assert [one.id for one in house.kept.page("red", "mine", words="title 1")] == [ids[1]]
    assert house.kept.page("red", "mine", words="nothing") == []


def test_what_is_too_old_goes_by_its_tenants_days(house: House) -> None:
    old, fresh = house.keep("old"), house.keep("old but changed")
    blue = house.keep("old", tenant="blue")
    house.now_ms += 3 * DAY_MS
    house.kept.change("red", "mine", fresh, content=b"just now")
    assert house.kept.expire(30, {"red": 2}) == 1
    assert house.kept.expire(2, {"red": 30}) == 1
    assert [one.id for one in house.kept.page("red", "mine")] == [fresh]
    for id, tenant in ((old, "red"), (blue, "blue")):
        with pytest.raises(NotFound):
            house.kept.get(tenant, "mine", id)


def test_a_forgotten_tenant_leaves_nothing_but_who_did_what(house: House) -> None:
    id = house.kept.keep("red", "mine", "a title to forget", b"x", Actor("red", "mine")).id
    house.kept.share("red", "mine", id, True, Actor("red", "mine"))
    other = house.keep("stays", tenant="blue")
    assert Contents(house.database).forget_tenant("red")["conversations"] == 1
    assert house.kept.page("red", "mine") == []
    assert house.kept.get("blue", "mine", other).content == b"stays"
    acts = [act for act in audit.acts(house.database) if act.subject == id]
    assert {act.act for act in acts} == {"conversation.share", "conversation.keep"}
    assert "title" not in str([act.facts for act in acts])


def test_deleted_words_are_not_in_the_file_any_more(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    database = Database(f"sqlite:///{path}")
    kept = Conversations(database)
    title = "a very recognisable title of a conversation"
    id = kept.keep("red", "mine", title, b"x").id
    kept.delete("red", "mine", id)
    Contents(database).forget_tenant("red")  # empties the write-ahead log, too
    database.close()
    files = [one for one in tmp_path.iterdir() if one.name.startswith("store.db")]
    assert files and not any(title.encode() in one.read_bytes() for one in files)


def test_a_title_that_comes_with_new_words_does_not_take_them_away(house: House) -> None:
    id = house.keep("old")

    def said() -> None:
        house.kept.change("red", "mine", id, content=b"new")

    statement = "BEGIN" if house.database.dialect == "sqlite" else "UPDATE conversations"
    with meanwhile(house.database, statement, said):
        house.kept.change("red", "mine", id, title="another")
    now = house.kept.get("red", "mine", id)
    assert (now.title, now.content) == ("another", b"new")
