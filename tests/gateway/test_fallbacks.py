"""Which failure passes a call on to which model, what is retried, and what it is charged."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from baimo.core.call import Delta
from baimo.core.tenant import Limit
from baimo.errors import BadReply, MissingExtra, RequestRefused, Unreachable
from baimo.gateway.failures import kind_of
from baimo.gateway.surface import Surface
from baimo.server.surfaces.completions import Completions
from baimo.server.surfaces.images import Images
from baimo.server.surfaces.messages import Messages
from baimo.server.surfaces.responses import Responses
from tests.gateway.doubles import (
    CHAT,
    EVENTS,
    House,
    RecordingReply,
    Script,
    ScriptedProvider,
    answer,
    asking,
    cancelled_at,
    chunk,
    completion,
    key,
    model,
    stream,
)

ROUTE = {"routes": {"best": {"models": ["acme/one", "bolt/three"], "fallback_on": ["error"]}}}
EVERYTHING = ["error", "timeout", "rate_limit", "context_length", "content_policy"]
LIMITED = key(Limit(counts="cost", amount=100_000), Limit(counts="requests", amount=50))


def openai_error(status: int, message: str, code: str = "") -> Script:
    body = b'{"error": {"message": "%s", "code": "%s"}}' % (message.encode(), code.encode())
    return Script(status=status, body=body)


def anthropic_error(status: int, message: str, kind: str = "invalid_request_error") -> Script:
    return Script(
        status=status,
        body=b'{"type": "error", "error": {"type": "%s", "message": "%s"}}'
        % (kind.encode(), message.encode()),
    )


FAILURES: list[tuple[str, Script]] = [
    ("error", openai_error(500, "oops")),
    ("error", Script(error=Unreachable("wire.refused", sent=False, stage="connect", host="h", problem="x"))),
    ("error", Script(error=Unreachable("wire.closed", sent=True, stage="first_byte", host="h", problem="x"))),
    ("error", Script(body_error=BadReply("wire.truncated", host="h"))),
    ("error", openai_error(401, "bad key")),
    ("error", openai_error(404, "no such model")),
    (
        "timeout",
        Script(
            error=Unreachable("wire.first_byte_timeout", sent=True, stage="first_byte", host="h", seconds=1.0)
        ),
    ),
    (
        "timeout",
        Script(error=Unreachable("wire.connect_timeout", sent=False, stage="connect", host="h", seconds=1.0)),
    ),
    ("rate_limit", openai_error(429, "slow down")),
    ("rate_limit", anthropic_error(529, "Overloaded", "overloaded_error")),
    (
        "context_length",
        openai_error(400, "This model's maximum context length is 8192 tokens", "context_length_exceeded"),
    ),
    ("context_length", anthropic_error(400, "prompt is too long: 210000 tokens > 200000 maximum")),
    ("context_length", openai_error(400, "the request exceeds the available context size")),
    ("context_length", openai_error(400, "Range of input length should be [1, 30720]")),
    ("content_policy", openai_error(400, "The response was filtered", "content_filter")),
    ("content_policy", openai_error(400, "rejected", "content_policy_violation")),
    ("content_policy", anthropic_error(400, "Output blocked by content filtering policy")),
    ("content_policy", openai_error(400, "Content Exists Risk", "invalid_request_error")),
    (
        "content_policy",
        openai_error(400, "Input data may contain inappropriate content.", "data_inspection_failed"),
    ),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("kind", "script"), FAILURES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_class_of_failure_falls_back_where_the_route_says_so_and_nowhere_else(
    kind: str, script: Script, streamed: bool
) -> None:
    good = stream("a") if streamed else Script(body=answer())
    for listed in ([kind], [one for one in EVERYTHING if one != kind]):
        house = House(
            by_model={"one": script, "three": good},
            key=LIMITED,
            config={"routes": {"best": {"models": ["acme/one", "bolt/three"], "fallback_on": listed}}},
        )
        reply = house.ask(asking("best", stream=streamed))
        record = house.record
        if kind in listed:
            assert reply.status == 200
            assert (record.model, record.route, record.status) == ("bolt/three", f"fallback:{kind}", "ok")
            assert record.cost_micros == 20
            assert record.asked == "best"
        else:
            assert reply.status != 200
            assert (record.model, record.route) == ("acme/one", "fallback")


def test_a_request_that_is_wrong_is_not_sent_to_the_next_model() -> None:
    house = House(
        by_model={"one": openai_error(400, "temperature must be a number"), "three": Script(body=answer())},
        config={"routes": {"best": {"models": ["acme/one", "bolt/three"], "fallback_on": EVERYTHING}}},
    )
    assert house.ask(asking("best")).status == 400
    assert len(house.pool.sent) == 1


@pytest.mark.parametrize("streamed", [False, True])
def test_a_model_whose_library_is_missing_is_passed_over(streamed: bool) -> None:
    missing = MissingExtra("core.missing_extra", module="openvino", extra="local", purpose="p")
    good = stream("a") if streamed else Script(body=answer())
    house = House(
        good,
        providers={"home": ScriptedProvider(missing)},
        config={"routes": {"best": {"models": ["home/small", "bolt/three"]}}},
    )
    assert house.ask(asking("best", stream=streamed)).status == 200
    assert (house.record.model, house.record.route) == ("bolt/three", "fallback:error")
    alone = House(providers={"home": ScriptedProvider(missing)}, key=LIMITED)
    reply = alone.ask(asking("home/small", stream=streamed))
    assert (reply.status, reply.json["error"]["code"]) == (503, "not_installed")
    assert "baimo[local]" in reply.json["error"]["message"]
    assert (alone.record.unsure, alone.record.charged_micros) == (0, 0)


def test_nothing_falls_back_once_the_client_has_the_first_byte() -> None:
    broken = Script(pieces=[chunk("a"), BadReply("wire.truncated", host="h")], headers=EVENTS)
    house = House(by_model={"one": broken, "three": stream("b")}, config=ROUTE)
    reply = house.ask(asking("best", stream=True))
    assert reply.aborted
    assert len(house.pool.sent) == 1


def test_a_failure_that_may_have_been_billed_is_charged_besides_the_answer() -> None:
    lost = Script(error=Unreachable("wire.closed", sent=True, stage="first_byte", host="h", problem="x"))
    house = House(by_model={"one": lost, "three": Script(body=answer())}, key=LIMITED, config=ROUTE)
    house.ask(asking("best"))
    record = house.record
    assert (record.cost_micros, record.unsure, record.attempts) == (20, 1, 2)
    assert record.charged_micros > 20 + 200  # the lost attempt's bound: its prompt and 100 x 2 of output
    assert house.books.used["key:abcdef123456:cost:total:"] == record.charged_micros


def test_a_fallback_that_cannot_be_paid_is_not_sent() -> None:
    lost = Script(error=Unreachable("wire.closed", sent=True, stage="first_byte", host="h", problem="x"))
    house = House(
        by_model={"one": lost, "three": Script(body=answer())},
        key=key(Limit(counts="cost", amount=900)),  # enough for one call's bound, not for two
        config=ROUTE,
    )
    assert house.ask(asking("best")).status == 502
    assert len(house.pool.sent) == 1
    assert house.record.charged_micros <= 900


def test_limits_of_the_models_are_charged_to_the_one_that_answered() -> None:
    limited = {"limits": [{"counts": "requests", "amount": 9}, {"counts": "cost", "amount": 1}]}
    house = House(
        by_model={"one": openai_error(500, "x"), "three": Script(body=answer())},
        config={**ROUTE, "models": {"acme/one": limited, "bolt/three": limited}},
    )
    house.ask(asking("best"))
    house.books.settled()
    assert +house.books.used == {"model:bolt/three:requests:total:": 1, "model:bolt/three:cost:total:": 20}


def test_a_model_whose_own_limit_is_used_up_is_passed_over_where_the_route_says_so() -> None:
    config = {
        "models": {"acme/one": {"limits": [{"counts": "requests", "amount": 1}]}},
        "routes": {
            "best": {"models": ["acme/one", "bolt/three"], "fallback_on": ["rate_limit"]},
            "strict": {"models": ["acme/one", "bolt/three"], "fallback_on": ["error"]},
        },
    }
    house = House(Script(body=answer()), key=key(Limit(counts="requests", amount=3)), config=config)
    replies = [house.ask(asking(name)) for name in ("best", "best", "strict", "best", "best")]
    assert [reply.status for reply in replies] == [200, 200, 429, 200, 429]  # the last by the key's own limit
    assert [(one.model, one.route) for one in house.books.records] == [
        ("acme/one", "fallback"),
        ("bolt/three", "fallback:rate_limit"),
        ("bolt/three", "fallback:rate_limit"),
    ]
    house.books.settled()


@pytest.mark.parametrize(("last", "second"), [("bolt/three", 200), ("acme/unpriced", 429)])
def test_a_model_without_a_price_is_passed_over_where_the_one_before_it_is_full(
    last: str, second: int
) -> None:
    models = ["acme/one", "acme/unpriced", last]
    config = {
        "models": {"acme/one": {"limits": [{"counts": "requests", "amount": 1}]}},
        "routes": {"best": {"models": models, "fallback_on": ["rate_limit"]}},
    }
    house = House(Script(body=answer()), key=LIMITED, config=config)
    assert [house.ask(asking("best")).status for _ in range(2)] == [200, second]
    assert [one.model for one in house.books.records] == ["acme/one", last][: 2 if second == 200 else 1]
    house.books.settled()


def test_a_model_without_a_price_is_passed_over_where_it_is_the_first() -> None:
    models = ["acme/unpriced", "bolt/three", "acme/one"]
    config = {"routes": {"best": {"models": models, "fallback_on": []}, "dear": {"models": models[:1] * 2}}}
    house = House(Script(body=answer()), key=LIMITED, config=config)
    assert [house.ask(asking(name)).status for name in ("best", "dear", "acme/unpriced")] == [200, 403, 403]
    assert [(one.model, one.route) for one in house.books.records] == [("bolt/three", "fallback")]
    free = House(Script(body=answer()), config=config)
    free.ask(asking("best"))
    assert free.record.model == "acme/unpriced"


def test_it_is_said_which_fallback_was_passed_over_and_why(caplog: pytest.LogCaptureFixture) -> None:
    config = {"routes": {"best": {"models": ["acme/one", "acme/unpriced"]}}}
    house = House(openai_error(500, "x"), key=LIMITED, config=config)
    assert house.ask(asking("best")).status == 502
    (line,) = [one for one in caplog.records if one.name == "baimo.gateway"]
    assert "acme/unpriced is passed over" in line.message and "nobody knows what" in line.message
    assert vars(line)["repeats"] == "passed over:acme/unpriced:gateway.unpriced"


def test_routes_with_models_that_were_switched_off_are_named_at_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = {"routes": {"best": {"models": ["acme/one", "acme/gone", "acme/soon"]}}}
    gone = [model("acme/gone", shutdown="2026-07-24"), model("acme/soon", shutdown="2026-07-25")]
    House(config=config, more_models=gone, wall=lambda: 1784851200.0)  # 2026-07-24
    assert [one.message for one in caplog.records if "switched off" in one.message] == [
        "route best names acme/gone, which its vendor switched off on 2026-07-24;"
        " put a model that lives into [routes.best]"
    ]


def test_a_fallback_may_speak_another_wire_format() -> None:
    house = House(
        openai_error(500, "x"),
        providers={"home": ScriptedProvider(completion("from home"))},
        config={"routes": {"best": {"models": ["acme/one", "home/small"]}}},
    )
    reply = house.ask(asking("best"))
    assert reply.json["choices"][0]["message"]["content"] == "from home"
    assert reply.json["model"] == "best"
    assert reply.headers["x-baimo-model"] == "home/small"


@pytest.mark.parametrize("sent", [True, False])
def test_one_model_is_asked_again_only_when_nothing_of_the_request_was_taken(sent: bool) -> None:
    error = Unreachable("wire.reset", sent=sent, stage="connect", host="h", problem="x")
    house = House(Script(error=error), Script(body=answer()))
    reply = house.ask()
    assert reply.status == (502 if sent else 200)
    assert house.record.attempts == (1 if sent else 2)


def test_retries_end_with_their_number() -> None:
    house = House(
        Script(error=Unreachable("wire.refused", sent=False, stage="connect", host="h", problem="x")),
        config={"serve": {"retries": 4}},
    )
    house.ask()
    assert house.record.attempts == 5
    assert house.slept == pytest.approx([0.1, 0.2, 0.4])


def test_a_long_pause_is_left_to_the_client() -> None:
    house = House(Script(status=429, body=b"{}", headers={b"retry-after": b"3600"}))
    reply = house.ask()
    assert (reply.status, house.slept) == (429, [])
    assert reply.headers["retry-after"] == "3600"


def test_a_server_that_keeps_failing_is_left_alone_and_its_route_goes_on() -> None:
    house = House(
        by_model={"one": openai_error(500, "x"), "three": Script(body=answer())},
        config={**ROUTE, "serve": {"breaker_failures": 2}},
    )
    for _ in range(4):
        assert house.ask(asking("best")).status == 200
    asked = [row["model"] for _, _, row in house.pool.sent]
    assert asked == ["one", "three", "one", "three", "three", "three"]
    reply = house.ask(asking("acme/one"))
    assert (reply.status, "left alone" in reply.json["error"]["message"]) == (503, True)
    assert int(reply.headers["retry-after"]) <= 30
    house.books.settled()


def test_a_breaker_that_rested_lets_one_call_try() -> None:
    time = 1000.0
    house = House(
        by_model={"one": [openai_error(500, "x"), Script(body=answer()), Script(body=answer())]},
        config={"serve": {"breaker_failures": 1}},
        now=lambda: time,
    )
    assert [house.ask().status for _ in range(2)] == [502, 503]
    time += 31
    assert [house.ask().status for _ in range(2)] == [200, 200]


def test_refusals_do_not_open_the_breaker() -> None:
    house = House(openai_error(400, "no"), config={"serve": {"breaker_failures": 1}})
    assert [house.ask().status for _ in range(3)] == [400, 400, 400]


def test_the_call_as_a_whole_has_a_deadline() -> None:
    class Slow(ScriptedProvider):
        async def complete(self, request: Any) -> Any:
            await asyncio.sleep(30)

    house = House(
        providers={"home": Slow(completion())}, config={"serve": {"call_timeout_s": 0.05}}, key=LIMITED
    )
    assert house.ask(asking("home/small")).status == 504
    assert (house.record.status, house.record.unsure) == ("gateway.too_late", 1)


# hedging

HEDGED = {"routes": {"best": {"models": ["acme/one", "bolt/three"], "hedge_after_ms": 5}}}


def test_without_need_nothing_is_hedged() -> None:
    house = House(by_model={"one": Script(body=answer()), "three": Script(body=answer())}, config=HEDGED)
    house.ask(asking("best"))
    assert (len(house.pool.sent), house.record.route, house.record.unsure) == (1, "fallback", 0)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_slow_model_loses_and_is_counted(streamed: bool) -> None:
    slow = Script(body=answer("slow"), waits=5)
    quick = stream("quick") if streamed else Script(body=answer("quick"))
    house = House(by_model={"one": slow, "three": quick}, config=HEDGED, key=LIMITED)
    reply = house.ask(asking("best", stream=streamed))
    record = house.record
    assert b"quick" in reply.body
    assert (record.model, record.route, record.unsure, record.attempts) == ("bolt/three", "hedge", 1, 2)
    assert (record.cost_micros, record.charged_micros > 220) == (20, True)


def test_the_first_model_may_win_after_all() -> None:
    house = House(
        by_model={
            "one": Script(body=answer("first"), waits=0.03),
            "three": Script(body=answer("late"), waits=5),
        },
        config=HEDGED,
        key=LIMITED,
    )
    reply = house.ask(asking("best"))
    record = house.record
    assert b"first" in reply.body
    assert (record.model, record.route, record.unsure) == ("acme/one", "fallback", 1)


@pytest.mark.parametrize("winner", ["one", "three", "both fail"])
def test_a_hedge_is_charged_to_the_limits_of_the_winner_and_of_nobody_else(winner: str) -> None:
    def limits(*counts: str) -> dict[str, Any]:
        return {"limits": [{"counts": one, "amount": 50_000, "window": "day"} for one in counts]}

    scripts = {
        "one": Script(body=answer(), waits=0.03 if winner == "one" else 5),
        "three": Script(body=answer(), waits=0.001 if winner == "three" else 5),
    }
    if winner == "both fail":
        scripts = {"one": openai_error(500, "x"), "three": openai_error(500, "y")}
        scripts["one"].waits = 0.03
    house = House(
        by_model=scripts,
        config={**HEDGED, "models": {"acme/one": limits("cost"), "bolt/three": limits("tokens", "requests")}},
        key=LIMITED,
    )
    house.ask(asking("best"))
    record = house.record  # nothing is charged more than was reserved for it
    charged = {tuple(bucket.split(":")[1:3]): amount for bucket, amount in house.books.used.items()}
    by_three = winner == "three"
    assert charged == {
        ("acme/one", "cost"): 0 if by_three else record.charged_micros,
        ("bolt/three", "tokens"): record.charged_tokens if by_three else 0,
        ("bolt/three", "requests"): 1 if by_three else 0,
        ("abcdef123456", "cost"): record.charged_micros,
        ("abcdef123456", "requests"): 1,
    }


def test_when_both_fail_the_client_hears_of_the_first() -> None:
    house = House(
        by_model={
            "one": Script(error=BadReply("wire.not_http", host="h", problem="x"), waits=0.03),
            "three": openai_error(500, "y"),
        },
        config=HEDGED,
        key=LIMITED,
    )
    assert house.ask(asking("best")).status == 502
    assert (house.record.status, house.record.unsure) == ("wire.not_http", 1)


def test_no_hedge_is_sent_that_cannot_be_paid() -> None:
    house = House(
        by_model={"one": Script(body=answer(), waits=0.03), "three": Script(body=answer())},
        config=HEDGED,
        key=key(Limit(counts="cost", amount=900)),
    )
    assert house.ask(asking("best")).status == 200
    assert (len(house.pool.sent), house.record.cost_micros) == (1, 20)


def test_a_hedged_call_cancelled_at_any_point_has_one_record() -> None:
    for suspension in range(1, 30):
        house = House(
            by_model={"one": Script(body=answer(), waits=0.02), "three": Script(body=answer(), waits=0.01)},
            config=HEDGED,
            key=LIMITED,
        )

        async def run(house: House = house, at: int = suspension) -> bool:
            reply = RecordingReply()
            reached = await cancelled_at(
                house.gateway.serve(house.call(asking("best"), reply=reply)), at, reply
            )
            assert len(asyncio.all_tasks()) == 1  # no attempt goes on by itself
            return reached

        reached = asyncio.run(run())
        record = house.record
        if record.http_status == 499:
            assert record.unsure == record.attempts
            assert 200 * record.unsure <= record.charged_micros < 1000 * record.unsure + 1
        if not reached:
            assert record.status == "ok"
            return
    pytest.fail("it never came to its end")


def test_a_client_that_leaves_before_the_next_attempt_pays_for_those_that_were_made() -> None:
    lost = Script(error=Unreachable("wire.closed", sent=True, stage="first_byte", host="h", problem="x"))
    busy = Script(status=429, body=b"{}", headers={b"retry-after": b"20"})
    route = {"models": ["acme/one", "bolt/three"], "fallback_on": ["error"]}

    async def left(name: str) -> Any:
        house = House(
            by_model={"one": lost, "three": busy, "two": busy},
            config={"routes": {"best": route}},
            key=LIMITED,
            sleep=asyncio.sleep,
        )
        reply = RecordingReply()
        serving = asyncio.create_task(house.gateway.serve(house.call(asking(name), reply=reply)))
        for _ in range(20):
            await asyncio.sleep(0)
        reply.gone = True
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return house.record

    record = asyncio.run(left("acme/two"))
    assert (record.status, record.http_status, record.attempts) == ("gateway.client_gone", 499, 1)
    assert (record.unsure, record.cost_micros, record.charged_micros) == (0, 0, 0)
    record = asyncio.run(left("best"))
    assert (record.attempts, record.unsure, record.cost_micros) == (2, 1, None)
    assert 200 < record.charged_micros == record.reserved[0].amount / 2  # the first alone


# what a failure is


@pytest.mark.parametrize(
    ("error", "body", "kind"),
    [
        (RequestRefused("providers.refused", status=400, detail="x"), "输入内容过长", "context_length"),
        (RequestRefused("providers.refused", status=400, detail="prompt is too long"), "", "context_length"),
        (RequestRefused("providers.refused", status=400, detail="x"), '{"code":"1301"}', "content_policy"),
        (RequestRefused("providers.refused", status=422, detail="no such field"), "", ""),
        (TimeoutError(), "", "timeout"),
        (ValueError(), "", ""),
    ],
)
def test_failures_are_told_apart_by_the_vendors_words(error: BaseException, body: str, kind: str) -> None:
    assert kind_of(error, body) == kind


@pytest.mark.parametrize("status", [200, 204])
def test_an_answer_without_a_body_is_none_and_the_next_model_is_asked(status: int) -> None:
    nothing = Script(status=status, headers={})
    route = {"models": ["acme/one", "bolt/three"], "fallback_on": ["error"]}
    house = House(
        by_model={"one": nothing, "two": nothing, "three": Script(body=answer())},
        config={"routes": {"best": route}},
        key=LIMITED,
    )
    assert house.ask(asking("acme/two")).status == 502
    assert house.ask(asking("best")).status == 200
    alone, routed = house.books.records
    assert (alone.status, alone.unsure, alone.cost_micros) == ("gateway.empty", 1, None)
    assert (routed.model, routed.route, routed.unsure) == ("bolt/three", "fallback:error", 1)


ERRORS_WITH_200: list[tuple[str, bytes]] = [
    ("error", b'{"id": "gen-1", "error": {"message": "Upstream is overloaded", "code": 502}}'),
    ("error", b'{"type": "error", "error": {"type": "api_error", "message": "oops"}}'),
    ("rate_limit", b'{"error": {"type": "rate_limit_error", "message": "slow down"}, "usage": null}'),
    ("context_length", b'{"error": {"code": "context_length_exceeded", "message": "too long"}}'),
    ("rate_limit", b'{"choices": null, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}}'),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("kind", "body"), ERRORS_WITH_200)
def test_an_error_with_status_200_is_no_answer(kind: str, body: bytes, streamed: bool) -> None:
    config = {"routes": {"best": {"models": ["acme/one", "bolt/three"], "fallback_on": [kind]}}}
    good = stream("a") if streamed else Script(body=answer())
    # whatever such an answer says that it is
    bad = Script(pieces=[body[:9], body[9:]], headers=EVENTS if streamed else {b"content-type": b"text/json"})
    house = House(by_model={"one": bad, "three": good}, key=LIMITED, config=config)
    reply, record = house.ask(asking("best", stream=streamed)), house.record
    assert (reply.status, reply.ended, b'"error"' in reply.body) == (200, True, False)
    assert (record.model, record.route, record.cost_micros) == ("bolt/three", f"fallback:{kind}", 20)
    house = House(bad, key=LIMITED)
    reply, record = house.ask(asking(stream=streamed)), house.record
    assert reply.status == record.http_status >= 400
    assert reply.json["error"]["message"]
    # like a refusal with a status of its own: nothing was executed
    assert (record.cost_micros, record.unsure) == (0, 0)


OVERLOADED = (
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
)
BEGUN = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":1}}}\n\n'
CREATED = b'data: {"type":"response.created","response":{"status":"in_progress","error":null}}\n\n'
FIRST_EVENTS: list[tuple[Surface, str, bytes, str, int, int]] = [
    (CHAT, "acme/one", b'data: {"error":{"code":429,"message":"slow"}}\n\n', "rate_limit", 429, 0),
    (CHAT, "acme/one", b': hello\ndata: {"error":{"code":500,"message":"x"}}', "error", 502, 0),
    (CHAT, "acme/one", b'data: {"error":{"code":504,"message":"x"}}\n\n', "error", 502, 1),
    (CHAT, "acme/one", b'data: {"error":{"type":"authentication_error"}}\n\n', "error", 502, 0),
    (CHAT, "acme/one", b'data: {"error":"prompt is too long"}\n\n', "context_length", 502, 0),
    (CHAT, "acme/one", chunk("a") + b'data: {"error":{"code":429}}\n\n', "rate_limit", 429, 1),
    (Messages(), "clay/opus", OVERLOADED, "rate_limit", 429, 0),
    (Messages(), "clay/opus", b'data: {"type":"ping"}\n\n' + OVERLOADED, "rate_limit", 429, 0),
    (Messages(), "clay/opus", BEGUN + OVERLOADED, "rate_limit", 429, 1),
    (
        Responses(),
        "dune/gpt",
        b'data: {"type":"error","code":"rate_limit_exceeded","message":"m"}\n\n',
        *("rate_limit", 429, 0),
    ),
    (
        Responses(),
        "dune/gpt",
        CREATED
        + b'data: {"type":"response.failed","response":{"status":"failed","error":{"code":"server_error"}}}\n\n',
        *("error", 502, 1),
    ),
]


@pytest.mark.parametrize(("surface", "name", "piece", "kind", "status", "unsure"), FIRST_EVENTS)
def test_an_error_that_begins_a_stream_is_what_it_is_as_json(
    surface: Surface, name: str, piece: bytes, kind: str, status: int, unsure: int
) -> None:
    bad = Script(pieces=[piece], headers=EVENTS)
    asked = {**asking(stream=True), **({"input": "hi"} if surface.name == "responses" else {"max_tokens": 9})}
    if surface.name == "responses":
        del asked["messages"]
    for listed in ([kind], [one for one in EVERYTHING if one != kind]):
        house = House(
            bad,
            providers={"home": ScriptedProvider([Delta(text="a"), Delta(finish_reason="stop")])},
            key=LIMITED,
            config={"routes": {"best": {"models": [name, "home/small"], "fallback_on": listed}}},
        )
        reply, record = house.ask({**asked, "model": "best"}, surface=surface), house.record
        assert record.unsure == unsure
        if kind in listed:
            assert (reply.status, record.route, record.status) == (200, f"fallback:{kind}", "ok")
        else:
            assert (reply.status, reply.started) == (status, False)


def test_a_stream_that_begins_with_an_error_says_when_to_come_again() -> None:
    detail = '"details": [{"retryDelay": "3s"}]'
    event = b'data: {"error": {"code": 429, "message": "quota", %s}}\n\n' % detail.encode()
    house = House(Script(pieces=[event], headers=EVENTS), config={"serve": {"retries": 0}})
    reply = house.ask(asking(stream=True))
    assert (reply.status, reply.headers["retry-after"]) == (429, "3")


ANSWERS_WITHOUT_USAGE: list[tuple[bytes, bytes]] = [
    (b"application/json", b'{"object": "list", "data": [{"embedding": [0.1]}], "error": null}'),
    (
        b"application/json",
        b'{"created": 1, "data": [{"url": "x"}, {"error": {"code": "e", "message": "m"}}]}',
    ),
    (
        b"application/json",
        b'{"data": [{"url": "x"}], "error": {"code": "e", "message": "one of two failed"}}',
    ),
    (b"application/json", b'{"vectors": [[1]], "base_resp": {"status_code": 0, "status_msg": "success"}}'),
    (b"application/json", b'{"text": "he said \\"error\\": no"}'),
    (b"application/json", b'["error"]'),
    (b"text/plain", b'{"error": "is what the speaker read out"}'),
    (b"audio/mpeg", b'\xff\xfb {"error"'),
]


@pytest.mark.parametrize(("kind", "body"), ANSWERS_WITHOUT_USAGE)
def test_an_answer_that_counts_nothing_is_an_answer_all_the_same(kind: bytes, body: bytes) -> None:
    house = House(Script(body=body, headers={b"content-type": kind}))
    reply = house.ask({"model": "acme/one", "prompt": "a cat"}, surface=Images())
    assert (reply.status, reply.body, house.record.status) == (200, body, "ok")


COUNTED = b'"usage": {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4}'
NO_ANSWERS: list[tuple[Surface, str, bytes]] = [
    (CHAT, "acme/one", b"{}"),
    (CHAT, "acme/one", b'{"choices": []}'),
    (CHAT, "acme/one", b'{"choices": [], %s}' % COUNTED),
    (CHAT, "acme/one", b'{"choices": null, %s}' % COUNTED),
    (Completions(), "acme/one", b"{%s}" % COUNTED),
    (Messages(), "clay/opus", b'{"type": "message", "usage": {"input_tokens": 4, "output_tokens": 0}}'),
    (Responses(), "dune/gpt", b'{"object": "response"}'),
]


@pytest.mark.parametrize(("surface", "name", "body"), NO_ANSWERS)
def test_a_whole_answer_that_holds_none_is_passed_over(surface: Surface, name: str, body: bytes) -> None:
    member = {"completions": "prompt", "responses": "input"}.get(surface.name, "messages")
    given = asking()["messages"] if member == "messages" else "hi"
    asked = {"model": "best", member: given}
    asked |= {} if member == "input" else {"max_tokens": 9}
    config = {"routes": {"best": {"models": [name, "home/small"]}}}
    house = House(
        Script(body=body), providers={"home": ScriptedProvider(completion())}, key=LIMITED, config=config
    )
    reply = house.ask(asked, surface=surface)
    assert (reply.status, house.record.route, house.record.unsure) == (200, "fallback:error", 1)
    alone = House(Script(body=body), key=LIMITED)
    assert alone.ask({**asked, "model": name}, surface=surface).status == 502
    assert alone.record.status == "providers.no_choices"


@pytest.mark.parametrize(
    ("surface", "name", "body"),
    [
        (CHAT, "acme/one", b'{"choices": [{"message": {"content": "hi"}}]}'),
        (CHAT, "acme/one", b'{"choices": [{"finish_reason": null}], %s}' % COUNTED),
        (Messages(), "clay/opus", b'{"type": "message", "content": [], "stop_reason": "end_turn"}'),
        (Messages(), "clay/opus", b'{"content": [{"type": "text", "text": "hi"}]}'),
        (Responses(), "dune/gpt", b'{"output": [], "status": "completed"}'),
    ],
)
def test_an_answer_that_leaves_things_out_is_one(surface: Surface, name: str, body: bytes) -> None:
    asked = {**asking(name), "input": "hi", "max_tokens": 9}
    house = House(Script(body=body))
    assert house.ask(asked, surface=surface).body == body
    assert house.record.status == "ok"


@pytest.mark.parametrize("body", [b'{"choices": [', b'{"choices": []}', b'{"detail": "hello"}'])
def test_json_that_is_no_answer_begins_no_stream(body: bytes) -> None:
    house = House(by_model={"one": Script(body=body), "three": stream("a")}, key=LIMITED, config=ROUTE)
    reply, record = house.ask(asking("best", stream=True)), house.record
    assert (reply.status, reply.ended, record.model, record.unsure) == (200, True, "bolt/three", 1)


def test_a_whole_response_in_place_of_a_stream_is_passed_over() -> None:
    body = b'{"object": "response", "status": "completed", "output": [{"type": "message"}]}'
    house = House(Script(body=body))
    reply = house.ask({"model": "dune/gpt", "input": "Hi", "stream": True}, surface=Responses())
    assert (reply.status, house.record.status) == (502, "gateway.not_streamed")


def test_what_only_passes_through_may_come_whole() -> None:
    body = b'{"created": 1, "data": [{"b64_json": "eA=="}], "usage": {"input_tokens": 3, "output_tokens": 4}}'
    house = House(Script(body=body))
    reply = house.ask({"model": "acme/one", "prompt": "a cat", "stream": True}, surface=Images())
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, body, "application/json")
    assert (house.record.status, house.record.tokens_out) == ("ok", 4)


def test_a_response_that_failed_reaches_the_client_as_it_is() -> None:
    body = b'{"object": "response", "status": "failed", "error": {"code": "server_error", "message": "m"}}'
    house = House(Script(body=body))
    reply = house.ask({"model": "dune/gpt", "input": "Hi"}, surface=Responses())
    assert (reply.status, reply.body) == (200, body)
