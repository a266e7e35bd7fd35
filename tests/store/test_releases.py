"""Releases in the store: the newest holds, the way back leads step by step to the beginning, tenants see their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from baimo.errors import Conflict, NotFound
from baimo.store import audit
from baimo.store.adapters import Adapters
from baimo.store.audit import Actor
from baimo.store.engine import Database
from baimo.store.releases import Releases
from baimo.store.store import Store

ACME = Actor("acme", "012345678901")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    store = Store(Database(database_url))
    yield store.database
    store.close()


@pytest.fixture
def releases(database: Database) -> Releases:
    return Releases(database, lambda: 1_000)  # a clock that stands


def held(releases: Releases, tenant: str = "acme") -> dict[str, str]:
    return {one.alias: one.model for one in releases.holding(tenant)}


def test_the_newest_release_of_an_alias_holds_also_while_the_clock_stands(releases: Releases) -> None:
    for number in range(5):
        releases.promote("home", f"m/{number}", ACME)
    releases.promote("car", "m/car", ACME)
    assert held(releases) == {"home": "m/4", "car": "m/car"}
    assert [one.model for one in releases.page("acme", alias="home", limit=2)] == ["m/4", "m/3"]


def test_rolling_back_leads_step_by_step_to_what_the_configuration_says(releases: Releases) -> None:
    for model in ("m/1", "m/2", "m/3"):
        made = releases.promote("home", model, ACME, why=f"because of {model}", job=f"job of {model}")
    seen = [made.model]
    for _ in range(3):
        made = releases.roll_back(made.id, ACME)
        seen.append(made.model)
    assert seen == ["m/3", "m/2", "m/1", ""]
    with pytest.raises(Conflict, match="nothing came before"):
        releases.roll_back(made.id, ACME)
    history = releases.page("acme", limit=10)
    assert [(one.act, one.before, one.model) for one in history][:2] == [
        ("roll_back", "m/1", ""),
        ("roll_back", "m/2", "m/1"),
    ]
    assert history[1].job == "job of m/1" and len(history) == 6


def test_after_a_roll_back_a_promotion_goes_back_to_where_it_began(releases: Releases) -> None:
    releases.promote("home", "m/1", ACME)
    back = releases.roll_back(releases.promote("home", "m/2", ACME).id, ACME)
    again = releases.roll_back(releases.promote("home", "m/3", ACME).id, ACME)
    assert (back.model, again.model) == ("m/1", "m/1")
    assert releases.roll_back(again.id, ACME).model == ""


def test_a_release_that_no_longer_holds_is_not_rolled_back(releases: Releases) -> None:
    first = releases.promote("home", "m/1", ACME)
    releases.promote("home", "m/2", ACME)
    with pytest.raises(Conflict, match="released again meanwhile"):
        releases.roll_back(first.id, ACME)
    assert held(releases) == {"home": "m/2"}


def test_a_model_that_answers_already_is_not_promoted(releases: Releases) -> None:
    releases.promote("home", "m/1", ACME)
    with pytest.raises(Conflict, match="leads to m/1 already"):
        releases.promote("home", "m/1", ACME)


def test_another_tenant_has_aliases_of_its_own_and_finds_no_others(releases: Releases) -> None:
    made = releases.promote("home", "m/1", ACME)
    with pytest.raises(NotFound):
        releases.roll_back(made.id, Actor("other"))
    assert releases.get(made.id, "other") is None and releases.get(made.id, "acme") == made
    assert releases.promote("home", "m/2", Actor("other")).before == ""
    assert held(releases) == {"home": "m/1"} and held(releases, "other") == {"home": "m/2"}
    assert [one.tenant for one in releases.page("other", limit=9)] == ["other"]
    assert len(releases.holding()) == len(releases.page(None, limit=9)) == 2


def test_every_release_raises_the_revision_and_is_in_the_audit(
    releases: Releases, database: Database
) -> None:
    adapters = Adapters(database)
    before = adapters.revision()
    made = releases.promote("home", "m/1", ACME, why="it is better")
    assert adapters.revision() == before + 1
    releases.roll_back(made.id, ACME)
    assert adapters.revision() == before + 2
    back, act = audit.acts(database, limit=2)
    assert (act.act, act.subject, act.key) == ("release.promote", "alias:home", ACME.key)
    assert (act.facts["model"], act.facts["why"]) == ("m/1", "it is better")
    assert (back.act, back.facts["before"]) == ("release.roll_back", "m/1")
