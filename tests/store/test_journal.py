"""The journal keeps what was begun and ended through crashes, torn writes and full disks."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.errors import StoreError
from baimo.store.journal import Journal
from baimo.store.remains import Remains, remains
from tests.waiting import PATIENCE_S

SMALL = 1 << 16


def dropped(journal: Journal) -> None:
    """What `kill -9` does to it: the lock goes, the files stay as they are."""
    assert journal._hold is not None
    os.close(journal._hold)
    journal._hold = None


def left(folder: Path) -> Remains:
    found = remains(folder)
    assert found is not None
    return found


def test_what_was_entered_is_there_when_the_process_is_gone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", segment_bytes=SMALL)
    journal.opened("a", b"A")
    journal.opened("b", b"B")
    position, kept = journal.closed("a", b"ended", b"-content")
    assert kept and journal.read(position) == b"ended-content" and journal.open == 1
    dropped(journal)
    found = left(tmp_path / "j")
    assert found.closed == ["a"] and found.interrupted == ["b"]
    assert found.read("a") == b"ended-content" and found.read("b") == b"B"
    found.remove()
    assert not (tmp_path / "j").exists()


def test_two_processes_never_share_a_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", segment_bytes=SMALL)
    assert remains(tmp_path / "j") is None
    with pytest.raises(StoreError, match="another process"):
        Journal(tmp_path / "j")
    dropped(journal)
    found = left(tmp_path / "j")
    assert remains(tmp_path / "j") is None  # one replayer is enough
    found.close()


def test_a_beginning_entered_again_replaces_the_first(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", segment_bytes=SMALL)
    journal.opened("a", b"first")
    journal.opened("a", b"second")
    assert journal.open == 1
    dropped(journal)
    assert left(tmp_path / "j").read("a") == b"second"


@given(cut=st.integers(0, 400), noise=st.binary(max_size=40))
def test_a_torn_end_costs_only_what_was_torn(
    tmp_path_factory: pytest.TempPathFactory, cut: int, noise: bytes
) -> None:
    folder = tmp_path_factory.mktemp("torn") / "j"
    journal = Journal(folder, segment_bytes=SMALL)
    ends: list[int] = []
    for number in range(10):
        _, offset, length = journal.closed(f"c{number}", bytes([number]) * 20)[0]
        ends.append(offset + length)
    dropped(journal)
    (path,) = folder.glob("*.journal")
    data = bytearray(path.read_bytes())
    data[cut : cut + len(noise)] = noise
    path.write_bytes(data)
    found = left(folder)
    whole = sum(end <= cut for end in ends)
    assert found.closed[:whole] == [f"c{number}" for number in range(whole)]
    for id in found.closed:
        assert found.read(id) == bytes([int(id[1:])]) * 20
    found.close()


def test_files_are_reused_and_what_they_held_before_is_not_replayed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", segment_bytes=SMALL)
    synced: list[bool] = []
    for turn in range(60):
        positions = []
        for number in range(100):
            id = f"r{turn:03d}-{number:03d}"
            journal.opened(id, b"x" * 100)
            positions.append(journal.closed(id, b"y" * 100)[0])
        journal.applied(positions)
        journal.reclaim(lambda: synced.append(True))
        assert journal.bytes <= 4 * SMALL
    assert synced
    journal.opened("last", b"z")
    dropped(journal)
    found = left(tmp_path / "j")
    assert found.interrupted[-1] == "last"
    # what is left over are endings of the newest file that the database has already, and nothing older
    assert all(id >= "r055" for id in found.closed)


def test_a_call_that_stays_open_pins_no_more_than_its_own_bytes(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", segment_bytes=SMALL)
    journal.opened("long", b"patient")
    for turn in range(60):
        for number in range(50):
            id = f"{turn}-{number}"
            journal.opened(id, b"x" * 300)
            journal.applied([journal.closed(id, b"y" * 300)[0]])
        journal.reclaim(lambda: None)
    assert journal.bytes <= 8 * SMALL
    dropped(journal)
    found = left(tmp_path / "j")
    assert "long" in found.interrupted and found.read("long") == b"patient"


def test_contents_longer_than_a_file_are_kept_in_one_of_their_own(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", segment_bytes=SMALL)
    journal.opened("a", b"A")
    position, kept = journal.closed("a", b"e", b"c" * (5 * SMALL))
    assert kept and len(journal.read(position)) == 1 + 5 * SMALL
    assert journal.bytes > 5 * SMALL
    journal.applied([position])
    journal.reclaim(lambda: None)
    assert journal.bytes <= 3 * SMALL


def test_a_journal_that_nobody_needs_any_more_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", segment_bytes=SMALL)
    journal.opened("a", b"A")
    position, _ = journal.closed("a", b"e")
    journal.sync()
    journal.applied([position])
    journal.close()
    assert not (tmp_path / "j").exists()


def _on_a_full_disk(folder: Path, outcome: multiprocessing.Queue[object]) -> None:
    journal = Journal(folder, segment_bytes=SMALL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL // 2, resource.RLIM_INFINITY))  # no new file fits
    opened: list[str] = []
    try:
        while True:
            journal.opened(f"n{len(opened)}", b"x" * 200)
            opened.append(f"n{len(opened)}")
    except StoreError as error:
        outcome.put((error.key, len(opened)))
    big = journal.closed(opened[0], b"y" * 1000, b"c" * SMALL)[1]
    for id in opened[1:]:
        journal.closed(id, b"y" * 1000)  # longer than its beginning, and there is room for it
    outcome.put((big, journal.open))
    outcome.close()
    outcome.join_thread()
    os._exit(0)  # the journal is left as it is


def test_on_a_full_disk_no_call_begins_and_every_call_ends(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    outcome: multiprocessing.Queue[object] = spawn.Queue()
    process = spawn.Process(target=_on_a_full_disk, args=(tmp_path / "j", outcome))
    process.start()
    key, begun = outcome.get(timeout=PATIENCE_S)  # type: ignore[misc]
    kept, still_open = outcome.get(timeout=PATIENCE_S)  # type: ignore[misc]
    process.join(PATIENCE_S)
    assert key == "store.full" and begun > 10
    assert not kept and still_open == 0  # the content found no room; the ending did
    assert len(left(tmp_path / "j").closed) == begun


def _writes_until_killed(folder: Path) -> None:
    journal = Journal(folder, segment_bytes=SMALL)
    number = 0
    while True:
        journal.opened(f"n{number}", b"x" * 50)
        if number >= 3:
            journal.closed(f"n{number - 3}", b"y" * 50)
        number += 1


def test_killed_at_any_moment_it_lacks_nothing_but_the_last_entry(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=_writes_until_killed, args=(tmp_path / "j",))
    process.start()
    while len(list((tmp_path / "j").glob("*.journal"))) < 3:
        assert process.is_alive()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(PATIENCE_S)
    found = left(tmp_path / "j")
    ended = [int(id[1:]) for id in found.closed]
    assert ended == list(range(len(ended))) and len(ended) > 100
    assert [int(id[1:]) for id in found.interrupted] in (
        [len(ended) + step for step in range(count)] for count in (3, 4)
    )
