"""Personal data is replaced in everything that is learnt, once, and consistently within a row."""

from __future__ import annotations

import json

import pytest

from baimo.core.message import ToolCall
from baimo.core.tuning import Row
from baimo.tuning.data.personal import PersonalData
from tests.pii import labelled
from tests.tuning.data.rows import row, said

MAIL = "li.wei@example.com"


def test_a_value_has_one_placeholder_in_the_whole_row() -> None:
    call = ToolCall(id="c", name="send", arguments=json.dumps({"to": MAIL, "count": 2}))
    messages = (
        said("system", f"Mail goes to {MAIL}."),
        said("user", f"Write to {MAIL} and to wang@example.com"),
        said("assistant", tool_calls=(call,)),
    )
    whole = Row(messages=messages, rejected=(said("assistant", f"no, {MAIL}"),), item={"to": [MAIL]})
    masked, counts = PersonalData().masked(whole)
    assert MAIL not in repr(masked)
    assert "wang" not in repr(masked)
    assert [one.content for one in masked.messages[:2]] == [
        "Mail goes to <EMAIL_1>.",
        "Write to <EMAIL_1> and to <EMAIL_2>",
    ]
    assert json.loads(masked.messages[2].tool_calls[0].arguments) == {"to": "<EMAIL_1>", "count": 2}
    assert (masked.rejected[0].content, masked.item) == ("no, <EMAIL_1>", {"to": ["<EMAIL_1>"]})
    assert counts == {"email": 6}


def test_placeholders_that_stand_there_already_are_left_and_not_used_again() -> None:
    masked, _ = PersonalData().masked(row(f"<EMAIL_1> knows {MAIL}"))
    assert masked.messages[0].content == "<EMAIL_1> knows <EMAIL_2>"


def test_only_the_kinds_that_are_asked_for_are_replaced() -> None:
    masked, counts = PersonalData(["phone"]).masked(row(f"{MAIL}, +1 415 555 2671"))
    assert (masked.messages[0].content, counts) == (f"{MAIL}, <PHONE_1>", {"phone": 1})


def test_a_row_without_personal_data_stays_the_same_object() -> None:
    whole = row("turn on the light", "ok")
    assert PersonalData().masked(whole)[0] is whole


@pytest.mark.parametrize("half", labelled.SETS)
def test_masking_twice_is_masking_once_and_a_check_finds_nothing_more(half: str) -> None:
    personal = PersonalData()
    for case in labelled.cases(half):
        once, _ = personal.masked(row(case.text, "ok"))
        twice, counts = personal.masked(once)
        assert twice is once, case.name
        assert not counts
        assert not personal.kinds_in(once), case.name
