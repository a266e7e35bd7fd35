"""`baimo serve` as a newcomer and an operator meet it: real processes, real SDKs, a real model."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.serving import Endpoint, serving
from tests.upstream import TOKENS_IN, TOKENS_OUT, upstream
from tests.waiting import PATIENCE_S, until

CONFIG = """
[providers.mock]
base_url = "{address}"
key = "env:MOCK_KEY"
inside = true

[models."mock/model"]
input_per_million = 0.15
output_per_million = 0.6
context_window = 8192

[routes.fast]
models = ["mock/model"]
"""


def client(endpoint: Endpoint, key: str = "") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{endpoint.address}/v1", api_key=key or endpoint.key, max_retries=0)


@pytest.mark.local
@pytest.mark.xdist_group("local")
def test_with_no_configuration_the_embedded_model_answers_and_what_is_printed_works(tmp_path: Path) -> None:
    with serving(tmp_path / "w") as endpoint:
        shown = endpoint.log.read_text()
        program = (
            shown[shown.index("from openai") : shown.rindex("print(")] + "print(answer.usage.total_tokens)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        curl = shown[shown.index("curl ") : shown.index("from openai")]
        said = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=False)
        assert '"choices"' in said.stdout
        first, second = endpoint.settled(2)
        assert first["tokens_in"] + first["tokens_out"] == int(done.stdout)
        assert (second["status"], second["cost_micros"], second["model"]) == (
            "ok",
            0,
            "local/smollm2-135m-instruct",
        )


def test_the_first_key_is_printed_once_and_kept_nowhere(tmp_path: Path) -> None:
    with serving(tmp_path / "w", CONFIG.format(address="http://127.0.0.1:9/v1")) as endpoint:
        secret = endpoint.key.rpartition("-")[2]
        assert endpoint.log.read_text().count("shown this once") == 1
        link = re.search(r"(http://\S+)(/console/enter/bm-\S+)", endpoint.log.read_text())
        assert link is not None
        for expected in (303, 401):  # it opens the console once
            asked = http.client.HTTPConnection(link[1].removeprefix("http://"), timeout=PATIENCE_S)
            asked.request("POST", link[2], "", {"origin": link[1]})
            assert asked.getresponse().status == expected
            asked.close()
    for path in (tmp_path / "w" / ".baimo").rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path
    with serving(tmp_path / "w", CONFIG.format(address="http://127.0.0.1:9/v1")) as endpoint:
        assert endpoint.log.read_text().count("shown this once") == 1
        assert "keys exist already" in endpoint.log.read_text()
        assert endpoint.log.read_text().count("/console/enter/") == 1


def test_a_call_through_a_route_has_its_exact_cost_in_the_ledger(tmp_path: Path) -> None:
    with (
        upstream() as model,
        serving(
            tmp_path / "w", CONFIG.format(address=model.address), environment={"MOCK_KEY": "sk-x"}
        ) as endpoint,
    ):
        answer = client(endpoint).chat.completions.with_raw_response.create(
            model="fast", messages=[{"role": "user", "content": "hello"}]
        )
        assert answer.parse().choices[0].message.content == "echo: hello"
        assert answer.headers["x-baimo-model"] == "mock/model"
        assert float(answer.headers["x-baimo-cost"]) == pytest.approx((24 * 0.15 + 21 * 0.6) / 1e6)
        pieces = client(endpoint).chat.completions.create(
            model="fast", messages=[{"role": "user", "content": "hello"}], stream=True
        )
        assert (
            "".join(piece.choices[0].delta.content or "" for piece in pieces) == "The quick brown fox jumps."
        )
        for record in endpoint.settled(2):
            assert (record["tokens_in"], record["tokens_out"]) == (TOKENS_IN, TOKENS_OUT)
            assert record["cost_micros"] * 10**6 + record["cost_rest"] == 24 * 150_000 + 21 * 600_000
            assert (record["asked"], record["model"], record["status"]) == ("fast", "mock/model", "ok")
        assert model.headers[-1]["authorization"] == "Bearer sk-x"


def test_a_changed_configuration_is_adopted_and_a_broken_one_is_not(tmp_path: Path) -> None:
    with (
        upstream() as model,
        serving(
            tmp_path / "w", CONFIG.format(address=model.address), environment={"MOCK_KEY": "sk-x"}
        ) as endpoint,
    ):
        path = endpoint.folder / "baimo.toml"
        before = path.read_text()
        path.write_text(before + "[routes.slow]\nmodels = ['mock/model']\n")
        until(lambda: "slow" in [one.id for one in client(endpoint).models.list()])
        path.write_text(before + "[routes.slow]\nmodel = 'mock/model'\n")
        until(lambda: "is not used" in endpoint.log.read_text())
        assert "slow" in [one.id for one in client(endpoint).models.list()]


@pytest.mark.parametrize("named", [False, True])
def test_a_configuration_that_is_gone_or_empty_opens_nothing(tmp_path: Path, named: bool) -> None:
    """By BAIMO_CONFIG, too; a parent's baimo.toml does not take its place."""
    closed = '[policy]\noutside = "deny"\n[providers.out]\nbase_url = "{address}"\n'
    path = tmp_path / "w" / "baimo.toml"
    with upstream() as model:
        text = closed.format(address=model.address)
        (tmp_path / "baimo.toml").write_text(text.replace("deny", "allow"))
        with serving(
            tmp_path / "w", text, environment={"BAIMO_CONFIG": str(path)} if named else {}
        ) as endpoint:

            def asked() -> int:
                messages: Any = [{"role": "user", "content": "hello"}]
                try:
                    client(endpoint).chat.completions.create(model="out/model", messages=messages)
                except openai.APIStatusError as error:
                    return error.status_code
                return 200

            assert asked() == 403
            path.unlink()
            until(lambda: f"{path} is gone" in endpoint.log.read_text())
            assert asked() == 403
            path.write_text("")
            until(lambda: f"{path} is empty" in endpoint.log.read_text())
            assert asked() == 403
            path.write_text(text.replace("deny", "allow"))
            until(lambda: asked() == 200)


@pytest.mark.local
@pytest.mark.xdist_group("local")
def test_two_workers_share_one_copy_of_the_embedded_model(tmp_path: Path) -> None:
    with serving(tmp_path / "w", "", "--workers", "2") as endpoint:
        for _ in range(4):
            answer = client(endpoint).chat.completions.create(
                model="local/smollm2-135m-instruct",
                messages=[{"role": "user", "content": "Say hi."}],
                max_tokens=4,
                temperature=0,
            )
            assert answer.usage is not None
            assert answer.usage.completion_tokens > 0
        assert {record["cost_micros"] for record in endpoint.settled(4)} == {0}


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with serving(tmp_path / "w", CONFIG.format(address="http://127.0.0.1:9/v1")) as endpoint:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "baimo",
                "-w",
                str(tmp_path / "other"),
                "serve",
                "--port",
                str(endpoint.port),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert f"port {endpoint.port}" in done.stderr
        assert "--port 0" in done.stderr


def started(folder: Path, config: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """How a server ended that cannot run."""
    folder.mkdir(exist_ok=True)
    (folder / "baimo.toml").write_text(config)
    command = [sys.executable, "-m", "baimo", "--lang", "en", "serve", "--port", "0", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('[serve]\ndefault_model = "nosuch"', "there is no model nosuch"),
        ('[serve]\nworkers = 2\ndefault_model = "nosuch"', "there is no model nosuch"),
        ('[serve]\ntrusted_proxies = ["10.0.0.0/99"]', "serve.trusted_proxies: 10.0.0.0/99"),
        ('[routes.r]\nmodels = ["openai/gpt-5"]\nstrategy = "canary"', "canary"),
        ("[policy]\nsemantic_cache = 0.9", "policy.semantic_model"),
        ('[providers.x]\nbase_url = "unix:///run/x.sock"', "unix:///run/x.sock"),
        ('[serve]\ntls_certificate = "/gone.pem"', "serve.tls_certificate: /gone.pem"),
    ],
)
def test_settings_that_cannot_be_used_end_it_with_one_message(tmp_path: Path, config: str, said: str) -> None:
    done = started(tmp_path, config)
    assert (done.returncode, done.stdout) == (2, "")
    message, *advice = done.stderr.splitlines()
    assert message.startswith("error: ")
    assert said in done.stderr
    assert len(advice) <= 1, done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_cannot_start_ends_with_the_code_of_the_workspace(tmp_path: Path, workers: str) -> None:
    (tmp_path / ".baimo").mkdir()
    (tmp_path / ".baimo" / "journal").write_text("no folder")
    done = started(tmp_path, CONFIG.format(address="http://127.0.0.1:9/v1"), "--workers", workers)
    assert done.returncode == 4, done.stderr
    assert done.stderr.count("Started server process") <= 1 + int(workers)  # the models' own process, too
    assert "journal" in done.stderr
