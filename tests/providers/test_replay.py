"""Recorded replies come back as they were, and nothing else does."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from provider_doubles import asked, settings, vendor

from baimo.core.call import Completion, Delta, Request, Sampling, TokenLogprob, Usage
from baimo.core.ids import digest
from baimo.core.message import ToolCall
from baimo.errors import ConfigError, RequestRefused
from baimo.providers.fake import FakeProvider
from baimo.providers.replay import Recorder, ReplayProvider, request_hash

RICH = Completion(
    text="你好",
    tool_calls=(ToolCall(id="1", name="f", arguments="{}"),),
    finish_reason="tool_calls",
    refused=True,
    stop_sequence="END",
    usage=Usage(tokens_in=5, tokens_out=2, tokens_reasoning=1),
    model="m-2026",
    logprobs=(TokenLogprob(token="你", logprob=-0.5, top=(("你", -0.5),)),),
    reasoning="hm",
    latency_ms=12.5,
    adapted=("seed",),
)


def rich(request: Request) -> Completion:
    return RICH


def recording(path: Path, *rows: dict[str, Any]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def replayed(path: Path, *requests: Request) -> list[Completion]:
    async def scenario() -> list[Completion]:
        provider = ReplayProvider(vendor("replay"), settings(options={"file": str(path)}))
        return list(await asyncio.gather(*map(provider.complete, requests)))

    return asyncio.run(scenario())


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_replies_are_found_by_example_prompt_or_request(tmp_path: Path, name: str) -> None:
    exact = asked("c", sampling=Sampling(temperature=0))
    path = recording(
        tmp_path / name,
        {"model": "m", "id": "ex-1", "reply": "one", "ok": 1},
        {"model": "m", "prompt": "b", "reply": "two"},
        {"model": "m", "request_hash": request_hash(exact), "reply": "three"},
        {"model": "other", "id": "ex-1", "reply": "four"},
    )
    requests = (asked("a", extra={"example": "ex-1"}), asked("b"), exact)
    assert [found.text for found in replayed(path, *requests)] == ["one", "two", "three"]


def test_the_exact_request_wins_over_the_example_and_that_over_the_prompt(tmp_path: Path) -> None:
    request = asked("a", extra={"example": "ex-1"})
    rows: list[dict[str, Any]] = [
        {"model": "m", "prompt": "a", "reply": "prompt"},
        {"model": "m", "id": "ex-1", "reply": "example"},
        {"model": "m", "request_hash": request_hash(request), "reply": "exact"},
    ]
    for count, wanted in enumerate(["prompt", "example", "exact"], start=1):
        path = recording(tmp_path / f"{count}.jsonl", *rows[:count])
        assert [found.text for found in replayed(path, request)] == [wanted]


def test_what_was_not_recorded_is_unknown(tmp_path: Path) -> None:
    (found,) = replayed(
        recording(tmp_path / "r.jsonl", {"model": "m", "prompt": "a", "reply": "x"}), asked("a")
    )
    assert (found.usage, found.finish_reason, found.latency_ms) == (Usage(), "unknown", None)


def test_an_unrecorded_request_is_refused_with_its_name(tmp_path: Path) -> None:
    path = recording(tmp_path / "r.jsonl", {"model": "m", "id": "ex-1", "reply": "x"})
    for request in (asked("a"), asked("a", extra={"example": "ex-2"})):
        with pytest.raises(RequestRefused) as caught:
            replayed(path, request)
        assert str(path) in str(caught.value) and " m " in str(caught.value)
        assert ("ex-2" if request.extra else "a") in str(caught.value)


def test_the_hash_of_a_request_ignores_the_example_and_nothing_else() -> None:
    request = asked("a")
    assert request_hash(request) == request_hash(asked("a", extra={"example": "ex-1"})) == digest(request)
    others = (
        asked("b"),
        asked("a", repeat=1),
        asked("a", sampling=Sampling(seed=1)),
        asked("a", extra={"x": 1}),
    )
    assert len({request_hash(other) for other in (request, *others)}) == 5


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_what_was_recorded_live_is_replayed_to_the_letter(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    requests = [asked(str(number), extra={"example": f"ex-{number}"}) for number in range(5)]

    async def scenario() -> tuple[list[Completion], list[Delta]]:
        live = FakeProvider(vendor("fake"), settings(options={"function": f"{__name__}:rich"}))
        recorder = Recorder(live, path)
        found = [await recorder.complete(request) for request in requests]
        deltas = [delta async for delta in recorder.stream(asked("streamed"))]
        assert recorder.spec == live.spec
        await recorder.aclose()
        return found, deltas

    live, deltas = asyncio.run(scenario())
    assert replayed(path, *requests) == live and live[0] == RICH
    (streamed,) = replayed(path, asked("streamed"))
    assert streamed.text == "".join(delta.text for delta in deltas) == "你好"
    assert (streamed.refused, streamed.stop_sequence) == (True, "END")
    (by_example,) = replayed(path, asked("other words", extra={"example": "ex-3"}))
    assert by_example == RICH


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_a_recording_that_broke_off_keeps_what_it_has(tmp_path: Path, name: str) -> None:
    path = tmp_path / name

    async def scenario() -> None:
        recorder = Recorder(FakeProvider(vendor("fake"), settings()), path)
        for number in range(50):
            await recorder.complete(asked(f"question {number}"))
        torn = path.read_bytes()[:-7]  # as a killed process leaves it: not closed, the last row half written
        await recorder.aclose()
        path.write_bytes(torn)

    asyncio.run(scenario())
    assert replayed(path, asked("question 48"))[0].text == "question 48"
    with pytest.raises(RequestRefused):
        replayed(path, asked("question 49"))


@pytest.mark.parametrize(
    ("line", "words"),
    [('{"model": "m"}', "line 2"), ("not json", "line 2"), ('{"model": "m", "reply": "x"}', "line 2")],
)
def test_a_line_that_is_no_reply_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"model": "m", "id": "1", "reply": "x"}\n' + line + "\n")
    with pytest.raises(ConfigError) as caught:
        replayed(path, asked())
    assert words in str(caught.value) and str(path) in str(caught.value)


def test_another_recording_is_another_provider(tmp_path: Path) -> None:
    def spec(reply: str) -> str:
        path = recording(tmp_path / "r.jsonl", {"model": "m", "id": "1", "reply": reply})
        return digest(ReplayProvider(vendor("replay"), settings(options={"file": str(path)})).spec)

    assert spec("a") == spec("a") != spec("b")


@pytest.mark.parametrize(
    ("options", "key"),
    [({}, "no_file"), ({"file": "/does/not/exist"}, "missing_file"), ({"path": "x"}, "unknown_option")],
)
def test_settings_that_cannot_work_are_refused_at_once(options: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ReplayProvider(vendor("replay"), settings(options=options))
    assert caught.value.key == f"providers.{key}" and caught.value.hint


def test_the_public_recordings_are_read(shared_data: Path) -> None:
    request = Request(model="gpt-4o-2024-05-13", messages=(), extra={"example": "crux-test-#0"})
    (found,) = replayed(shared_data / "zeroeval_crux_replies.jsonl.gz", request)
    assert '"answer"' in found.text
