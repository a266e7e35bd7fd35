"""What `found` promises beyond single cases."""

from __future__ import annotations

import json
import re
import sys
from itertools import pairwise
from re import _constants, _parser  # pyright: ignore[reportAttributeAccessIssue]
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.pii import (
    chinese_names,
    columns,
    context,
    credentials,
    english_names,
    mask,
    network,
    numbers,
    phones,
    places,
)
from baimo.pii.find import KINDS, found, found_in_all
from tests.pii import values
from tests.pii.labelled import cases
from tests.pii.test_checks import BIRTHDAYS, CODES, ORDERS, REGIONS

TEXTS = [case.text for half in ("development", "held_out", "hard") for case in cases(half)]
FRAMES = st.sampled_from(
    ["{}", "号码：{}。", "see {}, please", "({})", "「{}」已登记", '{{"n": "{}"}}', "a\n{}\nb"]
)


def only(text: str) -> tuple[str, str]:
    """Kind and value of the one finding."""
    (finding,) = found(text)
    return finding.kind, finding.text


def grouped(digits: str, separator: str) -> str:
    return separator.join(digits[at : at + 4] for at in range(0, len(digits), 4))


def wide(text: str) -> str:
    return "".join(
        chr(ord(character) + 0xFEE0) if "!" <= character <= "~" else character for character in text
    )


@given(FRAMES, REGIONS.filter(lambda region: region < "8"), BIRTHDAYS, ORDERS, st.booleans())
def test_every_valid_identity_number_is_found(
    frame: str, region: str, birth: str, order: str, is_wide: bool
) -> None:
    number = values.cn_id(region, birth, order)
    number = wide(number) if is_wide else number
    assert only(frame.format(number)) == ("cn_id", number)


@given(FRAMES, CODES)
def test_every_valid_credit_code_is_found(frame: str, first_17: str) -> None:
    assert only(frame.format(values.uscc(first_17))) == ("cn_uscc", values.uscc(first_17))


@given(FRAMES, st.text("0123456789", min_size=14, max_size=14), st.sampled_from(["", " ", "-"]))
def test_every_valid_visa_number_is_found(frame: str, digits: str, separator: str) -> None:
    number = grouped(values.with_luhn_digit("4" + digits), separator)
    assert only(frame.format(number)) == ("card", number)


@given(FRAMES, st.text("0123456789", min_size=15, max_size=16), st.sampled_from(["", " ", "-"]))
def test_every_valid_unionpay_number_is_found(frame: str, digits: str, separator: str) -> None:
    number = grouped(values.with_luhn_digit("62" + digits), separator)
    assert only(frame.format(number)) == ("cn_bank_card", number)


@given(
    FRAMES,
    st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True),
    st.sampled_from(["", "+86 ", "+86", "0086-", "86-", "(+86) "]),
    st.sampled_from(["", " ", "-"]),
)
def test_every_mobile_number_is_found(frame: str, digits: str, country: str, separator: str) -> None:
    number = country + separator.join((digits[:3], digits[3:7], digits[7:]))
    assert only(frame.format(number)) == ("cn_phone", number)


@given(
    FRAMES, st.from_regex(r"[a-z][a-z0-9]{2,20}(\.[a-z]{2,8})?@[a-z]{3,12}\.(com|cn|org|io)", fullmatch=True)
)
def test_every_plain_mail_address_is_found(frame: str, address: str) -> None:
    assert only(frame.format(address)) == ("email", address)


@given(
    st.text("张王李zhang@例.com1380018\u200b\u3000：，-+ \n\\\"'<>_", max_size=60) | st.sampled_from(TEXTS)
)
def test_findings_are_in_order_apart_and_what_the_text_holds(text: str) -> None:
    findings = found(text)
    assert all(finding.text == text[finding.start : finding.end] for finding in findings)
    assert all(one.end <= two.start for one, two in pairwise(findings))
    assert all(finding.start < finding.end and finding.kind in KINDS for finding in findings)


def test_characters_that_nobody_sees_do_not_hide_a_number() -> None:
    (finding,) = found("手机：\u202a138\u200b1234\u200b5678\u202c。")
    assert (finding.kind, finding.text) == ("cn_phone", "138\u200b1234\u200b5678")


def test_only_the_wanted_kinds_are_looked_for() -> None:
    text = "我叫张伟，邮箱a.b@example.com，https://root:a.b@example.com/"
    assert [finding.kind for finding in found(text)] == ["name", "email", "url_credentials"]
    assert [finding.kind for finding in found(text, ["name"])] == ["name"]
    assert found(text, []) == []
    with pytest.raises(ValueError, match="no such kind: shoe_size"):
        found(text, ["shoe_size"])


def test_a_value_that_was_introduced_once_is_found_everywhere() -> None:
    text = "李雷说密码：Qz81!xk，后来李雷忘了Qz81!xk。联系人：李雷"
    assert [finding.text for finding in found(text)] == ["李雷", "Qz81!xk", "李雷", "Qz81!xk", "李雷"]
    first, second = found_in_all(["韩梅来过了", "我叫韩梅"])
    assert [finding.text for finding in (*first, *second)] == ["韩梅", "韩梅"]


def test_json_text_stays_json_when_findings_are_cut_out() -> None:
    document = {
        "note": 'password: ab"cd\\',
        "tel": '13812345678\n"王芳"',
        "path": "C:\\new\\user@example.com\\",
    }
    for text in (
        json.dumps(document),
        json.dumps(document, ensure_ascii=False),
        json.dumps(json.dumps(document)),
    ):
        cut = text
        for finding in reversed(found(text)):
            cut = cut[: finding.start] + "X" + cut[finding.end :]
        json.loads(cut)
        assert "13812345678" not in cut


def test_a_finding_does_not_show_its_value() -> None:
    (finding,) = found("13812345678")
    assert "1381234" not in repr(finding)


ADVERSARIAL = [
    "a", "1", " ", "-", "@", "a@", "1.", "1 ", "+1", "(", "号", "路1号", "王", "姓名", "我叫王", "王先生", "password=",
    "密码", "key=a1", "eyJa.", "sk-", "://a:", "http://a:b@", "-----BEGIN PRIVATE KEY-----", "name:A ", "A ", "Dear A",
    "<", "<EMAIL_", "1:", "::", "DE89", "4111 ", "姓名,", "name|\n|A", "\\", "\\n", "\u200b1", "１", "市", "Mr. A",
    "token a1b2",
]  # fmt: skip


@pytest.mark.parametrize("unit", ADVERSARIAL)
def test_hostile_repetition_costs_steps_in_proportion_to_its_length(unit: str) -> None:
    def steps(size: int) -> int:
        count = 0

        def profile(_frame: Any, event: str, _argument: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        text = (unit * (size // len(unit) + 1))[:size]
        sys.setprofile(profile)
        try:
            found(text)
        finally:
            sys.setprofile(None)
        return count

    short, long = steps(4_000), steps(16_000)
    assert long <= 5 * short + 2_000


def patterns() -> dict[str, re.Pattern[str]]:
    """Every compiled pattern of the room, also those inside tuples and named tuples."""
    kept: dict[str, re.Pattern[str]] = {}

    def collect(name: str, value: object) -> None:
        if isinstance(value, re.Pattern):
            kept[name] = value
        elif isinstance(value, tuple):
            for number, part in enumerate(value):
                collect(f"{name}.{number}", part)

    for module in (
        chinese_names,
        columns,
        context,
        credentials,
        english_names,
        mask,
        network,
        numbers,
        phones,
        places,
    ):
        for name, value in vars(module).items():
            collect(f"{module.__name__}.{name}", value)
    for made in (chinese_names._follows(), chinese_names._title(), chinese_names._leads()[1]):
        kept[f"chinese_names.{made.pattern[:12]}"] = made
    return kept


def unbounded(tree: Any) -> int:
    """How deep repetitions without a limit are nested in a parsed pattern."""
    deepest = 0
    for operator, argument in tree:
        if operator in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
            inner = unbounded(argument[2])
            endless = argument[1] == _constants.MAXREPEAT
            deepest = max(deepest, inner + endless)
        elif operator is _constants.SUBPATTERN:
            deepest = max(deepest, unbounded(argument[3]))
        elif operator is _constants.BRANCH:
            deepest = max(deepest, *(unbounded(branch) for branch in argument[1]))
        elif operator in (_constants.ASSERT, _constants.ASSERT_NOT):
            deepest = max(deepest, unbounded(argument[1]))
    return deepest


def test_no_pattern_can_backtrack_without_end() -> None:
    found_patterns = patterns()
    assert len(found_patterns) > 60
    nested = {
        name: pattern.pattern
        for name, pattern in found_patterns.items()
        if unbounded(_parser.parse(pattern.pattern)) > 1
    }
    assert nested == {}


CODE = """
from typing import Optional
def login(user: User, password: Optional[str] = None, name: Optional[str] = None) -> Session:
    cast_to=Batch, scroll_to: Optional[int] = None, tenant: Tenant, parents=True  # pass `session` on
    if not password or password == self.password: raise PermissionError("password is required")
    api_key = os.environ.get("OPENAI_API_KEY"); secret = config.secret; key = cache[key]
    return self._post("/v1/messages/count_tokens", body=body, timeout=1.5, version="1.2.3.4", ids=[1000000, 20260120])
{"name": "Send Message", "parameters": {"properties": {"to": {"type": "string"}}}}
x = items[1::2]; y = std::map<int, Foo::Bar>(); assert a.b@c == d; url = "https://example.com/a:b@c"
"""


def test_ordinary_code_holds_nothing() -> None:
    assert [finding.text for finding in found(CODE)] == []
