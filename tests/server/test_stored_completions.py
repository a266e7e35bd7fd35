"""Chat completions that clients wanted stored: only where the tenant keeps what is said, and only for that tenant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionDeleted

from tests.server.evaluated import ASKED, CHECK, TOML, evaluated, refused, strictly
from tests.server.served import Served, served

ROOT = "/v1/chat/completions"
LATE = "[ledger]\nflush_ms = 60000\n"
"""Nothing reaches the database by itself while a test runs: who looks for what was said has to see to it."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    with served(tmp_path_factory.mktemp("stored"), TOML + LATE) as endpoint:
        for tenant in ("amber", "beryl"):
            endpoint.tenant(tenant, keep_contents=True)
        endpoint.tenant("closed")
        yield endpoint
    patch.undo()


def said(house: Served, key: str, question: str, **facts: Any) -> str:
    body = {
        "model": "acme/small",
        "messages": [{"role": "user", "content": question}],
        "store": True,
        **facts,
    }
    answer = house.call("POST", ROOT, key, body)
    assert answer.status == 200, answer.body
    return "" if facts.get("stream") else str(answer.data["id"])


def stored(house: Served, key: str, query: str = "limit=100") -> list[Any]:
    return list(house.call("GET", f"{ROOT}?{query}", key).data["data"])


def test_a_stored_completion_lives_as_the_sdk_knows_it(house: Served) -> None:
    key = house.key(tenant="amber")
    id = said(house, key, "say one", metadata={"case": "a"}, temperature=0.5)
    found = house.call("GET", f"{ROOT}/{id}", key)
    completion = strictly(ChatCompletion, found)
    assert (completion.id, completion.choices[0].message.content) == (id, "one")
    assert found.data["metadata"] == {"case": "a"} and found.data["temperature"] == 0.5
    changed = house.call("POST", f"{ROOT}/{id}", key, {"metadata": {"case": "b"}})
    assert (
        changed.data["metadata"] == {"case": "b"} == house.call("GET", f"{ROOT}/{id}", key).data["metadata"]
    )
    turns = house.call("GET", f"{ROOT}/{id}/messages", key).data
    assert [(turn["id"], turn["role"], turn["content"]) for turn in turns["data"]] == [
        (f"{id}-0", "user", "say one")
    ]
    assert house.call("GET", f"{ROOT}/{id}/messages?after={id}-0", key).data["data"] == []
    assert house.call("GET", f"{ROOT}/{id}/messages?after={id}-9", key).data["data"] == []
    refused(house.call("GET", f"{ROOT}/{id}/messages?after=nope", key), 400, "after", "nope")
    gone = strictly(ChatCompletionDeleted, house.call("DELETE", f"{ROOT}/{id}", key))
    assert gone.deleted and gone.id == id
    refused(house.call("GET", f"{ROOT}/{id}", key), 404, None, id)
    assert stored(house, key) == []


def test_nothing_is_stored_that_nobody_asked_for_or_whose_tenant_does_not_keep_it(house: Served) -> None:
    key, closed = house.key(tenant="beryl"), house.key(tenant="closed")
    said(house, key, "say one", store=False)
    said(house, key, 'say "store": true', store=None)
    said(house, closed, "say one")
    assert stored(house, key) == [] and stored(house, closed) == []


def test_completions_are_found_by_label_and_model_in_pages_both_ways(house: Served) -> None:
    house.tenant("pages", keep_contents=True)
    key = house.key(tenant="pages")
    ids = [said(house, key, f"say {number}", metadata={"odd": str(number % 2)}) for number in range(4)]
    other = said(house, key, "say 9", model="fast")
    assert [row["id"] for row in stored(house, key)] == [*ids, other]
    assert [row["id"] for row in stored(house, key, "metadata[odd]=1")] == [ids[1], ids[3]]
    assert [row["id"] for row in stored(house, key, "model=fast")] == [other]
    first = house.call("GET", f"{ROOT}?limit=2", key).data
    assert first["has_more"] and [row["id"] for row in first["data"]] == ids[:2]
    assert [row["id"] for row in stored(house, key, f"after={ids[1]}&limit=2")] == ids[2:]
    assert [row["id"] for row in stored(house, key, f"order=desc&after={ids[2]}")] == ids[1::-1]
    assert stored(house, key, "after=chatcmpl-none") == []


def test_a_stream_is_stored_as_what_it_amounts_to(house: Served) -> None:
    house.tenant("streams", keep_contents=True)
    key = house.key(tenant="streams")
    said(house, key, "say one", stream=True)
    said(house, key, "call it", stream=True)
    words, calls = (ChatCompletion.model_validate(row) for row in stored(house, key))
    assert words.choices[0].message.content == "one" and words.choices[0].finish_reason == "stop"
    assert calls.choices[0].message.tool_calls is not None
    assert calls.choices[0].message.tool_calls[0].function.arguments == '{"on": true}'  # type: ignore[union-attr]


def test_another_tenant_finds_nothing(house: Served) -> None:
    mine, other = house.key(tenant="amber"), house.key(tenant="beryl", role="admin")
    id = said(house, mine, "say amber")
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "/messages")):
        answer = house.call(
            method, f"{ROOT}/{id}{path}", other, {"metadata": {}} if method == "POST" else None
        )
        assert answer.status == 404 and b"say amber" not in answer.body
    assert stored(house, other) == []
    assert house.call("GET", f"{ROOT}/{id}", mine).status == 200


def test_a_completion_goes_with_its_tenants_contents(house: Served) -> None:
    house.tenant("opal", keep_contents=True)
    key = house.key(tenant="opal")
    said(house, key, "say one")
    assert len(stored(house, key)) == 1
    admin = house.key(role="admin")
    assert house.call("DELETE", "/api/tenants/opal/contents", admin).status == 200
    assert stored(house, key) == []


def test_stored_completions_are_judged_as_they_were_or_asked_again(house: Served) -> None:
    house.tenant("judged", keep_contents=True)
    key = house.key(tenant="judged")
    for number, case in enumerate(("a", "a", "b")):
        said(house, key, f"say {number}", metadata={"case": case, "want": "1"})
    check = {**CHECK, "reference": "{{item.metadata.want}}"}
    asked = sum(ASKED.values())
    source: dict[str, Any] = {
        "type": "completions",
        "source": {"type": "stored_completions", "metadata": {"case": "a"}, "limit": 5},
    }
    config = {"data_source_config": {"type": "stored_completions", "metadata": {"want": "1"}}}
    run, found = evaluated(house, key, source, [check], **config)
    assert [item["status"] for item in found] == ["fail", "pass"] and sum(ASKED.values()) == asked
    assert found[1]["datasource_item"]["input"] == [{"role": "user", "content": "say 1"}]
    again = {
        **source,
        "model": "acme/small",
        "input_messages": {"type": "item_reference", "item_reference": "item.input"},
    }
    run, found = evaluated(house, key, again, [check], **config)
    assert run["result_counts"]["total"] == 2 and sum(ASKED.values()) == asked + 2
