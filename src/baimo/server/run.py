"""`baimo serve`: the socket, the first key, and the processes that answer.

Prevents the failure where a newcomer has a server and no idea how to call it: what is printed works when it is pasted.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from baimo.config import config_file
from baimo.core.tenant import Key
from baimo.errors import ConfigError, StoreError
from baimo.server.options import ServeOptions
from baimo.settings import ServeSettings
from baimo.store.sessions import Sessions
from baimo.text import text
from baimo.workspace.workspace import Workspace

APP = "baimo.server.app:app"
"""Made anew in every worker process."""
EMBEDDED = "local/smollm2-135m-instruct"
"""The model that answers when nothing is configured."""


log = logging.getLogger("baimo.serve")
NOT_STARTED = StoreError.exit_code
"""Exit code of a server that could not start: its settings were found good, so it is the workspace."""
LINK_MS = 3_600_000
"""How long the link that opens the console works, if nobody uses it."""


class Opening(NamedTuple):
    """What a newcomer needs to call the endpoint."""

    address: str
    """Base address, `http://127.0.0.1:8000`."""
    secret: str | None
    """The first key, shown this once; None = there are keys already."""
    model: str
    """A name to ask for; empty = none is configured."""
    console: str
    """Address of the console; with the first key, a link that opens it once."""


def flags_of(options: ServeOptions) -> dict[str, Any]:
    """The settings that the command line sets."""
    given = {
        "host": options.host,
        "port": options.port,
        "workers": options.workers,
        "default_model": options.model or None,
    }
    return {"serve." + name: value for name, value in given.items() if value is not None}


def serve(workspace: Workspace, flags: dict[str, Any], told: Any) -> int:
    """Listen until a signal stops it; returns the exit code.

    Args:
        workspace: whose settings and models are served.
        flags: the settings that workers must have besides file and environment.
        told: given the `Opening` once the port is bound.

    Raises:
        ConfigError, UnknownModel: the settings cannot be used, or the address cannot be listened on.
        MissingExtra: traces are wanted, and OpenTelemetry is not installed.
        StoreError: the workspace cannot be opened.
    """
    import uvicorn

    from baimo.server.lane import Lane
    from baimo.server.lanes import graceful_s
    from baimo.server.logs import configure

    settings = workspace.settings.serve
    _checked(workspace)
    configure(workspace.settings.observe)
    listening = listener(settings)
    if not settings.default_model and not workspace.settings.routes and not workspace.settings.providers:
        flags = flags_of(ServeOptions(model=EMBEDDED)) | flags
        workspace.weights(EMBEDDED.partition("/")[2])  # fetched now, not while somebody waits for an answer
    opening = _opened(workspace, _address(settings, listening))
    for path in readable(workspace):
        log.warning(text("serve.readable", path=path))
    if (file := config_file(workspace.folder)) is not None:
        os.environ["BAIMO_CONFIG"] = str(file)  # a worker that is started later takes no other one
    for name, value in flags.items():
        # workers are processes of their own: they read the same file, and the flags as variables
        os.environ[f"BAIMO_{name.replace('.', '_', 1).upper()}"] = str(value)
    workspace.close()
    config = uvicorn.Config(
        APP,
        factory=True,
        http=Lane,
        loop="uvloop" if _has_uvloop() else "asyncio",
        ws="none",
        workers=settings.workers,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        lifespan="on",
        timeout_graceful_shutdown=graceful_s(settings),
        ssl_certfile=settings.tls_certificate or None,
        ssl_keyfile=settings.tls_key or None,
    )
    told(opening)
    if settings.workers > 1:
        from baimo.server import engine
        from baimo.server.workers import Workers

        workers = Workers(config, [listening])
        with engine.running(str(workspace.folder)):
            workers.run()
        return NOT_STARTED if workers.failed else 0
    server = uvicorn.Server(config)
    with suppress(SystemExit):  # uvicorn's way to say that it could not start; the log says why
        server.run([listening])
    return 0 if server.started else NOT_STARTED


def _checked(workspace: Workspace) -> None:
    """Whatever is wrong with the settings is told here, once, before anybody is told an address."""
    from baimo.gateway.assembly import checked
    from baimo.server import traces
    from baimo.server.lanes import networks, origins
    from baimo.workspace.serving import checked_masking

    settings = workspace.settings
    checked_masking(settings)
    checked(settings, workspace.catalogue)
    networks(settings.serve)
    origins(settings.serve)
    checked_tls(settings.serve)
    if settings.observe.otlp_endpoint and traces.wanted(settings.observe):
        traces.Traces(settings.observe).close()


def readable(workspace: Workspace) -> list[Path]:
    """Files of the database that other users of this machine may read; they were made before, or by somebody else."""
    if os.name != "posix" or not (workspace.path.is_dir() and workspace.path.stat().st_mode & 0o011):
        return []
    found = sorted(workspace.path.glob("baimo.db*"))
    return [path for path in found if path.stat().st_mode & 0o044]


def checked_tls(settings: ServeSettings) -> None:
    """Refuse TLS files that cannot be served with; the key may be in the certificate's file.

    Raises:
        ConfigError: a file cannot be read, holds something else, or one of the two is missing.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if key and not certificate:
        raise ConfigError("serve.tls_key_alone")
    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            if path:
                Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(
                "serve.tls_unreadable", setting=name, path=path, problem=error.strerror
            ) from error
    if certificate:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key or None)
        except ssl.SSLError as error:
            raise ConfigError("serve.tls_unusable", problem=error.reason or error) from error


BACKLOG = 2048
"""Connections that wait to be taken, as uvicorn has it."""


def listener(settings: ServeSettings) -> socket.socket:
    """A socket that takes connections from now on: whoever is told its address may call at once.

    Raises:
        ConfigError: the address is taken, not this machine's, or needs more rights.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise ConfigError(
            "serve.cannot_listen", host=settings.host, port=settings.port, problem=error.strerror or error
        ) from error
    bound.set_inheritable(True)
    return bound


def offered(workspace: Workspace) -> str:
    """A name that answers: the default model, else the first route, else the embedded model."""
    settings = workspace.settings
    return settings.serve.default_model or next(iter(settings.routes), EMBEDDED)


def snippets(opening: Opening, secret: str) -> str:
    """A curl line and a Python program that work when they are pasted."""
    return text("serve.snippets", address=opening.address, secret=secret, model=opening.model)


def _address(settings: ServeSettings, listening: socket.socket) -> str:
    port = listening.getsockname()[1]
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    host = everywhere.get(settings.host, f"[{settings.host}]" if ":" in settings.host else settings.host)
    return f"{'https' if settings.tls_certificate else 'http'}://{host}:{port}"


def _opened(workspace: Workspace, address: str) -> Opening:
    if workspace.accounts.any_key():
        return Opening(address, None, offered(workspace), f"{address}/console/")
    made = workspace.accounts.create_key(Key(label=text("serve.first_key"), role="admin"))
    link = Sessions(workspace.store.database).begin(made.key.public, LINK_MS).credential.written()
    return Opening(address, made.credential.written(), offered(workspace), f"{address}/console/enter/{link}")


def _has_uvloop() -> bool:
    return importlib.util.find_spec("uvloop") is not None  # not on Windows, not on PyPy
