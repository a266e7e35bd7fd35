"""Changing the top of a body: whatever stands below it is a decoy."""

from __future__ import annotations

import json
import string
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.errors import CallRefused
from baimo.server.surfaces.chat import KNOWN, Body, Chat
from baimo.server.surfaces.wirejson import opened, read, written

DECOYS = ("model", "MODEL", "Model", "mo\u0064el", 'say "model": ', '\\"model":', "messages", "名", "{}", "x")
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 53), 1 << 53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(DECOYS)
    | st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
)
names = st.sampled_from(DECOYS) | st.text(string.ascii_letters, max_size=4)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def spelled(data: st.DataObject, value: Any) -> str:
    """JSON of `value` in one of the many ways to write it: blanks, escapes."""
    blank = data.draw(st.sampled_from(["", " ", "\n\t", "\r\n "]))
    if isinstance(value, dict):
        members = (f"{spelled(data, name)}{blank}:{blank}{spelled(data, one)}" for name, one in value.items())
        return "{" + blank + f"{blank},{blank}".join(members) + blank + "}"
    if isinstance(value, list):
        return "[" + blank + f"{blank},{blank}".join(spelled(data, one) for one in value) + blank + "]"
    if isinstance(value, str) and value.isascii() and value and data.draw(st.booleans()):
        return '"' + "".join(f"\\u{ord(letter):04x}" for letter in value) + '"'
    return json.dumps(value, ensure_ascii=data.draw(st.booleans()))


@given(
    st.data(), st.dictionaries(names, values, max_size=6), st.text(string.printable, min_size=1, max_size=9)
)
def test_only_the_model_at_the_top_is_changed(data: st.DataObject, body: dict[str, Any], name: str) -> None:
    top = {key: value for key, value in body.items() if key.casefold() not in KNOWN}
    top["model"] = data.draw(st.sampled_from(DECOYS))
    order = data.draw(st.permutations(list(top)))
    text = spelled(data, {key: top[key] for key in order})
    members = opened(text.encode(), KNOWN)
    members["model"] = name
    assert json.loads(written(members)) == {**top, "model": name}


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=2, max_size=5))
def test_of_a_name_given_twice_the_last_counts_for_us_and_alone_leaves(models: list[str]) -> None:
    body = "{" + ",".join(f'"model": "{model}"' for model in models) + ',"messages":[]}'
    assert Chat().peek(body.encode(), {}).model == models[-1]
    members = opened(body.encode(), KNOWN)
    assert written(members).count(b'"model"') == 1
    assert json.loads(written(members))["model"] == models[-1]


@pytest.mark.parametrize("name", ["MODEL", "Model", "max_TOKENS", "max_token\u017f", "N", "\u212anown"])
def test_a_name_that_other_servers_might_take_for_ours_does_not_leave(name: str) -> None:
    body = json.dumps({name: 1, "model": "m", "temperature": 0.5}).encode()
    kept = json.loads(written(opened(body, KNOWN)))
    assert kept == ({"model": "m", "temperature": 0.5} if name.casefold() in KNOWN else json.loads(body))


def test_numbers_keep_every_digit() -> None:
    body = b'{"model":"a","seed":12345678901234567890123,"x":1.00000000000000000001,"y":1E400}'
    members = opened(body, KNOWN)
    members["model"] = "b"
    assert written(members) == body.replace(b'"a"', b'"b"')


@pytest.mark.parametrize(
    ("body", "key", "field"),
    [
        (b"", "not_json", None),
        (b"{", "not_json", None),
        (b'{"model": "\xff", "messages": []}', "not_json", None),
        (b'{"model": "\\ud800", "messages": []}', "not_json", None),
        (b'{"x":' + b"[" * 200_000, "not_json", None),
        (b"[1]", "no_object", None),
        (b"{}", "missing", "messages"),
        (b'{"messages": {}}', "wrong_type", "messages"),
        (b'{"messages": [], "n": 0}', "wrong_value", "n"),
        (b'{"messages": [], "n": "2"}', "wrong_type", "n"),
        (b'{"messages": [], "max_tokens": -1}', "wrong_value", "max_tokens"),
        (b'{"messages": [], "max_tokens": 99999999999999999999999}', "wrong_value", "max_tokens"),
        (b'{"messages": [{}, {"role": 7}]}', "wrong_type", "messages[1].role"),
        (b'{"messages": [{"content": [{"text": []}]}]}', "wrong_type", "messages[0].content[0].text"),
        (
            b'{"messages": [], "stream_options": {"include_usage": 1}}',
            "wrong_type",
            "stream_options.include_usage",
        ),
    ],
)
def test_what_is_wrong_with_a_body_is_told_in_terms_of_its_fields(
    body: bytes, key: str, field: str | None
) -> None:
    with pytest.raises(CallRefused) as caught:
        read(msgspec.json.Decoder(Body).decode, body)
    assert caught.value.key == f"surfaces.{key}"
    assert caught.value.facts.get("field") == field
    assert caught.value.http_status == 400
    assert caught.value.hint
    with pytest.raises(CallRefused, match=str(caught.value)[:20].replace("[", r"\[")):
        Chat().peek(body, {})
