"""What is outside fails or is overdone: disk, database, clock, names, connections, bodies. The service goes on."""

from __future__ import annotations

import asyncio
import resource
import select
import shutil
import socket
import sqlite3
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from baimo.workspace.account_options import NewKey
from baimo.workspace.workspace import Workspace
from tests.e2e.clients import PATHS, Answer, answered, line, post, request
from tests.e2e.watched import Watched, watched
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("strain")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("strain")) as made:
        yield made


def chats(house: Watched, texts: list[str]) -> list[Answer]:
    """One call after the other."""

    async def in_turn() -> list[Answer]:
        return [await house.call("chat", house.body("chat", text)) for text in texts]

    return asyncio.run(in_turn())


def verified(house: Watched) -> bool:
    """Whether the ledger agrees with itself."""
    return bool(house.endpoint.baimo("ledger", "verify")["ok"])


# the database


def test_while_the_database_is_locked_calls_go_on_and_their_records_come_later(house: Watched) -> None:
    asyncio.run(house.is_well("before the lock"))  # this key has its leases
    fresh = house.endpoint.new_key("--limit", "requests=5")
    path = house.endpoint.folder / ".baimo" / "baimo.db"
    texts = [f"locked #{number}" for number in range(60)]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        before = len(house.endpoint.records())
        answers = chats(house, texts)
        assert [answer.text for answer in answers] == [f"echo: {text}" for text in texts]
        # whoever needs the database to know whether a limit leaves room is told so
        body = house.body("chat", "locked #fresh")
        refused = asyncio.run(post(house.endpoint, PATHS["chat"], fresh, body))
        assert (refused.status, refused.row["error"]["type"]) == (503, "server_error")
        assert house.endpoint.status("/readyz") == 200  # for serve.ready_grace_s
        assert house.endpoint.status("/healthz") == 200
        assert len(house.endpoint.records()) == before
        other.execute("ROLLBACK")
    assert {record["status"] for record in house.records([house.body("chat", text) for text in texts])} == {
        "ok"
    }
    until(lambda: house.endpoint.status("/readyz") == 200)
    assert asyncio.run(post(house.endpoint, PATHS["chat"], fresh, body)).status == 200
    assert not house.model.lines or house.times_asked("locked #fresh") == 1
    assert verified(house)


# the disk


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """A file system of its own."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "baimo-test", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a file system of its own cannot be mounted here: that takes root's rights")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def filled(place: Path) -> Path:
    """Fill the disk to the last byte; deleting the file gives the space back."""
    path = place / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


@pytest.mark.slow
def test_on_a_full_disk_calls_are_refused_before_they_are_sent_and_go_on_when_there_is_space(
    tmp_path: Path,
) -> None:
    place = tmp_path / "small"
    with small_disk(place, "32m"), watched(place / "w") as house:
        asyncio.run(house.is_well("with space"))
        key = house.endpoint.new_key(*(f"--tag=long{n}={'x' * 200}" for n in range(8)))
        filler = filled(place)
        served: list[str] = []
        refused: list[str] = []

        async def until_full() -> None:
            async with line(house.endpoint) as connected:
                while len(refused) < 20:
                    assert len(served) < 50_000
                    text = f"full #{len(served) + len(refused)}"
                    answer = await connected.post(PATHS["chat"], key, house.body("chat", text))
                    if answer.status == 200:
                        served.append(text)
                        assert not refused, "room does not come back by itself"
                    else:
                        assert (answer.status, answer.row["error"]["type"]) == (503, "server_error")
                        refused.append(text)

        asyncio.run(until_full())
        assert served, "what was allocated before is used first"
        assert not any(map(house.times_asked, refused[:3]))
        assert house.endpoint.status("/readyz") == 503
        filler.unlink()
        until(lambda: house.endpoint.status("/readyz") == 200)
        bodies = [house.body("chat", text) for text in served]
        for start in range(0, len(bodies), 500):
            assert {record["status"] for record in house.records(bodies[start : start + 500])} == {"ok"}
        asyncio.run(house.is_well("with space again"))
        assert len(house.endpoint.settled(len(served) + 6)) == len(served) + 6
        assert verified(house)


# the clock


def test_a_clock_that_jumps_back_opens_no_window_again_and_lets_no_record_be_older_than_the_last(
    tmp_path: Path,
) -> None:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler to build a clock that can be set")
    library, offset = tmp_path / "clock.so", tmp_path / "offset"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    to_half_past = 1800 - int(time.time()) % 3600

    def jump(seconds: int) -> None:
        with offset.open("r+b" if offset.exists() else "wb") as file:
            file.write(struct.pack("l", to_half_past + seconds))

    jump(0)
    environment = {"LD_PRELOAD": str(library), "BAIMO_TEST_CLOCK": str(offset)}
    with watched(tmp_path / "w", environment=environment) as house:
        with Workspace(house.endpoint.folder) as workspace:
            made = workspace.accounting.create_key(NewKey(limit=("requests=20/hour", "cost=1/day")))
        key = made.credential.written()
        until(lambda: house.endpoint.status("/v1/models", key) == 200)

        def statuses(mark: str, count: int) -> list[int]:
            bodies = [house.body("chat", f"clock {mark} {number}") for number in range(count)]
            return [asyncio.run(post(house.endpoint, PATHS["chat"], key, body)).status for body in bodies]

        assert statuses("before", 10) == [200] * 10
        jump(-2 * 3600)
        assert statuses("earlier", 12) == [200] * 10 + [429] * 2
        jump(3600)
        assert statuses("later", 1) == [200]
        records = house.endpoint.settled(21)
        moments = [record["at_ms"] for record in records]
        assert moments == sorted(moments)
        assert moments[-1] - moments[0] > 3_500_000  # the clock was really set
        assert verified(house)


# names, connections, bodies


def test_a_name_that_cannot_be_resolved_costs_nothing_and_harms_nobody(house: Watched) -> None:
    surfaces = ["chat", "messages"] * 4  # passed through and translated
    bodies = [house.body(surface, f"lost #{n}", "lost/model") for n, surface in enumerate(surfaces)]

    async def all_lost() -> list[Answer]:
        losing = asyncio.gather(*map(house.call, surfaces, bodies))
        await house.is_well("while others look for a name")
        return list(await losing)

    answers = asyncio.run(all_lost())
    assert [answer.status for answer in answers] == [502] * len(answers)
    assert all("lost/model" in answer.row["error"]["message"] for answer in answers)
    assert all("no-such-host.invalid" not in answer.row["error"]["message"] for answer in answers)
    for record in house.records(bodies):
        assert (record["http_status"], record["cost_micros"], record["unsure"]) == (502, 0, 0)
        assert record["charged_micros"] == 0


def test_ten_thousand_connections_that_say_nothing_keep_nobody_from_an_answer(tmp_path: Path) -> None:
    count, (soft, hard) = 10_000, resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 1_000:
        pytest.skip(f"only {hard} files may be open here")
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the server inherits it
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        house = stack.enter_context(
            watched(tmp_path / "w", environment={"BAIMO_SERVE_HEADER_TIMEOUT_S": "300"})
        )
        poll = select.epoll()
        stack.callback(poll.close)
        idle: list[socket.socket] = []
        for _ in range(count):
            connected = socket.create_connection(("127.0.0.1", house.endpoint.port))
            stack.callback(connected.close)
            poll.register(connected.fileno(), select.EPOLLIN)
            idle.append(connected)
        asyncio.run(house.is_well("among ten thousand"))
        assert poll.poll(0) == []  # none was answered or closed
        idle[count // 2].sendall(request(PATHS["chat"], house.key, house.body("chat", "one of them")))
        (found,) = poll.poll(60)
        assert found[0] == idle[count // 2].fileno()
        assert idle[count // 2].recv(1 << 16).startswith(b"HTTP/1.1 200")
        for connected in idle:
            poll.unregister(connected.fileno())
            connected.close()
        asyncio.run(house.is_well("after ten thousand"))
        files = Path(f"/proc/{house.endpoint.process.pid}/fd")
        until(lambda: len(list(files.iterdir())) < 1_000)


def test_clients_that_drip_a_head_are_sent_away_while_others_are_served(house: Watched) -> None:
    head = request(PATHS["chat"], house.key, b"")[:-4]

    async def drips() -> Answer:
        async with line(house.endpoint) as connected:
            answer = asyncio.create_task(answered(connected.reader))
            for byte in head:
                if answer.done():
                    break
                connected.writer.write(bytes([byte]))
                await asyncio.wait([answer], timeout=0.1)
            return await answer

    async def siege() -> list[Answer]:
        dripping = asyncio.gather(*(drips() for _ in range(300)))
        await house.is_well("beside slow heads")
        return list(await dripping)

    assert {answer.status for answer in asyncio.run(siege())} == {408}
    asyncio.run(house.is_well("after slow heads"))


def test_a_body_that_stops_coming_is_refused(house: Watched) -> None:
    whole = request(PATHS["chat"], house.key, house.body("chat", "stops #here"))

    async def stops() -> Answer:
        async with line(house.endpoint) as connected:
            connected.writer.write(whole[:-5])
            return await answered(connected.reader)

    assert asyncio.run(stops()).status == 408
    asyncio.run(house.is_well("after a body that stopped"))
    assert not house.times_asked("stops #here")


@pytest.mark.parametrize("framing", ["content-length: 104857600", "transfer-encoding: chunked"])
def test_a_body_of_a_hundred_mebibytes_is_refused_without_being_read_to_its_end(
    house: Watched, framing: str
) -> None:
    key = house.endpoint.new_key()
    allowed = 64 << 20
    head = f"POST {PATHS['chat']} HTTP/1.1\r\nhost: baimo\r\nauthorization: Bearer {key}\r\n{framing}\r\n\r\n"
    piece = b"x" * (1 << 20)
    chunk = b"%x\r\n%s\r\n" % (len(piece), piece) if "chunked" in framing else piece

    async def overdo() -> tuple[Answer, int]:
        async with line(house.endpoint) as connected:
            answer = asyncio.create_task(answered(connected.reader))
            connected.writer.write(head.encode())
            sent = 0
            while sent < 100 and not answer.done():
                try:
                    connected.writer.write(chunk)
                    await connected.writer.drain()
                except ConnectionError:
                    break
                sent += 1
                await asyncio.sleep(0)
            return await answer, sent << 20

    answer, sent = asyncio.run(overdo())
    assert answer.status == 413
    assert str(allowed) in answer.row["error"]["message"]
    assert sent < (16 << 20 if "length" in framing else 90 << 20)
    asyncio.run(house.is_well(f"after {framing}"))
    public = key.split("-")[1]
    assert house.endpoint.records(f"key = '{public}'") == []
