"""A vLLM server is started, watched and stopped. The program here is a script with vLLM's command line and routes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from baimo.core.call import Request
from baimo.core.message import Message
from baimo.core.model import Vendor
from baimo.errors import ConfigError, MissingExtra, Unreachable
from baimo.providers.vllm import VllmOptions, VllmProvider, VllmServer
from baimo.settings import ProviderSettings

PROGRAM = """#!{python}
import http.server, json, os, sys
if "--fail" in sys.argv:
    sys.exit("CUDA out of memory")
port = int(sys.argv[sys.argv.index("--port") + 1])
loaded = []
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): ...
    def answered(self, status, data):
        body = json.dumps(data).encode()
        self.send_response(status); self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_GET(self):
        self.answered(200, {{}})
    def do_POST(self):
        asked = self.rfile.read(int(self.headers["content-length"])).decode()
        if self.headers["authorization"] != "Bearer " + os.environ["VLLM_API_KEY"]:
            return self.answered(401, {{"error": "no key"}})
        if self.path.endswith("lora_adapter"):
            loaded.append(self.path.rpartition("/")[2] + " " + asked)
            return self.answered(200, {{}})
        if "said" in asked:
            return self.answered(200, {{"model": "m", "choices": [{{"index": 0, "finish_reason": "stop",
                "message": {{"role": "assistant", "content": json.dumps([os.environ.get(
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING"), *loaded])}}}}],
                "usage": {{"prompt_tokens": 1, "completion_tokens": 2}}}})
        message = {{"role": "assistant", "content": f"pid {{os.getpid()}}"}}
        choice = {{"index": 0, "message": message, "finish_reason": "stop"}}
        usage = {{"prompt_tokens": 1, "completion_tokens": 2}}
        self.answered(200, {{"model": sys.argv[2], "choices": [choice], "usage": usage}})
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "vllm"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def options(program: str, unused_port: int) -> VllmOptions:
    return VllmOptions(model="org/model", executable=program, port=unused_port, start_timeout_s=20)


def test_the_command_line_says_everything_and_holds_no_secret() -> None:
    options = VllmOptions(
        model="/models/qwen",
        served_names=["qwen", "ft:qwen"],
        max_model_len=4096,
        tensor_parallel_size=2,
        quantization="fp8",
        max_num_seqs=64,
        adapters={"support": "/adapters/support"},
        tool_call_parser="hermes",
        reasoning_parser="qwen3",
        arguments=["--enforce-eager"],
    )
    assert options.command() == [
        *("vllm", "serve", "/models/qwen", "--host", "127.0.0.1", "--port", "8101"),
        *("--gpu-memory-utilization", "0.9", "--tensor-parallel-size", "2", "--dtype", "auto"),
        *("--max-model-len", "4096", "--quantization", "fp8", "--max-num-seqs", "64"),
        *("--reasoning-parser", "qwen3", "--served-model-name", "qwen", "ft:qwen"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        *("--enable-lora", "--max-lora-rank", "64", "--lora-modules", "support=/adapters/support"),
        "--enforce-eager",
    ]


def test_a_server_is_started_once_reached_with_its_key_and_stopped(
    options: VllmOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    vendor = Vendor(name="gpu", title="GPU", protocol="vllm", base_url="http://unused.invalid/v1")
    settings = ProviderSettings(protocol="vllm", options={**_plain(options)})
    request = Request(model="org/model", messages=(Message(role="user", content="hi"),))

    async def asked() -> tuple[str, str]:
        first, second = VllmProvider(vendor, settings), VllmProvider(vendor, settings)
        try:
            one, other = await asyncio.gather(first.complete(request), second.complete(request))
            assert first.server.starts + second.server.starts == 1
            assert stat.S_IMODE(first.server.key_file.stat().st_mode) == 0o600
            return one.text, other.text
        finally:
            await first.aclose()
            await second.aclose()

    one, other = asyncio.run(asked())
    assert one == other
    with pytest.raises(ProcessLookupError):
        os.kill(int(one.removeprefix("pid ")), 0)


def test_tuned_models_are_loaded_once_when_asked_for_and_unloaded_when_they_are_gone(
    options: VllmOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    vendor = Vendor(name="gpu", title="GPU", protocol="vllm", base_url="http://unused.invalid/v1")
    settings = ProviderSettings(protocol="vllm", options={**_plain(options), "tuned": True})
    said = (Message(role="user", content="said"),)

    async def asked() -> list[str]:
        provider = VllmProvider(vendor, settings, weights=lambda name: tmp_path / name.rpartition(":")[2])
        try:
            for name in ("ft:m:acme::one", "ft:m:acme::two", "ft:m:acme::one", "org/model"):
                await provider.complete(Request(model=name, messages=said))
            provider.forget(lambda name: name.endswith("one"))
            return list(json.loads((await provider.complete(Request(model="org/model", messages=said))).text))
        finally:
            await provider.aclose()

    allowed, *loaded = asyncio.run(asked())
    assert allowed == "True"
    steps = [(step.partition(" ")[0], json.loads(step.partition(" ")[2])) for step in loaded]
    assert steps == [
        ("load_lora_adapter", {"lora_name": "ft:m:acme::one", "lora_path": str(tmp_path / "one")}),
        ("load_lora_adapter", {"lora_name": "ft:m:acme::two", "lora_path": str(tmp_path / "two")}),
        ("unload_lora_adapter", {"lora_name": "ft:m:acme::one"}),
    ]
    assert "--enable-lora" in VllmOptions(model="m", tuned=True).command()


def test_a_server_that_dies_is_started_again(options: VllmOptions, tmp_path: Path) -> None:
    async def restarted() -> int:
        server = VllmServer(options, tmp_path)
        try:
            await server.ready()
            assert server._process is not None
            os.kill(server._process.pid, signal.SIGKILL)
            while server.starts < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await server.ready()
            return server.starts
        finally:
            await server.aclose()

    assert asyncio.run(restarted()) == 2


def test_a_server_that_cannot_start_shows_the_end_of_its_log(options: VllmOptions, tmp_path: Path) -> None:
    broken = VllmServer(
        VllmOptions(model="m", executable=options.executable, port=options.port, arguments=["--fail"]),
        tmp_path,
    )
    with pytest.raises(Unreachable) as caught:
        asyncio.run(broken.ready())
    assert "CUDA out of memory" in str(caught.value)


def test_a_missing_program_and_bad_options_are_told(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra):
        asyncio.run(VllmServer(VllmOptions(model="m", executable="no-such-vllm"), tmp_path).ready())
    with pytest.raises(ConfigError) as caught:
        VllmOptions.read("gpu", {"model": "m", "tensor_parallel": 2})
    assert "tensor_parallel" in str(caught.value)


def _plain(options: VllmOptions) -> dict[str, object]:
    return {"model": options.model, "executable": options.executable, "port": options.port}
