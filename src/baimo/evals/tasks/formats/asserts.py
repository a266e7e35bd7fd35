"""promptfoo's assertions as data for the scorer `asserts`, or as a target where all tests only ask for equality.

Documented key: `Example.metadata["asserts"]` is a list of `{"type", "value", "weight", "threshold", "metric"}`, only
`type` always there; `not-` before a type turns it round. Source:
https://www.promptfoo.dev/docs/configuration/expected-outputs/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from baimo.evals.tasks.formats.shapes import as_items, is_number
from baimo.evals.tasks.notes import Notebook

CARRIED = frozenset(
    {
        *(
            "equals",
            "contains",
            "contains-any",
            "contains-all",
            "icontains",
            "icontains-any",
            "icontains-all",
        ),
        *("starts-with", "regex", "is-json", "contains-json", "levenshtein", "similar", "llm-rubric"),
    }
)
"""Types that reach `metadata["asserts"]`; all others are noted as left behind."""

_AS_RUBRIC = {"g-eval": "llm-rubric", "model-graded-closedqa": "llm-rubric"}
_NEEDS_VALUE = CARRIED - {"is-json", "contains-json"}
_NEEDS_LIST = frozenset({"contains-any", "contains-all", "icontains-any", "icontains-all"})
_KEPT = ("weight", "threshold", "metric")
_SHORTHAND = re.compile(
    r"(?P<type>(not-)?[a-z][a-z-]*)(\((?P<threshold>[0-9.]+)\))?:\s*(?P<value>.*)", re.DOTALL
)
_KNOWN_ELSEWHERE = {
    *(
        "javascript",
        "python",
        "latency",
        "cost",
        "factuality",
        "answer-relevance",
        "rouge-n",
        "bleu",
        "word-count",
    ),
    *(
        "is-xml",
        "contains-xml",
        "is-sql",
        "contains-sql",
        "is-html",
        "webhook",
        "perplexity",
        "moderation",
        "meteor",
    ),
}
_SHORT_NAMES = {"fn": "javascript", "eval": "javascript", "grade": "llm-rubric"}


def base_type(name: str) -> str:
    """The type without `not-`."""
    return name.removeprefix("not-")


def carried(found: list[Any], line: int, notebook: Notebook) -> list[dict[str, Any]]:
    """Assertions of one test, for `metadata["asserts"]`; what has no counterpart is noted with its type."""
    asserts: list[dict[str, Any]] = []
    for item in found:
        if not isinstance(item, Mapping) or not isinstance(item.get("type"), str):
            notebook.add("left_assert_form", line)
            continue
        assertion = cast("Mapping[str, Any]", item)
        if assertion["type"] == "assert-set":
            asserts += _opened_set(assertion, line, notebook)
        elif one := _one(assertion, line, notebook):
            asserts.append(one)
    return asserts


def from_text(text: str) -> dict[str, Any]:
    """One assertion of a CSV cell: `contains: Paris`, `similar(0.8): Hello`, or plain text for equality."""
    match = _SHORTHAND.fullmatch(text.strip())
    name = _SHORT_NAMES.get(match["type"], match["type"]) if match else ""
    if not match or base_type(name) not in CARRIED | _AS_RUBRIC.keys() | _KNOWN_ELSEWHERE:
        return {"type": "equals", "value": text.strip()}
    value: Any = match["value"].strip()
    if base_type(name) in _NEEDS_LIST:
        value = [part.strip().strip('"') for part in re.split(r""",(?=(?:[^"]*"[^"]*")*[^"]*$)""", value)]
    assertion: dict[str, Any] = {"type": name, "value": value}
    return assertion | ({"threshold": float(match["threshold"])} if match["threshold"] else {})


def plain_equality(asserts: list[dict[str, Any]]) -> bool:
    """Whether one unweighted `equals` is all that is asked."""
    return (
        len(asserts) == 1
        and asserts[0].keys() <= {"type", "value", "metric"}
        and asserts[0]["type"] == "equals"
    )


def _one(assertion: Mapping[str, Any], line: int, notebook: Notebook) -> dict[str, Any] | None:
    name, value = cast("str", assertion["type"]), assertion.get("value")
    base = base_type(name)
    if base in _AS_RUBRIC:
        notebook.add("assumed_rubric", line, type=name)
        base = _AS_RUBRIC[base]
        name = f"not-{base}" if name.startswith("not-") else base
    if assertion.get("weight") == 0:
        notebook.add(
            "left_assert_weightless", line, type=name
        )  # promptfoo measures it, but lets it always pass
        return None
    if base not in CARRIED:
        notebook.add("left_assert_type", line, type=name)
        return None
    if base in _NEEDS_VALUE and (value is None or value == ""):
        notebook.add("left_assert_empty", line, type=name)
        return None
    if isinstance(value, str) and value.startswith("file://"):
        notebook.add("left_assert_file", line, type=name, value=value)
        return None
    if base in _NEEDS_LIST and isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if base == "similar":
        notebook.add("assumed_similar", line)
    if base == "llm-rubric":
        notebook.add("left_judge", line)
    for key in sorted(assertion.keys() - {"type", "value", *_KEPT}):
        notebook.add("left_assert_key", line, type=name, key=key)
    kept = {key: assertion[key] for key in _KEPT if assertion.get(key) is not None}
    return {"type": name} | ({"value": value} if value is not None else {}) | kept


def _opened_set(assertion: Mapping[str, Any], line: int, notebook: Notebook) -> list[dict[str, Any]]:
    """Members of an assert-set; its own weight is shared out, and a threshold inside the set stays behind."""
    inner = assertion.get("assert")
    found = carried(as_items(inner), line, notebook)
    if assertion.get("threshold") is not None:
        notebook.add("left_set_threshold", line, threshold=assertion["threshold"])
    weight: Any = assertion.get("weight")
    if not found or not is_number(weight):
        return found
    total = sum(float(item.get("weight", 1)) for item in found if is_number(item.get("weight", 1))) or 1.0
    return [item | {"weight": float(item.get("weight", 1)) / total * weight} for item in found]
