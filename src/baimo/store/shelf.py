"""What the classes have in common that keep things of one kind in the database."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ClassVar

from baimo.core.ids import sortable_id
from baimo.core.moments import wall_ms
from baimo.store.engine import Database


class Shelf:
    """Things of one kind in a database.

    Args:
        database: where they are kept.
        now_ms: wall clock, milliseconds since 1970.
    """

    prefix: ClassVar[str] = ""
    """Of their ids."""

    def __init__(self, database: Database, now_ms: Callable[[], int] | None = None) -> None:
        self._database = database
        self.now_ms = now_ms or wall_ms

    def new_id(self) -> str:
        """An id that nobody has; later ones sort later."""
        return sortable_id(self.prefix, self.now_ms(), os.urandom(7))
