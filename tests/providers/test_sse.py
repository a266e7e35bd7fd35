"""Event streams, however they are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from baimo.providers.sse import Event, SseParser

LINES = st.sampled_from(
    [
        "data: one",
        "data:two",
        "data: 好",
        "data",
        "data:  two spaces",
        ": comment",
        "event: ping",
        "event",
        "id: 7",
        "",
    ]
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def parse(stream: bytes, cuts: list[int]) -> list[Event]:
    parser = SseParser()
    places = sorted({cut % (len(stream) + 1) for cut in cuts})
    pieces = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    return [event for piece in pieces for event in parser.feed(piece)] + parser.close()


@given(
    st.lists(st.tuples(LINES, ENDS), max_size=12), st.lists(st.integers(0, 400), max_size=30), st.booleans()
)
def test_events_are_the_same_however_the_bytes_are_cut(
    lines: list[tuple[str, str]], cuts: list[int], marked: bool
) -> None:
    stream = ("\ufeff" if marked else "").encode() + "".join(line + end for line, end in lines).encode()
    whole = parse(stream, [])
    assert parse(stream, cuts) == whole
    assert parse(stream, list(range(len(stream)))) == whole


@given(
    st.lists(st.tuples(st.text(st.characters(blacklist_characters="\r\n", codec="utf-8")), ENDS), max_size=8)
)
def test_every_text_arrives_as_it_was_sent(texts: list[tuple[str, str]]) -> None:
    stream = "".join(f"data: {text}{end}{end}" for text, end in texts).encode()
    assert parse(stream, []) == [Event("message", text) for text, _ in texts]


def test_data_lines_are_joined_and_types_belong_to_one_event() -> None:
    stream = b"event: add\ndata: 1\ndata: 2\n\ndata: 3\n\nevent: lost\n\ndata: 4\n\n"
    assert parse(stream, []) == [Event("add", "1\n2"), Event("message", "3"), Event("message", "4")]


def test_an_event_without_its_blank_line_counts_but_half_a_line_does_not() -> None:
    assert parse(b"data: [DONE]\n", []) == [Event("message", "[DONE]")]
    assert parse(b'data: {"half', []) == []
    assert parse(b'data: 1\ndata: {"half', []) == [Event("message", "1")]
