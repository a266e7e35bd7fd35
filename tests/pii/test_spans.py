"""Overlapping hits: nothing that a rule marked may be left unmarked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from baimo.pii.finding import Hit
from baimo.pii.spans import again, settled

TEXT = "abcdefghij" * 4
HITS = st.lists(
    st.builds(
        lambda start, size, confidence, kind: Hit(kind, start, min(start + size, len(TEXT)), confidence),
        st.integers(0, len(TEXT) - 1),
        st.integers(1, 12),
        st.sampled_from([0.6, 0.75, 0.9, 0.99]),
        st.sampled_from(["name", "address", "phone"]),
    ),
    max_size=12,
)


def places(hits: list[Hit]) -> set[int]:
    return {place for hit in hits for place in range(hit.start, hit.end)}


@given(HITS)
def test_the_same_characters_are_marked_once_each(hits: list[Hit]) -> None:
    kept = settled(TEXT, hits)
    assert places(kept) == places(hits)
    assert sum(hit.end - hit.start for hit in kept) == len(places(kept))
    assert [hit.start for hit in kept] == sorted(hit.start for hit in kept)


def test_the_certain_goes_before_the_long_and_the_long_before_the_sure() -> None:
    assert settled(TEXT, [Hit("address", 0, 10, 0.75), Hit("phone", 4, 8, 0.95)]) == [
        Hit("address", 0, 4, 0.75),
        Hit("phone", 4, 8, 0.95),
        Hit("address", 8, 10, 0.75),
    ]
    assert settled(TEXT, [Hit("name", 0, 3, 0.8), Hit("address", 0, 6, 0.7)]) == [Hit("address", 0, 6, 0.7)]


def test_a_backslash_that_belongs_to_what_follows_is_left() -> None:
    text = 'ab\\"cd\\\\"'
    assert settled(text, [Hit("secret", 0, 3, 0.9)]) == [Hit("secret", 0, 2, 0.9)]
    assert settled(text, [Hit("secret", 4, 8, 0.9)]) == [Hit("secret", 4, 8, 0.9)]


def test_known_values_are_found_whole_and_the_longest_first() -> None:
    values = {"王芳": "name", "王芳芳": "name", "Ann": "name"}
    found = [
        ("王芳芳和王芳, Ann, Anna, xAnn"[hit.start : hit.end])
        for hit in again("王芳芳和王芳, Ann, Anna, xAnn", values)
    ]
    assert sorted(found) == sorted(["王芳芳", "王芳", "Ann"])
    many = {f"{first}{second}雷": "name" for first in "赵钱孙李周吴郑王" for second in "一二三四五六七八九"}
    assert [hit.start for hit in again("今天李三雷来了，李雷没来", many)] == [2]
