"""Reviews wait in the order of what they decide; a second reader is another one; nothing crosses tenants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from baimo.store.audit import Actor
from baimo.store.contents import Contents
from baimo.store.engine import Database
from baimo.store.judgements import Judgement, Judgements, Review
from tests.store.meeting import meanwhile


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    yield made
    made.close()


def review(number: int, **facts: Any) -> Review:
    wanted: dict[str, Any] = {"tenant": "red", "task": "mail", "reason": "sample", "rank": number % 3}
    wanted |= {"id": f"review_{number}", "subject": f"s{number}", "created_ms": number}
    return Review(**{**wanted, **facts})


def judged(id: str, reader: str, at_ms: int = 1, **facts: Any) -> Judgement:
    return Judgement(review=id, reader=reader, key=reader, at_ms=at_ms, **{"said": "agree", **facts})


ME = Actor("red", "me")


def test_reviews_wait_by_what_they_decide_and_each_is_entered_once(database: Database) -> None:
    kept = Judgements(database)
    assert kept.add(map(review, range(7)), ME, {"run": "r"}) == 7
    assert kept.add([review(3), review(9, subject="s1"), review(7)], ME, {}) == 1
    seen, after = list[str](), ""
    while page := kept.page("red", "ann", limit=3, after=after):
        seen += [one.review.id for one in page]
        after = seen[-1]
    assert seen == [f"review_{number}" for number in (2, 5, 1, 4, 7, 0, 3, 6)]
    assert [one.review.id for one in kept.page("red", "ann", limit=9, task="other")] == []
    assert kept.page("blue", "ann", limit=9) == [] and kept.get("blue", "review_1") is None
    assert kept.tallies("red", "ann") == [("mail", 8, 0, 8)]


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ({"sort": "rank"}, [0, 3, 1, 4, 2, 5]),
        ({"sort": "-created"}, [5, 4, 3, 2, 1, 0]),
        ({"sort": "task"}, [1, 3, 5, 0, 2, 4]),
        ({"sort": "-task"}, [0, 2, 4, 1, 3, 5]),
        ({"sort": "-read", "state": "all"}, [4, 0, 1, 2, 3, 5]),
        ({"sort": "created", "reason": "call"}, [0, 3]),
        ({"reason": "sample"}, [2, 5, 1, 4]),
        ({"reason": "unsure"}, []),
    ],
)
def test_the_queue_is_put_in_any_order_and_paged_in_it(
    database: Database, asked: dict[str, Any], numbers: list[int]
) -> None:
    kept, seen, after = Judgements(database), list[str](), ""
    facts = [{"task": "mail" if n % 2 else "time", "reason": "sample" if n % 3 else "call"} for n in range(6)]
    kept.add([review(n, readers=2, **facts[n]) for n in range(6)], ME, {})
    kept.judge("red", judged("review_4", "bob"), ME)
    while page := kept.page("red", "ann", limit=2, after=after, **asked):
        seen += [one.review.id for one in page]
        after = seen[-1]
    assert seen == [f"review_{number}" for number in numbers]


def test_a_second_reader_is_another_one_and_what_is_read_waits_no_more(database: Database) -> None:
    kept = Judgements(database)
    kept.add([review(1), review(2, readers=2)], ME, {})
    assert kept.judge("red", judged("review_1", "ann"), ME) is not None
    kept.judge("red", judged("review_2", "ann"), ME)
    kept.judge(
        "red", judged("review_2", "ann", said="fix", correction="x"), ME
    )  # again: in place of the first
    assert [one.review.id for one in kept.page("red", "ann", limit=9)] == []
    assert [(one.review.id, one.read) for one in kept.page("red", "bob", limit=9)] == [("review_2", 1)]
    assert len(kept.page("red", "ann", state="mine", limit=9)) == 2
    kept.judge("red", judged("review_2", "bob", 2, said="reject"), ME)
    assert [one.review.id for one in kept.page("red", "bob", state="done", limit=9)] == [
        "review_2",
        "review_1",
    ]
    assert [one.said for one in kept.of("red", "review_2")] == ["fix", "reject"]
    assert kept.retract("red", "review_2", "bob", ME) and not kept.retract("red", "review_2", "bob", ME)
    assert [one.review.id for one in kept.page("red", "bob", limit=9)] == ["review_2"]
    assert kept.judge("blue", judged("review_1", "eve"), Actor("blue")) is None
    assert kept.of("blue", "review_1") == []


def test_what_was_said_comes_with_its_reviews_and_is_forgotten_with_the_tenant(database: Database) -> None:
    kept = Judgements(database)
    kept.add([review(1), review(2, task="other"), review(3)], ME, {})
    for number, reader in ((1, "ann"), (1, "bob"), (2, "ann")):
        kept.judge("red", judged(f"review_{number}", reader, number), ME)
    assert [(one.id, len(said)) for one, said in kept.said("red")] == [("review_1", 2), ("review_2", 1)]
    assert [one.id for one, _ in kept.said("red", task="other")] == ["review_2"]
    gone = Contents(database).forget_tenant("red")
    assert (gone["reviews"], gone["judgements"]) == (3, 3)
    assert kept.said("red") == [] and kept.page("red", "ann", state="all", limit=9) == []


def test_a_judgement_that_is_taken_back_while_another_comes_leaves_the_right_count(
    database: Database,
) -> None:
    kept = Judgements(database)
    kept.add([review(1, readers=3)], ME, {})
    kept.judge("red", judged("review_1", "ann"), ME)

    with meanwhile(database, "UPDATE reviews", lambda: kept.retract("red", "review_1", "ann", ME)) as said:
        kept.judge("red", judged("review_1", "bob"), ME)
    assert said == [True]
    found = kept.get("red", "review_1")
    assert found is not None and found.read == 1


def test_two_who_put_the_same_answers_on_the_queue_do_not_wait_for_each_other(database: Database) -> None:
    kept = Judgements(database)
    some = [review(number) for number in range(2)]

    def other() -> int:
        return kept.add(reversed(some), ME, {})

    with meanwhile(database, "INSERT INTO reviews", other, when=2) as said:
        assert kept.add(some, ME, {}) == 2
    assert said == [0]
