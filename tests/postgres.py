"""A real PostgreSQL for the tests: started from the machine's own packages on a free port, ended with the session."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path


def binaries() -> Path | None:
    """Folder of initdb and postgres: Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def unprivileged() -> int | None:
    """PostgreSQL refuses to run as root: the user to run it as, or None to stay who we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    return None


@contextmanager
def server(*, fsync: bool = False, folder: Path | None = None) -> Iterator[str]:
    """A running server; yields the URL of its `postgres` database. Tests need no data to outlive a power cut.

    Args:
        fsync: data outlive one.
        folder: where they lie and stay, one before's among them; None = nowhere for long.
    """
    programs = binaries()
    assert programs is not None
    user = unprivileged()
    with tempfile.TemporaryDirectory(prefix="bm-pg-") if folder is None else nullcontext(folder) as place:
        data = Path(place) / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        if user is not None:
            os.chown(place, user, -1)
            os.chown(data, user, -1)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        common = {"user": user, "cwd": place, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        if not (data / "PG_VERSION").exists():
            initdb = [
                programs / "initdb",
                "-D",
                data,
                "-U",
                "baimo",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
            ]
            subprocess.run(initdb, check=True, **common)
        options = (
            f"-p {port} -k {place} -h 127.0.0.1 -c fsync={'on' if fsync else 'off'} -c max_connections=60"
        )
        control = [programs / "pg_ctl", "-D", data, "-w", "-t", "60"]
        subprocess.run([*control, "-o", options, "start"], check=True, **common)
        try:
            yield f"postgresql://baimo@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run(
                [*control, "-m", "immediate" if folder is None else "fast", "stop"], check=True, **common
            )
