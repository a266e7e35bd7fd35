"""Tenants and keys, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from baimo.core.credential import fits
from baimo.core.rights import limit
from baimo.core.tenant import OWNER, Key, Tenant
from baimo.errors import BaimoError, Conflict, NotFound, UsageError
from baimo.store import audit, tables
from baimo.store.accounts import Accounts
from baimo.store.audit import Actor
from baimo.store.engine import Database
from tests.waiting import PATIENCE_S

DAY_MS = 86_400_000
RIGHTS = Key(label="search")


class Clock:
    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(database_url: str, clock: Clock) -> Iterator[Accounts]:
    with closing(Database(database_url)) as database:
        yield Accounts(database, clock)


def everything(accounts: Accounts) -> str:
    """Every cell of every table that accounts write."""
    with accounts._database.reading() as connection:
        kept = (tables.tenants, tables.keys, tables.revisions, tables.audit)
        return repr([connection.execute(select(table)).all() for table in kept])


def test_a_tenant_comes_back_as_it_was_created(accounts: Accounts, clock: Clock) -> None:
    asked = Tenant(
        id="acme",
        title="Acme 公司",
        data_class="confidential",
        pii="mask",
        keep_contents=True,
        contents_days=7,
        cache="read",
        limits=(limit("cost=20/month"), limit("concurrency=8")),
    )
    made = accounts.create_tenant(asked)
    assert made == replace(asked, created_ms=clock.ms)
    assert accounts.tenant("acme") == made
    assert accounts.tenants() == [Tenant(id=OWNER), made]


def test_the_owner_is_there_without_having_been_created_and_can_be_changed(accounts: Accounts) -> None:
    assert accounts.tenant(OWNER) == Tenant(id=OWNER)
    accounts.change_tenant(OWNER, {"limits": (limit("cost=5/day"),)})
    assert accounts.tenants() == [Tenant(id=OWNER, limits=(limit("cost=5/day"),))]
    with pytest.raises(Conflict):
        accounts.change_tenant(OWNER, {"disabled": True})
    with pytest.raises(Conflict):
        accounts.create_tenant(Tenant(id=OWNER))


def test_a_tenant_is_created_once(accounts: Accounts) -> None:
    accounts.create_tenant(Tenant(id="acme", title="first"))
    with pytest.raises(Conflict, match="acme"):
        accounts.create_tenant(Tenant(id="acme", title="second"))
    assert accounts.tenant("acme").title == "first"


def test_an_unknown_tenant_is_answered_with_the_nearest(accounts: Accounts) -> None:
    accounts.create_tenant(Tenant(id="research"))
    for act in (
        lambda: accounts.tenant("reserch"),
        lambda: accounts.change_tenant("reserch", {"title": "x"}),
        lambda: accounts.create_key(replace(RIGHTS, tenant="reserch")),
        lambda: accounts.keys("reserch"),
    ):
        with pytest.raises(NotFound) as caught:
            act()
        assert "research" in caught.value.hint
    assert accounts.revision() == 1  # what failed left nothing


def test_a_key_is_kept_without_its_secret(accounts: Accounts, clock: Clock) -> None:
    made = accounts.create_key(
        replace(
            RIGHTS,
            role="engineer",
            models=("deepseek/*",),
            surfaces=("chat", "embeddings"),
            networks=("10.0.0.0/8",),
            limits=(limit("requests=60/minute"),),
            tags=(("team", "search"),),
            expires_ms=clock.ms + DAY_MS,
        )
    )
    key = accounts.key(made.key.public)
    assert key == made.key
    assert fits(made.credential.secret, key.digest)
    assert made.credential.public == key.public
    assert made.credential.secret not in everything(accounts)
    with accounts._database.reading() as connection:
        facts = connection.execute(select(tables.audit.c.facts)).scalars().all()
    assert key.digest not in repr(facts)


def test_no_two_keys_are_alike(accounts: Accounts) -> None:
    assert not accounts.any_key()
    made = [accounts.create_key(RIGHTS) for _ in range(5)]
    assert len({one.key.public for one in made}) == len({one.credential.secret for one in made}) == 5
    assert accounts.any_key()


def test_a_key_is_found_by_its_public_part_its_credential_or_a_label_of_its_own(accounts: Accounts) -> None:
    made = accounts.create_key(RIGHTS)
    public = made.key.public
    for name in (public, f"bm-{public}", made.credential.written(), "search"):
        assert accounts.key(name) == made.key
    other = accounts.create_key(RIGHTS)
    with pytest.raises(UsageError, match="2 keys") as caught:
        accounts.key("search")
    assert public in caught.value.hint and other.key.public in caught.value.hint
    accounts.revoke(public)
    assert accounts.key("search") == other.key  # the label is its own among keys that are in use
    with pytest.raises(NotFound, match="nobody"):
        accounts.key("nobody")


def test_a_credential_that_nobody_has_is_not_repeated_in_the_message(accounts: Accounts) -> None:
    stranger = f"bm-{'0' * 12}-{'7' * 48}"
    with pytest.raises(NotFound) as caught:
        accounts.key(stranger)
    assert "7777" not in str(caught.value) + caught.value.hint


def test_a_change_replaces_the_named_fields_and_nothing_else(accounts: Accounts, clock: Clock) -> None:
    made = accounts.create_key(replace(RIGHTS, models=("a/b",), tags=(("x", "y"),)))
    clock.ms += 1
    changed = accounts.change_key("search", {"models": (), "limits": (limit("cost=1/day"),), "label": "find"})
    assert changed == replace(made.key, models=(), limits=(limit("cost=1/day"),), label="find")
    assert accounts.key("find") == changed
    newest = audit.acts(accounts._database, subject=made.key.public)[0]
    assert set(newest.facts) == {"models", "limits", "label"}
    assert newest.facts["label"] == ["search", "find"]


@pytest.mark.parametrize("changes", [{"digest": "0" * 64}, {"tenant": "other"}, {"counted_as": ""}])
def test_what_follows_from_other_acts_cannot_be_changed(accounts: Accounts, changes: dict[str, Any]) -> None:
    accounts.create_key(RIGHTS)
    with pytest.raises(ValueError, match="not to be changed"):
        accounts.change_key("search", changes)


def test_a_wrong_change_leaves_no_trace(accounts: Accounts) -> None:
    accounts.create_key(RIGHTS)
    before = everything(accounts)
    for changes in ({"networks": ("x",)}, {"surfaces": ("x",)}, {"expires_ms": 5}):
        with pytest.raises(UsageError):
            accounts.change_key("search", changes)
    assert everything(accounts) == before


def test_an_expired_key_can_be_given_more_time_but_not_rotated(accounts: Accounts, clock: Clock) -> None:
    accounts.create_key(replace(RIGHTS, expires_ms=clock.ms + DAY_MS))
    clock.ms += 2 * DAY_MS
    with pytest.raises(Conflict, match="expired"):
        accounts.rotate("search", 0)
    assert accounts.change_key("search", {"label": "old"}).label == "old"
    assert accounts.change_key("old", {"expires_ms": clock.ms + DAY_MS}).expires_ms == clock.ms + DAY_MS
    assert accounts.rotate("old", 0).key.label == "old"


def test_a_revoked_key_stays_revoked(accounts: Accounts, clock: Clock) -> None:
    public = accounts.create_key(RIGHTS).key.public
    revoked_ms = clock.ms
    assert accounts.revoke(public).revoked_ms == revoked_ms
    clock.ms += 5
    assert accounts.revoke(public).revoked_ms == revoked_ms
    for act in (lambda: accounts.change_key(public, {"label": "x"}), lambda: accounts.rotate(public, 0)):
        with pytest.raises(Conflict, match="revoked"):
            act()


def test_a_rotated_key_has_the_same_rights_and_goes_on_with_what_was_used(
    accounts: Accounts, clock: Clock
) -> None:
    first = accounts.create_key(
        replace(RIGHTS, limits=(limit("cost=20/month"),), expires_ms=clock.ms + 30 * DAY_MS)
    )
    clock.ms += 10 * DAY_MS
    second = accounts.rotate("search", DAY_MS)
    old, new = accounts.key(first.key.public), second.key
    made_anew = {"public", "digest", "created_ms", "expires_ms", "counted_as"}
    for name in set(Key.__dataclass_fields__) - made_anew:
        assert getattr(new, name) == getattr(first.key, name), name
    assert old == replace(first.key, expires_ms=clock.ms + DAY_MS, rotated_to=new.public)
    assert new.expires_ms == clock.ms + 30 * DAY_MS
    assert new.meter == old.meter == first.key.public
    third = accounts.rotate(new.public, 0)
    assert third.key.meter == first.key.public
    with pytest.raises(Conflict) as caught:
        accounts.rotate(new.public, 0)
    assert new.public in str(caught.value) or third.key.public in caught.value.hint


def test_the_grace_of_a_rotation_does_not_lengthen_the_old_key_s_life(
    accounts: Accounts, clock: Clock
) -> None:
    public = accounts.create_key(replace(RIGHTS, expires_ms=clock.ms + DAY_MS)).key.public
    accounts.rotate(public, 30 * DAY_MS)
    assert accounts.key(public).expires_ms == clock.ms + DAY_MS


def test_every_act_raises_the_revision_and_names_who_did_it(accounts: Accounts) -> None:
    boss = Actor("acme", "b" * 12)
    assert accounts.revision() == 0
    accounts.create_tenant(Tenant(id="acme"))
    public = accounts.create_key(replace(RIGHTS, tenant="acme"), boss).key.public
    accounts.change_key(public, {"label": "x"}, boss)
    new = accounts.rotate(public, 5, boss).key.public
    accounts.revoke(new, boss)
    accounts.change_tenant("acme", {"disabled": True}, boss)
    assert accounts.revision() == 6
    found = audit.acts(accounts._database)
    assert {act.act for act in found} == {
        *("tenant.create", "tenant.change", "key.create", "key.change", "key.rotate", "key.revoke")
    }
    assert [(act.tenant, act.key) for act in found].count(boss) == 5
    pages = [audit.acts(accounts._database, limit=4)]
    pages.append(audit.acts(accounts._database, before=pages[0][-1].id))
    assert [act.id for page in pages for act in page] == [act.id for act in found]


def test_everybody_holds_all_keys_and_tenants_of_a_revision(accounts: Accounts) -> None:
    accounts.create_tenant(Tenant(id="acme"))
    made = accounts.create_key(replace(RIGHTS, tenant="acme"))
    found = accounts.everybody()
    assert found.revision == accounts.revision() == 2
    assert set(found.tenants) == {OWNER, "acme"}
    assert found.keys == {made.key.public: made.key}
    assert accounts.keys("acme") == [made.key]
    assert accounts.keys(OWNER) == []


def _act(url: str, who: int, count: int) -> None:
    with closing(Database(url)) as database:
        accounts = Accounts(database)
        for number in range(count):
            accounts.create_key(replace(RIGHTS, label=f"{who} {number}"))
            accounts.change_tenant("acme", {("title", "contents_days")[who]: (str(number), number + 1)[who]})


def test_two_processes_that_act_at_once_lose_none_of_each_other_s_changes(database_url: str) -> None:
    with closing(Database(database_url)) as database:
        accounts = Accounts(database)
        accounts.create_tenant(Tenant(id="acme"))
        spawn = multiprocessing.get_context("spawn")
        actors = [spawn.Process(target=_act, args=(database_url, who, 25)) for who in range(2)]
        for actor in actors:
            actor.start()
        for actor in actors:
            actor.join(PATIENCE_S)
        assert [actor.exitcode for actor in actors] == [0, 0]
        tenant = accounts.tenant("acme")
        assert (tenant.title, tenant.contents_days) == ("24", 25)
        assert accounts.revision() == 101
        assert len(accounts.keys()) == 50
        assert len(audit.acts(database, limit=1000)) == 101


def test_every_refusal_of_an_act_can_be_shown_to_its_author(accounts: Accounts) -> None:
    for act in (
        lambda: accounts.create_tenant(Tenant(id="No Good")),
        lambda: accounts.create_key(replace(RIGHTS, surfaces=("chatt",))),
        lambda: accounts.create_key(replace(RIGHTS, expires_ms=1)),
    ):
        with pytest.raises(BaimoError) as caught:
            act()
        assert caught.value.http_status == 400
        assert caught.value.hint
