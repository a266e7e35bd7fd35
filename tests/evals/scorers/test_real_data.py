"""Against public data and the judgements that come with it."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baimo.core.call import Completion
from baimo.core.message import Tool, ToolCall
from baimo.core.run import Outcome
from baimo.core.task import Example
from baimo.evals.scorers.fields import Json
from baimo.evals.scorers.numeric import Numeric
from baimo.evals.scorers.overlap import TextOverlap
from baimo.evals.scorers.tool_calls import ToolCalls


def rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    yield from map(json.loads, data.decode("utf-8").splitlines())


def test_json_agrees_with_the_published_judgements_of_real_replies(shared_data: Path) -> None:
    """The published ones differ in less than one reply of a hundred: they compare numbers as text, and parse the first
    braces that pair up, counting also braces inside texts, without line breaks."""
    gold = {row["id"]: row["answer"] for row in rows(shared_data / "zeroeval_crux_prompts.jsonl")}
    scorer = Json(answer="answer", texts="unquoted")
    sample = random.Random(0)
    seen = agree = parsed = 0

    async def run() -> None:
        nonlocal seen, agree, parsed
        for row in rows(shared_data / "zeroeval_crux_replies.jsonl.gz"):
            if sample.random() >= 0.25:
                continue
            example = Example(id=row["id"], fields={}, target=gold[row["id"]])
            score = await scorer.score(example, Completion(text=row["reply"]))
            seen += 1
            agree += score.lenient == row["ok"]
            how = score.details["parsed"]
            valid = how in ("whole", "extracted") or score.details["repairs"] == ["line break"]
            parsed += valid == row["json_ok"]
            assert valid == row["json_ok"] or first_braces_parse(row["reply"]) == row["json_ok"], row["id"]
            assert score.strict == (score.lenient if how == "whole" else 0)

    asyncio.run(run())
    assert seen > 10_000
    assert agree / seen > 0.99
    assert parsed / seen > 0.985


def first_braces_parse(reply: str) -> bool:
    """The rule behind the published judgement of the form."""
    depth, start = 0, reply.find("{")
    for place in range(max(start, 0), len(reply)):
        depth += {"{": 1, "}": -1}.get(reply[place], 0)
        if reply[place] == "}" and depth == 0:
            try:
                return "answer" in json.loads(reply[start : place + 1].replace("\n", ""))
            except ValueError:
                return False
    return False


def test_numeric_reads_every_gsm8k_solution(shared_data: Path) -> None:
    scorer = Numeric(form="hashes")

    async def run() -> None:
        for row in rows(shared_data / "gsm8k_test.jsonl"):
            example = Example(id=row["id"], fields={}, target=row["answer"])
            score = await scorer.score(example, Completion(text=row["solution"]))
            assert score.outcome is Outcome.RIGHT, row["id"]

    asyncio.run(run())


def test_f1_of_a_reference_span_is_1_and_of_the_whole_passage_is_little(shared_data: Path) -> None:
    async def run() -> None:
        for number, row in enumerate(rows(shared_data / "cmrc2018_dev.jsonl.gz")):
            if number % 10:
                continue
            example = Example(id=row["id"], fields={}, target=row["answers"])
            for scorer in (TextOverlap(), TextOverlap(metric="span_f1"), TextOverlap(metric="rouge_l")):
                right = await scorer.score(example, Completion(text=row["answers"][-1]))
                passage = await scorer.score(example, Completion(text=row["context"]))
                assert right.lenient == 1
                assert passage.lenient is not None
                assert passage.lenient < 0.8, (scorer.metric, row["id"])

    asyncio.run(run())


def test_the_leaderboard_s_expected_calls_are_right_in_every_notation(shared_data: Path) -> None:
    scorer = ToolCalls(form="any")

    async def run() -> int:
        seen = 0
        for row in rows(shared_data / "bfcl_v4_live.jsonl.gz"):
            if not row.get("expected"):
                continue
            tools = tuple(Tool(name=tool["name"], parameters=tool["parameters"]) for tool in row["functions"])
            example = Example(id=row["id"], fields={}, target=row["expected"], tools=tools)
            required = {name for tool in row["functions"] for name in tool["parameters"].get("required", ())}
            calls = [perfect(call, required) for call in row["expected"]]
            native = tuple(ToolCall(id="", name=name, arguments=json.dumps(given)) for name, given in calls)
            as_text = json.dumps(
                [{"name": name, "arguments": given} for name, given in calls], ensure_ascii=False
            )
            as_code = ", ".join(
                f"{n}({', '.join(f'{k}={v!r}' for k, v in given.items())})" for n, given in calls
            )
            for completion in (
                Completion(text="", tool_calls=native),
                Completion(text=as_text),
                Completion(text=f"[{as_code}]"),
            ):
                score = await scorer.score(example, completion)
                assert score.lenient == 1, (row["id"], completion, score.explanation)
            renamed = (ToolCall(id="", name="another", arguments="{}"), *native[1:])
            assert (await scorer.score(example, Completion(text="", tool_calls=renamed))).lenient == 0
            seen += 1
        return seen

    assert asyncio.run(run()) > 1000


def perfect(call: dict[str, dict[str, list[Any]]], required: set[str]) -> tuple[str, dict[str, Any]]:
    """A call with the first accepted value of every argument that may not be left out."""
    ((name, arguments),) = call.items()
    return name, {
        key: first(options)
        for key, options in arguments.items()
        if options and (options[0] != "" or key in required)
    }


def first(options: Any) -> Any:
    value = options[0] if isinstance(options, list) else options
    if isinstance(value, dict):
        return {key: first(inner) for key, inner in value.items() if inner not in ([], [""])}
    return value
