"""The child process of a tuning job: started, found again, stopped.

Prevents two failures: a job that dies with the process that started it (the child has a session of its own, and writes
into its folder only), and a signal that hits a stranger (a process id counts only while its owner holds the lock).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baimo.core.ids import canonical
from baimo.tuning.folder import JobFolder

TAKEN = 75
"""Exit code of a child that finds another one at work (EX_TEMPFAIL of sysexits.h)."""
LAST_LINES = 12
_SECRET = re.compile(
    r"(?i)(key|token|secret|password|passwd|credential|database|database_url)s?$|^(aws|azure)_"
)
_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How children are started."""

    command: Sequence[str] = (sys.executable, "-m", "baimo.workspace.tuned")
    """Gets the job's folder as its last argument."""
    directory: Path = field(default_factory=Path)
    """Working directory, where baimo.toml is looked for."""
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables that every child gets."""
    secrets: Collection[str] = ()
    """Names of variables that a child gets although they look like secrets: the keys of providers that it asks."""
    threads: int = 0
    """Processor threads; 0 = all."""
    bench: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the child finds in `bench.json`."""

    def started(self, folder: JobFolder, *, slot: int | None = None) -> Child:
        """Start a child.

        Args:
            folder: of its job.
            slot: descriptor of a lock that the child keeps as long as it lives.
        """
        (folder.path / "bench.json").write_bytes(canonical(self.bench))
        with (folder.path / "log").open("ab") as log:
            process = subprocess.Popen(
                [*self.command, str(folder.path.absolute())],
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # neither Ctrl-C nor a closed terminal reaches it
                pass_fds=() if slot is None else (slot,),
            )
        # reaped also when whoever started it looks away
        threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()
        return Child(folder, process)

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in self.secrets or not _is_secret(name, value)
        }
        if self.threads:
            names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
            kept |= dict.fromkeys(names, str(self.threads))
        return {**kept, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", **self.settings}


class Child:
    """A process that works on a job: one that we started, or one that we found."""

    def __init__(self, folder: JobFolder, process: subprocess.Popen[bytes] | None = None) -> None:
        self.folder = folder
        self._process = process

    @property
    def ours(self) -> bool:
        """Whether we started it."""
        return self._process is not None

    @property
    def alive(self) -> bool:
        """Whether it works."""
        if self._process is None:
            return self.folder.alive
        if self._process.poll() is None:
            return True
        if self._process.returncode == TAKEN and self.folder.alive:
            self._process = None  # another one was there before it: that is the one
            return True
        return False

    @property
    def code(self) -> int | None:
        """How it ended, negative = by that signal; None = it lives, or is not ours to know."""
        return None if self._process is None else self._process.poll()

    def signalled(self, number: signal.Signals) -> None:
        """Send a signal to it and to everything that it started."""
        ours = self._process is not None and self._process.poll() is None
        pid = self._process.pid if ours and self._process is not None else self.folder.pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(pid, number)


def _is_secret(name: str, value: str) -> bool:
    proxy = name.lower().endswith("proxy")
    return bool(_SECRET.search(name)) or (bool(_PASSWORD.search(value)) and not proxy)


def last_lines(folder: JobFolder) -> str:
    """The end of what the child has printed."""
    try:
        with (folder.path / "log").open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4000))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-LAST_LINES:])


def killed_for_memory() -> int | None:
    """How many processes the kernel has killed here so far because memory ran out; None = it does not say."""
    for path, name in (("/sys/fs/cgroup/memory.events", "oom_kill"), ("/proc/vmstat", "oom_kill")):
        with suppress(OSError):
            for line in Path(path).read_text().splitlines():
                if line.startswith(f"{name} "):
                    return int(line.split()[1])
    return None
