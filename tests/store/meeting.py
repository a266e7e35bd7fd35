"""Two transactions that meet in an order that a test chooses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from baimo.store.engine import Database

PATIENCE_S = 0.3


@contextmanager
def meanwhile(
    database: Database, statement: str, act: Callable[[], Any], when: int = 1
) -> Iterator[list[Any]]:
    """Before a statement of this thread that begins so, let another thread act, and go on when it has or waits.

    Args:
        database: both use it.
        statement: how it begins: `UPDATE votes`; blank space counts as one space.
        act: in the other thread.
        when: how many such statements come up to there; 1 = the first.

    Returns:
        What `act` gave or raised, once the block has ended.
    """
    said: list[Any] = []
    ours, others, seen = threading.current_thread(), list[threading.Thread](), 0

    def acted() -> None:
        try:
            said.append(act())
        except Exception as error:
            said.append(error)

    def before(connection: Any, cursor: Any, asked: str, *_: Any) -> None:
        nonlocal seen
        if threading.current_thread() is not ours or not " ".join(asked.split()).startswith(statement):
            return
        seen += 1
        if seen == when:
            others.append(threading.Thread(target=acted))
            others[0].start()
            others[0].join(PATIENCE_S)

    event.listen(database._engine, "before_cursor_execute", before)
    try:
        yield said
    finally:
        event.remove(database._engine, "before_cursor_execute", before)
        assert others, f"nothing began with {statement}"
        others[0].join(30)
        assert not others[0].is_alive()
