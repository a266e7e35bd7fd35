"""Every operation with every role, of the workspace's own keys and of a tenant's: who may is written down here."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from baimo.core.tenant import OWNER, ROLES, Role
from baimo.server.admin.table import OPERATIONS
from baimo.store.audit import Actor
from baimo.workspace.ledger_options import LedgerOptions
from baimo.workspace.releasing import Promotion
from tests.server.admin import compared, talks, tasked
from tests.server.admin.jobs import idle, job_for, trained_on
from tests.server.served import Said, Served

LEAST: dict[str, tuple[Role, bool]] = {
    "me": ("app", False),
    "sessions_begin": ("app", False),
    "sessions_renew": ("app", False),
    "sessions_end": ("app", False),
    "openapi": ("app", False),
    "docs": ("app", False),
    "limits_list": ("viewer", False),
    "tenants_list": ("viewer", False),
    "tenants_get": ("viewer", False),
    "tenants_create": ("admin", True),
    "tenants_change": ("admin", False),
    "tenants_disable": ("admin", True),
    "tenants_enable": ("admin", True),
    "tenants_forget": ("admin", False),
    "keys_list": ("viewer", False),
    "keys_get": ("viewer", False),
    "keys_create": ("admin", False),
    "keys_change": ("admin", False),
    "keys_revoke": ("admin", False),
    "keys_rotate": ("admin", False),
    "ledger_records": ("viewer", False),
    "ledger_record": ("viewer", False),
    "ledger_content": ("reviewer", False),
    "ledger_sums": ("viewer", False),
    "ledger_export": ("viewer", False),
    "ledger_verify": ("admin", True),
    "ledger_latency": ("viewer", False),
    "ledger_reconcile": ("viewer", True),
    **dict.fromkeys(("comparisons_list", "comparisons_get", "comparisons_events"), ("viewer", False)),
    **dict.fromkeys(("comparisons_export", "comparisons_differences"), ("viewer", False)),
    **dict.fromkeys(("comparisons_forecast", "comparisons_start"), ("engineer", False)),
    **dict.fromkeys(("comparisons_stop", "comparisons_resume"), ("engineer", False)),
    "conversations_list": ("app", False),
    "conversations_keep": ("app", False),
    "conversations_get": ("app", False),
    "conversations_change": ("app", False),
    "conversations_delete": ("app", False),
    "conversations_shared": ("app", False),
    "votes_begin": ("app", False),
    "votes_answer": ("app", False),
    "votes_cast": ("app", False),
    "votes_list": ("viewer", False),
    "votes_export": ("reviewer", False),
    "votes_rates": ("viewer", False),
    "votes_delete": ("reviewer", False),
    "models_list": ("viewer", False),
    "models_get": ("viewer", False),
    "routes_list": ("viewer", False),
    "providers_list": ("engineer", True),
    "models_try": ("engineer", False),
    "pulls_list": ("viewer", True),
    "pulls_start": ("engineer", True),
    "releases_list": ("viewer", False),
    "releases_promote": ("engineer", False),
    "releases_roll_back": ("engineer", False),
    "tuning_offer": ("viewer", False),
    "tuning_plan": ("engineer", False),
    "tuning_list": ("viewer", False),
    "tuning_order": ("engineer", False),
    "tuning_get": ("viewer", False),
    "tuning_events": ("viewer", False),
    "tuning_pause": ("engineer", False),
    "tuning_resume": ("engineer", False),
    "tuning_cancel": ("engineer", False),
    "tuning_delete": ("engineer", False),
    "tuning_models": ("viewer", False),
    "tuning_export": ("viewer", False),
    "tuning_rows": ("engineer", False),
    "comparisons_list_export": ("viewer", False),
    "live": ("viewer", False),
    "health": ("viewer", True),
    "settings_list": ("engineer", True),
    "settings_reload": ("admin", True),
    "cache_clear": ("admin", False),
    "audit_list": ("admin", False),
    **dict.fromkeys(("tasks_list", "tasks_get", "tasks_findings", "tasks_examples"), ("viewer", False)),
    **dict.fromkeys(("tasks_example", "tasks_history", "tasks_version", "tasks_export"), ("viewer", False)),
    **dict.fromkeys(("tasks_example_add", "tasks_example_change", "tasks_change"), ("reviewer", False)),
    **dict.fromkeys(("tasks_create", "tasks_describe", "tasks_copy", "tasks_split"), ("engineer", False)),
    **dict.fromkeys(("tasks_example_delete", "tasks_import", "tasks_restore"), ("engineer", False)),
    **dict.fromkeys(
        ("tasks_upload", "tasks_uploads", "tasks_upload_get", "tasks_upload_change"), ("engineer", False)
    ),
    "tasks_upload_delete": ("engineer", False),
    **dict.fromkeys(("tasks_delete", "tasks_deleted", "tasks_bring_back"), ("engineer", False)),
    "tasks_erase": ("admin", False),
    **dict.fromkeys(("tasks_recipe", "tasks_scorers", "tasks_list_export"), ("viewer", False)),
    **dict.fromkeys(("tasks_recipe_change", "tasks_preview"), ("engineer", False)),
    **dict.fromkeys(("reviews_list", "reviews_queue", "reviews_get", "reviews_judge"), ("reviewer", False)),
    "reviews_retract": ("reviewer", False),
    "reviews_export": ("reviewer", False),
    "reviews_figures": ("viewer", False),
}
"""Operation → the least role, and whether only keys of the workspace itself may. A new operation must be entered."""

CELLS = [(name, role, ours) for name in LEAST for role in ROLES for ours in (True, False)]


def test_every_operation_is_in_the_table() -> None:
    assert {operation.id for operation in OPERATIONS} == LEAST.keys()
    assert set(get_args(Role)) == set(ROLES)


@pytest.fixture(scope="module")
def callers(house: Served) -> dict[tuple[Role, bool], str]:
    house.tenant("red", keep_contents=True)
    house.workspace.accounts.change_tenant(OWNER, {"keep_contents": True})
    return {
        (role, ours): house.key(role=role, tenant="" if ours else "red")
        for role in ROLES
        for ours in (True, False)
    }


class Objects:
    """What operations are tried on: things of the tenant red, new ones where the operation uses them up."""

    def __init__(self, house: Served) -> None:
        self._house = house
        idle(house)
        compared.idle(house)
        self._writer = house.key(tenant="red")
        self._calls = self._count = 0
        self.record = self._recorded()

    def _recorded(self) -> str:
        """A Record with its content, which a test before this one may have had deleted."""
        assert self._house.chat(self._writer).status == 200
        self._calls += 1
        self._house.recorded(self._calls)
        return self._house.workspace.bookkeeping.page(LedgerOptions(), limit=1)[0].record.id

    def _released(self, asker: str) -> str:
        """A release of the asker's tenant."""
        workspace = self._house.workspace
        tenant = workspace.accounts.key(asker[3:15]).tenant
        promotion = Promotion(alias=f"alias-{self._count}", model="acme/small")
        return workspace.releasing.promote(promotion, Actor(tenant)).id

    def asked(self, name: str, asker: str) -> tuple[str, dict[str, Any] | None]:
        """The path's values filled in, and the body."""
        operation = next(one for one in OPERATIONS if one.id == name)
        self._count += 1
        if name == "ledger_content":
            self.record = self._recorded()
        key = self._house.key(tenant="red")[3:15] if "{key}" in operation.path else ""
        values = {"id": "red", "key": key, "session": "", "record": self.record, "model:path": "acme/small"}
        if "{session}" in operation.path:
            sessions = self._house.state["service"].sessions
            values["session"] = sessions.begin(asker[3:15], 60_000).session.public
        if "{release}" in operation.path:
            values["release"] = self._released(asker)
        if "{run}" in operation.path:
            values["run"] = compared.run_for(self._house, name, "red")
        if "{job}" in operation.path:
            values["job"] = job_for(self._house, name, "red")
        values |= talks.values(self._house, asker, name)
        places, filled = tasked.asked(self._house, asker, name, self._count)
        values |= places
        if name == "votes_answer":
            self._calls += 1
        path = operation.path
        for field, value in values.items():
            path = path.replace(f"{{{field}}}", value)
        bodies: dict[str, dict[str, Any]] = {
            **talks.BODIES,
            **filled,
            "tenants_create": {"id": f"new-{self._count}"},
            "tenants_change": {"title": "Red"},
            "keys_create": {"label": "one more"},
            "keys_change": {"label": "renamed"},
            "releases_promote": {"alias": f"alias-{self._count}", "model": "acme/small"},
            "pulls_start": {"model": "acme/heavy"},
            "models_try": {"model": "acme/small"},
        }
        if name in ("comparisons_forecast", "comparisons_start"):
            bodies[name] = compared.body(self._house, asker)
        if name in ("tuning_plan", "tuning_order"):
            bodies[name] = {"file": trained_on(self._house, asker)}
        if name == "tuning_rows":
            bodies[name] = {"name": "train.jsonl", "base64": ""}
        return path, bodies.get(name, {}) if operation.method in ("POST", "PATCH") else None


@pytest.fixture(scope="module")
def objects(house: Served, callers: dict[tuple[Role, bool], str]) -> Objects:
    return Objects(house)


def ask(house: Served, objects: Objects, name: str, key: str) -> Said:
    operation = next(one for one in OPERATIONS if one.id == name)
    path, body = objects.asked(name, key)
    said = house.call(operation.method, path, key, body)
    if name == "tenants_disable" and said.status == 200:
        house.workspace.accounts.change_tenant("red", {"disabled": False})
        house.settled()
    return said


@pytest.mark.parametrize(("name", "role", "ours"), CELLS, ids=lambda value: str(value))
def test_an_operation_is_open_to_its_roles_and_to_no_others(
    house: Served,
    callers: dict[tuple[Role, bool], str],
    objects: Objects,
    name: str,
    role: Role,
    ours: bool,
) -> None:
    least, owners = LEAST[name]
    said = ask(house, objects, name, callers[role, ours])
    if ROLES.index(role) < ROLES.index(least):
        assert (said.status, said.data["error"]["code"]) == (403, "serve.role")
    elif owners and not ours:
        assert (said.status, said.data["error"]["code"]) == (403, "admin.owners_only")
    else:
        operation = next(one for one in OPERATIONS if one.id == name)
        assert said.status == operation.status, said.body
        assert said.headers["content-type"].partition(";")[0] in operation.media or name == "openapi"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("ours", [True, False])
def test_a_key_is_told_exactly_what_it_may(
    house: Served, callers: dict[tuple[Role, bool], str], role: Role, ours: bool
) -> None:
    said = house.call("GET", "/api/me", callers[role, ours]).data
    expected = {
        name
        for name, (least, owners) in LEAST.items()
        if ROLES.index(role) >= ROLES.index(least) and (ours or not owners)
    }
    assert set(said["may"]) == expected
