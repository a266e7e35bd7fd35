"""A server whose Records can be found by the body that was sent, with a model's server that misbehaves beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baimo.store.secret import workspace_secret
from baimo.workspace.account_options import NewKey
from baimo.workspace.workspace import Workspace
from tests.e2e.clients import PATHS, Answer, asked, post
from tests.serving import Endpoint, serving
from tests.upstream import Upstream, upstream
from tests.waiting import until

CONFIG = """
[serve]
first_byte_timeout_s = 1.5
header_timeout_s = 1
body_timeout_s = 1
limit_wait_s = 1
breaker_failures = 100000

[providers.mock]
base_url = "{address}"
inside = true
read_timeout_s = 1.5

[providers.claude]
protocol = "anthropic"
base_url = "{address}"
inside = true
read_timeout_s = 1.5

[providers.lost]
base_url = "http://no-such-host.invalid/v1"
inside = true

[models."mock/model"]
input_per_million = 0.15
output_per_million = 0.6
context_window = 8192

[models."claude/model"]
input_per_million = 0.15
output_per_million = 0.6
context_window = 8192

[models."lost/model"]
input_per_million = 0.15
output_per_million = 0.6
"""
LIMITS = ("cost=1000/month", "tokens=1000000000/day", "requests=1000000", "concurrency=10000")
MOST = 64
"""max_tokens of every call."""


@dataclass
class Watched:
    """The server and what it stands on."""

    endpoint: Endpoint
    model: Upstream
    key: str
    """Under limits of every kind."""
    secret: bytes

    def body(self, surface: str, text: str, model: str = "mock/model", *, stream: bool = False) -> bytes:
        """A call."""
        return asked(surface, model, text, stream=stream, most=None if surface == "embeddings" else MOST)

    async def call(self, surface: str, body: bytes) -> Answer:
        """Send it and read the answer."""
        return await post(self.endpoint, PATHS[surface], self.key, body)

    def records(self, bodies: Sequence[bytes]) -> list[dict[str, Any]]:
        """The Record of each of these calls, in their order; fails unless each has exactly one."""
        hashes = [hashlib.blake2b(body, digest_size=16, key=self.secret).hexdigest() for body in bodies]
        assert len(set(hashes)) == len(hashes), "calls must differ"
        where = f"request_hash IN ({', '.join(map(repr, hashes))})"
        until(lambda: len(self.endpoint.records(where)) >= len(hashes))
        by_hash = {record["request_hash"]: record for record in self.endpoint.records(where)}
        assert len(self.endpoint.records(where)) == len(by_hash) == len(hashes)
        return [by_hash[hash] for hash in hashes]

    def times_asked(self, text: str) -> int:
        """How often the model's server got this."""
        return sum(over.count(text) for over in self.model.lines)

    async def is_well(self, mark: str) -> None:
        """The next calls get their own answers."""
        for surface, model in (
            ("chat", "mock/model"),
            ("messages", "mock/model"),
            ("messages", "claude/model"),
        ):
            text = f"well {surface} {model} #{mark}"
            answer = await self.call(surface, self.body(surface, text, model))
            assert (answer.status, answer.text) == (200, f"echo: {text}")


@contextmanager
def watched(
    folder: Path, *arguments: str, more: str = "", environment: Mapping[str, str] | None = None
) -> Iterator[Watched]:
    """Start both.

    Args:
        folder: workspace.
        arguments: further options of `baimo serve`.
        more: further lines of baimo.toml.
        environment: further variables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with upstream() as model:
        config = CONFIG.format(address=model.address) + more
        (folder / "baimo.toml").write_text(config)
        with Workspace(folder) as workspace:
            made = workspace.accounting.create_key(NewKey(limit=LIMITS))
            secret = workspace_secret(workspace.store.database)
        with serving(folder, config, *arguments, environment=environment) as endpoint:
            yield Watched(endpoint, model, made.credential.written(), secret)
