"""Replacing and putting back, also in pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baimo.pii.find import KINDS
from baimo.pii.mask import LABELS, Masker
from tests.pii.labelled import cases

TEXTS = [case.text for half in ("development", "held_out", "hard") for case in cases(half)]
LETTER = "我叫张伟，电话13812345678，邮箱zhang@example.com。"
FRAGMENTS = st.lists(
    st.sampled_from(
        ["<EMAIL_1>", "<email 2>", "＜PHONE_1＞", "&lt;PERSON_1&gt;", "\\<ID_1\\>", "\\u003cTEXT_1\\u003e",
         "<", ">", "&", "\\", "_1>", "<PERSON", "13812345678", "a@example.com", "我叫张伟", " ", "<<",
         ">>", "\\u003", "x", "1", "\n"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


def streamed(masker: Masker, pieces: list[str], *, json: bool = False) -> str:
    stream = masker.unmasking(json=json)
    return "".join(map(stream.feed, pieces)) + stream.rest()


def test_every_kind_has_a_label_of_letters_only() -> None:
    assert set(LABELS) == {*KINDS, "quoted"}
    assert all(label.isalpha() and label.isupper() for label in LABELS.values())


def test_a_letter_reads_on_with_placeholders() -> None:
    assert Masker().mask(LETTER) == "我叫<PERSON_1>，电话<PHONE_1>，邮箱<EMAIL_1>。"


@given(st.sampled_from(TEXTS) | FRAGMENTS | st.text(max_size=80))
def test_what_was_masked_comes_back_to_the_letter(text: str) -> None:
    masker = Masker()
    assert masker.unmask(masker.mask(text)) == text


@given(st.lists(st.sampled_from(TEXTS) | FRAGMENTS, max_size=5))
def test_a_whole_conversation_comes_back(texts: list[str]) -> None:
    masker = Masker()
    earlier = [masker.mask(text) for text in texts[:2]]
    assert [masker.unmask(text) for text in (*earlier, *masker.mask_all(texts))] == [*texts[:2], *texts]


@pytest.mark.parametrize("text", TEXTS)
def test_every_single_cut_of_the_stream_gives_the_same(text: str) -> None:
    masker = Masker()
    masked = masker.mask(text)
    assert all(streamed(masker, [masked[:at], masked[at:]]) == text for at in range(len(masked) + 1))


def test_every_pair_of_cuts_and_single_characters_give_the_same() -> None:
    masker = Masker()
    masked = masker.mask("张伟&lt;EMAIL_1&gt;\\" + LETTER)
    whole = masker.unmask(masked)
    assert whole.endswith(LETTER)
    assert streamed(masker, list(masked)) == whole
    for first in range(len(masked)):
        for second in range(first, len(masked)):
            assert streamed(masker, [masked[:first], masked[first:second], masked[second:]]) == whole


WRITTEN = ["<PERSON_1>", "< person_1 >", "<Person 1>", "<PERSON\\_1>", "\\<PERSON\\_1\\>", "＜PERSON-1＞",
           "&lt;PERSON_1&gt;", "\\u003cPERSON_1\\u003E", "<phone_1>", "<PERSON_01>"]  # fmt: skip
UNKNOWN = [
    "<PERSON_2>",
    "<b>",
    "PERSON_1",
    "<PERSON>",
    "<PERSON_>",
    "< >",
    "&lt;p&gt;",
    "\\u003c",
    "<IBAN_1>",
    "a < b > c",
    "\\<PERSON_1",
]


@given(st.lists(st.sampled_from([*WRITTEN, *UNKNOWN, "，", "Hi ", "<", "&", "\\"]), max_size=8), st.data())
@settings(max_examples=300)
def test_any_pieces_of_what_a_model_may_write_give_the_same(parts: list[str], data: st.DataObject) -> None:
    masker = Masker()
    masker.mask(LETTER)
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert streamed(masker, pieces) == masker.unmask(text)


@pytest.mark.parametrize("written", WRITTEN)
def test_small_changes_inside_a_placeholder_do_no_harm(written: str) -> None:
    masker = Masker()
    masker.mask(LETTER)
    assert masker.unmask(f"Dear {written}!") in ("Dear 张伟!", "Dear 13812345678!")


@pytest.mark.parametrize("written", UNKNOWN)
def test_what_is_no_placeholder_of_ours_stays(written: str) -> None:
    masker = Masker()
    masker.mask(LETTER)
    assert masker.unmask(written) == written


def test_text_that_cannot_be_a_placeholder_is_not_held_back() -> None:
    masker = Masker()
    masker.mask(LETTER)
    stream = masker.unmasking()
    assert stream.feed("Hello, 1 < 2 and <b>bold</b> a<x ") == "Hello, 1 < 2 and <b>bold</b> a<x "
    assert stream.feed("see <EM") == "see "
    assert stream.feed("ile>") == "<EMile>"
    assert stream.feed("mail <EMAIL_1") == "mail "
    assert stream.feed("> ok") == "zhang@example.com ok"
    assert stream.feed("<PERSON_1") == ""
    assert stream.rest() == "<PERSON_1"
    assert stream.rest() == ""


def test_nothing_masked_means_nothing_held() -> None:
    stream = Masker().unmasking()
    assert [stream.feed(piece) for piece in ("<", "&", "\\")] == ["<", "&", "\\"]


def test_equal_values_share_a_placeholder_and_others_do_not() -> None:
    masker = Masker()
    first = masker.mask("a@example.com b@example.com a@example.com")
    assert first == "<EMAIL_1> <EMAIL_2> <EMAIL_1>"
    assert masker.mask("b@example.com") == "<EMAIL_2>"
    assert masker.counts == {"email": 4}


def test_a_name_introduced_in_the_last_message_is_masked_in_the_first() -> None:
    masker = Masker()
    assert masker.mask_all(["韩梅昨天来过", "我叫韩梅"]) == ["<PERSON_1>昨天来过", "我叫<PERSON_1>"]
    assert masker.mask("韩梅又来了") == "<PERSON_1>又来了"


def test_a_longer_conversation_keeps_the_placeholders_of_its_beginning() -> None:
    history = [LETTER, "我的朋友叫李雷", "发给b@example.com"]
    assert Masker().mask_all(history[:2]) == Masker().mask_all(history)[:2]


def test_a_placeholder_that_stood_in_the_prompt_is_not_taken_for_ours() -> None:
    masker = Masker()
    masked = masker.mask("Fill in <EMAIL_1>; mine is a@example.com")
    assert masked == "Fill in <TEXT_1>; mine is <EMAIL_1>"
    assert masker.unmask(masked) == "Fill in <EMAIL_1>; mine is a@example.com"


def test_values_are_escaped_inside_json() -> None:
    masker = Masker()
    secret = 'a"b\\c\td🙂'
    masked = masker.mask(f"password: `{secret}`")
    assert masked == "password: `<SECRET_1>`"
    arguments = '{"secret": "<SECRET_1>", "again": "\\u003cSECRET_1\\u003e"}'
    assert json.loads(masker.unmask(arguments, json=True)) == {"secret": secret, "again": secret}
    for at in range(len(arguments)):
        whole = streamed(masker, [arguments[:at], arguments[at:]], json=True)
        assert json.loads(whole) == {"secret": secret, "again": secret}


def test_nothing_that_can_be_printed_shows_a_value() -> None:
    masker = Masker()
    masker.mask(LETTER)
    stream = masker.unmasking()
    stream.feed("<PERS")
    shown = f"{masker!r} {masker} {stream!r} {masker.counts} {masker.labels()}"
    assert not any(value in shown for value in ("张伟", "13812345678", "zhang@example.com"))
    assert not hasattr(masker, "__dict__")


def test_only_the_wanted_kinds_are_replaced() -> None:
    assert Masker(["email"]).mask(LETTER) == "我叫张伟，电话13812345678，邮箱<EMAIL_1>。"
