"""The neutral way: other wire formats, several answers, personal data."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from baimo.core.call import Completion, Delta, Usage
from baimo.core.message import ToolCall
from baimo.core.tenant import Limit, Tenant
from baimo.errors import BadReply, RateLimited, Unreachable
from baimo.pii.mask import Masker
from baimo.providers.faults import Place, fault
from baimo.providers.paced import as_delta
from baimo.server.surfaces.messages import Messages
from tests.gateway.doubles import (
    PRICE,
    House,
    RecordingReply,
    Script,
    ScriptedProvider,
    answer,
    asking,
    completion,
    deltas,
    key,
    model,
    stream,
)

REFUSED = RateLimited("providers.rate_limited", host="h", model="m", status=429, detail="x")
SECRET = "wang.fang@example.com"
MASKED = Tenant(id="t", pii="mask")


class Echo(ScriptedProvider):
    """Says what it was told, in small pieces."""

    def __init__(self, *, tool: bool = False, size: int = 3) -> None:
        super().__init__(completion())
        self._tool, self._size = tool, size

    def _said(self, request: Any) -> Completion:
        self.asked.append(request)
        text = str(request.messages[-1].content)
        calls = (ToolCall(id="c", name="mail", arguments=msgspec.json.encode({"to": text}).decode()),)
        stop = request.sampling.stop[0] if request.sampling.stop else None
        calls = calls if self._tool else ()
        return completion(f"I write to {text}.", tool_calls=calls, stop_sequence=stop)

    async def complete(self, request: Any) -> Any:
        return self._said(request)

    async def stream(self, request: Any) -> Any:
        said = self._said(request)
        for start in range(0, len(said.text), self._size):
            yield Delta(text=said.text[start : start + self._size])
        yield replace(as_delta(said), text="")


def masked_house(provider: ScriptedProvider, **more: Any) -> House:
    return House(
        Script(body=answer()),
        providers={"away": provider, "home": provider},
        masker=Masker,
        tenant=MASKED,
        **more,
    )


def test_personal_data_does_not_leave_and_comes_back_in_the_answer() -> None:
    echo = Echo(tool=True)
    house = masked_house(echo)
    reply = house.ask(asking("away/large", f'mail "{SECRET}" today'))
    assert SECRET not in repr(echo.asked)
    message = reply.json["choices"][0]["message"]
    assert message["content"] == f'I write to mail "{SECRET}" today.'
    assert msgspec.json.decode(message["tool_calls"][0]["function"]["arguments"]) == {
        "to": f'mail "{SECRET}" today'
    }


@pytest.mark.parametrize("size", range(1, 30))
def test_what_was_replaced_comes_back_wherever_the_stream_is_split(size: int) -> None:
    echo = Echo(size=size)
    reply = masked_house(echo).ask(asking("away/large", f"mail {SECRET} today", stream=True))
    assert SECRET not in repr(echo.asked)
    events = [line[6:] for line in reply.body.split(b"\n\n") if line.startswith(b"data: {")]
    texts = [
        choice["delta"].get("content") or ""
        for one in events
        for choice in msgspec.json.decode(one)["choices"]
    ]
    assert "".join(texts) == f"I write to mail {SECRET} today."


@pytest.mark.parametrize("streamed", [False, True])
def test_a_text_that_ends_the_answer_comes_back_as_it_was_written(streamed: bool) -> None:
    echo = Echo()
    body = {
        "model": "away/large",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
        "stop_sequences": [SECRET],
        "stream": streamed,
    }
    reply = masked_house(echo).ask(msgspec.json.encode(body), surface=Messages())
    assert SECRET not in repr(echo.asked)
    assert b'"stop_reason":"stop_sequence"' in reply.body
    assert f'"stop_sequence":"{SECRET}"'.encode() in reply.body


class Filled(Echo):
    """Answers with JSON that holds what it was told."""

    def _said(self, request: Any) -> Completion:
        said = super()._said(request)
        return replace(said, text=msgspec.json.encode({"it": request.messages[-1].content}).decode())


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_replaced_comes_back_as_json_where_the_answer_is_json(stream: bool) -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----"
    echo = Filled()
    body = asking("away/large", key, stream=stream, response_format={"type": "json_object"})
    reply = masked_house(echo).ask(body)
    assert "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" not in repr(echo.asked)
    if stream:
        events = [
            msgspec.json.decode(line[6:]) for line in reply.body.split(b"\n\n") if line.startswith(b"data: {")
        ]
        text = "".join(choice["delta"].get("content") or "" for one in events for choice in one["choices"])
    else:
        text = reply.json["choices"][0]["message"]["content"]
    assert msgspec.json.decode(text) == {"it": key}


def test_models_inside_get_what_was_written() -> None:
    echo = Echo()
    masked_house(echo).ask(asking("home/small", f"mail {SECRET}"))
    assert SECRET in repr(echo.asked)


def test_a_model_outside_that_speaks_the_same_format_is_asked_neutrally_when_data_must_be_replaced() -> None:
    echo = Echo()
    house = masked_house(echo)
    house.providers["acme"] = echo
    reply = house.ask(asking("acme/one", f"mail {SECRET}"))
    assert house.pool.sent == []
    assert SECRET in reply.json["choices"][0]["message"]["content"]


@pytest.mark.parametrize("name", ["clay/opus", "away/large"])
def test_what_only_its_own_servers_understand_reaches_them_although_data_was_replaced(name: str) -> None:
    echo = Echo()
    house = masked_house(echo)
    house.providers["clay"] = echo
    house.ask(asking(name, SECRET, max_tokens=9, thinking={"type": "adaptive"}), surface=Messages())
    assert echo.asked[0].extra == ({"thinking": {"type": "adaptive"}} if name == "clay/opus" else None)


def test_what_was_replaced_is_not_in_the_record() -> None:
    house = masked_house(Echo())
    house.ask(asking("away/large", f"mail {SECRET}"))
    assert SECRET not in repr(house.record)


def test_without_a_masker_nothing_leaves() -> None:
    house = House(providers={"away": Echo()}, tenant=MASKED)
    assert house.ask(asking("away/large", SECRET)).status == 502
    assert (house.record.status, house.record.cost_micros) == ("gateway.no_masker", 0)


# several answers


def test_several_answers_are_several_calls_with_one_record() -> None:
    provider = ScriptedProvider(completion("a"), completion("b"), completion("c"))
    house = House(providers={"home": provider}, key=key(Limit(counts="cost", amount=10_000)))
    reply = house.ask(asking("home/small", n=3))
    assert sorted(one["message"]["content"] for one in reply.json["choices"]) == ["a", "b", "c"]
    record = house.record
    assert (record.tokens_in, record.tokens_out, record.cost_micros, record.attempts) == (30, 15, 60, 3)
    assert {request.repeat for request in provider.asked} == {0, 1, 2}


def test_several_answers_may_be_streamed_at_once() -> None:
    provider = ScriptedProvider(deltas("a1", "a2"), deltas("b1", "b2"))
    house = House(providers={"home": provider})
    reply = house.ask(asking("home/small", n=2, stream=True))
    texts = {0: "", 1: ""}
    for event in reply.body.split(b"\n\n"):
        if event.startswith(b"data: {"):
            for choice in msgspec.json.decode(event[6:])["choices"]:
                texts[choice["index"]] += choice["delta"].get("content") or ""
    assert set(texts.values()) == {"a1a2", "b1b2"}
    record = house.record
    assert (record.status, record.tokens_in, record.tokens_out, record.attempts) == ("ok", 20, 10, 2)


def test_when_one_of_several_streams_breaks_off_all_end() -> None:
    fault = BadReply("wire.truncated", host="h")
    house = House(providers={"home": ScriptedProvider(deltas("a1"), [Delta(text="b1"), fault])})
    reply = house.ask(asking("home/small", n=2, stream=True))
    assert reply.aborted
    assert (house.record.status, house.record.unsure) == ("wire.truncated", 1)


@pytest.mark.parametrize("stays", [True, False])
def test_several_streamed_answers_cost_several_calls_also_when_the_client_goes_after_them(
    stays: bool,
) -> None:
    class Lingering(ScriptedProvider):
        async def stream(self, request: Any) -> Any:
            async for delta in super().stream(request):
                yield delta
            if not stays:
                await asyncio.sleep(5)

    price = replace(PRICE, per_call=Decimal("0.01"))
    house = House(providers={"home": Lingering(deltas("a"))}, more_models=[model("home/dear", price=price)])

    async def run() -> None:
        call = house.call(asking("home/dear", n=2, stream=True), reply=(reply := RecordingReply()))
        serving = asyncio.create_task(house.gateway.serve(call))
        done, _ = await asyncio.wait({serving}, timeout=0.05)
        assert bool(done) is stays
        reply.gone = True
        serving.cancel()
        await asyncio.wait({serving})

    asyncio.run(run())
    record = house.record
    assert (record.http_status, record.cost_micros) == (200 if stays else 499, 2 * 10_000 + 40)


@pytest.mark.parametrize("streamed", [False, True])
def test_when_one_of_several_answers_fails_the_others_may_be_billed(streamed: bool) -> None:
    class Third(ScriptedProvider):
        async def complete(self, request: Any) -> Any:
            if request.repeat == 0 and not streamed:
                return completion()
            await asyncio.sleep(0.01 if request.repeat == 2 else 5)
            raise REFUSED

        async def stream(self, request: Any) -> Any:
            yield await self.complete(request)

    money = key(Limit(counts="cost", amount=10_000))
    house = House(providers={"home": Third(completion())}, key=money)
    assert house.ask(asking("home/small", n=3, stream=streamed)).status == 429
    record = house.record
    assert (record.attempts, record.unsure, record.cost_micros) == (3, 2, None)
    assert record.charged_micros > 3 * 200  # 100 tokens of output each, and the prompts


@pytest.mark.parametrize("streamed", [False, True])
def test_when_all_of_several_answers_are_refused_nothing_was_billed(streamed: bool) -> None:
    house = House(providers={"home": ScriptedProvider(REFUSED)})
    assert house.ask(asking("home/small", n=3, stream=streamed)).status == 429
    assert (house.record.attempts, house.record.unsure, house.record.cost_micros) == (3, 0, 0)


def test_that_one_of_several_calls_had_not_been_sent_says_nothing_of_the_others() -> None:
    class Connecting(ScriptedProvider):
        async def complete(self, request: Any) -> Any:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError as error:
                if request.repeat:
                    vars(error)["unsent"] = True  # as `wire.Pools` says it
                raise

    async def left(answers: int) -> int:
        house = House(providers={"home": Connecting()})
        serving = asyncio.create_task(house.gateway.serve(house.call(asking("home/small", n=answers))))
        for _ in range(9):
            await asyncio.sleep(0)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return house.record.unsure

    assert asyncio.run(left(2)) == 1


def test_a_count_that_one_call_does_not_report_is_not_known_of_all() -> None:
    assert Usage.sum([Usage(tokens_in=1, tokens_out=2), Usage(tokens_in=1)]) == Usage(tokens_in=2)
    assert Usage.sum([Usage(tokens_in=1, estimated=True), Usage(tokens_in=1)]).estimated


# other wire formats


@pytest.mark.parametrize("streamed", [False, True])
def test_a_messages_client_may_use_any_model(streamed: bool) -> None:
    provider = ScriptedProvider(deltas("hel", "lo") if streamed else completion())
    house = House(providers={"home": provider})
    body = {
        "model": "home/small",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
        "stream": streamed,
    }
    reply = house.ask(body, surface=Messages())
    assert reply.status == 200
    assert b"hel" in reply.body
    assert (house.record.surface, house.record.cost_micros) == ("messages", 20)
    assert provider.asked[0].sampling.max_tokens == 9


def test_attempts_inside_a_provider_are_in_the_record() -> None:
    house = House(providers={"home": ScriptedProvider(completion(attempts=3))})
    house.ask(asking("home/small"))
    assert house.record.attempts == 3
    failure = Unreachable("providers.read_timeout", host="h", model="m", seconds=1)
    vars(failure)["attempts"] = 2
    house = House(providers={"home": ScriptedProvider(failure)})
    assert house.ask(asking("home/small")).status == 504
    assert (house.record.attempts, house.record.unsure) == (2, 1)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_record_names_the_model_that_the_vendor_says_it_used(streamed: bool) -> None:
    last = Delta(finish_reason="stop", model="small-2026-11-01")
    told: Any = [Delta(text="hello"), last] if streamed else completion(model="small-2026-11-01")
    house = House(providers={"home": ScriptedProvider(told)})
    house.ask(asking("home/small", stream=streamed))
    assert house.record.model_used == "small-2026-11-01"


# usage that nobody reports


def tokens(model: Any, text: str) -> int:
    return len(text)


@pytest.mark.parametrize("way", ["passed whole", "passed stream", "told whole", "told stream"])
def test_usage_that_is_missing_is_counted_and_marked_where_there_is_a_tokenizer(way: str) -> None:
    passed, streamed = way.startswith("passed"), way.endswith("stream")
    whole = msgspec.json.encode({"choices": [{"message": {"role": "assistant", "content": "hello"}}]})
    told: Any = [Delta(text="hello"), Delta(finish_reason="stop")] if streamed else completion(usage=Usage())
    house = House(
        stream(*["hello"] * 400, usage=False) if streamed else Script(body=whole),
        providers={"home": ScriptedProvider(told)},
        count_tokens=tokens,
    )
    house.ask(asking("acme/one" if passed else "home/small", stream=streamed))
    record = house.record
    assert (record.tokens_in, record.estimated) == (2, True)
    assert record.tokens_out is not None
    if passed and streamed:  # the text is gone: its length is known roughly
        assert 1700 <= record.tokens_out <= 2000
    else:
        assert record.tokens_out == 5
    assert record.cost_micros == 2 + 2 * record.tokens_out


@pytest.mark.parametrize("counts", [{"tokens_in": 1 << 62}, {"tokens_in": 3, "tokens_out": (1 << 31) - 1}])
def test_counts_that_no_answer_can_have_are_as_good_as_missing(counts: dict[str, int]) -> None:
    for counter, known in ((None, None), (tokens, 2)):
        provider = ScriptedProvider(completion(usage=Usage(**counts)))
        house = House(
            providers={"home": provider}, count_tokens=counter, key=key(Limit(counts="cost", amount=10_000))
        )
        assert house.ask(asking("home/small")).status == 200
        assert (house.record.tokens_in, house.record.estimated) == (known, bool(known))


def test_usage_that_is_missing_stays_unknown_where_there_is_no_tokenizer() -> None:
    body = msgspec.json.encode({"choices": []})
    for counter in (None, lambda model, text: None):
        house = House(Script(body=body), count_tokens=counter, key=key(Limit(counts="cost", amount=10_000)))
        reply = house.ask()
        record = house.record
        assert (record.tokens_in, record.tokens_out, record.cost_micros, record.estimated) == (
            None,
            None,
            None,
            False,
        )
        assert record.charged_micros > 200
        assert "x-baimo-cost" not in reply.headers


@pytest.mark.parametrize("status", [404, 413, 422])
def test_a_refusal_keeps_a_status_that_programs_tell_apart(status: int) -> None:
    place = Place(host="h", model="m", key="")
    house = House(
        Script(body=answer()), providers={"away": ScriptedProvider(fault(status, "no such thing", place))}
    )
    assert house.ask(asking("away/large")).status == status
