"""An endpoint with a scripted model and judge for evaluations; the SDK's own types are the measure of its answers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from typing import Any, TypeVar

from pydantic import BaseModel

from baimo.core.call import Completion, Request, Usage
from baimo.core.message import ToolCall
from baimo.providers.fake import last_user_text
from tests.server.served import Said, Served
from tests.waiting import PATIENCE_S

TOML = """
[providers.acme]
protocol = "fake"
inside = true
concurrency = 8
[providers.acme.options]
function = "tests.server.evaluated:answer"
[models."acme/small"]
input_per_million = 1.0
output_per_million = 2.0
[models."acme/judge"]
input_per_million = 1.0
output_per_million = 2.0
[routes.fast]
models = ["acme/small"]
"""
ASKED: Counter[str] = Counter()
"""What the script was asked, by the last user message."""
HOLD = threading.Event()
"""Clear it, and questions that begin with `hold` wait."""
HOLD.set()
ITEM = {"type": "object", "properties": {"q": {"type": "string"}, "a": {}}, "required": ["q"]}
CUSTOM = {"type": "custom", "item_schema": ITEM, "include_sample_schema": True}
CHECK = {
    "type": "string_check",
    "name": "right",
    "input": "{{sample.output_text}}",
    "reference": "{{item.a}}",
    "operation": "eq",
}
ASK = {"type": "template", "template": [{"role": "user", "content": "{{item.q}}"}]}
ENDED = ("completed", "failed", "canceled")
Model = TypeVar("Model", bound=BaseModel)


async def answer(request: Request) -> Completion:
    """A judge gives half of its range; everybody else says the question's last word."""
    question = last_user_text(request)
    ASKED[question] += 1
    usage = Usage(tokens_in=10, tokens_out=2, tokens_cached=4)
    for _ in range(2000 if question.startswith("hold") else 0):
        if HOLD.is_set():
            break
        await asyncio.sleep(0.01)
    if request.response_format is not None and request.response_format.name in ("score", "label"):
        result: Any = "good" if request.response_format.name == "label" else 0.5
        return Completion(text=json.dumps({"result": result, "steps": []}), usage=usage, finish_reason="stop")
    if question.startswith("call"):
        call = ToolCall(id="call_1", name="lights", arguments='{"on": true}')
        return Completion(text="", tool_calls=(call,), usage=usage, finish_reason="tool_calls")
    return Completion(
        text=question.split()[-1] if question.split() else "", usage=usage, finish_reason="stop"
    )


def made(house: Served, key: str, criteria: list[Any] | None = None, **facts: Any) -> str:
    """The id of a new evaluation."""
    body = {"name": "words", "data_source_config": CUSTOM, "testing_criteria": criteria or [CHECK], **facts}
    said = house.call("POST", "/v1/evals", key, body)
    assert said.status == 201, said.body
    return str(said.data["id"])


def completions(rows: list[Any], **facts: Any) -> dict[str, Any]:
    """A data source whose model answers these rows."""
    source = {"type": "file_content", "content": [{"item": row} for row in rows]}
    return {"type": "completions", "model": "acme/small", "source": source, "input_messages": ASK, **facts}


def ordered(house: Served, key: str, evaluation: str, source: dict[str, Any], **facts: Any) -> str:
    """The id of a new run."""
    body = {"name": "first", "data_source": source, **facts}
    said = house.call("POST", f"/v1/evals/{evaluation}/runs", key, body)
    assert said.status == 201, said.body
    return str(said.data["id"])


def ended(house: Served, key: str, evaluation: str, run: str) -> Any:
    """The run, once it has ended."""
    until = time.monotonic() + PATIENCE_S
    while True:
        said = house.call("GET", f"/v1/evals/{evaluation}/runs/{run}", key)
        if said.data["status"] in ENDED:
            return said.data
        assert time.monotonic() < until, said.body
        time.sleep(0.02)


def items(house: Served, key: str, evaluation: str, run: str, query: str = "limit=100") -> list[Any]:
    """Its output items."""
    return list(
        house.call("GET", f"/v1/evals/{evaluation}/runs/{run}/output_items?{query}", key).data["data"]
    )


def evaluated(
    house: Served, key: str, source: dict[str, Any], criteria: list[Any] | None = None, **facts: Any
) -> tuple[Any, list[Any]]:
    """A run to its end, and its output items."""
    evaluation = made(house, key, criteria, **facts)
    run = ordered(house, key, evaluation, source)
    return ended(house, key, evaluation, run), items(house, key, evaluation, run)


def strictly(model: type[Model], said: Said | bytes | dict[str, Any]) -> Model:
    """The answer as the SDK's type, with nothing missing and nothing of another type."""
    body = said.body if isinstance(said, Said) else json.dumps(said) if isinstance(said, dict) else said
    return model.model_validate_json(body, strict=True)


def refused(said: Said, status: int, param: str | None, *words: str) -> None:
    """It is a refusal as OpenAI's API has them."""
    assert said.status == status, said.body
    error = said.data["error"]
    assert error["param"] == param, error
    assert {"message", "type", "param", "code"} <= error.keys()
    for word in words:
        assert word in error["message"], error
