"""Tuned models behind a real `baimo serve`: there at once, for their tenant only, on every surface."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("xllamacpp")

from baimo.core.call import Request, Sampling  # noqa: E402
from baimo.core.message import Message  # noqa: E402
from baimo.providers.gguf_write import gguf_of  # noqa: E402
from baimo.tuning.reference import Reference  # noqa: E402
from tests.serving import Endpoint, serving  # noqa: E402
from tests.tuning.adapters import tuned  # noqa: E402
from tests.waiting import PATIENCE_S, until  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries about each other

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
TURNS = [{"role": "user", "content": "What now?"}]
SURFACES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": TURNS, "max_tokens": 3, "temperature": 0},
    "/v1/completions": {"prompt": "What now?", "max_tokens": 3, "temperature": 0},
    "/v1/responses": {"input": "What now?", "max_output_tokens": 16},
    "/v1/messages": {"messages": TURNS, "max_tokens": 3},
    "/v1/messages/count_tokens": {"messages": TURNS},
}


class House:
    """A tiny base as GGUF, and adapters on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = tuned.base(folder / "base")
        self.gguf = gguf_of(self.base, folder / "tiny.gguf", "f16", None)
        for seed in (1, 2):
            tuned.adapted(self.base, folder / f"a{seed}", seed=seed, size=0.3)

    def config(self, adapters: str) -> str:
        return (
            f'[models."local/tiny"]\nweights = "file:{self.gguf}"\ncontext_window = 512\n'
            "input_per_million = 0\noutput_per_million = 0\n"
            '[providers.local.options]\nengine = "llamacpp"\nthreads = 1\n'
            f'adapters = "{adapters}"\n'
        )

    def expected(self, seed: int) -> str:
        """What the adapter answers, by transformers and PEFT."""
        reference = Reference(self.base, self.folder / f"a{seed}", threads=1)
        request = Request(
            model="", messages=(Message(role="user", content="What now?"),), sampling=Sampling(max_tokens=3)
        )
        return reference.answers([reference.spoken(request).ids], 3)[0].text


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module", params=["lora", pytest.param("merged", marks=pytest.mark.slow)])
def endpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, house: House
) -> Iterator[Endpoint]:
    with serving(
        tmp_path_factory.mktemp("served"), house.config(request.param), environment=ONE_THREAD
    ) as made:
        for tenant in ("acme", "globex"):
            made.baimo("tenants", "create", tenant)
        yield made


def asked(endpoint: Endpoint, path: str, key: str, body: Any = None, method: str = "") -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(endpoint.address + path, data, headers, method=method or None)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def imported(endpoint: Endpoint, house: House, seed: int, tenant: str) -> str:
    """Name of an adapter that was taken over while the server runs."""
    arguments = ("--base", "local/tiny", "--suffix", f"s{seed}", "--tenant", tenant, "--unchecked")
    return str(endpoint.baimo("adapters", "import", str(house.folder / f"a{seed}"), *arguments)["name"])


def listed(endpoint: Endpoint, key: str) -> list[str]:
    names = [row["id"] for row in asked(endpoint, "/v1/models", key)[1]["data"]]
    return [name for name in names if name.startswith("ft:")]


def test_it_is_there_without_a_restart_and_another_tenant_cannot_tell_that_it_is(
    endpoint: Endpoint, house: House
) -> None:
    mine, theirs = endpoint.new_key("--tenant", "acme"), endpoint.new_key("--tenant", "globex")
    name = imported(endpoint, house, 1, "acme")
    assert name.startswith("ft:tiny:acme:s1:")
    until(lambda: listed(endpoint, mine) == [name])
    assert listed(endpoint, theirs) == []
    assert listed(endpoint, endpoint.key) == []  # the owner's own models are others

    status, row = asked(endpoint, f"/v1/models/{name}", mine)
    assert (status, row["id"], row["owned_by"]) == (200, name, "local")
    nothing = name[:-4] + "none"
    for key in (theirs, endpoint.key):
        hidden, absent = (asked(endpoint, f"/v1/models/{one}", key) for one in (name, nothing))
        assert hidden[0] == absent[0] == 404
        assert _alike(hidden[1], name) == _alike(absent[1], nothing)

    for path, body in SURFACES.items():
        status, answer = asked(endpoint, path, mine, {"model": name, **body})
        assert status == 200, (path, answer)
        for key in (theirs, endpoint.key):
            hidden = asked(endpoint, path, key, {"model": name, **body})
            absent = asked(endpoint, path, key, {"model": nothing, **body})
            assert hidden[0] == absent[0] == 404, (path, hidden)
            assert _alike(hidden[1], name) == _alike(absent[1], nothing), path
    records = endpoint.settled(1, f"model = '{name}'")
    assert {record["tenant"] for record in records} == {"acme"}
    assert {record["cost_micros"] for record in records} == {0}

    endpoint.ran("adapters", "retire", name)
    until(lambda: listed(endpoint, mine) == [])
    assert (
        asked(endpoint, "/v1/chat/completions", mine, {"model": name, **SURFACES["/v1/chat/completions"]})[0]
        == 404
    )


def test_several_adapters_of_one_base_answer_at_once_each_as_it_was_trained(
    endpoint: Endpoint, house: House
) -> None:
    key = endpoint.new_key("--tenant", "acme")
    names = {seed: imported(endpoint, house, seed, "acme") for seed in (1, 2)}
    until(lambda: set(names.values()) <= set(listed(endpoint, key)))
    expected = {seed: house.expected(seed) for seed in names}
    assert expected[1] != expected[2]

    def said(seed: int) -> tuple[int, str]:
        body = {"model": names[seed], **SURFACES["/v1/chat/completions"]}
        status, answer = asked(endpoint, "/v1/chat/completions", key, body)
        assert status == 200, answer
        return seed, str(answer["choices"][0]["message"]["content"]).rstrip("\ufffd")

    with ThreadPoolExecutor(6) as pool:
        for seed, text in pool.map(said, [1, 2, 1, 2, 2, 1, 1, 2]):
            assert text == expected[seed]
    for name in names.values():
        endpoint.ran("adapters", "rm", name, "--yes")
    until(lambda: not set(names.values()) & set(listed(endpoint, key)))


def test_a_key_that_may_ask_for_some_models_only_is_held_to_it(endpoint: Endpoint, house: House) -> None:
    name = imported(endpoint, house, 1, "acme")
    everything = endpoint.new_key("--tenant", "acme")
    until(lambda: name in listed(endpoint, everything))
    tuned_only = endpoint.new_key("--tenant", "acme", "--model", "ft:*")
    base_only = endpoint.new_key("--tenant", "acme", "--model", "local/*")
    body = SURFACES["/v1/chat/completions"]
    assert asked(endpoint, "/v1/chat/completions", tuned_only, {"model": name, **body})[0] == 200
    assert asked(endpoint, "/v1/chat/completions", base_only, {"model": name, **body})[0] == 403
    assert name not in listed(endpoint, base_only)
    endpoint.ran("adapters", "rm", name, "--yes")


@pytest.mark.slow
def test_several_workers_share_the_process_that_holds_it(tmp_path: Path, house: House) -> None:
    with serving(tmp_path, house.config("lora"), "--workers", "2", environment=ONE_THREAD) as endpoint:
        endpoint.baimo("tenants", "create", "acme")
        key = endpoint.new_key("--tenant", "acme")
        name = imported(endpoint, house, 2, "acme")
        until(lambda: all(listed(endpoint, key) == [name] for _ in range(6)))
        expected = house.expected(2)
        for _ in range(4):
            body = {"model": name, **SURFACES["/v1/chat/completions"]}
            status, answer = asked(endpoint, "/v1/chat/completions", key, body)
            assert status == 200, answer
            assert answer["choices"][0]["message"]["content"].rstrip("\ufffd") == expected


def _alike(answer: Any, name: str) -> str:
    """An answer without the name that was asked for, and without what differs from call to call."""
    words = json.dumps(answer).replace(name, "X")
    return re.sub(r'(req_|"request_id": ")[^" ]+', r"\1", words)
