"""Load with distinct calls, `kill -9` in the middle of it, and what must be true of the books afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from baimo.core.record import INTERRUPTED
from baimo.store.secret import workspace_secret
from baimo.workspace.account_options import NewKey
from baimo.workspace.workspace import Workspace
from tests.e2e.clients import PATHS, answered, asked, line, request
from tests.serving import Endpoint, serving
from tests.upstream import Upstream, upstream
from tests.waiting import until

CLIENTS = 24
LIMITS = ("cost=1000/month", "tokens=1000000000/day", "requests=1000000", "concurrency=1000")
DURABLE = {"BAIMO_LEDGER_DURABILITY": "answer"}
CONFIG = """
[providers.mock]
base_url = "{address}"
inside = true

[models."mock/model"]
input_per_million = 0.15
output_per_million = 0.6
context_window = 8192
"""


class Moment(NamedTuple):
    """When and what is killed."""

    answers: int
    """After so many answers."""
    later_s: float
    """And so much later, seconds."""
    workers: int
    one: bool
    """One of the workers; else everything."""


@dataclass
class House:
    """A workspace whose server is killed again and again."""

    folder: Path
    model: Upstream
    key: str
    secret: bytes
    sent: dict[str, str] = field(default_factory=dict)
    """Hash of the body, as Records have it, by its text."""
    answered: set[str] = field(default_factory=set)
    """Texts of the calls whose answer a client saw to its end."""

    def serving(self, workers: int) -> Any:
        """Its server, with an answer leaving only after its Record is on disk."""
        config = CONFIG.format(address=self.model.address)
        return serving(self.folder, config, "--workers", str(workers), environment=DURABLE)


class Found(NamedTuple):
    """What the books say after a kill."""

    answered: int
    """Calls that a client saw answered."""
    served: int
    """Calls that reached the model."""
    records: int
    interrupted: int
    unrecorded_answers: int
    unrecorded_served: int
    repeated: int
    """Calls with more than one Record."""
    astray: int
    """Leases of processes that do not live."""

    @property
    def wrong(self) -> tuple[int, int, int, int]:
        """All of these must be nothing."""
        return self.unrecorded_answers, self.unrecorded_served, self.repeated, self.astray


@contextmanager
def house(folder: Path) -> Iterator[House]:
    """A workspace with one key under limits of every kind, and a model that takes its time."""
    folder.mkdir(parents=True, exist_ok=True)
    with upstream(delay_s=0.004) as model:
        (folder / "baimo.toml").write_text(CONFIG.format(address=model.address))
        with Workspace(folder) as workspace:
            made = workspace.accounting.create_key(NewKey(limit=LIMITS))
            secret = workspace_secret(workspace.store.database)
        yield House(folder, model, made.credential.written(), secret)


def moments(number: int, seed: int) -> list[Moment]:
    """Random ones: of a server of one process, of one of two workers, and of all of a server of two, in turn."""
    chance = random.Random(seed)
    kinds = [(1, False), (2, True), (2, False)]
    return [
        Moment(chance.randint(1, 400), chance.uniform(0, 0.03), *kinds[turn % len(kinds)])
        for turn in range(number)
    ]


def killed(made: House, planned: Sequence[Moment]) -> Iterator[tuple[Moment, Found]]:
    """Kill at each moment, and look at the books when what was left, or was started again, has put them right."""
    left = list(enumerate(planned))
    before: Moment | None = None
    while left or before is not None:
        with made.serving(left[0][1].workers if left else 1) as endpoint:
            if before is not None:
                yield before, _put_right(made, endpoint)
            before = None
            while left and before is None:
                number, moment = left.pop(0)
                asyncio.run(_under_load(made, endpoint, moment, f"moment-{number}"))
                if moment.one:
                    _complete_again(endpoint, moment.workers)
                    yield moment, _put_right(made, endpoint)
                else:
                    before = moment


def _complete_again(endpoint: Endpoint, workers: int) -> None:
    """Wait until a new worker has taken the place of the one that is gone."""
    until(lambda: len(endpoint.rows("SELECT id FROM holders")) == workers)


def found(made: House, endpoint: Endpoint) -> Found:
    """What the books say now."""
    records = endpoint.records()
    counts = Counter(record["request_hash"] for record in records)
    served = [text for over in made.model.lines for text in over]
    held = endpoint.rows("SELECT pid FROM leases JOIN holders ON holders.id = leases.holder")
    orphans = endpoint.rows("SELECT bucket FROM leases WHERE holder NOT IN (SELECT id FROM holders)")
    return Found(
        answered=len(made.answered),
        served=len(served),
        records=len(records),
        interrupted=sum(record["status"] == INTERRUPTED for record in records),
        unrecorded_answers=sum(not counts[made.sent[text]] for text in made.answered),
        unrecorded_served=sum(not counts[made.sent[text]] for text in served),
        repeated=sum(count > 1 for count in counts.values()),
        astray=len(orphans) + sum(not Path(f"/proc/{pid}").exists() for (pid,) in held),
    )


def _put_right(made: House, endpoint: Endpoint) -> Found:
    """What the books say once nothing is missing any more; if that never comes, what they say then."""
    with suppress(AssertionError):
        until(lambda: not any(found(made, endpoint).wrong))
    return found(made, endpoint)


async def _under_load(made: House, endpoint: Endpoint, moment: Moment, name: str) -> None:
    before = len(made.answered)
    over = asyncio.Event()

    async def killer() -> None:
        while len(made.answered) < before + moment.answers:  # noqa: ASYNC110 - clients only count
            await asyncio.sleep(0.001)
        await asyncio.sleep(moment.later_s)
        if moment.one:
            pids = [pid for (pid,) in endpoint.rows("SELECT pid FROM holders")]
            os.kill(max(pids, key=_files), signal.SIGKILL)
            await asyncio.sleep(0.3)  # those who still have a server go on
            over.set()
        else:
            over.set()
            endpoint.kill()

    async with asyncio.timeout(120):
        await asyncio.gather(
            killer(), *(_client(made, endpoint, over, f"{name}-{n}") for n in range(CLIENTS))
        )


def _files(pid: int) -> int:
    """Open files: the worker with the most clients has most."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def _client(made: House, endpoint: Endpoint, over: asyncio.Event, name: str) -> None:
    chance = random.Random(name)
    number = 0
    while not over.is_set():
        try:
            async with line(endpoint) as connected:
                while not over.is_set():
                    number += 1
                    text = f"{name} {number}"
                    surface = chance.choice(("chat", "completions", "messages", "embeddings"))
                    stream = surface != "embeddings" and chance.random() < 0.5
                    body = asked(surface, "mock/model", text, stream=stream, most=64)
                    made.sent[text] = hashlib.blake2b(body, digest_size=16, key=made.secret).hexdigest()
                    connected.writer.write(request(PATHS[surface], made.key, body))
                    answer = await answered(connected.reader)
                    if not answer.whole:
                        break
                    assert answer.status == 200, answer
                    made.answered.add(text)
        except ConnectionError:
            await asyncio.sleep(0.01)
