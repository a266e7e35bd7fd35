"""Weights that are fetched for somebody who looks on: how far, how it ended, and never twice at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from baimo.core.model import Model
from baimo.errors import Conflict, NotSupported, PullError
from baimo.models.pull import Pulled
from baimo.tuning.folder import lock
from baimo.workspace.pulling import Pull, Pulling
from tests.waiting import PATIENCE_S


class House:
    """A workspace whose fetches a test holds in its hands."""

    def __init__(self, folder: Path) -> None:
        self.path, self.models = folder, folder / "models"
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.problem: Exception | None = None

    def pull(self, name: str, progress: Callable[[int, int | None], None]) -> Pulled:
        progress(3, 10)
        self.begun.set()
        assert self.go_on.wait(PATIENCE_S)
        if self.problem is not None:
            raise self.problem
        return Pulled(source=name, path=self.path, sha256="", bytes=10, fresh=True)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def model(name: str = "acme/heavy", weights: str = "file:/nowhere/heavy.gguf") -> Model:
    vendor, _, upstream = name.partition("/")
    return Model(name=name, vendor=vendor, upstream=upstream, weights=weights)


def pulling(house: Any) -> Pulling:
    return Pulling(house)


def ended(house: House) -> Pull:
    """The newest fetch, as soon as it has ended; as another process sees it."""
    for _ in range(10_000):
        (found,) = pulling(house).known()
        if found.state != "pulling":
            return found
        time.sleep(0.01)
    raise AssertionError(found)


def test_a_fetch_goes_on_by_itself_and_everybody_sees_how_far_it_is(house: House) -> None:
    assert pulling(house).start(model()).state == "pulling"
    assert house.begun.wait(PATIENCE_S)
    (seen,) = pulling(house).known()
    assert (seen.model, seen.state, seen.done, seen.total) == ("acme/heavy", "pulling", 3, 10)
    house.go_on.set()
    done = ended(house)
    assert (done.state, done.done, done.total, done.problem) == ("done", 10, 10, "")


def test_what_is_being_fetched_is_not_fetched_twice(house: House) -> None:
    pulling(house).start(model())
    with pytest.raises(Conflict, match="being fetched"):
        pulling(house).start(model())
    house.go_on.set()
    ended(house)


def test_a_fetch_that_fails_says_why_and_can_be_begun_again(house: House) -> None:
    house.problem = PullError("models.missing_file", path="/nowhere/heavy.gguf")
    house.go_on.set()
    pulling(house).start(model())
    failed = ended(house)
    assert failed.state == "failed" and "/nowhere/heavy.gguf" in failed.problem
    house.problem = None
    pulling(house).start(model())
    assert ended(house).state == "done"


def test_somebody_who_looks_does_not_keep_a_fetch_from_beginning(house: House) -> None:
    house.go_on.set()
    mine = pulling(house)
    with lock(mine._path("acme/heavy").with_suffix(".lock")) as looking:
        assert looking
        begun = threading.Thread(target=mine.start, args=(model(),))
        begun.start()
        begun.join(0.1)
        assert begun.is_alive()
    begun.join(PATIENCE_S)
    assert ended(house).state == "done"


def test_a_fetch_whose_process_died_is_not_said_to_go_on(house: House) -> None:
    mine = pulling(house)
    mine._write(Pull(model="acme/heavy", done=3, total=10, began_ms=1))
    (found,) = mine.known()
    assert found.state == "failed" and "fetch again" in found.problem


def test_what_has_no_weights_or_is_here_is_not_fetched(house: House, tmp_path: Path) -> None:
    with pytest.raises(NotSupported):
        pulling(house).start(model(weights=""))
    here = tmp_path / "here.gguf"
    here.write_bytes(b"GGUF")
    with pytest.raises(Conflict, match="already"):
        pulling(house).start(model(weights=f"file:{here}"))
    mine = pulling(house)
    assert [mine.here(model(weights=one)) for one in ("", "file:/nowhere", f"file:{here}")] == [
        None,
        False,
        True,
    ]
