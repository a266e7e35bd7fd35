from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.call import Request, Sampling, Usage
from baimo.core.message import Message, ToolCall
from baimo.core.registry import Spec
from baimo.core.tenant import Limit
from baimo.errors import BudgetExceeded, ProviderError, RequestRefused, UsageError
from baimo.evals.answers import JUDGE, Answers, Limits, Payer, prompt_bytes
from baimo.store.purses import Limited, Purse
from baimo.store.store import Store
from baimo.testing.clock import FakeClock
from tests.evals.doubles import CHEAP, Scripted, buying, memory, model, route


@pytest.fixture
def store() -> Iterator[Store]:
    opened = memory()
    yield opened
    opened.close()


def request(text: str = "question", most: int = 10) -> Request:
    return Request(
        model="model",
        messages=(Message(role="user", content=text),),
        sampling=Sampling(temperature=0.0, max_tokens=most),
    )


def test_the_second_time_an_answer_is_taken_from_the_store_and_free(store: Store) -> None:
    provider = Scripted()

    async def twice() -> None:
        first = await buying(store).get(route(provider), request())
        second = await buying(store, run="run_b").get(route(provider), request())
        assert (first.cost_micros, first.price_micros, first.reused) == (20_000, 20_000, False)
        assert (second.cost_micros, second.price_micros, second.reused) == (0, 20_000, True)
        assert second.completion == first.completion

    asyncio.run(twice())
    assert provider.asked.total() == 1
    assert [record.cost_micros for record in store.records()] == [20_000]


def test_two_who_ask_the_same_at_once_share_one_call(store: Store) -> None:
    provider, answers = Scripted(), buying(store)

    async def both() -> None:
        pair = await asyncio.gather(*(answers.get(route(provider), request()) for _ in range(2)))
        assert [answer.cost_micros for answer in pair] == [20_000, 0]

    asyncio.run(both())
    assert provider.asked.total() == answers.bill.calls == 1


def test_another_server_parameter_or_repetition_is_another_question(store: Store) -> None:
    one, other = Scripted(name="one"), Scripted(name="other")

    async def ask() -> None:
        answers = buying(store)
        await answers.get(route(one), request())
        await answers.get(route(other), request())
        await answers.get(route(one), request(most=11))

    asyncio.run(ask())
    assert (one.asked.total(), other.asked.total()) == (2, 1)


def test_a_call_that_fails_is_in_the_ledger_with_its_attempts_and_an_unknown_cost(store: Store) -> None:
    error = RequestRefused("providers.disconnected", host="h", model="m")
    vars(error)["attempts"] = 3
    answers = buying(store)

    async def ask() -> None:
        with pytest.raises(ProviderError):
            await answers.get(route(Scripted(lambda _: error)), request())

    asyncio.run(ask())
    (record,) = store.records()
    assert (record.status, record.attempts, record.cost_micros) == ("providers.disconnected", 3, None)
    assert (answers.bill.calls, answers.bill.failed) == (0, 1)


@pytest.mark.parametrize(("attempts", "records"), [(0, 0), (1, 1)])
def test_a_call_given_up_is_in_the_ledger_only_if_it_was_sent(
    store: Store, attempts: int, records: int
) -> None:
    given_up = asyncio.CancelledError()
    vars(given_up)["attempts"] = attempts

    async def ask() -> None:
        with pytest.raises(asyncio.CancelledError):
            await buying(store).get(route(Scripted(lambda _: given_up)), request())

    asyncio.run(ask())
    assert [record.status for record in store.records()] == ["cancelled"] * records


def test_an_unknown_price_is_never_counted_as_nothing(store: Store) -> None:
    answers = buying(store)

    async def ask() -> None:
        answer = await answers.get(route(Scripted(), price=None), request())
        assert answer.cost_micros is None

    asyncio.run(ask())
    assert answers.bill.total_micros is None
    assert [record.cost_micros for record in store.records()] == [None]


@pytest.mark.parametrize("at_once", [1, 20])
@pytest.mark.parametrize("most", [0, 1, 5])
def test_no_number_of_calls_at_once_makes_more_calls_than_the_limit(
    store: Store, most: int, at_once: int
) -> None:
    provider, answers = Scripted(), buying(store, limits=Limits(calls=most))

    async def ask() -> list[object]:
        came: list[object] = []
        for start in range(0, 20, at_once):
            some = (answers.get(route(provider), request(str(start + n))) for n in range(at_once))
            came += await asyncio.gather(*some, return_exceptions=True)
        return came

    came = asyncio.run(ask())
    assert provider.asked.total() == answers.bill.calls == most
    assert sum(isinstance(one, BudgetExceeded) for one in came) == 20 - most


@given(
    limit=st.integers(0, 400_000),
    lengths=st.lists(st.integers(1, 60), max_size=12),
    at_once=st.integers(1, 12),
)
def test_no_order_of_calls_spends_more_than_the_limit(limit: int, lengths: list[int], at_once: int) -> None:
    store = memory()
    answers = buying(store, limits=Limits(cost_micros=limit))

    async def ask() -> None:
        for start in range(0, len(lengths), at_once):
            some = [
                answers.get(route(Scripted()), request(f"{start + n}", most=max(10, length)))
                for n, length in enumerate(lengths[start : start + at_once])
            ]
            for came in await asyncio.gather(*some, return_exceptions=True):
                assert not isinstance(came, BaseException) or isinstance(came, BudgetExceeded)

    asyncio.run(ask())
    assert answers.bill.cost_micros == sum(record.cost_micros or 0 for record in store.records()) <= limit
    store.close()


def test_a_limit_on_money_refuses_a_model_without_price(store: Store) -> None:
    provider = Scripted()

    async def ask() -> None:
        with pytest.raises(UsageError):
            answers = buying(store, limits=Limits(cost_micros=10**9))
            await answers.get(route(provider, price=None), request())

    asyncio.run(ask())
    assert provider.asked.total() == 0


def test_in_its_next_life_a_run_has_on_its_bill_what_it_meets_again(store: Store) -> None:
    provider = Scripted()

    async def live(most: int, questions: int) -> tuple[int, int, int]:
        answers = buying(store, limits=Limits(calls=most))
        reused = 0
        for number in range(questions):
            reused += (await answers.get(route(provider), request(str(number)))).reused
        return answers.bill.calls, answers.bill.cost_micros, reused

    assert asyncio.run(live(3, 3)) == (3, 60_000, 0)
    assert asyncio.run(live(3, 3)) == (3, 60_000, 0)
    assert provider.asked.total() == 3


def test_what_earlier_lives_paid_counts_towards_the_limit_before_it_is_met_again(store: Store) -> None:
    provider = Scripted()

    async def live(*questions: str) -> None:
        answers = buying(store, limits=Limits(calls=2, cost_micros=10**9))
        for question in questions:
            await answers.get(route(provider), request(question))

    asyncio.run(live("a", "b"))
    with pytest.raises(BudgetExceeded):
        asyncio.run(live("c"))
    assert provider.asked.total() == 2


def test_what_judges_take_is_known_apart(store: Store) -> None:
    answers = buying(store)

    async def ask() -> None:
        await answers.get(route(Scripted()), request("a"))
        await answers.get(route(Scripted()), request("b"), surface=JUDGE)

    asyncio.run(ask())
    assert (answers.bill.judging_micros, answers.bill.cost_micros) == (20_000, 40_000)
    assert {record.surface for record in store.records()} == {"compare", "judge"}


def test_what_is_stored_is_counted_per_question(store: Store) -> None:
    provider, answers = Scripted(), buying(store)
    asyncio.run(answers.get(route(provider), request("a")))
    asked = [(route(provider), request(text)) for text in ("a", "a", "b")]
    assert answers.stored(asked) == 2


@given(st.text(max_size=200), st.text(max_size=50))
def test_bytes_bound_the_tokens_of_any_byte_level_tokenizer(content: str, arguments: str) -> None:
    call = ToolCall(id="1", name="f", arguments=arguments)
    messages = (
        Message(role="user", content=content),
        Message(role="assistant", content="", tool_calls=(call,)),
    )
    assert prompt_bytes(messages) >= len(content.encode()) + len(arguments.encode())


def test_the_most_a_call_may_cost_covers_every_answer_within_max_tokens(store: Store) -> None:
    most = buying(store).most_micros(model(), request("ten bytes!", most=50))
    worst = CHEAP.cost_micros(Usage(tokens_in=len("ten bytes!"), tokens_out=50))
    assert most is not None
    assert worst is not None
    assert most >= worst


def test_a_local_model_whose_weights_were_replaced_is_asked_again(store: Store) -> None:
    class Local(Scripted):
        weights = "one"

        def spec_of(self, model: str) -> Spec:
            return Spec(name="local", args={"model": model, "file": self.weights})

    provider = Local()

    async def asked() -> int:
        await buying(store).get(route(provider), request())
        return provider.asked.total()

    assert [asyncio.run(asked()), asyncio.run(asked())] == [1, 1]
    provider.weights = "two"
    assert asyncio.run(asked()) == 2


def test_a_call_is_charged_to_the_window_in_which_it_was_made_and_none_is_made_that_a_new_window_does_not_cover(
    store: Store,
) -> None:
    clock = FakeClock(wall=86_400 * 20_000 - 1)
    purse = Purse(store.database, [Limited("key", "k", Limit(counts="cost", amount=100_000, window="day"))])
    purse.fill(90_000, int(clock.wall() * 1000))
    provider = Scripted()
    provider.gate = asyncio.Event()
    payer = Payer(key="k", purse=purse)
    answers = Answers(store, clock, run="run_a", config_hash="", currency="USD", rates={}, payer=payer)

    async def over_midnight() -> None:
        asked = asyncio.create_task(answers.get(route(provider), request()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        clock.advance(2)
        assert provider.gate is not None
        provider.gate.set()
        await asked
        Purse(store.database, [Limited("key", "k", Limit(counts="cost", amount=100_000, window="day"))]).fill(
            50_000, int(clock.wall() * 1000)
        )
        with pytest.raises(BudgetExceeded):
            await answers.get(route(provider), request("another"))

    asyncio.run(over_midnight())
    (record,) = store.records()
    assert record.began_ms == 86_400_000 * 20_000 - 1000 and record.at_ms == record.began_ms + 2000
    assert provider.asked.total() == 1
