"""A tenant's administrator meets nothing of another tenant: not in a list, not by name, not in an error."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from baimo.core.tuning import JobStatus
from baimo.server.admin.operation import Operation
from baimo.server.admin.table import OPERATIONS
from baimo.store.audit import Actor
from baimo.workspace.ledger_options import LedgerOptions
from baimo.workspace.releasing import Promotion
from tests.server.admin import compared, reviewed, talks, tasked
from tests.server.admin.jobs import trained_on, tune_job, tuned_model
from tests.server.served import Said, Served
from tests.waiting import PATIENCE_S

BY_ID = {operation.id: operation for operation in OPERATIONS}
NAMING = {
    *("tenants_get", "tenants_change", "tenants_forget"),
    *("keys_get", "keys_change", "keys_revoke", "keys_rotate"),
    *("ledger_record", "ledger_content"),
    *("sessions_renew", "sessions_end"),
    *("tasks_get", "tasks_describe", "tasks_copy", "tasks_findings", "tasks_examples", "tasks_example_add"),
    *("tasks_example", "tasks_example_change", "tasks_example_delete", "tasks_change", "tasks_split"),
    *("tasks_import", "tasks_history", "tasks_version", "tasks_restore", "tasks_export"),
    *("tasks_upload_get", "tasks_upload_change", "tasks_upload_delete"),
    *("tasks_delete", "tasks_bring_back", "tasks_erase"),
    *("tasks_recipe", "tasks_recipe_change", "tasks_preview"),
    *("reviews_get", "reviews_judge", "reviews_retract"),
    "releases_roll_back",
    *("comparisons_get", "comparisons_events", "comparisons_stop", "comparisons_resume"),
    *("comparisons_export", "comparisons_differences"),
    *("tuning_get", "tuning_events", "tuning_pause", "tuning_resume", "tuning_cancel", "tuning_delete"),
    *("conversations_get", "conversations_change", "conversations_delete", "conversations_shared"),
    *("votes_answer", "votes_cast", "votes_delete"),
}
"""They name an object in their path: another tenant's is not there."""
FILTERED = {
    "keys_list": "tenant",
    "ledger_records": "tenant",
    "ledger_sums": "tenant",
    "ledger_export": "tenant",
    "limits_list": "tenant",
    "cache_clear": "tenant",
    **dict.fromkeys(
        (
            "reviews_list",
            "reviews_figures",
            "tasks_list",
            "tasks_uploads",
            "tasks_deleted",
            "comparisons_list",
        ),
        "tenant",
    ),
    **dict.fromkeys(("releases_list", "tuning_list", "tuning_models"), "tenant"),
    **dict.fromkeys(("tuning_export", "comparisons_list_export", "tasks_list_export"), "tenant"),
    "reviews_export": "tenant",
    **dict.fromkeys(("ledger_latency", "votes_list", "votes_export", "votes_rates"), "tenant"),
}
"""They take a tenant: another one is not there. Without it they are about one's own."""
OWN = {"me", "tuning_offer", "sessions_begin", "tenants_list", "audit_list", "conversations_list", "live"}
"""They are about one's own without asking."""
PLACED = {"keys_create"}
"""They put something into a tenant that is named in the body."""
MADE = {
    *("reviews_queue", "tasks_create", "tasks_upload", "comparisons_forecast", "comparisons_start"),
    *(
        "releases_promote",
        "tuning_order",
        "tuning_plan",
        "tuning_rows",
        "models_try",
        "conversations_keep",
        "votes_begin",
    ),
}
"""They make something of one's own out of what the body names; tests beside them show that it is one's own."""
SHARED = {"models_list", "models_get", "routes_list", "openapi", "docs", "tasks_scorers"}
"""The same for everybody; nothing of it belongs to a tenant."""
MARK = "cobalt"


class Camp(NamedTuple):
    """Two tenants, one of which asks."""

    asker: str
    """Credential of an administrator of red."""
    mine: str
    """Public part of a key of red."""
    theirs: str
    """Public part of a key of cobalt."""
    record: str
    """Record of cobalt."""
    session: str
    """Public part of a session of cobalt's key."""
    release: str
    """Release of cobalt."""
    talk: dict[str, str]
    """Conversation, share, vote, comparison and tuning job of cobalt, as paths name them."""


@pytest.fixture(scope="module")
def camp(house: Served) -> Camp:
    house.tenant("red")
    house.tenant(MARK, title=f"{MARK} title", keep_contents=True)
    asker = house.key(tenant="red", role="admin", label="red's")
    theirs = house.key(tenant=MARK, label=f"{MARK} label", tags=(("team", f"{MARK}-team"),), role="admin")
    assert house.chat(theirs, f"the {MARK} question").status == 200
    assert house.chat(asker).status == 200
    house.recorded(2)
    found = house.workspace.bookkeeping.page(LedgerOptions(tenant=MARK), limit=1)
    session = house.state["service"].sessions.begin(theirs[3:15], 3_600_000).session.public
    promotion = Promotion(alias=f"{MARK}-alias", model="acme/small")
    release = house.workspace.releasing.promote(promotion, Actor(MARK)).id
    house.workspace.releasing.promote(replace(promotion, alias="red-alias"), Actor("red"))
    job = tune_job(house, JobStatus.SUCCEEDED, MARK)
    tune_job(house, JobStatus.SUCCEEDED, "red")
    for key, tenant in ((theirs, MARK), (asker, "red")):
        trained_on(house, key, f"{tenant}.jsonl")
        tuned_model(house, tenant)
    kept, vote = talks.conversation(house, theirs, MARK), talks.vote(house, theirs, said=MARK, choice="A")
    talks.conversation(house, asker, "red")
    talks.vote(house, asker, said="red", choice="A")
    talk = {"conversation": kept.id, "share": kept.share or "", "vote": vote.id, "job": job}
    tasked.task(house, "red", "red-task")
    compared.compared(house, "red")
    talk["run"] = compared.compared(house, MARK)
    reviewed.review(house, "red")
    tasked.upload(house, "red", "red.jsonl")
    tasked.deleted(house, "red", "red-gone")
    talk |= {"review": reviewed.review(house, MARK), "deleted": tasked.deleted(house, MARK, f"{MARK}-gone")}
    talk |= {"task": tasked.task(house, MARK, f"{MARK}-task"), "upload": tasked.upload(house, MARK)}
    return Camp(asker, asker[3:15], theirs[3:15], found[0].record.id, session, release, talk)


def theirs(camp: Camp, operation: Operation) -> str:
    values = {"id": MARK, "key": camp.theirs, "record": camp.record, "session": camp.session}
    values |= {"release": camp.release, "place": "A", "example:path": "1", "version": "1"} | camp.talk
    path = operation.path
    for field, value in values.items():
        path = path.replace(f"{{{field}}}", value)
    return path


def body_of(operation: Operation) -> dict[str, Any] | None:
    bodies = talks.BODIES | tasked.BODIES
    return bodies.get(operation.id, {}) if operation.method in ("POST", "PATCH") else None


def unknown(path: str, camp: Camp) -> str:
    for value in (MARK, camp.theirs, camp.record, camp.session, camp.release, *camp.talk.values()):
        path = path.replace(value, "0" * len(value))
    return path


def silent(said: Said, camp: Camp) -> None:
    """Nothing of cobalt is in an answer."""
    for secret in (MARK, camp.theirs, camp.record, camp.session, camp.release, *camp.talk.values()):
        assert secret.encode() not in said.body


def test_every_operation_is_of_one_kind() -> None:
    kinds = [NAMING, FILTERED.keys(), OWN, PLACED, MADE, SHARED, {one.id for one in OPERATIONS if one.owners}]
    assert sum(map(len, kinds)) == len(OPERATIONS)
    assert set().union(*kinds) == BY_ID.keys()


@pytest.mark.parametrize("name", sorted(NAMING))
def test_what_is_somebody_elses_is_told_like_what_is_not_there(house: Served, camp: Camp, name: str) -> None:
    operation = BY_ID[name]
    path, body = theirs(camp, operation), body_of(operation)
    before = house.workspace.accounts.everybody()
    foreign = house.call(operation.method, path, camp.asker, body)
    missing = house.call(operation.method, unknown(path, camp), camp.asker, body)
    assert foreign.status == missing.status == 404
    assert foreign.data["error"] == missing.data["error"]
    silent(foreign, camp)
    assert house.workspace.accounts.everybody() == before


@pytest.mark.parametrize("name", sorted(FILTERED))
@pytest.mark.parametrize("other", [MARK, "owner", "", "nobody"])
def test_a_filter_does_not_open_another_tenant(house: Served, camp: Camp, name: str, other: str) -> None:
    operation = BY_ID[name]
    said = house.call(operation.method, f"{operation.path}?{FILTERED[name]}={other}", camp.asker)
    assert (said.status, said.data["error"]["code"]) == (404, "admin.no_tenant")


@pytest.mark.parametrize("name", ["ledger_records", "ledger_sums", "ledger_export", "ledger_latency"])
def test_another_tenants_key_is_no_filter(house: Served, camp: Camp, name: str) -> None:
    for key in (camp.theirs, f"{MARK}%20label"):
        said = house.call("GET", f"{BY_ID[name].path}?key={key}", camp.asker)
        assert (said.status, said.data["error"]["code"]) == (404, "admin.no_key")
        silent(said, camp)


@pytest.mark.parametrize("name", sorted(FILTERED.keys() | OWN))
def test_lists_hold_ones_own_and_nothing_else(house: Served, camp: Camp, name: str) -> None:
    operation = BY_ID[name]
    said = house.call(operation.method, operation.path, camp.asker, body_of(operation))
    assert said.status == operation.status
    silent(said, camp)
    assert b'"owner"' not in said.body or name == "audit_list"  # the owner acts on red, too
    if name not in ("limits_list", "cache_clear", "ledger_sums", "ledger_latency", "votes_rates", "live"):
        assert b"red" in said.body


def test_a_key_cannot_be_put_into_another_tenant(house: Served, camp: Camp) -> None:
    for tenant in (MARK, "owner", "nobody"):
        said = house.call("POST", "/api/keys", camp.asker, {"tenant": tenant, "role": "admin"})
        assert (said.status, said.data["error"]["code"]) == (404, "admin.no_tenant")
    made = house.call("POST", "/api/keys", camp.asker, {"role": "admin"}).data
    assert made["tenant"] == "red"


@pytest.mark.parametrize(
    "change",
    [
        {"limit": ["cost=1000000/month"]},
        {"clear": ["limit"]},
        {"data_class": "public"},
        {"pii": "off"},
    ],
)
def test_a_tenants_administrator_does_not_widen_what_the_owner_set(
    house: Served, camp: Camp, change: dict[str, Any]
) -> None:
    said = house.call("PATCH", "/api/tenants/red", camp.asker, change)
    assert (said.status, said.data["error"]["code"]) == (403, "admin.owners_field")
    assert said.data["error"]["field"] == f"/{next(iter(change.get('clear', change)))}"


def test_the_audit_tells_a_tenant_what_others_did_to_it(house: Served, camp: Camp) -> None:
    house.workspace.accounts.change_key(camp.mine, {"label": "by the owner"})
    house.workspace.accounts.change_key(camp.theirs, {"label": f"{MARK} again"})
    said = house.call("GET", "/api/audit?limit=1000", camp.asker)
    silent(said, camp)
    assert ("key.change", camp.mine) in {(act["act"], act["subject"]) for act in said.data["data"]}


def test_a_disabled_tenants_administrator_is_out(house: Served) -> None:
    house.tenant("shut")
    admin = house.key(tenant="shut", role="admin")
    assert house.call("GET", "/api/me", admin).status == 200
    owner = house.key(role="admin")
    assert house.call("POST", "/api/tenants/shut/disable", owner, {}).status == 200
    until = time.monotonic() + PATIENCE_S
    while (said := house.call("GET", "/api/me", admin)).status == 200:
        assert time.monotonic() < until
    assert (said.status, said.data["error"]["code"]) == (403, "gateway.tenant_disabled")
    assert house.call("POST", "/api/tenants/shut/enable", owner, {}).data["disabled"] is False
