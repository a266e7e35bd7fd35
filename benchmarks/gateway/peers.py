"""The other gateways: each installed into an environment of its own, started on loopback with fake keys, no telemetry.

A peer that cannot be had raises `Unavailable` with the reason, which goes into the record: none is dropped in silence.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from machine import Bench, Process, Target, Unavailable, free_port, started, wait_for

FAKE_KEY = "sk-benchmark-0123456789abcdef"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A gateway that is compared."""

    install: Callable[[Path], str]
    """Installs into the folder unless it is there; returns the version."""
    start: Callable[[Bench, Path, int], Target]
    """Bench, its folder, the mock's port."""
    terms: str
    """What it does and does not do in this benchmark."""


def available(name: str, folder: Path) -> str:
    """Version of the installed peer.

    Raises:
        Unavailable: it cannot be installed; with the last words of the installer.
    """
    place = folder / name.lower()
    place.mkdir(parents=True, exist_ok=True)
    try:
        return PEERS[name].install(place)
    except FileNotFoundError as error:
        raise Unavailable(f"{error.filename} is not on this machine") from error
    except subprocess.CalledProcessError as error:
        words = " ".join(((error.stderr or "") + (error.stdout or "")).split())
        raise Unavailable(f"`{' '.join(map(str, error.cmd))}` failed: {words[-400:]}") from error


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def _python_package(place: Path, package: str, *more: str) -> str:
    python, name = place / "bin" / "python", package.partition("[")[0]
    version = ["-c", f"import importlib.metadata as m; print(m.version({name!r}))"]
    if not python.exists():
        _run(sys.executable, "-m", "venv", place)
    try:
        return _run(python, *version).strip()
    except subprocess.CalledProcessError:
        _run(python, "-m", "pip", "install", "--quiet", package, *more)
        return _run(python, *version).strip()


# ---------------------------------------------------------------------------------------------------------------- nginx
def _install_nginx(place: Path) -> str:
    binary = place / "root" / "usr" / "sbin" / "nginx"
    if not binary.exists():
        if shutil.which("nginx"):
            binary.parent.mkdir(parents=True, exist_ok=True)
            binary.symlink_to(shutil.which("nginx") or "")
        else:
            # unpacked, not installed: no service, nothing in /etc
            _run("apt-get", "download", "nginx", cwd=place)
            _run("dpkg", "-x", next(place.glob("nginx_*.deb")), place / "root")
    return _run(binary, "-v").strip().rpartition("/")[2]


def _start_nginx(bench: Bench, place: Path, upstream: int) -> Target:
    port, work = free_port(), bench.work / "nginx"
    (work / "logs").mkdir(parents=True, exist_ok=True)
    temporary = "".join(
        f"{kind}_temp_path {work}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (work / "nginx.conf").write_text(
        f"""daemon off; worker_processes {bench.workers}; worker_rlimit_nofile 20000; user root;
pid {work}/pid; error_log {work}/logs/error.log;
events {{ worker_connections 16384; }}
http {{
  access_log off; {temporary} tcp_nodelay on; keepalive_requests 100000000;
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096 {"reuseport" if bench.workers > 1 else ""};
    client_max_body_size 64m; client_body_buffer_size 256k;
    location / {{ proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
""",
        encoding="utf-8",
    )
    binary = place / "root" / "usr" / "sbin" / "nginx"
    command = [binary, "-p", work, "-c", work / "nginx.conf", "-e", work / "logs" / "error.log"]
    process = started(command, cores=bench.gateway_cores, log=work / "log")
    return _ready(Target(name="nginx", port=port, process=process), process)


# -------------------------------------------------------------------------------------------------------------- LiteLLM
def _start_litellm(bench: Bench, place: Path, upstream: int) -> Target:
    port, work = free_port(), bench.work / "litellm"
    work.mkdir(exist_ok=True)
    settings = {
        "model_list": [
            {
                "model_name": "gpt-4o-mini",
                "litellm_params": {
                    "model": "openai/gpt-4o-mini",
                    "api_base": f"http://127.0.0.1:{upstream}/v1",
                    "api_key": FAKE_KEY,
                },
            }
        ],
        "general_settings": {"master_key": FAKE_KEY},
    }
    (work / "config.yaml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    command = [place / "bin" / "litellm", "--config", work / "config.yaml", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", str(bench.workers), "--telemetry", "False"]
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    process = started(command, cores=bench.gateway_cores, log=work / "log", environment=environment, cwd=work)
    return _ready(Target(name="LiteLLM", port=port, process=process, key=FAKE_KEY), process)


# -------------------------------------------------------------------------------------------------------------- Portkey
def _install_portkey(place: Path) -> str:
    installed = place / "node_modules" / "@portkey-ai" / "gateway" / "package.json"
    if not installed.exists():
        # newer servers of Hono refuse the header that Portkey 1.15 appends to streams: Portkey-AI/gateway issue 1389
        wanted = {
            "private": True,
            "dependencies": {"@portkey-ai/gateway": "^1.15.2"},
            "overrides": {"@hono/node-server": "1.14.1"},
        }
        (place / "package.json").write_text(json.dumps(wanted), encoding="utf-8")
        _run("npm", "install", "--no-fund", "--no-audit", "--loglevel=error", cwd=place)
    return json.loads(installed.read_text(encoding="utf-8"))["version"]


def _start_portkey(bench: Bench, place: Path, upstream: int) -> Target:
    port = free_port()
    script = place / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    command = ["node", script, "--headless", f"--port={port}"]
    process = started(command, cores=bench.gateway_cores, log=bench.work / "portkey.log")
    headers = ("x-portkey-provider: openai", f"x-portkey-custom-host: http://127.0.0.1:{upstream}/v1")
    target = Target(name="Portkey", port=port, process=process, key=FAKE_KEY, headers=headers)
    return _ready(target, process)


# ----------------------------------------------------------------------------------------------------------- TensorZero
_TENSORZERO = """
import signal, sys, warnings
warnings.simplefilter("ignore")
from openai import OpenAI
from tensorzero import patch_openai_client
client = patch_openai_client(OpenAI(api_key="none"), config_file=sys.argv[1], async_setup=False)
print("listening at", client.base_url, flush=True)
signal.pause()
"""


def _start_tensorzero(bench: Bench, place: Path, upstream: int) -> Target:
    """The Python wheel holds the gateway (Rust), which it serves over HTTP for patched OpenAI clients."""
    work = bench.work / "tensorzero"
    work.mkdir(exist_ok=True)
    (work / "tensorzero.toml").write_text(
        f"""[gateway]
disable_pseudonymous_usage_analytics = true
observability.enabled = false
[models."gpt-4o-mini"]
routing = ["mock"]
[models."gpt-4o-mini".providers.mock]
type = "openai"
api_base = "http://127.0.0.1:{upstream}/v1/"
model_name = "gpt-4o-mini"
api_key_location = "none"
""",
        encoding="utf-8",
    )
    command = [place / "bin" / "python", "-c", _TENSORZERO, work / "tensorzero.toml"]
    process = started(command, cores=bench.gateway_cores, log=work / "log", cwd=work)
    port = _printed_port(process)
    model, path = "tensorzero::model_name::gpt-4o-mini", "/openai/v1/chat/completions"
    return _ready(Target(name="TensorZero", port=port, process=process, path=path, model=model), process)


def _printed_port(process: Process) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.popen.poll() is None:
        if found := re.search(r"listening at http://[^:]+:(\d+)", process.log.read_text(errors="replace")):
            return int(found[1])
        time.sleep(0.1)
    process.stop()
    raise Unavailable(f"it names no port: {process.last_words()}")


# --------------------------------------------------------------------------------------------------------------- MLflow
def _start_mlflow(bench: Bench, place: Path, upstream: int) -> Target:
    port, work = free_port(), bench.work / "mlflow"
    work.mkdir(exist_ok=True)
    config = {"openai_api_key": FAKE_KEY, "openai_api_base": f"http://127.0.0.1:{upstream}/v1"}
    endpoint = {
        "name": "gpt-4o-mini",
        "endpoint_type": "llm/v1/chat",
        "model": {"provider": "openai", "name": "gpt-4o-mini", "config": config},
    }
    (work / "config.yaml").write_text(json.dumps({"endpoints": [endpoint]}), encoding="utf-8")
    command = [place / "bin" / "mlflow", "gateway", "start", "--config-path", work / "config.yaml"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(bench.workers)]
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{place / 'bin'}:/usr/bin:/bin"}
    process = started(command, cores=bench.gateway_cores, log=work / "log", environment=environment, cwd=work)
    return _ready(Target(name="MLflow", port=port, process=process), process)


def _ready(target: Target, process: Process) -> Target:
    try:
        wait_for(target.port, process, seconds=180)
    except Unavailable:
        process.stop()
        raise
    return target


PEERS: Mapping[str, Peer] = {
    "nginx": Peer(
        install=_install_nginx,
        start=_start_nginx,
        terms="proxy_pass with keep-alive; knows nothing of keys, tokens or money: the limit for any proxy",
    ),
    "TensorZero": Peer(
        install=lambda place: _python_package(place, "tensorzero", "openai"),
        start=_start_tensorzero,
        terms="the Rust gateway within its Python wheel; authentication off and no log (both need a database server)",
    ),
    "Portkey": Peer(
        install=_install_portkey,
        start=_start_portkey,
        terms="passes the client's key on; no keys of its own, budgets or ledger in the open edition",
    ),
    "MLflow": Peer(
        install=lambda place: _python_package(place, "mlflow[gateway]"),
        start=_start_mlflow,
        terms="gunicorn with one uvicorn worker; no authentication, budgets or ledger",
    ),
    "LiteLLM": Peer(
        install=lambda place: _python_package(place, "litellm[proxy]"),
        start=_start_litellm,
        terms="master key on; budgets and spend logs off (both need PostgreSQL)",
    ),
}
"""In the order of the table; nginx first, the slowest last."""
