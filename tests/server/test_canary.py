"""Secrets and prompts with a name that is searched for in everything that leaves the process or stays on its disk."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from baimo.server.admin.table import OPERATIONS
from baimo.store.ledger import Ledger
from tests.server.served import TOML, Served, served
from tests.server.upstream import Upstream, upstream
from tests.waiting import PATIENCE_S

PROVIDER_KEY = "canary-provider-0a1b2c3d4e5f"
HEADER = "canary-header-6f7e8d9c0b1a"
OPTION = "canary-option-2c3d4e5f6a7b"
PROXY = "canary-proxy-4e5f6a7b8c9d"
VARIABLE = "canary-variable-0f1a2b3c4d5e"
PROMPT = "canary-prompt-6a7b8c9d0e1f"
PASSWORD = "canary-password-1b2c3d4e5f6a"

SETTINGS = """
[providers.up]
protocol = "openai"
base_url = "http://127.0.0.1:{port}/v1"
key = "env:CANARY_PROVIDER_KEY"
headers = {{ x-team = "{header}", x-tag = "${{CANARY_VARIABLE}}" }}
retries = 0
[models."up/small"]
input_per_million = 1.0
output_per_million = 2.0
[providers.broken]
protocol = "fake"
inside = true
[providers.broken.options]
function = "tests.server.canary:fails"
[providers.elsewhere]
protocol = "openai"
base_url = "https://{{region}}.models.example/{{api_token}}/v1"
[providers.elsewhere.options]
api_token = "{option}"
region = "${{CANARY_VARIABLE}}"
[providers.behind]
protocol = "openai"
base_url = "https://${{CANARY_VARIABLE}}.example/v1"
[serve]
breaker_failures = 1000
retries = 0
"""


@dataclass
class Leaks:
    """What came out, and where."""

    outputs: dict[str, bytes] = field(default_factory=dict)

    def add(self, place: str, output: bytes | str) -> None:
        self.outputs[place] = output if isinstance(output, bytes) else output.encode()

    def of(self, secret: str) -> list[str]:
        """Places where a secret can be read."""
        return [place for place, output in self.outputs.items() if secret.encode() in output]


class Lines(logging.Handler):
    """Every line of every log, tracebacks included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with upstream() as made:
        yield made


@pytest.fixture(scope="module")
def log() -> Iterator[Lines]:
    lines, root = Lines(), logging.getLogger()
    level = root.level
    root.addHandler(lines)
    root.setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(lines)
    root.setLevel(level)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, server: Upstream, log: Lines) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    patch.setenv("CANARY_PROVIDER_KEY", PROVIDER_KEY)
    patch.setenv("CANARY_VARIABLE", VARIABLE)
    facts = {"port": server.port, "header": HEADER, "option": OPTION}
    with served(tmp_path_factory.mktemp("house"), TOML + SETTINGS.format(**facts)) as endpoint:
        yield endpoint
    patch.undo()


@pytest.fixture(scope="module")
def leaks(house: Served, server: Upstream, log: Lines) -> tuple[Leaks, str]:
    """Everything that came out of a busy day, and the secret of the key that was used."""
    found, key = Leaks(), house.key(role="admin", label="the busy one", limits=())
    rounds = [(200, False), (200, True), (400, True), (401, True), (429, True), (500, True)]
    for status, echo in rounds:
        server.status, server.echo = status, echo
        # through a translation a busy server is waited for, which takes longer than a test may
        for path, body in calls() if status != 429 else calls()[:1]:
            said = house.call("POST", path, key, body)
            answer = (
                found if not (status == 200 and echo) else Leaks()
            )  # the model itself said it: it is the answer
            answer.add(f"{path} after {status} {len(found.outputs)}", said.body + str(said.headers).encode())
    server.status, server.echo = 200, False
    broken = {"model": "broken/x", "messages": [{"role": "user", "content": PROMPT}]}
    assert house.call("POST", "/v1/chat/completions", key, broken).status >= 500
    streamed = house.call("POST", "/v1/chat/completions", key, {**broken, "stream": True})
    assert streamed.status >= 500 or b"error" in streamed.body
    for text in (b"{", b'{"model": "' + PROMPT.encode(), json.dumps([PROMPT]).encode()):
        said = house.call("POST", "/v1/chat/completions", key, text, {"content-type": "application/json"})
        assert said.status == 400
    for wrong in (key[:-1], key + "0", key.upper(), f"bm-{'0' * 12}-{key[16:]}"):
        found.add("a wrong key", house.call("GET", "/api/me", wrong).body)
        found.add("a wrong key on a hot route", house.chat(wrong).body)
    found.add("a key as a path", house.call("GET", f"/api/keys/{key}", key).body)
    house.call("POST", "/api/keys", key, {"label": "another"})
    house.call("POST", "/api/settings/reload", key, {})
    gather(house, key, found)
    found.add("log", "\n".join(log.lines))
    return found, key[16:]


def calls() -> list[tuple[str, dict[str, Any]]]:
    said = [{"role": "user", "content": PROMPT}]
    return [
        ("/v1/chat/completions", {"model": "up/small", "messages": said}),
        ("/v1/chat/completions", {"model": "up/small", "messages": said, "stream": True}),
        ("/v1/messages", {"model": "up/small", "max_tokens": 9, "messages": said}),
        ("/v1/embeddings", {"model": "up/small", "input": PROMPT}),
    ]


def gather(house: Served, key: str, found: Leaks) -> None:
    """Every answer of administration, metrics, and every file of the workspace."""
    for operation in OPERATIONS:
        if operation.method == "GET" and "{" not in operation.path:
            said = house.call("GET", operation.path, key)
            assert said.status == 200
            found.add(operation.path, said.body + str(said.headers).encode())
    for path in (
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/models",
        "/api/keys?all=true",
        "/api/providers?limit=1000",
    ):
        found.add(path, house.call("GET", path, key).body)
    assert house.records >= 10
    for line in Ledger(house.workspace.store.database).lines():
        found.add(f"record {line.seq}", repr(line))
    for path in (house.folder / ".baimo").rglob("*"):
        if path.is_file():
            found.add(str(path.relative_to(house.folder)), path.read_bytes())


def test_the_search_would_find_what_is_there(leaks: tuple[Leaks, str]) -> None:
    found, _ = leaks
    assert "log" in found.outputs
    assert found.of("the busy one")  # the label, which is no secret, is in answers and in the database
    assert any(place.endswith("baimo.db") for place in found.outputs)
    assert any(place.endswith(".journal") for place in found.outputs)
    assert b"up/small" in found.outputs["/api/settings"]
    assert b"RuntimeError" in found.outputs["log"]  # the fault was told, without its words


@pytest.mark.parametrize("secret", [PROVIDER_KEY, HEADER, OPTION, VARIABLE])
def test_no_secret_of_a_provider_comes_out_anywhere(leaks: tuple[Leaks, str], secret: str) -> None:
    found, _ = leaks
    assert found.of(secret) == []


def test_no_secret_of_a_client_comes_out_anywhere(leaks: tuple[Leaks, str]) -> None:
    found, secret = leaks
    assert len(secret) == 48
    assert found.of(secret) == []


def test_no_prompt_stays_or_is_told_where_nobody_opted_in(leaks: tuple[Leaks, str]) -> None:
    found, _ = leaks
    # a model's server that repeats the prompt in its refusal tells it to the client, who wrote it, and to nobody else
    assert [place for place in found.of(PROMPT) if " after " not in place] == []


def test_the_settings_say_where_a_secret_comes_from(house: Served, leaks: tuple[Leaks, str]) -> None:
    key = house.key(role="engineer")
    shown = {one["name"]: one for one in house.call("GET", "/api/settings", key).data["data"]}
    assert shown["providers.up.key"]["value"] == "env:CANARY_PROVIDER_KEY"
    assert shown["providers.behind.base_url"]["value"] == "https://${CANARY_VARIABLE}.example/v1"
    assert shown["providers.elsewhere.options.api_token"]["value"] == "…"
    assert shown["providers.up.headers.x-team"]["value"] == "…"
    assert shown["providers.up.base_url"]["source"].endswith("baimo.toml, line 15")


@pytest.mark.parametrize(
    "variables",
    [
        {"BAIMO_WORKSPACE_DATABASE": f"postgresql://someone:{PASSWORD}@127.0.0.1:1/none"},
        {"BAIMO_WORKSPACE_DATABASE": f"mysql://someone:{PASSWORD}@127.0.0.1:1/none"},
        {"BAIMO_WORKSPACE_DATABASE": f"postgresql://someone:{PASSWORD}@[::bad/none"},
        {"BAIMO_SERVE_PROXY": f"socks5://someone:{PASSWORD}@127.0.0.1:1"},
        {"BAIMO_PROVIDERS_UP_KEY": PASSWORD},
        {"BAIMO_PROVIDERS_OPENAI_BASE_URL": f"https://someone:{PASSWORD}@models.example/v1"},
        {"BAIMO_PROVIDERS_OPENAI_BASE_URL": f"https://models.example/v1?api_key={PASSWORD}"},
    ],
    ids=lambda one: next(iter(one)),
)
def test_a_start_that_fails_does_not_print_a_password(tmp_path: Path, variables: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "baimo", "serve", "--port", "0"],
        cwd=tmp_path,
        env={**os.environ, **variables, "BAIMO_LANG": "en", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    output = b""
    for line in process.stdout:
        output += line
        if b"listens on" in line:  # it could be started: then it says nothing either
            process.terminate()
    process.wait(PATIENCE_S)
    process.stdout.close()
    assert output
    assert PASSWORD.encode() not in output
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()
