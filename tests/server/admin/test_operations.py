"""What the operations do: every test asks a running endpoint, and looks at the workspace behind it."""

from __future__ import annotations

import csv
import io
import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text as sql

from baimo.core.tenant import OWNER, Key
from baimo.server.admin.table import OPERATIONS
from baimo.store import audit
from baimo.workspace.ledger_options import LedgerOptions
from tests.server.admin import talks
from tests.server.admin.jobs import idle, job_for, trained_on
from tests.server.served import TOML, Served, served
from tests.waiting import PATIENCE_S, until


@pytest.fixture(scope="module")
def admin(house: Served) -> str:
    return house.key(role="admin", label="the administrator")


# keys


def test_a_key_is_made_used_changed_rotated_and_revoked(house: Served, admin: str) -> None:
    wanted = {
        "label": "shop",
        "limit": ["cost=5/month"],
        "tag": ["team=shop"],
        "model": ["acme/*", "nobody/*"],
    }
    made = house.call("POST", "/api/keys", admin, wanted)
    assert made.status == 201
    assert made.headers["cache-control"] == "no-store"
    assert made.data["unmatched"] == ["nobody/*"]
    credential, public = made.data["credential"], made.data["key"]
    assert house.chat(credential).status == 200
    shown = house.call("GET", f"/api/keys/{public}", admin)
    assert credential[16:].encode() not in shown.body  # the secret is shown once
    assert (shown.data["limits"], shown.data["tags"]) == (["cost=5/month"], {"team": "shop"})
    changed = house.call("PATCH", f"/api/keys/{public}", admin, {"expires": "30d", "clear": ["tag"]})
    assert (changed.status, changed.data["tags"], changed.data["label"]) == (200, {}, "shop")
    rotated = house.call("POST", f"/api/keys/{public}/rotate", admin, {"grace": "1h"})
    assert rotated.status == 201
    assert house.chat(credential).status == house.chat(rotated.data["credential"]).status == 200
    assert house.call("GET", f"/api/keys/{public}", admin).data["standing"] == "replaced"
    assert house.call("POST", f"/api/keys/{public}/rotate", admin, {}).status == 409
    revoked = house.call("POST", f"/api/keys/{public}/revoke", admin, {})
    assert (revoked.status, revoked.data["standing"]) == (200, "revoked")
    assert house.chat(credential).status == 401
    assert house.call("PATCH", f"/api/keys/{public}", admin, {"label": "again"}).status == 409


def test_keys_come_in_pages_that_hold_each_once(house: Served, admin: str) -> None:
    house.tenant("pages")
    made = [
        house.workspace.accounts.create_key(Key(tenant="pages", label=f"key {at}")).key.public
        for at in range(7)
    ]
    seen: list[str] = []
    cursor = ""
    while True:
        page = house.call("GET", f"/api/keys?tenant=pages&limit=3{cursor}", admin).data
        assert len(page["data"]) <= 3
        seen += [key["key"] for key in page["data"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert sorted(seen) == sorted(made)
    assert house.call("GET", "/api/keys?tenant=pages&text=KEY%205", admin).data["data"][0]["label"] == "key 5"
    lost = house.call("GET", "/api/keys?cursor=nothing", admin)
    assert (lost.status, lost.data["error"]["field"]) == (400, "/cursor")


# tenants


def test_a_tenant_is_made_changed_and_forgotten(house: Served, admin: str) -> None:
    made = house.call("POST", "/api/tenants", admin, {"id": "lab", "limit": ["tokens=100000/day"]})
    assert (made.status, made.data["limits"]) == (201, ["tokens=100000/day"])
    assert house.call("POST", "/api/tenants", admin, {"id": "lab"}).status == 409
    changed = house.call("PATCH", "/api/tenants/lab", admin, {"keep_contents": "on", "title": "The lab"})
    assert (changed.data["keep_contents"], changed.data["title"]) == (True, "The lab")
    key = house.key(tenant="lab")
    before = house.records
    assert house.chat(key, "remember me").status == 200
    house.recorded(before + 1)
    record = house.call("GET", "/api/ledger/records?tenant=lab", admin).data["data"][0]["id"]
    kept = house.call("GET", f"/api/ledger/records/{record}/content", admin)
    assert "remember me" in json.dumps(kept.data["request"])
    gone = house.call("DELETE", "/api/tenants/lab/contents", admin)
    assert gone.data["deleted"]["contents"] == 1
    assert house.call("GET", f"/api/ledger/records/{record}/content", admin).status == 404
    assert house.call("GET", f"/api/ledger/records/{record}", admin).status == 200
    assert house.call("POST", "/api/tenants/owner/disable", admin, {}).status == 409


# the ledger


@pytest.fixture(scope="module")
def spent(house: Served, admin: str) -> int:
    """Six calls of two keys; how many Records there are."""
    house.tenant("north")
    first, second = house.key(tenant="north", tags=(("team", "a"),)), house.key(tenant="north")
    before = house.records
    for at in range(6):
        assert house.chat(first if at % 2 else second, f"question {at}").status == 200
    house.recorded(before + 6)
    return before + 6


def test_records_come_in_pages_both_ways(house: Served, admin: str, spent: int) -> None:
    for order in ("newest", "oldest"):
        seen: list[int] = []
        cursor = ""
        while True:
            page = house.call("GET", f"/api/ledger/records?limit=4&order={order}{cursor}", admin).data
            seen += [record["seq"] for record in page["data"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert seen == sorted(range(1, spent + 1), reverse=order == "newest")


def test_records_are_filtered_and_name_their_owner(house: Served, admin: str, spent: int) -> None:
    found = house.call("GET", "/api/ledger/records?tenant=north&tag=team%3Da&status=ok", admin).data["data"]
    assert len(found) == 3
    assert {record["tags"]["team"] for record in found} == {"a"}
    assert {record["tenant"] for record in found} == {"north"}
    ours = house.chat(admin)
    assert ours.status == 200
    house.recorded(spent + 1)
    newest = house.call("GET", "/api/ledger/records?tenant=owner&limit=1", admin).data["data"][0]
    assert newest["tenant"] == "owner"


def test_sums_are_exact_and_agree_with_the_records(house: Served, admin: str, spent: int) -> None:
    rows = house.call("GET", "/api/ledger/sums?tenant=north&by=key,status", admin).data["data"]
    assert [row["calls"] for row in rows] == [3, 3]
    assert {row["group"]["status"] for row in rows} == {"ok"}
    records = house.call("GET", "/api/ledger/records?tenant=north", admin).data["data"]
    micros = sum(record["cost_micros"] * 1_000_000 + record["cost_rest"] for record in records)
    total = house.call("GET", "/api/ledger/sums?tenant=north&by=tenant", admin).data["data"][0]
    assert Decimal(total["cost"]) == Decimal(micros).scaleb(-12)
    wrong = house.call("GET", "/api/ledger/sums?by=weather", admin)
    assert (wrong.status, wrong.data["error"]["field"]) == (400, "/by")


def test_an_export_holds_every_record(house: Served, admin: str, spent: int) -> None:
    lines = house.call("GET", "/api/ledger/export?tenant=north&format=jsonl", admin)
    assert lines.headers["content-type"] == "application/jsonl"
    parsed = [json.loads(line) for line in lines.body.splitlines()]
    table = house.call("GET", "/api/ledger/export?tenant=north", admin)
    rows = list(csv.DictReader(io.StringIO(table.body.decode())))
    kept = [
        line.record.id for line in house.workspace.bookkeeping.page(LedgerOptions(tenant="north"), limit=100)
    ]
    assert sorted(row["id"] for row in rows) == sorted(row["id"] for row in parsed) == sorted(kept)
    assert "attachment" in table.headers["content-disposition"]


def test_the_proof_holds_and_remembers(house: Served, admin: str, spent: int) -> None:
    proof = json.loads(house.call("POST", "/api/ledger/verify", admin, {}).body.splitlines()[-1])["result"]
    assert (proof["ok"], proof["problems"], proof["first"]) == (True, 0, 1)
    false = f"{proof['last']}:{'0' * 64}"
    again = house.call("POST", "/api/ledger/verify", admin, {"anchor": [proof["head"], false]})
    result = json.loads(again.body.splitlines()[-1])["result"]
    assert [one["holds"] for one in result["anchors"]] == [True, False]
    assert result["ok"] is False
    assert house.call("POST", "/api/ledger/verify", admin, {"anchor": ["12"]}).status == 400


def test_the_proof_says_what_was_changed(tmp_path: Path) -> None:
    with served(tmp_path) as house:
        admin = house.key(role="admin")
        assert house.chat(admin).status == 200
        house.recorded(1)
        with house.workspace.store.database.writing() as connection:
            connection.execute(sql("UPDATE records SET cost_micros = 0"))
        found = house.call("POST", "/api/ledger/verify", admin, {}, {"accept-language": "zh-CN, en;q=0.5"})
        result = json.loads(found.body.splitlines()[-1])["result"]
        assert result["ok"] is False
        assert {"chain", "cost"} <= {one["kind"] for one in result["findings"]}
        assert "第" in result["findings"][0]["message"] or "行" in result["findings"][0]["message"]


# limits, models, the endpoint


def test_limits_show_what_is_used_and_left(house: Served, admin: str) -> None:
    house.tenant("frugal")
    before = house.records
    wanted = {
        "tenant": "frugal",
        "label": "night shift",
        "limit": ["cost=1/month", "requests=10/day", "concurrency=4"],
    }
    key = house.call("POST", "/api/keys", admin, wanted).data
    house.call("POST", "/api/keys", admin, {"tenant": "frugal", "limit": ["requests=3/day", "tokens=9/day"]})
    for _ in range(2):
        assert house.chat(key["credential"]).status == 200
    house.recorded(before + 2)
    every = house.call("GET", "/api/limits?tenant=frugal&scope=key", admin).data["data"]
    shown = house.call("GET", f"/api/limits?tenant=frugal&whose={key['key']}", admin).data["data"]
    assert shown == [one for one in every if one["name"] == key["key"]]
    assert len(every) == 5 and {one["label"] for one in shown} == {"night shift"}
    tightest = house.call("GET", "/api/limits?tenant=frugal&tightest=true&limit=1", admin).data
    assert [one["limit"] for one in tightest["data"]] == ["requests=10/day"] and tightest["next"] is None
    requests = next(one for one in shown if one["counts"] == "requests")
    assert (requests["used"], requests["amount"], requests["remaining"]) == ("2", "10", "8")
    cost = next(one for one in shown if one["counts"] == "cost")
    assert float(cost["used"]) > 0
    mine = house.call("GET", "/api/me", key["credential"]).data
    assert {one["limit"] for one in mine["limits"]} == {"cost=1/month", "requests=10/day", "concurrency=4"}
    assert mine["tenant"]["id"] == "frugal"


def test_models_are_found_by_what_they_can_do_and_cost(house: Served, admin: str) -> None:
    one = house.call("GET", "/api/models/acme/small", admin).data
    assert (one["inside"], one["usable"], one["price"]["output_per_million"]) == (True, True, "2.0")
    inside = house.call("GET", "/api/models?inside=true&max_price=2.5&vendor=acme", admin).data["data"]
    assert [model["name"] for model in inside] == ["acme/small"]
    assert house.call("GET", "/api/models?vendor=acme&inside=false", admin).data["data"] == []
    seeing = house.call("GET", "/api/models?ability=vision&ability=tools&limit=5", admin).data["data"]
    assert all({"vision", "tools"} <= set(model["abilities"]) for model in seeing)
    assert house.call("GET", "/api/models?vendor=nobody", admin).status == 404
    assert house.call("GET", "/api/models/nobody/none", admin).status == 404
    narrow = house.key(role="viewer", models=("acme/*",))
    everything = house.call("GET", "/api/models?limit=1000", narrow).data["data"]
    assert {model["vendor"] for model in everything} == {"acme"}
    assert house.call("GET", "/api/routes", admin).data["data"][0]["leads_to"] == ["acme/small"]


def test_every_setting_says_where_it_comes_from(house: Served, admin: str) -> None:
    rows = {one["name"]: one for one in house.call("GET", "/api/settings", admin).data["data"]}
    price = rows['models."acme/small".input_per_million']
    assert price["value"] == 1.0
    assert price["source"].endswith("baimo.toml, line 8")
    assert (rows["serve.port"]["value"], rows["serve.port"]["source"]) == (8000, "")


def test_a_changed_configuration_is_read_when_asked_and_a_broken_one_refused(tmp_path: Path) -> None:
    with served(tmp_path) as house:
        admin = house.key(role="admin")
        before = house.call("GET", "/api/health", admin).data["config_hash"]
        (tmp_path / "baimo.toml").write_text(
            TOML + '[routes.slow]\nmodels = ["acme/small"]\n', encoding="utf-8"
        )
        done = house.call("POST", "/api/settings/reload", admin, {})
        assert done.status == 200
        assert done.data["config_hash"] != before
        names = [route["name"] for route in house.call("GET", "/api/routes", admin).data["data"]]
        assert names == ["fast", "slow"]
        (tmp_path / "baimo.toml").write_text(TOML + "[serve]\nprot = 1\n", encoding="utf-8")
        refused = house.call("POST", "/api/settings/reload", admin, {})
        assert (refused.status, refused.data["error"]["code"]) == (409, "admin.settings_refused")
        assert "prot" in refused.data["error"]["message"]
        assert house.call("GET", "/api/health", admin).data["config_hash"] == done.data["config_hash"]
        assert house.call("GET", "/api/settings", admin).data["problem"]
        assert house.chat(admin).status == 200


def kept(house: Served, count: int) -> None:
    """Wait until so many answers are on disk: they go there after the client has them."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with house.workspace.store.database.reading() as connection:
            if connection.execute(sql("SELECT count(*) FROM cache")).scalar() == count:
                return
        assert time.monotonic() < deadline


def test_a_cleared_cache_answers_no_more(tmp_path: Path) -> None:
    with served(tmp_path, TOML + '[policy]\ncache = "on"\n') as house:
        house.tenant("other", cache="on")
        admin, other = house.key(role="admin"), house.key(tenant="other", role="admin")

        def hit(key: str) -> bool:
            body = {"model": "acme/small", "temperature": 0, "messages": [{"role": "user", "content": "hi"}]}
            said = house.call("POST", "/v1/chat/completions", key, body)
            assert said.status == 200
            return "x-baimo-cache" in said.headers and said.headers["x-baimo-cache"].startswith("hit")

        assert [hit(admin), hit(admin), hit(other), hit(other)] == [False, True, False, True]
        kept(house, 2)
        assert house.call("DELETE", "/api/cache", other).status == 200
        assert [hit(admin), hit(other)] == [True, False]
        kept(house, 2)
        assert house.call("DELETE", "/api/cache", admin).status == 200
        assert [hit(admin), hit(other)] == [False, False]


def test_a_cache_that_is_cleared_in_one_process_answers_no_more_in_another(tmp_path: Path) -> None:
    toml = TOML + '[policy]\ncache = "on"\n'
    with served(tmp_path, toml) as house, served(tmp_path, toml) as beside:
        house.tenant("other", cache="on")
        admin, other = house.key(role="admin"), house.key(tenant="other", role="admin")
        beside.settled()
        body = {"model": "acme/small", "temperature": 0, "messages": [{"role": "user", "content": "hi"}]}

        def hit(key: str) -> bool:
            return "x-baimo-cache" in beside.call("POST", "/v1/chat/completions", key, body).headers

        for who, everybody in ((other, False), (admin, True)):
            for key in (admin, other):
                hit(key)
            kept(house, 2)
            assert hit(admin) and hit(other)
            assert house.call("DELETE", "/api/cache", who).data["deleted"] == (2 if everybody else 1)
            until(lambda: not hit(other))
            assert hit(admin) is not everybody


NO_NEWS = {
    *("ledger_verify", "ledger_reconcile", "sessions_renew", "votes_answer"),
    *("tuning_plan", "tuning_rows", "models_try"),
}
"""A proof, a comparison, a plan and a check change nothing, a renewed session is no news, an answer has its Record."""
ELSEWHERE = ("compare", "tasks", "reviews")
"""Tags of operations whose acts are looked at where a task, a run and a queue are at hand."""
CHANGING = [
    one for one in OPERATIONS if one.method != "GET" and one.id not in NO_NEWS and one.tag not in ELSEWHERE
]
"""Everything that changes something."""


def test_every_change_is_in_the_audit_with_who_did_it(house: Served, admin: str) -> None:
    database = house.workspace.store.database
    idle(house)
    house.tenant("audited")
    bodies: dict[str, Any] = {
        "tenants_create": {"id": "audited-too"},
        "tenants_change": {"title": "x"},
        "keys_change": {"label": "x"},
        "releases_promote": {"alias": "audited", "model": "acme/small"},
        "pulls_start": {"model": "acme/heavy"},
        **talks.BODIES,
        "conversations_change": {"share": True},
    }
    house.workspace.accounts.change_tenant(OWNER, {"keep_contents": True})
    house.settled()
    for operation in CHANGING:
        public = house.key(tenant="audited")[3:15]
        path = operation.path.replace("{id}", "audited").replace("{key}", public)
        if "{session}" in path:
            begun = house.state["service"].sessions.begin(admin[3:15], 60_000)
            path = path.replace("{session}", begun.session.public)
        if "{release}" in path:
            path = path.replace("{release}", house.workspace.releasing.releases.page(None, limit=1)[0].id)
        job = job_for(house, operation.id, "audited")
        path = path.replace("{job}", job)
        if operation.id == "tuning_order":
            bodies[operation.id] = {"file": trained_on(house, admin)}
        talk = talks.values(house, admin, operation.id)
        for name, value in talk.items():
            path = path.replace(f"{{{name}}}", value)
        if operation.id == "conversations_change":
            house.call("PATCH", path, admin, {"share": False})
        newest = audit.acts(database, limit=1)[0].id
        body = bodies.get(operation.id, {}) if operation.method != "DELETE" else None
        said = house.call(operation.method, path, admin, body)
        assert said.status == operation.status, (operation.id, said.body)
        acts = [act for act in audit.acts(database, limit=5) if act.id > newest]
        assert [act.key for act in acts] == [admin[3:15]], operation.id
        known = set(talk.values()) | {said.data.get("conversation"), said.data.get("vote")}
        known |= {
            public,
            admin[3:15],
            "audited",
            "audited-too",
            "",
            said.data.get("key"),
            "alias:audited",
            job,
            said.data.get("job"),
        }
        assert acts[0].subject in known
        assert "digest" not in json.dumps(acts[0].facts)
    shown = house.call("GET", "/api/audit?subject=audited&limit=2", admin).data
    assert {act["subject"] for act in shown["data"]} == {"audited"}
    after = house.call("GET", f"/api/audit?subject=audited&limit=2&cursor={shown['next']}", admin).data
    assert max(act["id"] for act in after["data"]) < min(act["id"] for act in shown["data"])


def test_health_says_what_is_running(house: Served, admin: str) -> None:
    shown = house.call("GET", "/api/health", admin).data
    assert (shown["status"], shown["ledger_ok"], shown["trouble"]) == ("ready", True, [])
    assert shown["ledger_head"].startswith(f"{shown['ledger_lines']}:")
    providers = house.call("GET", "/api/providers?configured=true", admin).data["data"]
    assert [(one["name"], one["usable"]) for one in providers] == [("acme", True)]


# refusals


@pytest.mark.parametrize(
    ("method", "path", "body", "field", "code"),
    [
        ("POST", "/api/keys", {"limit": ["cost=20/week"]}, "/limit", "accounts.bad_limit"),
        ("POST", "/api/keys", {"limit": [5]}, "/limit/0", "admin.bad_value"),
        ("POST", "/api/keys", {"limits": []}, "/limits", "admin.unknown_field"),
        ("POST", "/api/keys", {"network": ["10.0.0.1/8"]}, "/network", "accounts.loose_network"),
        ("POST", "/api/keys", {"surface": ["chatt"]}, "/surface", "accounts.bad_choice"),
        ("POST", "/api/keys", {"expires": "yesterday"}, None, "accounts.bad_moment"),
        ("POST", "/api/keys", {"label": "a\x00b"}, "/label", "admin.bad_text"),
        ("POST", "/api/keys?label=x", {}, "/label", "admin.no_query"),
        ("POST", "/api/keys", [], "", "admin.no_object"),
        ("POST", "/api/keys", b"{", "", "admin.no_json"),
        ("POST", "/api/keys", b"[" * 100_000, "", "admin.no_json"),
        ("POST", "/api/tenants", {}, "/id", "admin.missing"),
        ("POST", "/api/tenants", {"id": "A b"}, "/id", "accounts.bad_id"),
        ("POST", "/api/tenants", {"id": "owner"}, "/id", "accounts.bad_id"),
        ("POST", "/api/tenants", {"id": "x", "contents_days": 10**30}, "/contents_days", "accounts.bad_days"),
        ("GET", "/api/keys?limit=0", None, "/limit", "admin.bad_value"),
        ("GET", "/api/keys?limit=1&limit=2", None, "/limit", "admin.twice"),
        ("GET", "/api/models?max_price=nan", None, "/max_price", "admin.bad_text"),
        ("GET", "/api/models?inside=null", None, "/inside", "admin.bad_text"),
        ("GET", "/api/me?x=1", None, "/x", "admin.no_fields"),
        ("GET", "/api/ledger/records?cursor=99999999999999999999", None, "/cursor", "admin.bad_value"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field(
    house: Served, admin: str, method: str, path: str, body: Any, field: str | None, code: str
) -> None:
    headers = {"content-type": "application/json"} if isinstance(body, bytes) else {}
    said = house.call(method, path, admin, body, headers)
    assert said.status == 400, said.body
    assert (said.data["error"]["code"], said.data["error"]["field"]) == (code, field)
    chinese = house.call(method, path, admin, body, {**headers, "accept-language": "zh"}).data["error"]
    assert (chinese["code"], chinese["field"]) == (code, field)
    assert chinese["message"] != said.data["error"]["message"]


def test_a_body_that_is_not_announced_as_json_is_not_read(house: Served, admin: str) -> None:
    said = house.call("POST", "/api/keys", admin, b"{}", {"content-type": "text/plain"})
    assert (said.status, said.data["error"]["code"]) == (400, "admin.no_json")
    long = house.call("POST", "/api/keys", admin, b" " * (1 << 21), {"content-type": "application/json"})
    assert (long.status, long.data["error"]["code"]) == (413, "admin.long_body")


def test_another_method_is_told_which_ones_there_are(house: Served, admin: str) -> None:
    said = house.call("PUT", "/api/keys", admin, {})
    assert (said.status, said.headers["allow"]) == (405, "GET, POST")
    head = house.call("HEAD", "/api/keys", admin)
    assert (head.status, head.body) == (200, b"")
