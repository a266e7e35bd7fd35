"""Two hundred clients race for the last cent: a limit for a hundred calls serves a hundred, on every surface."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import anthropic
import openai
import pytest

from baimo.store.buckets import parsed
from baimo.workspace.account_options import NewKey
from baimo.workspace.workspace import Workspace
from tests.e2e.clients import PATHS, Answer, asked, crowd
from tests.serving import Endpoint, serving
from tests.upstream import TOKENS_OUT, Upstream, upstream
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.xdist_group("money")

CLIENTS, CALLS = 200, 100
OUTPUT_PRICE = 610_000
"""Micro-units per million tokens: a call costs 12.81 micro-units, and its limits are charged 13."""
CALL_MICROS = 13
CONFIG = """
[providers.mock]
base_url = "{address}"
inside = true

[providers.claude]
protocol = "anthropic"
base_url = "{address}"
inside = true

[models."mock/model"]
input_per_million = 0
output_per_million = 0.61
context_window = 8192

[models."claude/model"]
input_per_million = 0
output_per_million = 0.61
context_window = 8192

[models."mock/embedder"]
input_per_million = 0
output_per_million = 0
per_call = 0.000013
"""


class Case(NamedTuple):
    """One race."""

    surface: str
    model: str
    stream: bool
    limit: str

    @property
    def name(self) -> str:
        way = "streamed" if self.stream else "whole"
        return f"{self.surface}-{self.model.partition('/')[0]}-{way}-{self.limit.partition('=')[0]}"

    @property
    def exact(self) -> int:
        """What a call costs, millionths of a micro-unit."""
        return CALL_MICROS * 10**6 if self.surface == "embeddings" else TOKENS_OUT * OUTPUT_PRICE


COST, REQUESTS = f"cost={CALLS * CALL_MICROS / 1e6:.6f}", f"requests={CALLS}"
TEXT = [("chat", "mock/model"), ("completions", "mock/model"), ("responses", "mock/model")]
TEXT += [("messages", "claude/model"), ("messages", "mock/model"), ("chat", "claude/model")]
CASES = [
    Case(surface, model, stream, limit)
    for limit in (COST, REQUESTS)
    for stream in (False, True)
    for surface, model in TEXT
] + [Case("embeddings", "mock/embedder", False, limit) for limit in (COST, REQUESTS)]


class House(NamedTuple):
    """A server with a key for each race."""

    endpoint: Endpoint
    model: Upstream
    keys: dict[str, str]


def keys(folder: Path, limits: dict[str, str]) -> dict[str, str]:
    """Credentials of new keys with these limits."""
    with Workspace(folder) as workspace:
        made = {
            name: workspace.accounting.create_key(NewKey(label=name, limit=(limit,)))
            for name, limit in limits.items()
        }
    return {name: one.credential.written() for name, one in made.items()}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("money")
    with upstream() as model:
        config = CONFIG.format(address=model.address)
        (folder / "baimo.toml").write_text(config)
        limits = {case.name: case.limit for case in CASES}
        limits |= {"sdk-openai": COST, "sdk-anthropic": COST, "rough": "cost=0.001001"}
        made = keys(folder, limits)
        with serving(folder, config, "--workers", "2") as endpoint:
            yield House(endpoint, model, made)


def counted(house: House, name: str) -> int:
    """Calls of this race that reached the model; none twice."""
    texts = [text for over in house.model.lines for text in over if text.startswith(f"{name} ")]
    assert len(texts) == len(set(texts))
    return len(texts)


def spent(house: House, name: str, served: int, exact: int) -> None:
    """The ledger says what the model's server says, to the millionth of a micro-unit."""
    public = house.keys[name].split("-")[1]
    records = house.endpoint.settled(served, f"key = '{public}'")
    assert len(records) == served
    assert {record["status"] for record in records} == {"ok"}
    cost = sum(record["cost_micros"] * 10**6 + record["cost_rest"] for record in records)
    assert cost == counted(house, name) * exact


def refusal(case: Case, answer: Answer) -> bool:
    """Whether it is the 429 that this API's clients understand."""
    error = answer.row["error"]
    kind = {"chat": "insufficient_quota", "messages": "rate_limit_error"}
    if case.surface == "messages":
        return bool(answer.row["type"] == "error" and error["type"] == kind["messages"])
    code = "insufficient_quota" if case.limit == COST else "rate_limit_exceeded"
    return bool(error["code"] == code and error["message"])


def raced(house: House, case: Case) -> list[Answer]:
    """All clients call at once."""
    bodies = [
        asked(case.surface, case.model, f"{case.name} {n}", stream=case.stream, most=TOKENS_OUT)
        for n in range(CLIENTS)
    ]
    return asyncio.run(crowd(house.endpoint, PATHS[case.surface], house.keys[case.name], bodies))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_limit_for_a_hundred_calls_serves_a_hundred_of_two_hundred_clients(
    house: House, case: Case
) -> None:
    answers = raced(house, case)
    assert Counter(answer.status for answer in answers) == {200: CALLS, 429: CLIENTS - CALLS}
    assert all(answer.whole for answer in answers)
    assert all(refusal(case, answer) for answer in answers if answer.status == 429)
    if not case.stream and case.surface != "embeddings":
        said = {answer.text for answer in answers if answer.status == 200}
        assert len(said) == CALLS  # nobody got another client's answer
    assert counted(house, case.name) == CALLS
    spent(house, case.name, CALLS, case.exact)


async def _everybody(client: Callable[[int], Awaitable[bool]]) -> int:
    return sum(await asyncio.gather(*map(client, range(CLIENTS))))


def test_the_openai_sdk_is_served_a_hundred_times_and_then_told_about_the_budget(house: House) -> None:
    async def race() -> int:
        async with openai.AsyncOpenAI(
            base_url=f"{house.endpoint.address}/v1", api_key=house.keys["sdk-openai"], max_retries=0
        ) as sdk:

            async def client(number: int) -> bool:
                try:
                    answer = await sdk.chat.completions.create(
                        model="mock/model",
                        messages=[{"role": "user", "content": f"sdk-openai {number}"}],
                        max_tokens=TOKENS_OUT,
                    )
                except openai.RateLimitError as error:
                    assert error.code == "insufficient_quota"
                    return False
                assert answer.choices[0].message.content == f"echo: sdk-openai {number}"
                return True

            return await _everybody(client)

    assert asyncio.run(race()) == CALLS
    spent(house, "sdk-openai", CALLS, TOKENS_OUT * OUTPUT_PRICE)


def test_the_anthropic_sdk_is_served_a_hundred_streams_and_then_told_about_the_budget(house: House) -> None:
    async def race() -> int:
        async with anthropic.AsyncAnthropic(
            base_url=house.endpoint.address, api_key=house.keys["sdk-anthropic"], max_retries=0
        ) as sdk:

            async def client(number: int) -> bool:
                try:
                    async with sdk.messages.stream(
                        model="claude/model",
                        messages=[{"role": "user", "content": f"sdk-anthropic {number}"}],
                        max_tokens=TOKENS_OUT,
                    ) as stream:
                        assert (await stream.get_final_message()).usage.output_tokens == TOKENS_OUT
                except anthropic.RateLimitError:
                    return False
                return True

            return await _everybody(client)

    assert asyncio.run(race()) == CALLS
    spent(house, "sdk-anthropic", CALLS, TOKENS_OUT * OUTPUT_PRICE)


def test_where_a_call_may_cost_more_than_it_does_the_budget_is_used_up_to_less_than_one_call(
    house: House,
) -> None:
    most = 4 * TOKENS_OUT
    bodies = [asked("chat", "mock/model", f"rough {n}", most=most) for n in range(CLIENTS)]
    answers = asyncio.run(crowd(house.endpoint, PATHS["chat"], house.keys["rough"], bodies))
    served = sum(answer.status == 200 for answer in answers)
    assert Counter(answer.status for answer in answers) == {200: served, 429: CLIENTS - served}
    spent(house, "rough", served, TOKENS_OUT * OUTPUT_PRICE)
    bound = -(-most * OUTPUT_PRICE // 10**6)
    assert 1001 - bound < served * CALL_MICROS <= 1001


def test_a_restart_refills_no_budget_and_the_ledger_stands(house: House) -> None:
    """The last of this file: it takes the server down."""
    workers: set[str] = set()
    for case in CASES:
        if not counted(house, case.name):  # this test runs alone
            raced(house, case)
    for _ in range(5):  # an identifier begins with what its process drew
        answers = raced(house, CASES[0])
        assert {answer.status for answer in answers} == {429}
        workers |= {answer.headers["x-request-id"][:16] for answer in answers}
    assert len(workers) == 2
    before = len(house.endpoint.records())
    assert before == sum(len(over) for over in house.model.lines)
    folder = house.endpoint.folder
    house.endpoint.process.terminate()
    assert house.endpoint.process.wait(PATIENCE_S) == 0
    assert house.endpoint.rows("SELECT * FROM leases") == []
    with serving(folder, CONFIG.format(address=house.model.address), "--workers", "2") as again:
        for case in CASES:
            bodies = [
                asked(case.surface, case.model, f"{case.name} late {n}", stream=case.stream, most=TOKENS_OUT)
                for n in range(3)
            ]
            answers = asyncio.run(crowd(again, PATHS[case.surface], house.keys[case.name], bodies))
            assert [answer.status for answer in answers] == [429] * 3
        assert len(again.records()) == before
    found = again.baimo("ledger", "verify")
    assert (found["ok"], found["lines"]) == (True, before)
    for bucket, used in again.rows("SELECT bucket, used FROM meters"):
        assert used <= {"cost": CALLS * CALL_MICROS, "requests": CALLS}[parsed(bucket).counts]
