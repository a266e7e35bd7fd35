"""Releases over HTTP: an alias leads to another model from one call to the next, in every process, and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from baimo.core.tuning import Adapter
from baimo.store.adapters import Adapters
from tests.server.served import TOML, Served, served
from tests.server.tuned import client
from tests.waiting import until

MODELS = f"""{TOML}
[providers.new]
protocol = "fake"
[providers.new.options]
constant = "It is one o'clock."
[models."new/large"]
[routes.home]
models = ["acme/small"]
"""
GOOD = {"differs": "", "prompts": 8}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    with served(tmp_path_factory.mktemp("releases"), MODELS) as endpoint:
        yield endpoint
    patch.undo()


def said(house: Served, key: str, model: str) -> str:
    """What a model answers, and which one it was."""
    with client(house, key) as ours:
        answer = ours.chat.completions.create(model=model, messages=[{"role": "user", "content": "Time?"}])
    return str(answer.choices[0].message.content)


def promote(house: Served, key: str, alias: str, model: str, **more: Any) -> Any:
    answer = house.call("POST", "/api/releases", key, {"alias": alias, "model": model, **more})
    assert answer.status == 201, answer.body
    return answer.data


def back(house: Served, key: str, release: str) -> Any:
    answer = house.call("POST", f"/api/releases/{release}/roll-back", key, {})
    assert answer.status == 201, answer.body
    return answer.data


def adapter(house: Served, tenant: str, status: str, parity: Any) -> str:
    """A tuned model without weights."""
    adapters = Adapters(house.workspace.store.database)
    id = adapters.new_id()
    name = f"ft:small:{tenant or 'owner'}::{id}"
    adapters.put(
        Adapter(
            id=id,
            name=name,
            tenant=tenant,
            base="local/smollm2-135m-instruct",
            base_hash="",
            folder=f"adapters/{id}",
            status=status,  # type: ignore[arg-type]
            created_ms=1,
            job="ftjob-1",
            parity=parity,
        )
    )
    house.state["service"].adapted.refresh()
    return name


def test_an_alias_leads_to_the_promoted_model_at_once_and_back_again(house: Served) -> None:
    key = house.key(role="engineer")
    assert said(house, key, "home") == "It is noon."
    made = promote(house, key, "home", "new/large", why="it knows the hour", run="run_1")
    assert said(house, key, "home") == "It is one o'clock."
    assert (made["before"], made["model"], made["why"], made["run"]) == (
        None,
        "new/large",
        "it knows the hour",
        "run_1",
    )
    undone = back(house, key, made["release"])
    assert said(house, key, "home") == "It is noon."
    assert (undone["act"], undone["model"], undone["can_roll_back"]) == ("roll_back", None, False)
    listed = house.call("GET", "/api/releases?alias=home", key).data["data"]
    assert [(one["act"], one["holds"]) for one in listed] == [("roll_back", True), ("promote", False)]


def test_a_new_alias_is_a_model_like_others_until_it_is_rolled_back(house: Served) -> None:
    key = house.key(role="engineer")
    with client(house, key) as ours:
        made = promote(house, key, "brand-new", "acme/small")
        assert said(house, key, "brand-new") == "It is noon."
        assert "brand-new" in [one.id for one in ours.models.list()]
        back(house, key, made["release"])
        assert "brand-new" not in [one.id for one in ours.models.list()]
        with pytest.raises(openai.NotFoundError):
            said(house, key, "brand-new")


def test_the_record_names_the_alias_and_the_model_that_answered(house: Served) -> None:
    key = house.key(role="engineer")
    promote(house, key, "noted", "new/large")
    said(house, key, "noted")
    path = "/api/ledger/records?model=new/large&limit=1"
    until(lambda: (house.call("GET", path, key).data["data"] or [{"asked": ""}])[0]["asked"] == "noted")
    (record,) = house.call("GET", path, key).data["data"]
    assert (record["asked"], record["model"], record["route"]) == ("noted", "new/large", "alias")


def test_another_process_follows_within_a_moment(house: Served) -> None:
    """Two applications over one workspace, as `serve.workers = 2` has them."""
    key = house.key(role="engineer")
    with served(house.folder, MODELS) as other:
        until(lambda: other.call("GET", "/api/me", key).status == 200)
        made = promote(house, key, "shared", "acme/small")
        until(lambda: other.call("GET", "/v1/models/shared", key).status == 200)
        assert said(other, key, "shared") == "It is noon."
        promote(other, key, "shared", "new/large")
        until(lambda: said(house, key, "shared") == "It is one o'clock.")
        late = house.call("POST", f"/api/releases/{made['release']}/roll-back", key, {})
        assert (late.status, late.data["error"]["code"]) == (409, "releases.not_newest")


def test_a_tenants_alias_is_its_own(house: Served) -> None:
    house.tenant("red")
    red, other = house.key(tenant="red", role="engineer"), house.key(role="engineer")
    promote(house, red, "fast", "new/large")
    assert said(house, red, "fast") == "It is one o'clock."
    assert said(house, other, "fast") == "It is noon."
    assert house.call("GET", "/api/releases?tenant=red", other).data["data"][0]["alias"] == "fast"
    assert "fast" not in {
        one["alias"] for one in house.call("GET", "/api/releases?tenant=owner", other).data["data"]
    }


@pytest.mark.parametrize(
    ("status", "parity", "code", "words"),
    [
        ("candidate", None, "releases.candidate", "was not judged yet"),
        ("blocked", {"differs": "logits", "how": "token 3"}, "releases.blocked", "token 3"),
        ("retired", GOOD, "releases.retired", "no longer served"),
        ("ready", {"unchecked": True}, "releases.unchecked", "without the gate's judgement"),
        ("ready", None, "releases.unchecked", "without the gate's judgement"),
    ],
)
def test_a_model_that_did_not_pass_its_gate_is_not_promoted_and_the_reason_is_told(
    house: Served, status: str, parity: Any, code: str, words: str
) -> None:
    key = house.key(role="engineer")
    name = adapter(house, "", status, parity)
    answer = house.call("POST", "/api/releases", key, {"alias": "gated", "model": name})
    assert (answer.status, answer.data["error"]["code"]) == (409, code)
    assert words in answer.data["error"]["message"] and answer.data["error"]["field"] == "/model"
    assert house.call("GET", "/api/releases?alias=gated", key).data["data"] == []


def test_a_model_that_passed_is_promoted_with_the_job_that_made_it(house: Served) -> None:
    key = house.key(role="engineer")
    name = adapter(house, "", "ready", GOOD)
    made = promote(house, key, "gated", name)
    assert (made["model"], made["job"]) == (name, "ftjob-1")
    assert house.call("GET", "/v1/models/gated", key).data["models"] == [name]
    routes = house.call("GET", "/api/routes", key).data["data"]
    (route,) = [one for one in routes if one["name"] == "gated"]
    assert (route["released"], route["leads_to"], route["alias"]) == (name, [name], True)
    assert house.call("GET", f"/api/models/{name}", key).data["name"] == name
    # what is retired afterwards is said by name, not answered by another model
    adapters = Adapters(house.workspace.store.database)
    found = adapters.named(name)
    assert found is not None
    adapters.delete("", found.id)
    house.state["service"].adapted.refresh()
    routes = house.call("GET", "/api/routes", key).data["data"]
    assert [one["leads_to"] for one in routes if one["name"] == "gated"] == [[]]
    with client(house, key) as ours, pytest.raises(openai.NotFoundError, match="not served any more"):
        ours.chat.completions.create(model="gated", messages=[{"role": "user", "content": "Time?"}])


def test_nobody_promotes_what_they_may_not_ask_for(house: Served) -> None:
    house.tenant("blue")
    theirs = adapter(house, "blue", "ready", GOOD)
    narrow = house.key(role="engineer", models=("acme/*",))
    wide = house.key(role="engineer")
    for key, model in ((wide, theirs), (narrow, "new/large"), (wide, "nobody/none")):
        answer = house.call("POST", "/api/releases", key, {"alias": "closed", "model": model})
        assert (answer.status, answer.data["error"]["code"]) == (404, "releases.no_model")


@pytest.mark.parametrize("alias", ["", "acme/small", "ft:x", "a b", "x" * 65, "-x"])
def test_an_alias_hides_no_model_and_is_a_plain_name(house: Served, alias: str) -> None:
    key = house.key(role="engineer")
    answer = house.call("POST", "/api/releases", key, {"alias": alias, "model": "acme/small"})
    assert (answer.status, answer.data["error"]["field"]) == (400, "/alias")


def test_what_was_released_holds_after_a_restart(tmp_path: Path) -> None:
    with served(tmp_path, MODELS) as first:
        promote(first, first.key(role="engineer"), "home", "new/large")
    with served(tmp_path, MODELS) as second:
        assert said(second, second.key(), "home") == "It is one o'clock."
