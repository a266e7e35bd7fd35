from __future__ import annotations

import asyncio
import fnmatch
import re

import pytest

from baimo.text import has, language, room, speak, text
from tests.catalogue import FAMILIES, ROOMS, is_used, messages, placeholders, told, uses

HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "zh_TW"}, "zh"),
        ({"LC_MESSAGES": "zh_CN", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LC_ALL": "zh_CN", "BAIMO_LANG": "en"}, "en"),
        ({"LANG": "en_US", "BAIMO_LANG": "ZH"}, "zh"),
        ({"BAIMO_LANG": "", "LANG": "zh_HK"}, "zh"),
    ],
)
def test_the_language_is_that_of_the_strongest_variable(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BAIMO_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language() == expected


def test_a_message_is_filled_in_and_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert text("cli.error", message="x {y}") == "error: x {y}"
    monkeypatch.setenv("BAIMO_LANG", "zh")
    assert text("cli.error", message="x").startswith("错误")


def test_an_unknown_message_is_a_fault_of_the_program() -> None:
    assert not has("cli.no_such_message")
    assert not has("no_such_room.message")
    for key in ("cli.no_such_message", "no_such_room.message", "error"):
        with pytest.raises(KeyError):
            text(key)


def test_a_placeholder_without_a_fact_is_a_fault_of_the_program() -> None:
    with pytest.raises(KeyError, match="message"):
        text("cli.error", other=1)


# the catalogue as a whole


@pytest.mark.parametrize("name", ROOMS)
def test_both_languages_hold_the_same_messages_in_the_same_order(name: str) -> None:
    assert list(room(name, "zh")) == list(room(name, "en"))


@pytest.mark.parametrize("name", ROOMS)
def test_a_message_and_its_translation_name_the_same_facts(name: str) -> None:
    named = ({key: placeholders(said) for key, said in room(name, locale).items()} for locale in ("zh", "en"))
    assert next(named) == next(named)


def test_english_is_english() -> None:
    # the one Chinese word is the product's own name
    assert {key for key, message in messages("en").items() if HAN.search(message)} <= {
        "cli.about",
        "report.brand",
    }


WITHOUT_WORDS = re.compile(r"(\{[^{}]*\}|[^A-Za-z]|USD|sha256|Markdown)*")


def test_chinese_is_chinese() -> None:
    without = {key for key, message in messages("zh").items() if not HAN.search(message)}
    wordy = {key for key in without if not WITHOUT_WORDS.fullmatch(messages("zh")[key])}
    assert wordy == {"scorers.code_broken"} & wordy


def test_every_message_that_the_source_names_exists() -> None:
    missing = [use for use in uses() if "*" not in use.key and use.key not in messages("en")]
    assert missing == []
    assert [one for one in told() if one.key not in messages("en")] == []


def test_every_computed_key_belongs_to_a_declared_family_that_has_members() -> None:
    for use in uses():
        if "*" in use.key:
            assert use.key in FAMILIES, use
            assert fnmatch.filter(messages("en"), use.key), use


def test_no_message_is_left_over() -> None:
    assert [key for key in messages("en") if not is_used(key)] == []


def test_every_message_is_told_with_the_facts_that_it_names() -> None:
    lacking = {
        one.place: missing
        for one in told()
        if not one.open
        for key in (one.key, f"{one.key}_hint")
        if (missing := placeholders(messages("en").get(key, "")) - one.facts)
    }
    assert lacking == {}


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_no_message_begins_or_ends_in_a_space_by_mistake(locale: str) -> None:
    # sentences of the report are joined to running text, so some of them carry their own space
    loose = {key for key, message in messages(locale).items() if message != message.strip()}
    assert {key for key in loose if not key.startswith("report.")} <= {"cli.hint", "cli.more_places"}


def test_every_error_says_what_to_do_next() -> None:
    silent = {one.key for one in told() if one.error and f"{one.key}_hint" not in messages("en")}
    assert silent == set()


HALF_WIDTH = re.compile(r"[\u4e00-\u9fff][,;:!?]|[,;!?][\u4e00-\u9fff]")
BROKEN_SYNTAX = re.compile(
    r"\b(?:pypi|hf|modelscope|env|file|https?)\uff1a|`[^`]*[\uff0c\uff1a\uff08\uff09][^`]*`"
)


def test_chinese_is_punctuated_as_chinese_and_what_is_to_be_typed_is_not() -> None:
    assert {key: one for key, one in messages("zh").items() if HALF_WIDTH.search(one)} == {}
    assert {key: one for key, one in messages("zh").items() if BROKEN_SYNTAX.search(one)} == {}


def test_one_task_may_speak_another_language_than_the_rest() -> None:
    async def spoken(locale: str) -> str:
        speak(locale)
        await asyncio.sleep(0)
        return language()

    async def both() -> list[str]:
        return list(await asyncio.gather(spoken("zh"), spoken("")))

    assert asyncio.run(both()) == ["zh", "en"]
    assert language() == "en"
