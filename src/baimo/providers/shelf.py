"""Loaded engines of this process.

Prevents a model from being loaded twice: an engine owns gigabytes and all cores, so a process has each once, however
many providers use it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from baimo.providers.engine import Engine


@dataclass(slots=True)
class _Place:
    lock: threading.Lock = field(default_factory=threading.Lock)
    engine: Engine | None = None
    users: int = 0


class Shelf:
    """Loaded engines of the process by key, each closed when its last user gives it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, _Place] = {}

    def take(self, key: str, load: Callable[[], Engine]) -> Engine:
        """The engine of `key`, loaded by the first who asks; the others wait."""
        with self._lock:
            place = self._places.setdefault(key, _Place())
            place.users += 1
        try:
            with place.lock:
                if place.engine is None:
                    place.engine = load()
                return place.engine
        except BaseException:
            self.give_back(key)
            raise

    def give_back(self, key: str) -> None:
        """One user less."""
        with self._lock:
            place = self._places[key]
            place.users -= 1
            if place.users:
                return
            del self._places[key]
        if place.engine is not None:
            place.engine.close()


SHELF = Shelf()
"""The one shelf of the process."""
