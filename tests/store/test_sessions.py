"""Sessions stand for a key for a while, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from baimo.core.tenant import Key
from baimo.errors import Forbidden, NotFound, Unauthenticated
from baimo.gateway.keyring import Keyring
from baimo.store.accounts import Accounts
from baimo.store.engine import Database
from baimo.store.sessions import LONGEST_MS, Sessions

MINUTE_MS = 60_000


class Clock:
    now_ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now_ms


class House:
    def __init__(self, url: str) -> None:
        self.clock = Clock()
        self.database = Database(url)
        self.accounts = Accounts(self.database, self.clock)
        self.sessions = Sessions(self.database, self.clock)
        self.key = self.accounts.create_key(Key(label="mine", role="engineer", networks=("10.0.0.0/8",))).key
        self.ring = Keyring(self.accounts, wall=lambda: self.clock.now_ms / 1000, sessions=self.sessions.all)

    def opens(self, credential: str, ip: str = "10.1.1.1") -> Key:
        self.ring.refresh()
        return self.ring.authenticate(credential.encode(), ip)[0]


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    made = House(database_url)
    yield made
    made.database.close()


def test_a_session_has_the_rights_of_its_key_until_it_ends(house: House) -> None:
    begun = house.sessions.begin(house.key.public, MINUTE_MS)
    credential = begun.credential.written()
    assert house.opens(credential) == house.key
    with pytest.raises(Forbidden):  # also what the key may not
        house.opens(credential, "192.168.1.1")
    house.sessions.end(house.key.public, begun.session.public)
    with pytest.raises(Unauthenticated):
        house.opens(credential)
    with pytest.raises(NotFound):  # of two who end it at once, one is told so
        house.sessions.end(house.key.public, begun.session.public)


def test_a_session_ends_by_itself_and_lives_on_when_it_is_renewed(house: House) -> None:
    begun = house.sessions.begin(house.key.public, 2 * MINUTE_MS)
    credential = begun.credential.written()
    house.clock.now_ms += MINUTE_MS
    house.sessions.renew(house.key.public, begun.session.public, 2 * MINUTE_MS)
    house.clock.now_ms += 90_000
    assert house.opens(credential) == house.key
    house.clock.now_ms += MINUTE_MS
    with pytest.raises(Unauthenticated) as told:  # also where nobody read the accounts again
        house.ring.authenticate(credential.encode(), "10.1.1.1")
    assert told.value.key == "gateway.ended_session"
    with pytest.raises(NotFound):
        house.sessions.renew(house.key.public, begun.session.public, MINUTE_MS)


def test_no_session_outlives_half_a_day(house: House) -> None:
    begun = house.sessions.begin(house.key.public, 10 * LONGEST_MS)
    assert begun.session.expires_ms == house.clock.now_ms + LONGEST_MS
    house.clock.now_ms += LONGEST_MS - MINUTE_MS
    renewed = house.sessions.renew(house.key.public, begun.session.public, LONGEST_MS)
    assert renewed.expires_ms == begun.session.expires_ms


def test_a_session_ends_with_its_key(house: House) -> None:
    credential = house.sessions.begin(house.key.public, MINUTE_MS).credential.written()
    house.accounts.revoke(house.key.public)
    house.clock.now_ms += 1
    with pytest.raises(Unauthenticated):
        house.opens(credential)


def test_a_key_renews_and_ends_its_own_sessions_only(house: House) -> None:
    other = house.accounts.create_key(Key(label="other")).key.public
    public = house.sessions.begin(house.key.public, MINUTE_MS).session.public
    for act in (house.sessions.end, lambda key, one: house.sessions.renew(key, one, MINUTE_MS)):
        with pytest.raises(NotFound):
            act(other, public)
    assert [one.public for one in house.sessions.all()] == [public]


def test_a_session_is_no_key(house: House) -> None:
    begun = house.sessions.begin(house.key.public, MINUTE_MS)
    house.ring.refresh()
    assert [key.public for key in house.ring.every_key()] == [house.key.public]
    with pytest.raises(Unauthenticated):
        house.ring.standing(begun.session.public)
    assert begun.credential.secret not in repr(begun)


def test_ended_sessions_are_forgotten_when_another_begins(house: House) -> None:
    house.sessions.begin(house.key.public, MINUTE_MS)
    house.clock.now_ms += 2 * MINUTE_MS
    house.sessions.begin(house.key.public, MINUTE_MS)
    assert len(house.sessions.all()) == 1
