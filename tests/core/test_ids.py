from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.call import Completion, Request, Sampling
from baimo.core.ids import canonical, digest, plain, sortable_id
from baimo.core.message import Message

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), values, max_size=6), st.randoms())
def test_a_digest_does_not_depend_on_the_order_of_keys(mapping: dict[str, Any], chance: Any) -> None:
    shuffled = list(mapping.items())
    chance.shuffle(shuffled)
    assert digest(dict(shuffled)) == digest(mapping)


@given(st.lists(values, min_size=2, max_size=5))
def test_a_digest_depends_on_the_order_of_a_list(items: list[Any]) -> None:
    turned = items[::-1]
    assert (digest(turned) == digest(items)) == (canonical(turned) == canonical(items))


@given(values)
def test_the_canonical_form_is_json_that_reads_back_as_the_same_value(value: Any) -> None:
    assert json.loads(canonical(value)) == value
    assert digest(value) == hashlib.sha256(canonical(value)).hexdigest()


def test_the_canonical_form_is_utf_8_without_spaces_and_with_sorted_keys() -> None:
    assert canonical({"b": [1, 2.5, None], "a": "百模"}) == '{"a":"百模","b":[1,2.5,null]}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_know_has_no_digest(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"a": value})


def test_a_figure_of_numpy_has_the_canonical_form_of_its_value() -> None:
    figures = {"b": np.bool_(True), "i": np.int64(3), "f": np.float32(0.5), "d": np.float64(0.25)}
    found = plain(figures)
    assert found == {"b": True, "i": 3, "f": 0.5, "d": 0.25}
    assert {type(value) for value in found.values()} == {bool, int, float}


def test_an_object_without_a_canonical_form_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="bytes has no canonical form"):
        digest([b"raw"])


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, kw_only=True)
class Before:
    name: str
    count: int = 0


@dataclass(frozen=True, kw_only=True)
class After:
    name: str
    count: int = 0
    colour: Colour | None = None
    tags: tuple[str, ...] = ()
    extra: dict[str, int] = field(default_factory=dict)


@given(st.text(), st.integers())
def test_a_field_added_later_does_not_change_the_digest_of_what_was_stored_before(
    name: str, count: int
) -> None:
    old = digest(Before(name=name, count=count))
    new = plain(After(name=name, count=count))
    assert "colour" not in new
    assert "tags" not in new
    assert digest({key: value for key, value in new.items() if key != "extra"}) == old


def test_an_empty_mapping_made_by_a_factory_is_a_default_too() -> None:
    assert digest(After(name="a")) == digest(Before(name="a"))


def test_enumerations_and_tuples_are_written_as_values_and_lists() -> None:
    assert plain(After(name="a", colour=Colour.RED, tags=("x",))) == {
        "name": "a",
        "colour": "red",
        "tags": ["x"],
    }


def test_every_part_of_a_request_that_matters_changes_its_digest() -> None:
    base = Request(model="m", messages=(Message(role="user", content="hi"),))
    others = [
        Request(model="n", messages=base.messages),
        Request(model="m", messages=(Message(role="user", content="hi "),)),
        Request(model="m", messages=(Message(role="system", content="hi"),)),
        Request(model="m", messages=base.messages, sampling=Sampling(temperature=0.0)),
        Request(model="m", messages=base.messages, repeat=1),
        Request(model="m", messages=base.messages, extra={"top_k": 1}),
    ]
    assert len({digest(one) for one in [base, *others]}) == len(others) + 1


def test_a_request_keeps_the_digest_it_had_when_the_first_answers_were_stored() -> None:
    request = Request(model="m", messages=(Message(role="user", content="hi"),))
    assert canonical(request) == b'{"messages":[{"content":"hi","role":"user"}],"model":"m"}'


def test_zero_is_not_taken_for_a_default_of_none() -> None:
    assert plain(Completion(text="", latency_ms=0.0))["latency_ms"] == 0.0


@given(
    st.integers(min_value=0, max_value=2**50 - 1),
    st.integers(min_value=0, max_value=2**50 - 1),
    st.binary(min_size=7, max_size=12),
    st.binary(min_size=7, max_size=12),
)
def test_ids_sort_by_time(first: int, second: int, one: bytes, other: bytes) -> None:
    if first == second:
        return
    early, late = sorted((first, second))
    assert sortable_id("run", early, one) < sortable_id("run", late, other)


@given(st.integers(min_value=0, max_value=2**50 - 1), st.binary(min_size=7, max_size=7))
def test_an_id_is_its_prefix_and_twenty_characters_that_nobody_mistakes(now: int, entropy: bytes) -> None:
    prefix, _, rest = sortable_id("rec", now, entropy).partition("_")
    assert prefix == "rec"
    assert len(rest) == 20
    assert not set(rest) - set("0123456789abcdefghjkmnpqrstvwxyz")


def test_fifty_bits_of_entropy_reach_the_id() -> None:
    made = {sortable_id("run", 1, (1 << bit).to_bytes(7, "big")) for bit in range(50)}
    assert len(made) == 50
