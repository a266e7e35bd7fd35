"""What a program does with an official SDK, and what it may rely on whatever model answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anthropic
import openai

from tests.upstream_answers import SOUND

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
QUESTION = "What is the weather in Bern?"


@dataclass
class Clients:
    """Both SDKs, with nothing changed but base_url and key."""

    openai: openai.OpenAI
    anthropic: anthropic.Anthropic


Scenario = Callable[[Clients, str, bool], Any]
"""Given the clients, a model, and whether it says what the tests' upstream says; asserts what holds."""
_TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "description": "Weather of a city", "parameters": SCHEMA},
}
_FORCED: Any = {"type": "function", "function": {"name": "weather"}}
_USER: Any = [{"role": "user", "content": QUESTION}]


def _echoed(text: str | None, scripted: bool, wish: str = QUESTION) -> None:
    assert text
    if scripted:
        assert text in (f"echo: {wish}", "The quick brown fox jumps."), text


def _city(arguments: str | Any) -> None:
    row = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert set(row) == {"city"}, arguments
    assert isinstance(row["city"], str)


def chat_whole(clients: Clients, model: str, scripted: bool) -> None:
    answer = clients.openai.chat.completions.create(model=model, messages=_USER, max_tokens=30)
    assert answer.object == "chat.completion"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None and answer.usage.total_tokens > 0
    _echoed(answer.choices[0].message.content, scripted)


def chat_stream(clients: Clients, model: str, scripted: bool) -> None:
    options: Any = {"include_usage": True}
    stream = clients.openai.chat.completions.create(
        model=model, messages=_USER, max_tokens=30, stream=True, stream_options=options
    )
    chunks = list(stream)
    _echoed("".join(one.choices[0].delta.content or "" for one in chunks if one.choices), scripted)
    assert [one.choices[0].finish_reason for one in chunks if one.choices][-1] in ("stop", "length")
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 0


def chat_tools(clients: Clients, model: str, scripted: bool) -> None:
    asked = clients.openai.chat.completions.create(
        model=model, messages=_USER, tools=[_TOOL], tool_choice=_FORCED, max_tokens=60
    )
    choice = asked.choices[0]
    assert choice.message.tool_calls
    (call,) = choice.message.tool_calls
    assert call.type == "function" and call.function.name == "weather"
    _city(call.function.arguments)
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "11 degrees"}
    told = clients.openai.chat.completions.create(
        model=model, messages=[*_USER, choice.message, result], tools=[_TOOL], max_tokens=30
    )
    _echoed(told.choices[0].message.content, scripted, "11 degrees")


def chat_tools_streamed(clients: Clients, model: str, scripted: bool) -> None:
    with clients.openai.chat.completions.stream(
        model=model, messages=_USER, tools=[_TOOL], tool_choice=_FORCED, max_tokens=60
    ) as stream:
        answer = stream.get_final_completion()
    assert answer.choices[0].message.tool_calls
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "weather"
    _city(call.function.arguments)
    assert answer.choices[0].finish_reason in ("tool_calls", "stop")


def chat_schema(clients: Clients, model: str, scripted: bool) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
    answer = clients.openai.chat.completions.create(
        model=model, messages=_USER, response_format=form, max_tokens=60
    )
    _city(answer.choices[0].message.content or "")


def chat_n(clients: Clients, model: str, scripted: bool) -> None:
    answer = clients.openai.chat.completions.create(model=model, messages=_USER, n=3, max_tokens=8)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        _echoed(choice.message.content, scripted)


def chat_n_streamed(clients: Clients, model: str, scripted: bool) -> None:
    texts = ["", ""]
    for chunk in clients.openai.chat.completions.create(
        model=model, messages=_USER, n=2, max_tokens=8, stream=True
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    for text in texts:
        _echoed(text, scripted)


def chat_logprobs(clients: Clients, model: str, scripted: bool) -> bool:
    answer = clients.openai.chat.completions.create(
        model=model, messages=_USER, logprobs=True, top_logprobs=2, max_tokens=4
    )
    logprobs = answer.choices[0].logprobs
    if logprobs is None:
        return False
    assert logprobs.content and logprobs.content[0].logprob <= 0
    assert logprobs.content[0].top_logprobs
    return True


def chat_vision(clients: Clients, model: str, scripted: bool) -> None:
    parts: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
    ]
    answer = clients.openai.chat.completions.create(
        model=model, messages=[{"role": "user", "content": parts}], max_tokens=8
    )
    assert answer.choices[0].message.content == "echo: What is this? [1 pictures]"


def completions_whole(clients: Clients, model: str, scripted: bool) -> None:
    answer = clients.openai.completions.create(model=model, prompt=QUESTION, max_tokens=30)
    assert answer.object == "text_completion"
    assert answer.usage is not None and answer.usage.prompt_tokens > 0
    _echoed(answer.choices[0].text, scripted)


def completions_stream(clients: Clients, model: str, scripted: bool) -> None:
    stream = clients.openai.completions.create(model=model, prompt=QUESTION, max_tokens=30, stream=True)
    _echoed("".join(one.choices[0].text for one in stream if one.choices), scripted)


def completions_n(clients: Clients, model: str, scripted: bool) -> None:
    answer = clients.openai.completions.create(model=model, prompt=QUESTION, n=2, max_tokens=8)
    assert [choice.index for choice in answer.choices] == [0, 1]


def completions_logprobs(clients: Clients, model: str, scripted: bool) -> bool:
    answer = clients.openai.completions.create(model=model, prompt=QUESTION, logprobs=1, max_tokens=4)
    logprobs = answer.choices[0].logprobs
    if logprobs is None:
        return False
    assert logprobs.tokens and logprobs.token_logprobs and logprobs.token_logprobs[0] <= 0
    return True


_RESPONSES_TOOL: Any = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
_RESPONSES_FORCED: Any = {"type": "function", "name": "weather"}


def responses_whole(clients: Clients, model: str, scripted: bool) -> None:
    answer = clients.openai.responses.create(model=model, input=QUESTION, max_output_tokens=30)
    assert answer.status in ("completed", "incomplete")
    assert answer.usage is not None and answer.usage.total_tokens > 0
    _echoed(answer.output_text, scripted)


def responses_stream(clients: Clients, model: str, scripted: bool) -> None:
    with clients.openai.responses.stream(model=model, input=QUESTION, max_output_tokens=30) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_response() if "response.completed" in kinds else None
    assert kinds[0] == "response.created"
    assert kinds[-1] in ("response.completed", "response.incomplete")
    if answer is not None:
        _echoed(answer.output_text, scripted)


def responses_tools(clients: Clients, model: str, scripted: bool) -> None:
    asked = clients.openai.responses.create(
        model=model,
        input=QUESTION,
        tools=[_RESPONSES_TOOL],
        tool_choice=_RESPONSES_FORCED,
        max_output_tokens=60,
    )
    (call,) = [item for item in asked.output if item.type == "function_call"]
    assert call.name == "weather"
    _city(call.arguments)
    turns: Any = [{"role": "user", "content": QUESTION}, call.model_dump(exclude_none=True)]
    turns.append({"type": "function_call_output", "call_id": call.call_id, "output": "11 degrees"})
    told = clients.openai.responses.create(
        model=model, input=turns, tools=[_RESPONSES_TOOL], max_output_tokens=30
    )
    _echoed(told.output_text, scripted, "11 degrees")


def responses_tools_streamed(clients: Clients, model: str, scripted: bool) -> None:
    with clients.openai.responses.stream(
        model=model,
        input=QUESTION,
        tools=[_RESPONSES_TOOL],
        tool_choice=_RESPONSES_FORCED,
        max_output_tokens=60,
    ) as stream:
        kinds = {event.type for event in stream}
        answer = stream.get_final_response()
    assert "response.function_call_arguments.done" in kinds
    (call,) = [item for item in answer.output if item.type == "function_call"]
    _city(call.arguments)


def responses_schema(clients: Clients, model: str, scripted: bool) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}}
    answer = clients.openai.responses.create(model=model, input=QUESTION, text=form, max_output_tokens=60)
    _city(answer.output_text)


def responses_logprobs(clients: Clients, model: str, scripted: bool) -> bool:
    answer = clients.openai.responses.create(
        model=model,
        input=QUESTION,
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        max_output_tokens=16,
    )
    part: Any = next(item for item in answer.output if item.type == "message").content[0]
    return bool(part.logprobs)


def responses_vision(clients: Clients, model: str, scripted: bool) -> None:
    parts: Any = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}", "detail": "auto"},
    ]
    turns: Any = [{"role": "user", "content": parts}]
    answer = clients.openai.responses.create(model=model, input=turns, max_output_tokens=16)
    assert answer.output_text == "echo: What is this? [1 pictures]"


def responses_previous(clients: Clients, model: str, scripted: bool) -> None:
    first = clients.openai.responses.create(model=model, input="My name is Ada.", max_output_tokens=16)
    second = clients.openai.responses.create(
        model=model, input="And now?", previous_response_id=first.id, max_output_tokens=16
    )
    assert second.previous_response_id == first.id
    _echoed(second.output_text, scripted, "And now?")


_MESSAGES_TOOL: Any = {"name": "weather", "description": "Weather of a city", "input_schema": SCHEMA}
_MESSAGES_FORCED: Any = {"type": "tool", "name": "weather"}


def messages_whole(clients: Clients, model: str, scripted: bool) -> None:
    answer = clients.anthropic.messages.create(model=model, messages=_USER, max_tokens=30)
    assert answer.type == "message"
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.usage.output_tokens > 0
    block = answer.content[0]
    assert block.type == "text"
    _echoed(block.text, scripted)


def messages_stream(clients: Clients, model: str, scripted: bool) -> None:
    with clients.anthropic.messages.stream(model=model, messages=_USER, max_tokens=30) as stream:
        text = "".join(stream.text_stream)
        answer = stream.get_final_message()
    _echoed(text, scripted)
    assert answer.usage.output_tokens > 0


def messages_tools(clients: Clients, model: str, scripted: bool) -> None:
    asked = clients.anthropic.messages.create(
        model=model, messages=_USER, tools=[_MESSAGES_TOOL], tool_choice=_MESSAGES_FORCED, max_tokens=60
    )
    assert asked.stop_reason == "tool_use"
    (call,) = [block for block in asked.content if block.type == "tool_use"]
    _city(call.input)
    said: Any = {"role": "assistant", "content": [block.model_dump() for block in asked.content]}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "11 degrees"}
    turns: Any = [*_USER, said, {"role": "user", "content": [result]}]
    told = clients.anthropic.messages.create(
        model=model, messages=turns, tools=[_MESSAGES_TOOL], max_tokens=30
    )
    block = told.content[0]
    if scripted:
        assert block.type == "text"
        _echoed(block.text, scripted, "11 degrees")


def messages_tools_streamed(clients: Clients, model: str, scripted: bool) -> None:
    with clients.anthropic.messages.stream(
        model=model, messages=_USER, tools=[_MESSAGES_TOOL], tool_choice=_MESSAGES_FORCED, max_tokens=60
    ) as stream:
        answer = stream.get_final_message()
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    assert call.name == "weather"
    _city(call.input)


def messages_schema(clients: Clients, model: str, scripted: bool) -> None:
    form: Any = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = clients.anthropic.messages.create(model=model, messages=_USER, output_config=form, max_tokens=60)
    block = answer.content[0]
    assert block.type == "text"
    _city(block.text)


def messages_vision(clients: Clients, model: str, scripted: bool) -> None:
    parts: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
    ]
    answer = clients.anthropic.messages.create(
        model=model, messages=[{"role": "user", "content": parts}], max_tokens=8
    )
    block = answer.content[0]
    assert block.type == "text" and block.text == "echo: What is this? [1 pictures]"


def count_tokens(clients: Clients, model: str, scripted: bool) -> None:
    assert clients.anthropic.messages.count_tokens(model=model, messages=_USER).input_tokens > 0


def embeddings(clients: Clients, model: str, scripted: bool) -> None:
    answer = clients.openai.embeddings.create(model=model, input=["a", "b"], encoding_format="float")
    assert [one.index for one in answer.data] == [0, 1]
    assert answer.usage.prompt_tokens > 0


def rerank(clients: Clients, model: str, scripted: bool) -> None:
    body = {"model": model, "query": "which?", "documents": ["a", "b"]}
    answer = clients.openai.post("/rerank", body=body, cast_to=object)
    assert isinstance(answer, dict) and len(answer["results"]) == 2


def moderations(clients: Clients, model: str, scripted: bool) -> None:
    assert clients.openai.moderations.create(model=model, input="something bad").results[0].flagged


def transcriptions(clients: Clients, model: str, scripted: bool) -> None:
    sound = ("speech.wav", b"RIFF....", "audio/wav")
    assert clients.openai.audio.transcriptions.create(model=model, file=sound).text == "what was heard"


def transcriptions_stream(clients: Clients, model: str, scripted: bool) -> None:
    sound = ("speech.wav", b"RIFF....", "audio/wav")
    events = list(clients.openai.audio.transcriptions.create(model=model, file=sound, stream=True))
    assert events[-1].type == "transcript.text.done"


def speech(clients: Clients, model: str, scripted: bool) -> None:
    assert clients.openai.audio.speech.create(model=model, input="hello", voice="alloy").read() == SOUND


def speech_stream(clients: Clients, model: str, scripted: bool) -> None:
    with clients.openai.audio.speech.with_streaming_response.create(
        model=model, input="hello", voice="alloy", stream_format="sse"
    ) as answer:
        assert b"speech.audio.done" in answer.read()


def images(clients: Clients, model: str, scripted: bool) -> None:
    answer = clients.openai.images.generate(model=model, prompt="a cat")
    assert answer.data and answer.data[0].b64_json


def images_stream(clients: Clients, model: str, scripted: bool) -> None:
    events = list(clients.openai.images.generate(model=model, prompt="a cat", stream=True))
    assert events[-1].type == "image_generation.completed"


def images_n(clients: Clients, model: str, scripted: bool) -> None:
    assert len(clients.openai.images.generate(model=model, prompt="a cat", n=2).data or ()) == 2


SCENARIOS: dict[tuple[str, str], Scenario] = {
    ("chat", "whole"): chat_whole,
    ("chat", "stream"): chat_stream,
    ("chat", "tools"): chat_tools,
    ("chat", "tools streamed"): chat_tools_streamed,
    ("chat", "schema"): chat_schema,
    ("chat", "n"): chat_n,
    ("chat", "n streamed"): chat_n_streamed,
    ("chat", "logprobs"): chat_logprobs,
    ("chat", "vision"): chat_vision,
    ("completions", "whole"): completions_whole,
    ("completions", "stream"): completions_stream,
    ("completions", "n"): completions_n,
    ("completions", "logprobs"): completions_logprobs,
    ("responses", "whole"): responses_whole,
    ("responses", "stream"): responses_stream,
    ("responses", "tools"): responses_tools,
    ("responses", "tools streamed"): responses_tools_streamed,
    ("responses", "schema"): responses_schema,
    ("responses", "logprobs"): responses_logprobs,
    ("responses", "vision"): responses_vision,
    ("responses", "previous_response_id"): responses_previous,
    ("messages", "whole"): messages_whole,
    ("messages", "stream"): messages_stream,
    ("messages", "tools"): messages_tools,
    ("messages", "tools streamed"): messages_tools_streamed,
    ("messages", "schema"): messages_schema,
    ("messages", "vision"): messages_vision,
    ("count_tokens", "whole"): count_tokens,
    ("embeddings", "whole"): embeddings,
    ("rerank", "whole"): rerank,
    ("moderations", "whole"): moderations,
    ("transcriptions", "whole"): transcriptions,
    ("transcriptions", "stream"): transcriptions_stream,
    ("speech", "whole"): speech,
    ("speech", "stream"): speech_stream,
    ("images", "whole"): images,
    ("images", "stream"): images_stream,
    ("images", "n"): images_n,
}
