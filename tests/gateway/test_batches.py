"""Batches without a server: what an input file may hold, what results survive, and who goes first."""

from __future__ import annotations

import asyncio
import json
import resource
from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from baimo.core.call import Usage
from baimo.core.money import Price
from baimo.errors import StoreError, Unauthenticated
from baimo.gateway import batch_input
from baimo.gateway.batch_input import Line, inspected, lines
from baimo.gateway.batch_results import Results
from baimo.gateway.batch_work import Tools, Work
from baimo.gateway.batches import crew
from baimo.gateway.collected import Collected
from baimo.gateway.idle import Gate, Room
from baimo.store import tables
from baimo.store.batches import Batch, Batches
from baimo.store.engine import Database
from baimo.store.files import Files
from tests.gateway.doubles import MODELS, House, Script, answer
from tests.waiting import PATIENCE_S

CHAT = "/v1/chat/completions"
ANSWER = b'{"object":"chat.completion",\n "usage": {"n": 1}}'


def written(number: int, **facts: Any) -> str:
    row = {"custom_id": f"c{number}", "method": "POST", "url": CHAT, "body": {"model": "m"}}
    return json.dumps({**row, **facts}) + "\n"


# input


def found_in(tmp_path: Path, text: str | bytes, longest: int = 1000) -> batch_input.Inspected:
    path = tmp_path / "in.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return inspected(path, CHAT, longest)


def test_a_byte_order_mark_is_not_part_of_the_first_line(tmp_path: Path) -> None:
    text = BOM_UTF8 + (written(1) + written(2)).encode()
    assert found_in(tmp_path, text) == batch_input.Inspected(2, "m", ())
    assert [line.custom_id for line in batch_input.lines(tmp_path / "in.jsonl", CHAT, 1000)] == ["c1", "c2"]
    assert found_in(tmp_path, BOM_UTF8).errors[0].code == "empty_file"
    exactly = len(written(1)) - 1
    assert not found_in(tmp_path, BOM_UTF8 + written(1).encode(), exactly).errors
    assert found_in(tmp_path, BOM_UTF8 + written(1).encode(), exactly - 1).errors[0].code == "line_too_long"


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        ("nonsense\n", "invalid_json_line", None),
        ("[1]\n", "invalid_json_line", None),
        (b"\xff\xfe{}\n", "invalid_json_line", None),
        ("[" * 900 + "\n", "invalid_json_line", None),
        ("{}\n", "missing_required_parameter", "custom_id"),
        (written(1, custom_id=""), "invalid_custom_id", "custom_id"),
        (written(1, custom_id="x" * 257), "invalid_custom_id", "custom_id"),
        (written(1, custom_id=7), "invalid_type", "custom_id"),
        (written(1, method="PUT"), "invalid_method", "method"),
        (written(1, url="/v1/embeddings"), "mismatched_url", "url"),
        (written(1, body=None), "missing_required_parameter", "body"),
        (written(1, body=[]), "invalid_type", "body"),
        (written(1, body={"model": 3}), "invalid_type", "body.model"),
        (written(1, body={"model": "m", "stream": True}), "stream_not_supported", "body.stream"),
        (written(1, body={"model": "x" * 2000}), "line_too_long", None),
        (written(1) + written(1), "duplicate_custom_id", "custom_id"),
    ],
)
def test_a_wrong_line_is_named_with_its_field(
    tmp_path: Path, text: str | bytes, code: str, param: str | None
) -> None:
    (error,) = found_in(tmp_path, text).errors
    assert (error.code, error.param) == (code, param)
    assert error.line == (2 if code == "duplicate_custom_id" else 1) and error.message


def test_an_empty_file_and_one_with_too_many_lines_are_refused_as_a_whole(tmp_path: Path) -> None:
    assert [error.code for error in found_in(tmp_path, "\n \n").errors] == ["empty_file"]
    several = "".join(written(number) for number in range(batch_input.MOST_LINES + 1))
    assert [(error.code, error.line) for error in found_in(tmp_path, several).errors] == [
        ("too_many_lines", None)
    ]


def test_a_file_that_is_wrong_throughout_is_told_so_by_its_first_lines(tmp_path: Path) -> None:
    errors = found_in(tmp_path, "no\n" * 1000).errors
    assert len(errors) == batch_input.MOST_ERRORS + 1 and errors[-1].code == "too_many_errors"


def test_the_model_is_known_when_all_lines_ask_for_the_same(tmp_path: Path) -> None:
    assert found_in(tmp_path, written(1) + written(2)) == batch_input.Inspected(2, "m", ())
    other = written(3, body={"model": "n"})
    assert found_in(tmp_path, written(1) + other) == batch_input.Inspected(2, "", ())


def test_blank_lines_and_a_missing_last_line_feed_do_no_harm(tmp_path: Path) -> None:
    text = "\n" + written(1) + "\n" + written(2).rstrip()
    assert found_in(tmp_path, text).total == 2
    read = list(lines(tmp_path / "in.jsonl", CHAT, 1000))
    assert [(line.number, line.custom_id) for line in read] == [(2, "c1"), (4, "c2")]
    assert json.loads(read[0].body) == {"model": "m"}


# results


def usage(body: bytes) -> Usage | None:
    return Usage(tokens_in=10, tokens_out=json.loads(body)["usage"]["n"])


def opened(tmp_path: Path) -> Results:
    return Results(tmp_path / "f" / "out", tmp_path / "f" / "err", usage)


def test_results_are_one_line_each_and_taken_up_again_with_their_counts(tmp_path: Path) -> None:
    results = opened(tmp_path)
    results.answered("a", "r1", 200, ANSWER)
    results.answered("b\n\u2028", "r2", 400, b'{"error": {}}')
    results.left("c", "r3", "batch_expired", "too late")
    results.close()
    rows = [json.loads(row) for row in (tmp_path / "f/err").read_text("utf-8").split("\n") if row]
    assert [row["custom_id"] for row in rows] == ["b\n\u2028", "c"]
    assert rows[0]["response"]["status_code"] == 400 and rows[1]["error"]["code"] == "batch_expired"
    again = opened(tmp_path)
    assert again.done == results.done == {"a", "b\n\u2028", "c"}
    assert (again.completed, again.failed, again.tokens) == (1, 2, [10, 1, 0, 0])
    output, error = again.finish()
    assert output is not None and error is not None
    assert output.size == (tmp_path / "f/out").stat().st_size


@given(cut=st.integers(min_value=1, max_value=140))
def test_a_torn_last_line_is_cut_off_wherever_it_was_torn(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    results = opened(folder)
    results.answered("a", "r1", 200, ANSWER)
    whole = (folder / "f/out").stat().st_size
    results.answered("b", "r2", 200, ANSWER)
    results.close()
    path = folder / "f/out"
    path.write_bytes(path.read_bytes()[: whole + min(cut, path.stat().st_size - whole - 1)])
    again = opened(folder)
    assert again.done == {"a"} and path.stat().st_size == whole
    again.answered("b", "r2", 200, ANSWER)
    again.close()
    assert [json.loads(row)["custom_id"] for row in path.read_text().splitlines()] == ["a", "b"]


def test_an_answer_that_is_no_json_is_a_failed_line_of_json(tmp_path: Path) -> None:
    results = opened(tmp_path)
    results.answered("a", "r1", 200, b"<html>")
    results.close()
    row = json.loads((tmp_path / "f/err").read_text())
    assert row["response"]["status_code"] == 502 and row["response"]["body"]["error"]["code"] == "bad_answer"


def test_a_file_of_results_that_would_be_empty_is_none(tmp_path: Path) -> None:
    results = opened(tmp_path)
    results.answered("a", "r1", 200, ANSWER)
    output, error = results.finish()
    assert output is not None and error is None
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["out"]


# who goes first


def test_a_model_of_this_machine_is_left_to_those_who_wait_for_it() -> None:
    async def watched() -> list[str]:
        waiting = {"local": 1}
        gate = Gate(waiting, lambda _: Room(16, 2, idle_only=True))
        happened: list[str] = []

        async def enter(name: str) -> None:
            await gate.enter({"local"}, lambda: False)
            happened.append(name)

        tasks = [asyncio.create_task(enter(name)) for name in ("one", "two", "three")]
        await asyncio.sleep(0.15)
        assert happened == []
        waiting["local"] = 0
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.15)
        assert len(happened) == 2
        gate.leave({"local"})
        await asyncio.gather(*tasks)
        return happened

    assert len(asyncio.run(watched())) == 3


@pytest.mark.parametrize(
    ("others", "mine", "free"), [(0, 3, True), (0, 4, False), (6, 1, True), (7, 1, False), (8, 0, False)]
)
def test_a_vendor_gives_batches_their_share_of_what_the_others_leave(
    others: int, mine: int, free: bool
) -> None:
    async def entered() -> bool:
        waited_for: dict[str, int] = {}
        gate = Gate(waited_for, lambda _: Room(8, 4, idle_only=False))
        for _ in range(mine):
            assert await gate.enter({"acme"}, lambda: False)
        waited_for["acme"] = others
        looks = iter([False, True])
        return await gate.enter({"acme"}, lambda: next(looks))

    assert asyncio.run(entered()) is free


# work


class Clock:
    now_ms = 1_763_800_000_000

    def __call__(self) -> int:
        return self.now_ms


class Place:
    """A batch, and a gateway that answers it as it is told."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = Clock()
        self.database = Database(str(tmp_path / "x.db"))
        row = {"id": "me", "host": "h", "pid": 1, "started": "s", "beat_ms": 0}
        with self.database.writing() as connection:
            connection.execute(insert(tables.holders).values(row))
        self.batches = Batches(self.database, self.clock)
        self.files = Files(self.database, tmp_path / "files", self.clock)
        self.asked: list[str] = []
        self.answers: Callable[[Line, Collected], Awaitable[None]] = self.well

    @staticmethod
    async def well(line: Line, reply: Collected) -> None:
        reply.whole(200, b"", ANSWER)

    async def ask(self, batch: Batch, line: Line, request_id: str, reply: Collected) -> None:
        self.asked.append(line.custom_id)
        await self.answers(line, reply)

    def tools(self) -> Tools:
        return Tools(
            self.batches,
            self.files,
            Gate({}, lambda _: Room(4, 4, idle_only=False)),
            "me",
            self.ask,
            lambda batch, name: frozenset({"acme"}),
            lambda endpoint, body: usage(body),
            lambda: 1000,
        )

    def ordered(self, text: str) -> Batch:
        incoming = self.files.incoming("acme", 10**6)
        incoming.write(text.encode())
        file = self.files.keep(incoming, tenant="acme", key="k", name="n", purpose="batch", lives_s=None)
        made = Batch(
            id=self.batches.new_id(),
            tenant="acme",
            key="k",
            endpoint=CHAT,
            input_file=file.id,
            created_ms=self.clock.now_ms,
            expires_ms=self.clock.now_ms + 86_400_000,
        )
        self.batches.add(made)
        claimed = self.batches.claim("me", lambda _: True)
        assert claimed == made
        return made

    def worked(self, batch: Batch) -> Batch:
        asyncio.run(Work(self.tools(), batch).done())
        after = self.batches.get("acme", batch.id)
        assert after is not None
        return after

    def rows(self, id: str) -> list[Any]:
        return [json.loads(row) for row in self.files.path("acme", id).read_text().splitlines()]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.database.close()


def test_a_limit_that_says_when_is_waited_for_and_one_that_does_not_is_the_answer(place: Place) -> None:
    async def answers(line: Line, reply: Collected) -> None:
        if line.custom_id == "c1" and place.asked.count("c1") < 3:
            reply.whole(429, b"retry-after: 0\r\n", b'{"error":{}}')
        elif line.custom_id == "c2":
            reply.whole(429, b"", b'{"error":{"code":"insufficient_quota"}}')
        else:
            reply.whole(200, b"", ANSWER)

    place.answers = answers
    after = place.worked(place.ordered(written(1) + written(2)))
    assert (after.completed, after.failed) == (1, 1)
    assert place.asked.count("c1") == 3 and place.asked.count("c2") == 1
    assert place.rows(after.error_file)[0]["response"]["body"]["error"]["code"] == "insufficient_quota"


def test_what_has_not_begun_when_the_window_ends_says_so(place: Place) -> None:
    async def answers(line: Line, reply: Collected) -> None:
        place.clock.now_ms += 30 * 3_600_000
        await asyncio.sleep(1.2)  # until it is noticed
        reply.whole(200, b"", ANSWER)

    place.answers = answers
    after = place.worked(place.ordered("".join(written(number) for number in range(20))))
    assert after.status == "expired" and after.completed == len(place.asked) < 20
    assert {row["error"]["code"] for row in place.rows(after.error_file)} == {"batch_expired"}
    assert after.completed + after.failed == 20


def test_a_batch_that_is_cancelled_before_it_is_looked_at_is_never_begun(place: Place) -> None:
    batch = place.ordered(written(1))
    place.batches.change("acme", batch.id, lambda one: replace(one, status="cancelling"))
    after = place.worked(replace(batch, status="cancelling"))
    assert (after.status, after.completed, after.failed, place.asked) == ("cancelled", 0, 1, [])


def test_lines_of_a_key_that_may_not_ask_any_more_fail_with_the_reason(place: Place) -> None:
    async def answers(line: Line, reply: Collected) -> None:
        raise Unauthenticated("gateway.revoked_key", key="k")

    place.answers = answers
    after = place.worked(place.ordered(written(1)))
    row = place.rows(after.error_file)[0]
    assert row["error"]["code"] == "revoked_key" and "k" in row["error"]["message"]


def test_a_batch_whose_input_was_deleted_by_hand_ends_with_what_was_answered(place: Place) -> None:
    batch = place.ordered("".join(written(number) for number in range(50)))
    work = Work(place.tools(), batch)

    async def answers(line: Line, reply: Collected) -> None:
        await asyncio.sleep(0.01)
        reply.whole(200, b"", ANSWER)
        work.leave()

    place.answers = answers
    asyncio.run(work.done())
    place.files.path("acme", batch.input_file).unlink()
    left = place.batches.get("acme", batch.id)
    assert left is not None and left.status == "in_progress"
    after = place.worked(left)
    assert after.status == "failed" and [error.code for error in after.errors] == ["missing_file"]
    assert 0 < after.completed == len(place.rows(after.output_file)) == len(place.asked) < 50


def test_a_fault_of_ours_fails_the_line_and_not_the_batch(place: Place) -> None:
    async def answers(line: Line, reply: Collected) -> None:
        if line.custom_id == "c1":
            raise ZeroDivisionError
        reply.whole(200, b"", ANSWER)

    place.answers = answers
    after = place.worked(place.ordered(written(1) + written(2)))
    assert (after.status, after.completed, after.failed) == ("completed", 1, 1)


def test_a_process_that_has_lost_a_batch_stops_asking(place: Place) -> None:
    batch = place.ordered("".join(written(number) for number in range(50)))

    async def answers(line: Line, reply: Collected) -> None:
        with place.database.writing() as connection:
            connection.execute(tables.batches.update().values(holder="another"))
        await asyncio.sleep(60)

    place.answers = answers
    after = place.worked(batch)
    assert after.status == "in_progress" and len(place.asked) == 4


def test_a_batch_that_is_forgotten_at_its_end_leaves_no_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, change = place.ordered(written(1)), place.batches.change

    def forgotten(tenant: str, id: str, changed: Callable[[Batch], Batch], **facts: Any) -> Batch | None:
        now = place.batches.get(tenant, id)
        if now is not None and changed(now).status == "finalizing":
            with place.database.writing() as connection:
                connection.execute(tables.batches.delete())
            place.files.forget("acme")
        return change(tenant, id, changed, **facts)

    monkeypatch.setattr(place.batches, "change", forgotten)
    asyncio.run(Work(place.tools(), batch).done())
    assert place.asked == ["c1"]
    assert place.files.page("acme", limit=10) == []


def test_a_disk_that_is_full_stops_the_batch_and_it_goes_on_when_there_is_room(place: Place) -> None:
    batch = place.ordered(written(1) + written(2))
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def answers(line: Line, reply: Collected) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, most))  # no file may grow beyond 20 bytes
        reply.whole(200, b"", ANSWER)

    place.answers = answers
    try:
        with pytest.raises(StoreError):
            asyncio.run(Work(place.tools(), batch).done())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    place.answers = place.well
    again = place.batches.get("acme", batch.id)
    assert again is not None and again.status == "in_progress"
    after = place.worked(again)
    assert (after.status, after.completed) == ("completed", 2)
    assert sorted(row["custom_id"] for row in place.rows(after.output_file)) == ["c1", "c2"]


def test_the_crew_finds_batches_works_on_them_and_leaves_them_when_it_stops(place: Place) -> None:
    batch = place.ordered("".join(written(number) for number in range(10)))
    place.batches.release("me", batch)
    begun: list[str] = []

    async def slow(line: Line, reply: Collected) -> None:
        begun.append(line.custom_id)
        await asyncio.sleep(0.05)
        reply.whole(200, b"", ANSWER)

    async def run(until: Callable[[], bool]) -> None:
        working = crew(place.tools())
        working.start()
        working.nudge()
        while not until():  # noqa: ASYNC110  # what it waits for is in a database
            await asyncio.sleep(0.01)
        await working.stop(5.0)

    def status() -> str:
        found = place.batches.get("acme", batch.id)
        return "" if found is None else found.status

    place.answers = slow
    asyncio.run(run(lambda: len(begun) >= 2))
    half = len(begun)
    assert half < 10 and status() == "in_progress"
    asyncio.run(run(lambda: status() == "completed"))
    assert len(begun) == 10 == len(set(begun))


def test_a_crew_that_hears_news_as_it_is_stopped_stops(place: Place) -> None:
    async def stopped(passes: int) -> None:
        working = crew(place.tools())
        working.start()
        await asyncio.sleep(0.2)  # it waits for news
        working.nudge()
        for _ in range(passes):
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S):
            await working.stop(5.0)

    for passes in range(5):
        asyncio.run(stopped(passes))


# the spine


def test_only_calls_that_somebody_waits_for_are_counted_and_only_batches_get_their_price() -> None:
    cheap = replace(MODELS["acme/one"].price or Price(), output_per_million=Decimal(0))
    house = House(
        Script(body=answer(tokens_in=10, tokens_out=5), waits=0.05),
        more_models=[replace(MODELS["acme/one"], batch_price=cheap)],
    )

    async def seen(batch: str) -> int:
        call = house.call()
        call.batch = batch
        serving = asyncio.create_task(house.gateway.serve(call))
        await asyncio.sleep(0.02)
        waited_for = house.gateway.waited_for.get("acme", 0)
        await serving
        return waited_for

    assert asyncio.run(seen("")) == 1 and asyncio.run(seen("batch_1")) == 0
    assert house.gateway.waited_for == {"acme": 0}
    assert [(one.run, one.cost_micros) for one in house.books.records] == [("", 20), ("batch_1", 10)]
