"""A recipe as the fields of a form, and back: `prompt.0.system`, `scorer.1.opt:labels`, `sampling.seed`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

PARTS = ("prompt", "scorer", "candidate")
SAMPLING = ("temperature", "top_p", "max_tokens", "seed")
"""Numbers of [sampling]; beside them there is `stop`."""
Row = dict[str, str]
Kinds = Mapping[str, Mapping[str, Any]]
"""Name of a scorer → what GET /api/scorers says of it."""


class Draft(NamedTuple):
    """What the form shows."""

    prompt: list[Row]
    scorer: list[Row]
    candidate: list[Row]
    sampling: Row


def drawn(recipe: Mapping[str, Any], kinds: Kinds) -> Draft:
    """A recipe of the API in the fields of a form."""
    return Draft(
        prompt=[_prompt_row(one) for one in recipe["prompts"]],
        scorer=[_scorer_row(one["name"], one["args"], kinds) for one in recipe["scorers"]],
        candidate=[_candidate_row(one) for one in recipe["candidates"]],
        sampling=_sampling_row(recipe["sampling"]),
    )


def sent(pairs: Sequence[tuple[str, str]], kinds: Kinds) -> Draft:
    """A form as it was sent."""
    found: dict[str, dict[int, Row]] = {part: {} for part in PARTS}
    sampling: Row = {}
    for name, value in pairs:
        part, _, rest = name.partition(".")
        number, _, key = rest.partition(".")
        if part == "sampling":
            sampling[rest] = _lines(value)
        elif part in found and number.isdecimal() and key:
            found[part].setdefault(int(number), {})[key] = _lines(value)
    rows = {part: [one for _, one in sorted(found[part].items())] for part in PARTS}
    empty = {"prompt": _prompt_row({}), "candidate": _candidate_row({}), "scorer": _scorer_row("", {}, kinds)}
    rows = {part: [dict.fromkeys(empty[part], "") | one for one in rows[part]] for part in PARTS}
    rows["scorer"] = [
        one if one["of"] == one["name"] else _scorer_row(one["name"], {}, kinds) for one in rows["scorer"]
    ]
    return Draft(**rows, sampling=sampling)


def arranged(draft: Draft, act: str, kinds: Kinds) -> Draft:
    """A draft after a button: `add:scorer`, `drop:prompt:0`, `up:candidate:2`; any other leaves it as it is."""
    does, _, rest = act.partition(":")
    part, _, number = rest.partition(":")
    if part not in PARTS:
        return draft
    rows: list[Row] = getattr(draft, part)
    at = int(number) if number.isdecimal() else -1
    if does == "add":
        fresh = {
            "prompt": _prompt_row({"name": f"prompt-{len(rows) + 1}", "user": "{{ input }}"}),
            "scorer": _scorer_row("exact", {}, kinds),
            "candidate": _candidate_row({}),
        }
        rows.append(fresh[part])
    elif does == "drop" and 0 <= at < len(rows):
        del rows[at]
    elif does == "up" and 0 < at < len(rows):
        rows.insert(at - 1, rows.pop(at))
    return draft


def body_of(draft: Draft, kinds: Kinds) -> dict[str, Any]:
    """What the API takes; what is no number stays text, so that the API says which field it is."""
    return {
        "prompts": [_was(row, _prompt_row) or _prompt(row) for row in draft.prompt],
        "sampling": _sampling(draft.sampling),
        "scorers": [
            _was(row, lambda one: _scorer_row(one.get("name", ""), one.get("args") or {}, kinds))
            or _scorer(row, kinds)
            for row in draft.scorer
        ],
        "candidates": [_was(row, _candidate_row) or _candidate(row) for row in draft.candidate],
    }


def _was(row: Row, draw: Callable[[Mapping[str, Any]], Row]) -> dict[str, Any] | None:
    """What a row was made of, if nobody touched it: a form does not know everything that can be written by hand."""
    try:
        was = json.loads(row.get("was") or "null")
    except ValueError:
        return None
    if not isinstance(was, dict):
        return None
    known = cast("dict[str, Any]", was)
    return known if all(row.get(key, "") == value for key, value in draw(known).items()) else None


# prompts


def _prompt_row(one: Mapping[str, Any]) -> Row:
    few: Mapping[str, Any] = one.get("few_shot") or {}
    texts = {name: one.get(name) or "" for name in ("name", "system", "user", "assistant")}
    ids = "\n".join(few.get("ids") or ())
    return {
        **texts,
        "count": str(few.get("count") or ""),
        "by": few.get("by") or "",
        "select": few.get("select") or "fixed",
        "ids": ids,
        "was": _written(one),
    }


def _prompt(row: Row) -> dict[str, Any]:
    made: dict[str, Any] = {name: row.get(name, "") for name in ("name", "system", "user")}
    if row.get("assistant", "").strip():
        made["assistant"] = row["assistant"]
    count = _number(row.get("count", ""))
    if count not in (None, 0):
        made["few_shot"] = {
            "count": count,
            "select": row.get("select") or "fixed",
            "ids": _several(row, "ids"),
        }
        if row.get("by", "").strip():
            made["few_shot"]["by"] = row["by"].strip()
    return made


# sampling


def _sampling_row(said: Mapping[str, Any]) -> Row:
    row = {name: "" if said.get(name) is None else f"{said[name]:g}" for name in ("temperature", "top_p")}
    row |= {name: "" if said.get(name) is None else str(said[name]) for name in ("max_tokens", "seed")}
    # of a text that ends an answer every line break counts
    return {**row, "stop": "\n".join(_quoted(one) for one in said.get("stop") or ())}


def _sampling(row: Row) -> dict[str, Any]:
    numbers = {name: _number(row.get(name, "")) for name in SAMPLING}
    said: dict[str, Any] = {name: one for name, one in numbers.items() if one is not None}
    stop = [_unquoted(one) for one in row.get("stop", "").split("\n") if one]
    return {**said, "stop": stop} if stop else said


def _quoted(text: str) -> str:
    return (
        json.dumps(text, ensure_ascii=False)
        if text != text.strip() or "\n" in text or text[:1] == '"'
        else text
    )


def _unquoted(line: str) -> str:
    try:
        found = json.loads(line) if line.startswith('"') else line
    except ValueError:
        return line
    return found if isinstance(found, str) else line


# scorers


def _scorer_row(name: str, args: Mapping[str, Any], kinds: Kinds) -> Row:
    kind = kinds.get(name)
    row = {"name": name, "of": name, "was": _written({"name": name, "args": args})}
    if kind is None or kind["by_hand"]:
        return row
    for option in kind["options"]:
        row[f"opt:{option['name']}"] = _shown(args.get(option["name"], option["default"]), option["kind"])
    return row


def _shown(value: Any, kind: str) -> str:
    if kind == "flag":
        return "1" if value else ""
    if value is None or value == {}:
        return ""
    if kind == "texts":
        return "\n".join(str(one) for one in value)
    return (
        value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, indent=1 if value == [] else None)
    )


def _scorer(row: Row, kinds: Kinds) -> dict[str, Any]:
    kind = kinds.get(row.get("name", ""))
    if kind is None or kind["by_hand"]:
        return {"name": row.get("name", ""), "args": {}}
    args: dict[str, Any] = {}
    for option in kind["options"]:
        value = _value(row.get(f"opt:{option['name']}", ""), option["kind"])
        if value is not None and value != option["default"]:
            args[option["name"]] = value
    return {"name": row["name"], "args": args}


def _value(said: str, kind: str) -> Any:
    """What a field says; None = nothing."""
    match kind:
        case "flag":
            return bool(said)
        case "texts":
            return [one.strip() for one in said.split("\n") if one.strip()]
        case "whole" | "number":
            return _number(said)
        case "json":
            return _json(said)
        case _:
            return said if said.strip() else None


# candidates


def _candidate_row(one: Mapping[str, Any]) -> Row:
    texts = {name: one.get(name) or "" for name in ("name", "model", "prompt", "select", "by", "system")}
    few, schema = one.get("few_shot"), one.get("json_schema")
    return {
        **texts,
        "few_shot": "" if few is None else str(few),
        "json_schema": ""
        if schema is None
        else schema
        if isinstance(schema, str)
        else json.dumps(schema, ensure_ascii=False),
        **_sampling_row(one.get("sampling") or {}),
        "was": _written(one),
    }


def _candidate(row: Row) -> dict[str, Any]:
    names = ("name", "model", "prompt", "select", "by", "system")
    made: dict[str, Any] = {name: row[name] for name in names if row.get(name, "").strip()}
    made.setdefault("model", "")
    if (few := _number(row.get("few_shot", ""))) is not None:
        made["few_shot"] = few
    if (schema := _json(row.get("json_schema", ""))) is not None:
        made["json_schema"] = schema
    sampling = _sampling(row)
    return {**made, "sampling": sampling} if sampling else made


# small things


def _written(one: Mapping[str, Any]) -> str:
    return json.dumps(one, ensure_ascii=False)


def _lines(value: str) -> str:
    return value.replace("\r\n", "\n")


def _several(row: Row, name: str) -> list[str]:
    return [one.strip() for one in row.get(name, "").split("\n") if one.strip()]


def _number(said: str) -> int | float | str | None:
    """None = nothing is said; text = it is no number."""
    said = said.strip()
    if not said:
        return None
    for kind in (int, float):
        try:
            return kind(said)
        except ValueError:
            continue
    return said


def _json(said: str) -> Any:
    """None = nothing is said; what is no JSON is the name of a file."""
    if not said.strip():
        return None
    try:
        return json.loads(said)
    except ValueError:
        return said.strip()
