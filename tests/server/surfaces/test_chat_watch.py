"""Streams of chunks, cut at every place."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.call import Usage
from baimo.server.surfaces import chat_watch
from baimo.server.surfaces.chat_watch import ChatWatch
from tests.server.surfaces.counting import counted

ENDS = ("\n\n", "\r\n\r\n")
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "upstream-1"}
COUNTS = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
USAGE = Usage(tokens_in=9, tokens_out=4, tokens_cached=3, tokens_reasoning=1, tokens_cache_write=2)
SAID = ["It", " is", ' "usage":{"prompt_tokens":1}', " data: [DONE]\n\n", "晴", ' the "error": _tokens"', "."]


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**HEAD, "choices": [choice], **more}


def written(rows: list[Any], end: str = "\n\n", *, spaced: bool = False) -> bytes:
    separators = (", ", ": ") if spaced else (",", ":")
    data = [
        row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, separators=separators)
        for row in rows
    ]
    return "".join(f"data: {one}{end}" for one in data).encode()


PLAIN = [
    chunk({"role": "assistant", "content": ""}, usage=None),
    *(chunk({"content": text}, usage=None) for text in SAID),
    chunk({}, "stop", usage=None),
]
ONLY_USAGE = {**HEAD, "choices": [], "usage": COUNTS}
FILTERED = {**HEAD, "choices": [], "prompt_filter_results": []}  # Azure begins with it


def through(watch: ChatWatch, pieces: list[bytes]) -> bytes:
    return b"".join([*(watch.feed(piece) for piece in pieces), watch.rest()])


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("drop", [False, True])
def test_wherever_a_stream_is_cut_the_client_gets_the_same_and_we_see_the_same(
    end: str, drop: bool, spaced: bool
) -> None:
    stream = written([FILTERED, *PLAIN, ONLY_USAGE, "[DONE]"], end, spaced=spaced)
    expected = written([FILTERED, *PLAIN, "[DONE]"], end, spaced=spaced) if drop else stream
    for cut in range(len(stream) + 1):
        watch = ChatWatch(drop_usage=drop)
        assert through(watch, [stream[:cut], stream[cut:]]) == expected
        seen = watch.seen()
        assert (counted(seen), seen.model, seen.finish_reason) == (USAGE, "upstream-1", "stop")
        assert (seen.complete, seen.failed) == (True, "")


@given(st.data(), st.sampled_from(ENDS), st.booleans())
def test_any_cuts_at_all_change_nothing(data: st.DataObject, end: str, drop: bool) -> None:
    stream = written([*PLAIN, ONLY_USAGE, "[DONE]"], end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=40)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    watch = ChatWatch(drop_usage=drop)
    assert through(watch, pieces) == (written([*PLAIN, "[DONE]"], end) if drop else stream)
    assert counted(watch.seen()) == USAGE


def test_single_bytes_change_nothing() -> None:
    stream = written([*PLAIN, ONLY_USAGE, "[DONE]"])
    watch = ChatWatch(drop_usage=True)
    assert through(watch, [bytes([byte]) for byte in stream]) == written([*PLAIN, "[DONE]"])
    assert counted(watch.seen()) == USAGE


def test_usage_beside_an_answer_stays_where_it_is() -> None:
    last = chunk({"content": "."}, "stop", usage=COUNTS)
    stream = written([last, "[DONE]"])
    watch = ChatWatch(drop_usage=True)
    assert through(watch, [stream]) == stream
    assert counted(watch.seen()) == USAGE


@pytest.mark.parametrize("place", ["choice", "x_groq"])
def test_usage_is_found_where_other_vendors_put_it(place: str) -> None:
    row = chunk({}, "stop")
    if place == "choice":
        row["choices"][0]["usage"] = COUNTS  # Moonshot
    else:
        row["x_groq"] = {"usage": COUNTS}
    watch = ChatWatch(drop_usage=True)
    assert through(watch, [written([row, "[DONE]"])]) == written([row, "[DONE]"])
    assert counted(watch.seen()) == USAGE


def test_of_usage_in_every_chunk_the_last_counts() -> None:
    rows = [chunk({"content": "x"}, usage={"prompt_tokens": 9, "completion_tokens": n}) for n in range(1, 30)]
    watch = ChatWatch(drop_usage=True)
    assert through(watch, [written(rows)]) == written(rows)
    assert counted(watch.seen()) == Usage(tokens_in=9, tokens_out=29)


def test_counts_of_something_else_do_not_replace_usage() -> None:
    rows = [
        chunk({"content": "x"}, usage=COUNTS),
        chunk({"content": "y"}, limits={"left_tokens": 5}, usage=None),
    ]
    watch = ChatWatch(drop_usage=True)
    assert through(watch, [written(rows)]) == written(rows)
    assert counted(watch.seen()) == USAGE


def test_a_stream_that_breaks_off_is_not_complete_and_nothing_is_invented() -> None:
    stream = written(PLAIN[:-1])
    watch = ChatWatch(drop_usage=True)
    half = stream[:-20]
    assert through(watch, [half]) == half
    seen = watch.seen()
    assert (counted(seen), seen.complete, seen.finish_reason) == (None, False, "")


def test_a_usage_chunk_without_its_blank_line_is_dropped_too() -> None:
    stream = written([*PLAIN, ONLY_USAGE])
    for end in (stream.rstrip(b"\n"), stream[:-1]):
        watch = ChatWatch(drop_usage=True)
        assert through(watch, [end]) == written(PLAIN)
        assert counted(watch.seen()) == USAGE


def test_a_stream_may_end_without_done_but_not_without_all_its_choices() -> None:
    rows = [chunk({"content": "a"}), chunk({}, "stop"), chunk({"content": "b"}, index=1)]
    one, two = ChatWatch(drop_usage=True), ChatWatch(drop_usage=True, answers=2)
    through(one, [written(rows)])
    through(two, [written(rows)])
    assert (one.seen().complete, two.seen().complete) == (True, False)
    through(two, [written([chunk({}, "length", index=1)])])
    assert two.seen().complete


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("size", [100, 10_000])
@pytest.mark.parametrize("alone", [False, True])
def test_one_long_event_may_say_all_there_is(size: int, alone: bool, end: str) -> None:
    choice = {"index": 0, "finish_reason": "stop", "delta": {"content": "x" * size}}
    rows = [{**HEAD, "choices": [choice], "usage": COUNTS}]
    if not alone:
        rows = [chunk({"content": "y"}), {**HEAD, "choices": [choice]}, ONLY_USAGE]
    watch = ChatWatch(drop_usage=False)
    through(watch, [written(rows, end)])
    seen = watch.seen()
    assert (seen.complete, seen.finish_reason, counted(seen)) == (True, "stop", USAGE)


def test_choices_may_end_long_before_the_last_one() -> None:
    rows = [chunk({}, "stop", index) for index in range(12)] + [chunk({"content": "."}, index=12)] * 30
    watch = ChatWatch(drop_usage=True, answers=13)
    through(watch, [written([row]) for row in rows])
    assert not watch.seen().complete
    through(watch, [written([chunk({}, "length", 12)])])
    assert watch.seen().complete
    at_once = ChatWatch(drop_usage=True, answers=13)
    through(at_once, [written([*rows, chunk({}, "length", 12)])])
    assert at_once.seen().complete


def test_an_empty_finish_reason_ends_nothing() -> None:
    watch = ChatWatch(drop_usage=True)
    through(watch, [written([chunk({"content": "a"}, "")])])
    assert not watch.seen().complete


@pytest.mark.parametrize(
    "error", [{"error": {"message": "out of memory", "code": 500}}, {"error": "out of memory"}]
)
def test_an_error_in_the_stream_is_seen_and_passed_on(error: dict[str, Any]) -> None:
    stream = written([*PLAIN[:3], error])
    watch = ChatWatch(drop_usage=True)
    assert through(watch, [stream]) == stream
    assert (watch.seen().failed, watch.seen().complete) == ("out of memory", False)


def test_comments_and_named_events_pass() -> None:
    stream = b": ping\n\nevent: message\nid: 4\n" + written([chunk({"content": "x"}, "stop")]) + b": bye\n\n"
    watch = ChatWatch(drop_usage=True)
    assert through(watch, [stream]) == stream
    assert watch.seen().finish_reason == "stop"


@given(
    st.lists(
        st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12), min_size=20, max_size=60
    )
)
def test_the_estimate_of_text_is_close_even_though_no_chunk_is_decoded(texts: list[str]) -> None:
    rows = [chunk({"content": text}) for text in texts]
    watch = ChatWatch(drop_usage=True)
    through(watch, [written([row]) for row in rows])
    said = sum(len(json.dumps(text, ensure_ascii=False).encode()) - 2 for text in texts)
    assert abs(watch.seen().text_bytes - said) <= 3 * 12 * len(texts)


def test_the_estimate_is_exact_where_chunks_look_alike() -> None:
    watch = ChatWatch(drop_usage=True)
    through(watch, [written([chunk({"content": "word "})]) for _ in range(500)])
    assert watch.seen().text_bytes == 2500


def test_looking_in_between_does_not_change_what_is_seen_in_the_end() -> None:
    watch = ChatWatch(drop_usage=False)
    events = [written([row]) for row in [*PLAIN, ONLY_USAGE, "[DONE]"]]
    seen = [(watch.feed(event), watch.seen())[1] for event in events]
    assert [one.complete for one in seen] == [False] * len(PLAIN[:-1]) + [True] * 3
    assert counted(seen[-1]) == USAGE
    assert seen[2].model == "upstream-1"


def test_an_event_without_end_is_passed_on_and_not_kept_in_memory() -> None:
    watch = ChatWatch(drop_usage=True)
    blob = b"data: " + random.Random(1).randbytes(3 * chat_watch.LONGEST_EVENT).replace(b"\n", b"").replace(
        b"\r", b""
    )
    pieces = [blob[at : at + 65536] for at in range(0, len(blob), 65536)]
    out, longest = b"", 0
    for piece in pieces:
        out += watch.feed(piece)
        longest = max(longest, sum(map(len, watch._held)))  # type: ignore[attr-defined]
    assert longest <= chat_watch.LONGEST_EVENT + 65536
    after = b"\n\n" + written([chunk({}, "stop"), ONLY_USAGE, "[DONE]"])
    out += watch.feed(after) + watch.rest()
    assert out == blob + b"\n\n" + written([chunk({}, "stop"), "[DONE]"])
    assert counted(watch.seen()) == USAGE


def test_a_thousand_big_blocks_leave_little_behind() -> None:
    watch = ChatWatch(drop_usage=True)
    block = written([chunk({"content": "x" * 50})] * 300)
    for _ in range(100):
        watch.feed(block)
    assert sum(map(len, watch._unread)) <= 8 * 4096  # type: ignore[attr-defined]
