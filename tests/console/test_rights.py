"""Every page and every act of the console, with every role, of the workspace's own keys and of a tenant's: who may is
written down here. And whoever asks, nothing of another tenant is on any page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest

from baimo.core.tenant import ROLES, Role
from tests.console.browser import Browser, Shown
from tests.console.lived import MARK, Lived, lived
from tests.console.reading import Reading
from tests.console.walk import routes, walked
from tests.server.admin import talks, tasked
from tests.server.admin.compared import run_for
from tests.server.admin.jobs import job_for


class Cell(NamedTuple):
    """Who may, and how it is tried."""

    least: Role
    """The least role that may."""
    owners: bool = False
    """Only keys of the workspace itself."""
    form: Mapping[str, str] = {}
    """What is sent."""
    act: str = ""
    """Tells apart what one address does."""


TABLE: Mapping[str, tuple[Cell, ...]] = {
    "GET /": (Cell("app"),),
    "GET /live": (Cell("viewer"),),
    "GET /chat": (Cell("app"),),
    "POST /chat/admission": (Cell("app"),),
    "GET /chat/history": (Cell("app"),),
    "POST /chat/history": (
        Cell("app", form={"act": "share", "conversation": ""}, act="share"),
        Cell("app", form={"act": "delete", "conversation": ""}, act="delete"),
    ),
    "GET /chat/{conversation}": (Cell("app"),),
    "GET /chat/shared/{share}": (Cell("app"),),
    "POST /chat/keeping": (Cell("admin"),),
    "POST /chat/record/{record}": (Cell("app"),),
    "GET /chat/votes": (Cell("viewer"),),
    "GET /chat/votes/export": (Cell("reviewer"),),
    "GET /review": (Cell("viewer"),),
    "POST /review": (Cell("reviewer", form={"since": "7d"}),),
    "GET /review/+export": (Cell("reviewer"),),
    "GET /review/{review}": (Cell("reviewer"),),
    "POST /review/{review}": (
        Cell("reviewer", form={"said": "agree"}, act="judge"),
        Cell("reviewer", form={"said": "retract"}, act="retract"),
    ),
    "GET /compare": (Cell("viewer"),),
    "GET /compare/new": (Cell("viewer"),),
    "POST /compare/new": (
        Cell("engineer", form={"act": "forecast", "task": "seen"}, act="forecast"),
        Cell("engineer", form={"act": "start", "task": "seen"}, act="start"),
    ),
    "GET /compare/export": (Cell("viewer"),),
    "GET /compare/{run}": (Cell("viewer"),),
    "GET /compare/{run}/export": (Cell("viewer"),),
    "POST /compare/{run}/stop": (Cell("engineer"),),
    "POST /compare/{run}/resume": (Cell("engineer"),),
    "GET /tasks": (Cell("viewer"),),
    "GET /tasks/+new": (Cell("engineer"),),
    "POST /tasks/+new": (Cell("engineer", form={"kind": "qa", "name": "new-"}),),
    "GET /tasks/+files/{upload}": (Cell("engineer"),),
    "POST /tasks/+files/{upload}": (Cell("engineer", form={"act": "read"}),),
    "GET /tasks/{task}": (Cell("viewer"),),
    "POST /tasks/{task}/changes": (
        Cell("reviewer", form={"act": "label", "set": "tone=calm", "pick": "test:1"}, act="label"),
        Cell("engineer", form={"act": "test", "pick": "test:1"}, act="move"),
    ),
    "GET /tasks/{task}/new": (Cell("reviewer"),),
    "POST /tasks/{task}/new": (Cell("reviewer", form={"input": "x"}),),
    "GET /tasks/{task}/examples/{example:path}": (Cell("viewer"),),
    "POST /tasks/{task}/examples/{example:path}": (Cell("reviewer", form={"labels": "tone=loud"}),),
    "GET /tasks/{task}/about": (Cell("viewer"),),
    "POST /tasks/{task}/about": (
        Cell("engineer", form={"description": "x", "rubric": "y"}, act="describe"),
        Cell("engineer", form={"act": "split", "share": "0"}, act="split"),
        Cell("engineer", form={"act": "copy", "name": "copy-"}, act="copy"),
        Cell("engineer", form={"act": "delete"}, act="delete the task"),
    ),
    "GET /tasks/+export": (Cell("viewer"),),
    "GET /tasks/+deleted": (Cell("engineer"),),
    "POST /tasks/+deleted": (
        Cell("engineer", form={"name": "back-"}, act="bring back"),
        Cell("admin", form={"act": "erase"}, act="erase"),
    ),
    "GET /tasks/{task}/recipe": (Cell("viewer"),),
    "POST /tasks/{task}/recipe": (
        Cell("engineer", form={"act": "add:scorer", "prompt.0.name": "a"}, act="draw"),
        Cell("engineer", form={"act": "save", "prompt.0.name": "default", "sampling.seed": ""}, act="save"),
    ),
    "GET /tasks/{task}/recipe/text": (Cell("viewer"),),
    "POST /tasks/{task}/recipe/text": (Cell("engineer", form={"manifest": tasked.MANIFEST}),),
    "GET /tasks/{task}/check": (Cell("viewer"),),
    "GET /tasks/{task}/history": (Cell("viewer"),),
    "GET /tasks/{task}/history/{version}": (Cell("viewer"),),
    "POST /tasks/{task}/history/{version}": (Cell("engineer"),),
    "GET /tasks/{task}/export": (Cell("viewer"),),
    "GET /tune": (Cell("viewer"),),
    "GET /tune/new": (Cell("viewer"),),
    "POST /tune/new": (Cell("engineer", form={"act": "plan", "file": "file-1"}),),
    "GET /tune/export": (Cell("viewer"),),
    "GET /tune/models": (Cell("viewer"),),
    "GET /tune/{job}": (Cell("viewer"),),
    "GET /tune/{job}/events": (Cell("viewer"),),
    "POST /tune/{job}/pause": (Cell("engineer"),),
    "POST /tune/{job}/resume": (Cell("engineer"),),
    "POST /tune/{job}/cancel": (Cell("engineer"),),
    "POST /tune/{job}/delete": (Cell("engineer"),),
    "GET /models": (Cell("viewer"),),
    "GET /models/releases": (Cell("viewer"),),
    "POST /models/releases": (Cell("engineer", form={"alias": "new-", "model": "acme/small"}),),
    "POST /models/releases/{release}/roll-back": (Cell("engineer"),),
    "GET /models/{model:path}": (Cell("viewer"),),
    "POST /models/{model:path}": (
        Cell("engineer", False, {"act": "try"}, "try"),
        Cell("engineer", True, {"act": "pull"}, "pull"),
    ),
    "GET /usage": (Cell("viewer"),),
    "GET /usage/latency": (Cell("viewer"),),
    "GET /usage/reconcile": (Cell("viewer", owners=True),),
    "POST /usage/reconcile": (Cell("viewer", owners=True, form={"statement": talks.STATEMENT}),),
    "GET /usage/records": (Cell("viewer"),),
    "GET /usage/records/{record}": (Cell("viewer"),),
    "GET /usage/export": (Cell("viewer"),),
    "GET /keys": (Cell("viewer"),),
    "GET /keys/new": (Cell("admin"),),
    "POST /keys/new": (Cell("admin", form={"label": "one more", "role": "app"}),),
    "GET /keys/audit": (Cell("admin"),),
    "GET /keys/tenants": (Cell("viewer"),),
    "POST /keys/tenants": (Cell("admin", True, {"id": "new"}),),
    "GET /keys/tenants/{id}": (Cell("viewer"),),
    "POST /keys/tenants/{id}": (
        Cell("admin", False, {"title": "Red"}, "change"),
        Cell("admin", True, {"act": "disable"}, "disable"),
        Cell("admin", True, {"act": "enable"}, "enable"),
        Cell("admin", False, {"act": "forget"}, "forget"),
    ),
    "GET /keys/{key}": (Cell("viewer"),),
    "POST /keys/{key}/revoke": (Cell("admin"),),
    "POST /keys/{key}/rotate": (Cell("admin"),),
    "GET /settings": (Cell("app"),),
    "POST /settings/reload": (Cell("admin", True),),
    "POST /sign-out": (Cell("app"),),
}
"""Method and path → who may. A new page or act must be entered."""
EVERYBODYS = {
    *("GET /sign-in", "POST /sign-in", "GET /enter/{link}", "POST /enter/{link}"),
    "POST /prefer",
}
"""For those, too, who have not signed in: tests/console/test_door.py."""
CELLS = [
    (address, place, role, tenant)
    for address, cells in TABLE.items()
    for place in range(len(cells))
    for role in ROLES
    for tenant in ("", "red")
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    with lived(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(scope="module")
def browsers(home: Lived) -> dict[tuple[str, str], Browser]:
    """One for each role and tenant, signed in."""
    found = {who: Browser(home.house) for who in home.keys}
    for who, browser in found.items():
        assert browser.sign_in(home.keys[who]).status == 200
    return found


def test_every_page_and_act_is_in_the_table() -> None:
    there = {f"{method} {route.path}" for route in routes() for method in (route.methods or set()) - {"HEAD"}}
    assert there == TABLE.keys() | EVERYBODYS


def tried(home: Lived, address: str, cell: Cell, count: int, who: tuple[str, str], browser: Browser) -> Shown:
    """What comes of it; each act has a thing of its own to be tried on."""
    method, _, path = address.partition(" ")
    tenant = who[1]
    values = {"id": "red", "record": home.record, "model:path": "acme/small", **home.things}
    if "{key}" in path:
        values["key"] = home.house.key(tenant="red")[3:15]
    if "{run}" in path:
        values["run"] = run_for(home.house, f"comparisons_{path.rpartition('/')[2]}", "red")
    if "{job}" in path:
        values["job"] = job_for(home.house, f"tuning_{path.rpartition('/')[2]}", "red")
    if "{release}" in path:
        values["release"] = home.released(tenant, count)
    if cell.act == "pull":
        values["model:path"] = "acme/heavy"
    if cell.act == "delete the task":
        values["task"] = tasked.task(home.house, tenant, f"doomed-{count}")
    if path.startswith("/chat/"):
        kept = talks.conversation(home.house, home.keys[who])
        values |= {"conversation": kept.id, "share": kept.share or ""}
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", value)
    if method == "GET":
        return browser.get(f"/console{path}")
    if cell.act == "retract":
        browser.post(f"/console{path}", said="agree")
    form = {
        name: value + (str(count) if name in ("id", "name", "alias") else "")
        for name, value in cell.form.items()
    }
    if cell.act == "delete the task":
        form["name"] = values["task"]
    if path == "/tasks/+deleted":
        form["deleted"] = tasked.deleted(home.house, tenant, f"gone-{count}")
    if "conversation" in form:
        form["conversation"] = values["conversation"]
    return browser.post(f"/console{path}", **form)


@pytest.mark.parametrize(("address", "place", "role", "tenant"), CELLS, ids=str)
def test_a_page_or_act_is_open_to_its_roles_and_to_no_others(
    home: Lived,
    browsers: dict[tuple[str, str], Browser],
    address: str,
    place: int,
    role: Role,
    tenant: str,
) -> None:
    cell, browser = TABLE[address][place], browsers[role, tenant]
    if address == "POST /sign-out":
        browser = Browser(home.house)
        browser.sign_in(home.keys[role, tenant])
    shown = tried(home, address, cell, CELLS.index((address, place, role, tenant)), (role, tenant), browser)
    enough = ROLES.index(role) >= ROLES.index(cell.least) and not (cell.owners and tenant)
    assert shown.status == (200 if enough else 403), Reading(shown.html).text
    if not enough:
        assert 'role="alert"' in shown.html
    if cell.act == "disable" and enough:
        home.house.workspace.accounts.change_tenant("red", {"disabled": False})
        home.house.settled()


@pytest.mark.parametrize(("role", "tenant"), [(role, tenant) for role in ROLES for tenant in ("", "red")])
def test_nothing_leads_where_one_may_not_go_and_nothing_of_another_tenant_is_anywhere(
    home: Lived, browsers: dict[tuple[str, str], Browser], role: Role, tenant: str
) -> None:
    pages = walked(browsers[role, tenant])
    assert {address for address, page in pages.items() if page.status != 200} == set()
    for address, page in pages.items():
        for trace in home.other.traces if tenant else ():
            assert trace not in page.html, address


@pytest.mark.parametrize("role", ROLES)
def test_another_tenants_things_are_not_there(
    home: Lived, browsers: dict[tuple[str, str], Browser], role: Role
) -> None:
    browser = browsers[role, "red"]
    for address in home.other.addresses:
        shown = browser.get(f"/console{address}")
        assert shown.status in (403, 404), address
        for trace in home.other.traces:  # the address itself says what was asked for
            assert trace in address or trace not in Reading(shown.html).text, address


def test_the_workspaces_own_people_see_every_tenant(
    home: Lived, browsers: dict[tuple[str, str], Browser]
) -> None:
    seen = "".join(page.html for page in walked(browsers["admin", ""], each=4).values())
    for trace in (MARK, home.other.key, home.other.record):
        assert trace in seen
