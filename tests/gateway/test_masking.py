"""What is replaced in a request that goes outside, and put back."""

from __future__ import annotations

import json

import pytest

from baimo.core.call import JsonFormat, Request, Sampling
from baimo.core.message import Message, Part, Tool, ToolCall
from baimo.gateway.masking import calls_unmasked, masked
from baimo.pii.mask import Masker

MAIL = "wang.fang@example.com"


def asking(**facts: object) -> Request:
    return Request(**{"model": "m", "messages": (Message(role="user", content="hello"),), **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "request_",
    [
        asking(extra={"user": MAIL}),
        asking(extra={"prediction": {"type": "content", "content": [{"text": f"mail {MAIL}"}]}}),
        asking(sampling=Sampling(stop=(MAIL,))),
        asking(tools=(Tool(name="f", description=f"mails {MAIL}", parameters=None),)),
        asking(tools=(Tool(name="f", description="", parameters={"properties": {"to": {"enum": [MAIL]}}}),)),
        asking(response_format=JsonFormat(schema={"const": MAIL})),
        asking(messages=(Message(role="user", content=(Part(kind="text", data=MAIL),)),)),
        asking(messages=(Message(role="user", content="hello", name=MAIL),)),
    ],
    ids=["user", "prediction", "stop", "tool", "schema of a tool", "schema", "part", "name"],
)
def test_personal_data_leaves_by_no_side_door(request_: Request) -> None:
    assert MAIL in repr(request_)
    assert MAIL not in repr(masked(request_, Masker()))


@pytest.mark.parametrize("escaped", [True, False])
def test_arguments_are_masked_as_the_texts_that_they_stand_for(escaped: bool) -> None:
    said = {"note": '姓名：张伟\n电话 138 1234 5678 "now"', "count": 2}
    call = ToolCall(id="c", name="f", arguments=json.dumps(said, ensure_ascii=escaped))
    masker = Masker()
    (turn,) = masked(
        asking(messages=(Message(role="assistant", content="", tool_calls=(call,)),)), masker
    ).messages
    (gone,) = turn.tool_calls
    assert "138" not in gone.arguments
    assert "张伟" not in json.loads(gone.arguments)["note"]
    (back,) = calls_unmasked([gone], masker)
    assert json.loads(back.arguments) == said


def test_a_password_in_arguments_is_recognised_by_its_name() -> None:
    call = ToolCall(id="c", name="f", arguments='{"password": "Tr0ub4dor&3xyz"}')
    turns = (
        Message(role="user", content="log me in"),
        Message(role="assistant", content="", tool_calls=(call,)),
    )
    assert "Tr0ub4dor" not in repr(masked(asking(messages=turns), Masker()))


def test_arguments_without_personal_data_keep_their_bytes() -> None:
    call = ToolCall(id="c", name="f", arguments='{"a":1.10,  "b":"x"}')
    (turn,) = masked(
        asking(messages=(Message(role="assistant", content="", tool_calls=(call,)),)), Masker()
    ).messages
    assert turn.tool_calls == (call,)


def test_arguments_that_are_no_json_are_masked_as_text() -> None:
    call = ToolCall(id="c", name="f", arguments=f'{{"to": "{MAIL}')
    (turn,) = masked(
        asking(messages=(Message(role="assistant", content="", tool_calls=(call,)),)), Masker()
    ).messages
    assert MAIL not in turn.tool_calls[0].arguments


def test_a_name_without_personal_data_stays() -> None:
    (turn,) = masked(asking(messages=(Message(role="user", content="x", name="tester"),)), Masker()).messages
    assert turn.name == "tester"
