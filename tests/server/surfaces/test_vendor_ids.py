"""What is kept at a vendor is found wherever a request names it, and nothing else is taken for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from baimo.server.surfaces.vendor_ids import vendor_id


def user(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]}


NAMED = [
    (user({"type": "file", "file": {"file_id": "file-1"}}), "messages[0].content[1].file.file_id"),
    (
        user({"type": "document", "source": {"type": "file", "file_id": "f"}}),
        "messages[0].content[1].source.file_id",
    ),
    (user({"type": "container_upload", "file_id": "f"}), "messages[0].content[1].file_id"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
        "input[0].content[0].file_id",
    ),
    (
        {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
        "tools[0].vector_store_ids",
    ),
    ({"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}, "tools[0].container"),
    (
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f"]}}]},
        "tools[0].container.file_ids",
    ),
    ({"container": {"id": "c", "skills": []}}, "container"),
    ({"container": {"skills": [{"type": "custom", "skill_id": "s"}]}}, "container.skills[0].skill_id"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    (
        {"tools": [{"type": "shell", "environment": {"type": "container_reference", "container_id": "c"}}]},
        "tools[0].environment.container_id",
    ),
    # what only looks like an earlier call
    ({"type": "tool_use", "input": [{"file_id": "f"}]}, "input[0].file_id"),
    ({"type": "file_search_call", "results": [{"file_id": "f"}]}, "results[0].file_id"),
    (
        {"messages": [{"type": "tool_use", "content": [{"source": {"file_id": "f"}}]}]},
        "messages[0].content[0].source.file_id",
    ),
    ({"input": [{"type": "x_call", "content": [{"file_id": "f"}]}]}, "input[0].content[0].file_id"),
    ({"input": [{"type": "file_search_call", "file_id": "f"}]}, "input[0].file_id"),
    ({"tools": [{"type": "x_call", "vector_store_ids": ["v"]}]}, "tools[0].vector_store_ids"),
    (user({"type": "tool_use", "input": {}, "file_id": "f"}), "messages[0].content[1].file_id"),
]
OWN = [
    {"messages": [{"role": "user", "content": 'my "file_id" is file-1'}]},
    {"tools": [{"type": "function", "parameters": {"properties": {"file_id": {"type": "string"}}}}]},
    {"tools": [{"name": "f", "input_schema": {"const": {"file_id": "x"}}}]},
    {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": {"file_id": "mine"}}]}]},
    {"tools": [{"name": "f", "input_examples": [{"file_id": "mine"}]}]},
    {
        "messages": [
            {"role": "assistant", "content": [{"type": "mcp_tool_use", "input": {"file_id": "mine"}}]}
        ]
    },
    {"messages": [{"content": [{"type": "server_tool_use", "input": {"a": {"file_ids": ["mine"]}}}]}]},
    {"input": [{"type": "code_interpreter_call", "container_id": "c", "outputs": []}]},
    {"input": [{"type": "file_search_call", "results": [{"file_id": "f"}]}]},
    {"input": [{"type": "shell_call", "environment": {"container_id": "c"}}]},
    {"input": [{"type": "tool_search_call", "arguments": {"file_id": "mine"}}]},
    {"input": [{"content": [{"type": "output_text", "annotations": [{"file_id": "f"}]}]}]},
    {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
    {"container": {"skills": [{"type": "anthropic", "skill_id": "xlsx"}]}},
    {"metadata": {"file_id": "mine"}},
    {"prompt": "a text"},
]


@pytest.mark.parametrize(("body", "place"), NAMED, ids=[place for _, place in NAMED])
def test_what_a_vendor_keeps_is_found_where_it_is_named(body: dict[str, Any], place: str) -> None:
    assert vendor_id(json.dumps(body).encode()) == place


def test_escapes_hide_no_name() -> None:
    assert vendor_id(rb'{"a":{"\u0066ile_i\u0064":"f"}}') == "a.file_id"


@pytest.mark.parametrize("body", OWN, ids=map(str, range(len(OWN))))
def test_the_callers_own_words_are_not_taken_for_it(body: dict[str, Any]) -> None:
    assert vendor_id(json.dumps(body).encode()) == ""
