from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import select

from baimo.core.moments import DAY_MS
from baimo.store import tables
from baimo.store.contents import Contents
from baimo.store.engine import Database
from baimo.store.responses import DAYS, KeptResponse, Responses
from tests.store.meeting import meanwhile


class Clock:
    now_ms = 1_763_800_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def responses(database: Database, clock: Clock) -> Responses:
    return Responses(database, clock)


def turn(
    id: str, *, tenant: str = "acme", previous: str = "", conversation: str = "", items: tuple[str, ...] = ()
) -> KeptResponse:
    return KeptResponse(
        items=items,
        id=id,
        tenant=tenant,
        key="ab12cd34ef56",
        conversation=conversation,
        previous=previous,
        given=f'["question {id}"]'.encode(),
        response=f'{{"id":"{id}"}}'.encode(),
    )


def test_a_turn_is_read_back_as_it_was_kept(responses: Responses, clock: Clock) -> None:
    responses.put(turn("a"))
    kept = responses.get("acme", "a")
    assert kept is not None
    assert (kept.given, kept.response, kept.key) == (b'["question a"]', b'{"id":"a"}', "ab12cd34ef56")
    assert (kept.conversation, kept.previous, kept.created_ms) == ("a", "", clock.now_ms)
    assert responses.get("acme", "b") is None


def test_no_tenant_sees_continues_or_deletes_what_is_anothers(responses: Responses) -> None:
    responses.put(turn("a"))
    responses.put(turn("a", tenant="other"))
    responses.put(turn("b", previous="a", conversation="a"))
    for tenant in ("", "acme2", "ACME"):
        assert responses.get(tenant, "a") is None
        assert responses.turns(tenant, "b") == []
        assert not responses.delete(tenant, "a")
        assert responses.forget(tenant) == 0
    assert responses.turns("other", "b") == []
    assert [one.tenant for one in responses.turns("acme", "b")] == ["acme", "acme"]
    assert responses.forget("other") == 1
    assert responses.get("acme", "a") is not None


def test_a_turn_that_ends_after_its_tenant_was_forgotten_is_not_kept(
    database: Database, responses: Responses, clock: Clock
) -> None:
    began_ms = clock.now_ms
    Contents(database, clock).forget_tenant("acme")
    assert not responses.put(replace(turn("a"), began_ms=began_ms))
    assert responses.get("acme", "a") is None
    assert responses.put(replace(turn("a"), began_ms=began_ms + 1))
    assert responses.put(replace(turn("a", tenant="other"), began_ms=began_ms))


def test_a_conversation_may_branch(responses: Responses) -> None:
    responses.put(turn("a"))
    responses.put(turn("b", previous="a", conversation="a"))
    responses.put(turn("c", previous="b", conversation="a"))
    responses.put(turn("d", previous="a", conversation="a"))
    assert [one.id for one in responses.turns("acme", "c")] == ["a", "b", "c"]
    assert [one.id for one in responses.turns("acme", "d")] == ["a", "d"]
    assert responses.turns("acme", "x") == []


def test_a_conversation_of_which_a_turn_is_deleted_cannot_be_continued(responses: Responses) -> None:
    responses.put(turn("a"))
    responses.put(turn("b", previous="a", conversation="a"))
    assert responses.delete("acme", "a")
    assert not responses.delete("acme", "a")
    assert responses.get("acme", "b") is not None
    assert responses.turns("acme", "b") == []


def test_all_turns_are_kept_until_the_latest_is_old(
    responses: Responses, clock: Clock, database: Database
) -> None:
    responses.put(turn("a"))
    responses.put(turn("z"))
    clock.now_ms += (DAYS - 1) * DAY_MS
    responses.put(turn("b", previous="a", conversation="a"))
    clock.now_ms += DAY_MS
    assert responses.get("acme", "z") is None
    assert [one.id for one in responses.turns("acme", "b")] == ["a", "b"]
    assert responses.expire() == 1
    clock.now_ms += DAYS * DAY_MS
    assert responses.turns("acme", "b") == []
    assert responses.expire() == 2
    with database.reading() as connection:
        assert connection.execute(select(tables.responses)).first() is None


def test_a_turn_that_is_kept_twice_is_kept_once(responses: Responses) -> None:
    responses.put(turn("a"))
    responses.put(turn("a"))
    assert responses.forget("acme") == 1


def test_a_chain_that_bites_its_tail_ends(responses: Responses) -> None:
    responses.put(turn("a", previous="b", conversation="a"))
    responses.put(turn("b", previous="a", conversation="a"))
    assert responses.turns("acme", "b") == []


def test_nothing_of_what_was_said_is_shown_by_accident() -> None:
    assert "question" not in repr(turn("a"))


def test_a_turn_is_found_by_the_items_of_its_answer(responses: Responses, database: Database) -> None:
    responses.put(turn("a", items=("msg_1", "fc_1", "msg_1")))
    responses.put(turn("b", items=("msg_2",)))
    responses.put(turn("o", tenant="other", items=("msg_1",)))
    assert [one.id for one in responses.holding("acme", ["msg_1", "fc_1"])] == ["a"]
    assert {one.id for one in responses.holding("acme", ["fc_1", "msg_2", "x"])} == {"a", "b"}
    assert [one.id for one in responses.holding("other", ["msg_1", "msg_2"])] == ["o"]
    responses.put(turn("a", items=("msg_1",)))
    assert responses.holding("acme", ["fc_1"]) == []
    assert responses.delete("acme", "a")
    assert responses.holding("acme", ["msg_1"]) == []
    responses.forget("acme")
    with database.reading() as connection:
        assert connection.execute(select(tables.response_items.c.tenant)).scalars().all() == ["other"]


def test_two_turns_at_once_whose_items_have_the_same_ids_are_both_kept(responses: Responses) -> None:
    def other() -> None:
        responses.put(turn("b", items=("y", "x")))

    with meanwhile(responses._database, "INSERT INTO response_items", other) as said:
        responses.put(turn("a", items=("x", "y")))
    assert said == [None]
    assert responses.get("acme", "a") is not None and responses.get("acme", "b") is not None
    assert len(responses.holding("acme", ["x"])) == 1


def test_a_response_that_comes_twice_at_once_is_kept_once(responses: Responses) -> None:
    def other() -> None:
        responses.put(turn("a", items=("y",)))

    with meanwhile(responses._database, "INSERT INTO responses", other) as said:
        responses.put(turn("a", items=("x",)))
    assert said == [None]
    assert sum(len(responses.holding("acme", [item])) for item in ("x", "y")) == 1
