"""Things that a vendor keeps and a request names by id: files, prompts, vector stores, containers.

Prevents the failure where one tenant reads what another uploaded, because all share the account at the vendor.
Source: developers.openai.com/api/reference (chat, responses), platform.claude.com/docs/en/api (messages, skills).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from baimo.providers.openai_reply import items
from baimo.server.surfaces.wirejson import read

_anything = msgspec.json.Decoder(object).decode

# a name may be written with escapes: then the body is read, too
_MARKS = (
    *(b'file_id"', b'file_ids"', b"vector_store_id", b'container"', b'container_id"', b'skill_id"'),
    *(b'"prompt"', b"\\u00"),
)
_IDS = frozenset({"file_id", "file_ids", "vector_store_id", "vector_store_ids", "container", "container_id"})
_OWN = frozenset(
    {"parameters", "schema", "input_schema", "input_examples", "metadata", "annotations", "arguments"}
)
"""Members that hold the caller's own names, or what a vendor wrote in an earlier answer."""
_WRITTEN = {
    "code_interpreter_call": "container_id",
    "file_search_call": "results",
    "shell_call": "environment",
}
"""Members of earlier calls in which a vendor names what it keeps."""


def vendor_id(body: bytes) -> str:
    """Path of the first member that names something which a vendor keeps; empty = there is none.

    Args:
        body: what the client sent.

    Raises:
        CallRefused: it is no JSON.
    """
    # nearly every body: four quick looks instead of all marks; `in` makes and drops an exception for bytes (3.11)
    find = body.find
    if (
        find(b"_id") < 0
        and find(b"container") < 0
        and find(b"prompt") < 0
        and (find(b"\\") < 0 or find(b"\\u00") < 0)
    ):
        return ""
    if not any(mark in body for mark in _MARKS):
        return ""
    todo: list[tuple[str, Any]] = [("", read(_anything, body))]
    while todo:  # a body may be nested deeper than calls may be
        place, value = todo.pop()
        if not isinstance(value, Mapping):
            todo += [(f"{place}[{number}]", one) for number, one in enumerate(items(value))]
            continue
        row = cast("Mapping[str, Any]", value)
        not_theirs = _not_theirs(row) if place else ""
        for name, one in row.items():
            if name == not_theirs or name in _OWN:
                continue
            at = f"{place}.{name}".lstrip(".")
            if _names(name, one, row, top=not place):
                return at
            todo.append((at, one))
    return ""


def _not_theirs(row: Mapping[str, Any]) -> str:
    """The member of an earlier call that the model or the vendor wrote; empty = it is none, whatever else it says."""
    said = str(row.get("type"))
    return "input" if said.endswith("tool_use") else _WRITTEN.get(said, "")


def _names(name: str, value: Any, row: Mapping[str, Any], *, top: bool) -> bool:
    if name in _IDS:
        inner = cast("Mapping[str, Any]", value).get("id") if isinstance(value, Mapping) else value
        return bool(inner) and isinstance(inner, (str, list))
    if name == "skill_id":
        return row.get("type") != "anthropic"  # the vendor's own skills are everybody's
    return top and name == "prompt" and isinstance(value, Mapping)
