from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from baimo.core.tenant import Key, Limit, Tenant
from baimo.errors import CallRefused, Forbidden, StoreError, Unauthenticated
from baimo.gateway.keyring import PAUSE_S, Keyring, permits_name, permits_surface
from baimo.store.accounts import Accounts
from baimo.store.engine import Database
from tests.waiting import settled

PUBLIC, SECRET = "abcdef123456", "s" * 48
GOOD = f"bm-{PUBLIC}-{SECRET}".encode()
KEY = Key(public=PUBLIC, digest=hashlib.sha256(SECRET.encode()).hexdigest(), tenant="acme")
NOW = 1_800_000_000.0


class Listed:
    """Accounts in memory."""

    def __init__(self, *keys: Key, tenants: Iterable[Tenant] = (Tenant(id="acme"),)) -> None:
        self.kept, self.houses, self.number, self.reads = list(keys), list(tenants), 1, 0
        self.gone: dict[str, int] = {}
        self.trouble: StoreError | None = None

    def revision(self) -> int:
        if self.trouble is not None:
            raise self.trouble
        return self.number

    def keys(self) -> list[Key]:
        self.reads += 1
        return self.kept

    def tenants(self) -> list[Tenant]:
        return self.houses

    def forgotten(self) -> dict[str, int]:
        return dict(self.gone)


def ring(*keys: Key, now: float = NOW, **more: Iterable[Tenant]) -> Keyring:
    return Keyring(Listed(*keys, **more), wall=lambda: now)


def test_a_valid_key_is_found_with_its_tenant() -> None:
    key, tenant = ring(KEY).authenticate(GOOD, "10.0.0.1")
    assert (key, tenant) == (KEY, Tenant(id="acme"))


@pytest.mark.parametrize(
    ("presented", "message"),
    [
        (None, "gateway.no_key"),
        (b"", "gateway.malformed_key"),
        (b"sk-proj-123", "gateway.malformed_key"),
        (GOOD[:-1], "gateway.malformed_key"),
        (GOOD + b"\n", "gateway.malformed_key"),
        (GOOD[:-1] + b"t", "gateway.unknown_key"),
        (GOOD.replace(b"abc", b"xyz"), "gateway.unknown_key"),
        (b"\xff" * 64, "gateway.malformed_key"),
    ],
)
def test_anything_else_is_refused_without_repeating_a_secret(presented: bytes | None, message: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        ring(KEY).authenticate(presented, "10.0.0.1")
    assert caught.value.key == message
    assert SECRET[:20] not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"expires_ms": NOW * 1000}, "gateway.expired_key"),
        ({"expires_ms": NOW * 1000, "rotated_to": "zzz"}, "gateway.rotated_key"),
        ({"revoked_ms": NOW * 1000 - 5}, "gateway.revoked_key"),
        ({"expires_ms": NOW * 1000 + 1}, None),
        ({"expires_ms": NOW * 1000 + 1, "rotated_to": "zzz"}, None),
        ({"networks": ("10.0.0.0/8",)}, None),
        ({"networks": ("192.168.0.0/16", "fe80::/10")}, "gateway.wrong_network"),
    ],
)
def test_a_key_is_valid_in_its_time_and_from_its_networks(
    facts: dict[str, object], message: str | None
) -> None:
    keys = ring(replace(KEY, **facts))  # type: ignore[arg-type]
    if message is None:
        keys.authenticate(GOOD, "10.0.0.1")
        return
    with pytest.raises(CallRefused) as caught:
        keys.authenticate(GOOD, "10.0.0.1")
    assert caught.value.key == message


@pytest.mark.parametrize("written", ["10.0.0.0/8", "::ffff:10.0.0.0/104"])
def test_networks_know_mapped_addresses_and_refuse_what_has_no_address(written: str) -> None:
    keys = ring(replace(KEY, networks=(written,)))
    keys.authenticate(GOOD, "10.1.2.3")
    keys.authenticate(GOOD, "::ffff:10.1.2.3")
    for elsewhere in ("", "unix", "11.0.0.1", "::1"):
        with pytest.raises(Forbidden):
            keys.authenticate(GOOD, elsewhere)


def test_a_disabled_tenants_keys_open_nothing_and_neither_do_those_of_no_tenant() -> None:
    with pytest.raises(Forbidden):
        ring(KEY, tenants=[Tenant(id="acme", disabled=True)]).authenticate(GOOD, "")
    with pytest.raises(Unauthenticated):
        ring(KEY, tenants=[]).authenticate(GOOD, "")


def test_the_owner_needs_no_row() -> None:
    key = replace(KEY, tenant="")
    assert ring(key, tenants=[]).authenticate(GOOD, "")[1].id == ""


def test_changes_are_read_when_the_revision_moves_and_only_then() -> None:
    accounts = Listed(KEY)
    keys = Keyring(accounts, wall=lambda: NOW)
    accounts.kept = [replace(KEY, revoked_ms=1)]
    assert not keys.refresh()
    keys.authenticate(GOOD, "")
    accounts.number += 1
    assert keys.refresh()
    with pytest.raises(Unauthenticated):
        keys.authenticate(GOOD, "")
    assert accounts.reads == 2


def test_whose_limits_change_is_told_before_they_hold() -> None:
    told: list[tuple[str, str]] = []
    accounts = Listed(KEY, replace(KEY, public="other0000000"))
    keys = Keyring(accounts, wall=lambda: NOW, relimited=lambda *whose: told.append(whose))
    limits = (Limit(counts="cost", amount=5),)
    accounts.kept[0] = replace(KEY, limits=limits, counted_as="first0000000")
    accounts.houses, accounts.number = [Tenant(id="acme", limits=limits), Tenant(id="new", limits=limits)], 2
    keys.refresh()
    assert told == [("key", "first0000000"), ("tenant", "acme")]


def test_accounts_that_cannot_be_read_leave_the_keys_as_they_were() -> None:
    accounts = Listed(KEY)
    keys = Keyring(accounts, wall=lambda: NOW)
    accounts.trouble = StoreError("store.locked", where="x")

    async def watched() -> None:
        watching = asyncio.ensure_future(keys.watch())
        await settled(lambda: keys.trouble is not None)
        keys.authenticate(GOOD, "")
        accounts.trouble = None
        await settled(lambda: keys.trouble is None)
        watching.cancel()

    asyncio.run(watched())


class Counted(Listed):
    """Counts the questions; each takes a moment."""

    asked = 0

    def revision(self) -> int:
        self.asked += 1
        found = super().revision()
        time.sleep(0.02)
        return found


def test_a_key_made_elsewhere_is_looked_up_once_for_all_who_present_it() -> None:
    accounts = Counted()
    keys = Keyring(accounts, wall=lambda: NOW)

    async def asked() -> None:
        accounts.kept, accounts.number, before = [KEY], 2, accounts.asked
        found = await asyncio.gather(*(keys.looked_up(GOOD, "10.0.0.1") for _ in range(50)))
        assert found == [(KEY, Tenant(id="acme"))] * 50
        assert accounts.asked == before + 1
        with pytest.raises(Unauthenticated):  # a known key's secret is not looked up
            await keys.looked_up(GOOD[:-1] + b"t", "10.0.0.1")
        with pytest.raises(Unauthenticated):  # nor what is no key
            await keys.looked_up(b"sk-proj-123", "10.0.0.1")
        assert accounts.asked == before + 1

    asyncio.run(asked())


def test_a_key_made_while_somebody_looks_is_found_by_a_look_of_its_own() -> None:
    accounts = Counted()
    keys = Keyring(accounts, wall=lambda: NOW)

    async def asked() -> None:
        before = accounts.asked
        guess = asyncio.ensure_future(keys.catch_up())
        await settled(lambda: accounts.asked > before)  # its look has seen what there is
        accounts.kept, accounts.number = [KEY], 2
        assert await keys.looked_up(GOOD, "10.0.0.1") == (KEY, Tenant(id="acme"))
        await guess

    asyncio.run(asked())


def test_guesses_cost_twenty_questions_a_second_and_none_where_accounts_cannot_be_read() -> None:
    accounts = Counted(KEY)
    keys = Keyring(accounts, wall=lambda: NOW)

    async def guessed(number: int) -> None:
        with pytest.raises(Unauthenticated) as caught:
            await keys.looked_up(f"bm-{number:012}-{SECRET}".encode(), "10.0.0.1")
        assert caught.value.key == "gateway.unknown_key"

    async def asked() -> None:
        before, began = accounts.asked, time.monotonic()
        for number in range(10):
            await guessed(number)
        assert accounts.asked - before <= 1 + (time.monotonic() - began) / PAUSE_S
        accounts.trouble = StoreError("store.locked", where="x")
        await guessed(11)
        keys.trouble, before = accounts.trouble, accounts.asked
        await guessed(12)
        assert accounts.asked == before

    asyncio.run(asked())


def test_tenants_that_are_forgotten_are_told_of_once_and_also_when_others_read_first() -> None:
    accounts, told = Listed(KEY), list[str]()
    accounts.gone = {"before the start": 1}
    keys = Keyring(accounts, wall=lambda: NOW, forgot=told.append)

    async def watched() -> None:
        watching = asyncio.ensure_future(keys.watch())
        for times in (1, 2):
            accounts.gone["acme"] = times
            accounts.number += 1
            await asyncio.sleep(0)
            keys.refresh()
            await settled(lambda times=times: len(told) == times)
        watching.cancel()

    asyncio.run(watched())
    assert told == ["acme", "acme"]


def test_patterns_say_what_a_key_may_use() -> None:
    narrow = replace(KEY, models=("deepseek/*", "best"), surfaces=("chat",))
    assert [permits_name(narrow, name) for name in ("deepseek/x", "best", "openai/gpt", "BEST")] == [
        True,
        True,
        False,
        False,
    ]
    assert (permits_surface(narrow, "chat"), permits_surface(narrow, "embeddings")) == (True, False)
    assert permits_name(KEY, "anything") and permits_surface(KEY, "anything")


def test_keys_made_by_the_accounts_are_accepted(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    accounts = Accounts(database)
    keys = Keyring(accounts, wall=lambda: NOW)
    minted = accounts.create_key(Key(public="", digest="", label="mine"))
    assert keys.refresh()
    found, tenant = keys.authenticate(minted.credential.written().encode(), "127.0.0.1")
    assert (found.label, tenant.id) == ("mine", "")
    database.close()
