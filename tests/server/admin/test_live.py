"""Whether something has happened: told at once, to whom it concerns, with one look for everybody."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from baimo.core.tuning import JobStatus
from baimo.server.admin.news import News
from baimo.store.jobs import Jobs
from tests.server.admin.jobs import tune_job
from tests.server.served import Served, served
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as endpoint:
        endpoint.state["service"].tuning.queue.at_once = 0  # what is entered here is nobody's work
        yield endpoint


class Stream:
    """Server-sent events as a browser reads them."""

    def __init__(self, house: Served, key: str, query: str = "", after: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=PATIENCE_S)
        headers = {"authorization": f"Bearer {key}", "accept": "text/event-stream"}
        headers |= {"last-event-id": after} if after else {}
        self._connection.request("GET", f"/api/live{query}", headers=headers)
        self.answer = self._connection.getresponse()

    def next(self) -> str:
        """Id of the next change."""
        id = kind = ""
        while line := self.answer.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "id":
                id = value
            elif name == "event":
                kind = value
            elif not line.strip() and kind == "changed":
                return id
        raise AssertionError("the stream has ended")

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


def now(house: Served, key: str, query: str = "") -> str:
    return str(house.call("GET", f"/api/live{query}", key).data["now"])


def news(house: Served) -> News:
    return News.of(house.state["service"])


def step(house: Served, job: str, kind: str = "notice") -> None:
    Jobs(house.workspace.store.database).tell(job, kind)


def test_a_stream_says_at_once_that_something_happened_and_goes_on_where_it_broke_off(house: Served) -> None:
    key = house.key(role="viewer")
    job = tune_job(house, JobStatus.PAUSED)
    known = now(house, key)
    stream = Stream(house, key, after=known)
    step(house, job)
    second = stream.next()
    assert second != known and second == now(house, key)
    stream.close()
    step(house, job)  # while nobody listens
    again = Stream(house, key, after=second)
    assert again.next() not in (known, second)
    again.close()


def test_a_reader_of_one_thing_or_one_room_is_not_told_of_others(house: Served) -> None:
    key = house.key(role="viewer")
    mine, other = (tune_job(house, JobStatus.PAUSED) for _ in range(2))
    before = {query: now(house, key, query) for query in ("?about=comparisons", f"?thing={mine}")}
    step(house, other)
    assert {query: now(house, key, query) for query in before} == before
    assert now(house, key, f"?thing={other}") != before[f"?thing={mine}"]
    step(house, mine)
    assert now(house, key, f"?thing={mine}") != before[f"?thing={mine}"]


def test_what_happens_to_another_tenants_things_shows_nowhere(house: Served) -> None:
    for tenant in ("red", "blue"):
        house.tenant(tenant)
    red = house.key(tenant="red", role="admin")
    job = tune_job(house, JobStatus.PAUSED, "blue")
    before = now(house, red), now(house, red, f"?thing={job}")
    step(house, job)
    assert (now(house, red), now(house, red, f"?thing={job}")) == before
    assert now(house, red, "?thing=ftjob-nothing") == before[1]
    owner = house.key(role="viewer")
    assert now(house, owner, f"?thing={job}") != before[1]


def test_however_many_look_on_the_database_is_asked_once_and_not_at_all_when_nobody_does(
    house: Served,
) -> None:
    key = house.key(role="viewer")
    job = tune_job(house, JobStatus.PAUSED)
    known = now(house, key)
    streams = [Stream(house, key, after=known) for _ in range(12)]
    for count in range(3):
        before = news(house).looks
        step(house, job, f"kind_{count}")
        words = {stream.next() for stream in streams}
        assert len(words) == 1 and 1 <= news(house).looks - before <= 4
    assert news(house).watching == 12
    for stream in streams:
        stream.close()
    until(lambda: news(house).watching == 0)
    until(lambda: _still(house))


def _still(house: Served) -> bool:
    """Whether nothing was looked at for as long as three looks take."""
    before = news(house).looks
    time.sleep(1.6)
    return news(house).looks == before


def test_a_job_that_ends_is_a_change_and_so_is_one_that_comes(house: Served) -> None:
    key, jobs = house.key(role="viewer"), Jobs(house.workspace.store.database)
    empty = now(house, key)
    job = tune_job(house, JobStatus.PAUSED)
    begun = now(house, key)
    jobs.change("", job, lambda one: replace(one, status=JobStatus.CANCELLED))
    ended = now(house, key, f"?thing={job}")
    assert len({empty, begun, now(house, key)}) == 3
    assert ended == now(house, key, "?thing=ftjob-nothing")


def test_more_readers_than_there_is_room_for_are_asked_to_come_again(house: Served) -> None:
    key = house.key(role="viewer")
    news(house).watching += 10_000
    try:
        stream = Stream(house, key)
        assert stream.answer.status == 503 and stream.answer.getheader("retry-after")
        stream.close()
        assert now(house, key)
    finally:
        news(house).watching -= 10_000


def test_readers_are_sent_away_at_once_when_the_endpoint_stops(tmp_path: Path) -> None:
    with served(tmp_path) as house:
        stream = Stream(house, house.key(role="viewer"), after="x")
        stream.next()
        began = time.monotonic()
    assert time.monotonic() - began < 4  # it would wait longer than that for one that does not end
    assert b"end" not in stream.answer.read()  # so that the reader comes back
    stream.close()
