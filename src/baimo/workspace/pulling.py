"""Weights that are being fetched for somebody who looks on: how far each is, for every process of the workspace.

Prevents two failures: a fetch of gigabytes that nobody sees, and one that is said to go on although its process died
(its file says how far it was and when; who fetches holds a lock, which ends with its process).
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from baimo.core.model import Model
from baimo.core.moments import wall_ms
from baimo.errors import BaimoError, Conflict, NotSupported
from baimo.models.pull import located
from baimo.tuning.folder import lock
from baimo.typed import from_json

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace

_TRIES = 50
"""A second: whoever looks at a fetch holds its lock for a moment, and so does one that has just said how it ended."""
TELL_S = 0.25
"""How often it is written down how far a fetch is."""
log = logging.getLogger("baimo.serve")


class Pull(msgspec.Struct, frozen=True, kw_only=True):
    """One fetch of weights."""

    model: str
    done: int = 0
    """Bytes."""
    total: int | None = None
    """Bytes; None = not known."""
    began_ms: int = 0
    ended_ms: int | None = None
    problem: str = ""
    """Why it failed."""

    @property
    def state(self) -> str:
        """pulling, done or failed."""
        if self.ended_ms is None:
            return "pulling"
        return "failed" if self.problem else "done"


class Pulling:
    """Fetches weights in threads of this process.

    Args:
        workspace: whose models.
        now_ms: wall clock, milliseconds since 1970.
    """

    def __init__(self, workspace: Workspace, now_ms: Callable[[], int] | None = None) -> None:
        self._workspace = workspace
        self._now_ms = now_ms or wall_ms
        self._folder = workspace.path / "run" / "pulls"

    def start(self, model: Model) -> Pull:
        """Begin to fetch a model's weights; it goes on when this returns.

        Raises:
            NotSupported: it has none that could be fetched.
            Conflict: they are being fetched, or here.
        """
        if not model.weights:
            raise NotSupported("pulls.no_weights", model=model.name, field="/model")
        if located(model, self._workspace.models) is not None:
            raise Conflict("pulls.here", model=model.name, field="/model")
        begun = Pull(model=model.name, began_ms=self._now_ms())
        taken = threading.Event()
        refused: list[Conflict] = []
        name = f"baimo-pull-{model.name}"
        threading.Thread(
            target=self._fetch, args=(model, begun, taken, refused), name=name, daemon=True
        ).start()
        taken.wait()
        if refused:
            raise refused[0]
        return begun

    def known(self) -> list[Pull]:
        """Every fetch that was begun here, the newest first."""
        found = [self._read(path) for path in self._folder.glob("*.json")]
        return sorted((one for one in found if one is not None), key=lambda one: -one.began_ms)

    def here(self, model: Model) -> bool | None:
        """Whether a model's weights are on this machine; None = it has none that could be."""
        if not model.weights:
            return None
        try:
            return located(model, self._workspace.models) is not None
        except BaimoError:
            return None

    def _fetch(self, model: Model, begun: Pull, taken: threading.Event, refused: list[Conflict]) -> None:
        path = self._path(model.name)
        with lock(path.with_suffix(".lock"), tries=_TRIES) as mine:
            if not mine:
                refused.append(Conflict("pulls.under_way", model=model.name, field="/model"))
                taken.set()
                return
            self._write(begun)
            taken.set()
            now, told_s = begun, 0.0

            def progress(done: int, total: int | None) -> None:
                nonlocal now, told_s
                now = msgspec.structs.replace(now, done=done, total=total)
                if time.monotonic() - told_s >= TELL_S:
                    told_s = time.monotonic()
                    self._write(now)

            problem = ""
            try:
                pulled = self._workspace.pull(model.name, progress)
                now = msgspec.structs.replace(now, done=pulled.bytes, total=pulled.bytes)
            except (BaimoError, OSError) as error:
                problem = str(error)
                log.warning("%s: %s", model.name, problem)
            self._write(msgspec.structs.replace(now, ended_ms=self._now_ms(), problem=problem))

    def _read(self, path: Path) -> Pull | None:
        pull = _told(path)
        if pull is None or pull.ended_ms is not None:
            return pull
        with lock(path.with_suffix(".lock")) as mine:
            if not mine:
                return pull
            pull = _told(path)  # it may have ended since
        if pull is None or pull.ended_ms is not None:
            return pull
        from baimo.text import text

        # whoever fetched it is gone; what is there already is not fetched again
        return msgspec.structs.replace(pull, ended_ms=pull.began_ms, problem=text("pulls.broke_off"))

    def _write(self, pull: Pull) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(pull.model)
        part = path.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(pull))
        part.replace(path)

    def _path(self, model: str) -> Path:
        return self._folder / f"{hashlib.sha256(model.encode()).hexdigest()[:32]}.json"


def _told(path: Path) -> Pull | None:
    """What a fetch has last said."""
    try:
        return from_json(path.read_bytes(), Pull)
    except (OSError, msgspec.MsgspecError):
        return None
