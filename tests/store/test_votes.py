"""Votes: drawn blind, cast once, counted, and forgotten in time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from baimo.core.moments import DAY_MS
from baimo.errors import Conflict, NotFound
from baimo.store.contents import Contents
from baimo.store.engine import Database
from baimo.store.votes import BAD, TIE, Vote, Votes
from tests.store.meeting import meanwhile

ASKED = b'[{"role":"user","content":"Which?"}]'


class House:
    now_ms = 1_800_000_000_000

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.votes = Votes(self.database, lambda: self.now_ms)

    def answered(self, *models: str, tenant: str = "red", kept: bool = True) -> Vote:
        """A vote that can be cast."""
        self.now_ms += 1
        vote = self.votes.begin(tenant, "mine", models or ("acme/a", "acme/b"))
        for one in vote.answers:
            words = {"asked": ASKED, "answer": f"said by {one.model}"} if kept else {}
            self.votes.answered(vote, one.place, f"rec_{one.place}", **words)
        return vote


@pytest.fixture
def house(database_url: str) -> Iterator[House]:
    made = House(database_url)
    yield made
    made.database.close()


def test_places_are_drawn_and_every_order_comes(house: House) -> None:
    orders = {
        tuple(one.model for one in house.votes.begin("red", "mine", ("a", "b", "c")).answers)
        for _ in range(120)
    }
    assert len(orders) == 6  # a fair draw misses one of them once in 10⁹ runs


def test_a_vote_is_cast_once_by_who_asked_and_says_who_it_was(house: House) -> None:
    vote = house.answered()
    for tenant, key in (("red", "other"), ("blue", "mine")):
        with pytest.raises(NotFound):
            house.votes.cast(tenant, key, vote.id, "A")
    with pytest.raises(NotFound):
        house.votes.cast("red", "mine", vote.id, "C")  # two stand there
    cast = house.votes.cast("red", "mine", vote.id, "B")
    assert (cast.choice, cast.asked, cast.at_ms) == ("B", ASKED, house.now_ms)
    assert [one.answer for one in cast.answers] == [f"said by {one.model}" for one in vote.answers]
    with pytest.raises(Conflict):
        house.votes.cast("red", "mine", vote.id, "A")
    assert house.votes.page("red") == [cast] == list(house.votes.walk(None))


def test_what_was_not_answered_cannot_be_voted_on(house: House) -> None:
    vote = house.votes.begin("red", "mine", ("a", "b"))
    house.votes.answered(vote, "A", "rec_1")
    with pytest.raises(Conflict):
        house.votes.cast("red", "mine", vote.id, "A")
    assert house.votes.page("red") == []


def test_all_were_asked_the_same_and_later_answers_replace_earlier_ones(house: House) -> None:
    vote = house.answered()
    with pytest.raises(Conflict):
        house.votes.answered(vote, "A", "rec_2", asked=b'[{"role":"user","content":"Another"}]')
    house.votes.answered(vote, "A", "rec_2", asked=ASKED, answer="again")
    cast = house.votes.cast("red", "mine", vote.id, TIE)
    house.votes.answered(vote, "A", "rec_3", asked=ASKED, answer="too late")
    assert house.votes.get("red", vote.id) == cast
    assert (cast.answers[0].record, cast.answers[0].answer) == ("rec_2", "again")


def test_outcomes_hold_every_vote_with_its_models(house: House) -> None:
    for choice in ("A", "B", TIE, BAD):
        house.votes.cast("red", "mine", house.answered().id, choice)
    house.votes.cast("blue", "mine", house.answered("x", "y", tenant="blue").id, "A")
    found = list(house.votes.outcomes("red"))
    assert sorted(choice for choice, _ in found) == ["A", "B", BAD, TIE]
    assert all(sorted(places.values()) == ["acme/a", "acme/b"] for _, places in found)
    assert len(list(house.votes.outcomes(None))) == 5
    assert list(house.votes.outcomes("red", since_ms=house.now_ms + 1)) == []


def test_lists_are_paged_and_filtered(house: House) -> None:
    ids = [house.answered("acme/a", "acme/b" if n % 2 else "acme/c").id for n in range(4)]
    for id in ids:
        house.votes.cast("red", "mine", id, "A")
    first = house.votes.page("red", limit=3)
    assert [one.id for one in first] == ids[:0:-1]
    assert [one.id for one in house.votes.page("red", after=first[-1].id)] == ids[:1]
    assert [one.id for one in house.votes.page("red", model="acme/c")] == [ids[2], ids[0]]
    assert house.votes.page("blue") == []


def test_words_go_in_time_who_won_stays_and_what_nobody_voted_on_is_dropped(house: House) -> None:
    cast = house.votes.cast("red", "mine", house.answered().id, "A")
    dropped = house.answered()
    house.now_ms += 2 * DAY_MS
    assert house.votes.expire(1, {"red": 30}) == 1
    assert house.votes.get("red", cast.id) == cast
    with pytest.raises(NotFound):
        house.votes.get("red", dropped.id)
    assert house.votes.expire(1, {}) == 1
    left = house.votes.get("red", cast.id)
    assert (left.asked, {one.answer for one in left.answers}) == (None, {None})
    assert [choice for choice, _ in house.votes.outcomes("red")] == ["A"]


def test_deleted_and_forgotten_votes_are_gone(house: House) -> None:
    first, second = house.answered(), house.answered()
    with pytest.raises(NotFound):
        house.votes.delete("blue", first.id)
    house.votes.delete("red", first.id)
    with pytest.raises(NotFound):
        house.votes.get(None, first.id)
    gone = Contents(house.database).forget_tenant("red")
    assert (gone["votes"], gone["vote_answers"]) == (1, 2)
    with pytest.raises(NotFound):
        house.votes.get("red", second.id)


def test_of_two_votes_at_once_one_counts(house: House) -> None:
    vote = house.answered()

    def other() -> Vote:
        return house.votes.cast("red", "mine", vote.id, "B")

    with meanwhile(house.database, "UPDATE votes", other) as said:
        assert house.votes.cast("red", "mine", vote.id, "A").choice == "A"
    assert isinstance(said[0], Conflict)
    assert house.votes.get("red", vote.id).choice == "A"


def test_an_answer_that_comes_with_the_vote_changes_nothing_after_it(house: House) -> None:
    vote = house.answered()

    def cast() -> Vote:
        return house.votes.cast("red", "mine", vote.id, TIE)

    with meanwhile(house.database, "UPDATE vote_answers", cast) as said:
        house.votes.answered(vote, "A", "rec_new", asked=ASKED, answer="new")
    told = next(one for one in said[0].answers if one.place == "A")
    assert told == next(one for one in house.votes.get("red", vote.id).answers if one.place == "A")


def test_models_that_are_asked_at_once_are_asked_the_same(house: House) -> None:
    vote = house.votes.begin("red", "mine", ("a", "b"))

    def other() -> None:
        house.votes.answered(vote, "B", "rec_b", asked=b"[]", answer="b")

    with meanwhile(house.database, "UPDATE votes", other) as said:
        house.votes.answered(vote, "A", "rec_a", asked=ASKED, answer="a")
    assert isinstance(said[0], Conflict)
    assert house.votes.get("red", vote.id).asked == ASKED


def test_a_vote_that_is_deleted_while_an_answer_comes_is_gone(house: House) -> None:
    def answer() -> None:
        house.votes.answered(vote, "A", "rec_new", asked=ASKED, answer="new")

    for table in ("votes", "vote_answers"):
        vote = house.answered()
        with meanwhile(house.database, f"DELETE FROM {table}", answer) as said:
            house.votes.delete("red", vote.id)
        assert said == [None]
