"""Files per tenant: rows and contents, and what happens to each when the other goes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from baimo.errors import TooLarge
from baimo.store.engine import Database
from baimo.store.files import Files, Incoming, StoredFile
from baimo.store.uploads import Upload, Uploads
from tests.store.meeting import meanwhile
from tests.store.test_responses import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(database_url: str, tmp_path: Path, clock: Clock) -> Iterator[Files]:
    database = Database(database_url)
    yield Files(database, tmp_path / "files", clock, most_bytes=100)
    database.close()


def kept(
    files: Files, body: bytes = b"one\ntwo\n", *, tenant: str = "acme", lives_s: int | None = None
) -> StoredFile:
    incoming = files.incoming(tenant, 1000)
    for byte in body:
        incoming.write(bytes([byte]))
    return files.keep(incoming, tenant=tenant, key="k", name="../in.jsonl", purpose="batch", lives_s=lives_s)


def test_contents_come_back_as_they_were_with_their_hash_and_for_nobody_else_to_read(files: Files) -> None:
    made = kept(files)
    path = files.path("acme", made.id)
    assert path.read_bytes() == b"one\ntwo\n" and path.parent.name == "acme"
    assert (made.bytes, made.sha256) == (8, hashlib.sha256(b"one\ntwo\n").hexdigest())
    assert path.stat().st_mode & 0o077 == 0 and path.parent.stat().st_mode & 0o077 == 0
    assert files.get("acme", made.id) == made


def test_another_tenant_neither_sees_nor_deletes_a_file(files: Files) -> None:
    made = kept(files)
    assert files.get("other", made.id) is None and files.page("other", limit=9) == []
    assert not files.delete("other", made.id)
    assert files.path("acme", made.id).exists()


def test_pages_go_on_after_the_last_one_in_both_directions(files: Files, clock: Clock) -> None:
    made = []
    for _ in range(5):
        clock.now_ms += 1
        made.append(kept(files).id)
    first = [one.id for one in files.page("acme", limit=2)]
    assert first == made[:-3:-1]
    assert [one.id for one in files.page("acme", limit=9, after=first[-1])] == made[2::-1]
    assert [one.id for one in files.page("acme", limit=2, after=made[0], ascending=True)] == made[1:3]
    assert files.page("acme", limit=9, purpose="batch_output") == []
    files.delete("acme", made[2])
    assert [one.id for one in files.page("acme", limit=9, after=made[2])] == made[1::-1]


def test_a_file_that_was_long_in_the_writing_is_as_new_as_its_end(files: Files, clock: Clock) -> None:
    slow = files.new_id()
    clock.now_ms += 1
    quick = kept(files).id
    clock.now_ms += 1
    facts = {
        "tenant": "acme",
        "key": "k",
        "name": "n",
        "purpose": "batch_output",
        "sha256": "",
        "lives_s": None,
    }
    files.enter(slow, size=0, **facts)
    assert [one.id for one in files.page("acme", limit=9)] == [slow, quick]
    assert [one.id for one in files.page("acme", limit=9, after=slow)] == [quick]
    assert [one.id for one in files.page("acme", limit=9, after=quick, ascending=True)] == [slow]


def test_a_tenant_that_has_used_its_room_is_refused_before_and_while_it_uploads(files: Files) -> None:
    kept(files, b"x" * 90)
    incoming = files.incoming("acme", 1000)
    with pytest.raises(TooLarge):
        incoming.write(b"x" * 11)
    incoming.abandon()
    kept(files, b"x" * 10)
    with pytest.raises(TooLarge):
        files.incoming("acme", 1000)
    kept(files, b"x" * 90, tenant="other")


def test_of_two_uploads_for_which_there_is_room_for_one_only_one_is_kept(files: Files) -> None:
    one, two = files.incoming("acme", 1000), files.incoming("acme", 1000)
    for incoming in (one, two):
        incoming.write(b"x" * 60)
    facts = {"tenant": "acme", "key": "k", "name": "n", "purpose": "batch", "lives_s": None}
    files.keep(one, **facts)  # type: ignore[arg-type]
    with pytest.raises(TooLarge):
        files.keep(two, **facts)  # type: ignore[arg-type]
    assert not two.path.exists() and files.used("acme") == 60


def test_an_abandoned_upload_leaves_nothing(files: Files) -> None:
    incoming = files.incoming("acme", 1000)
    incoming.write(b"half")
    incoming.abandon()
    assert list(files.folder.rglob("*.part")) == [] and files.page("acme", limit=9) == []


def test_what_has_expired_is_gone_at_once_and_its_contents_with_the_next_sweep(
    files: Files, clock: Clock
) -> None:
    old, new = kept(files, lives_s=3600), kept(files)
    clock.now_ms += 3_600_000
    assert files.get("acme", old.id) is None
    assert files.expire() == 1
    assert not files.path("acme", old.id).exists() and files.path("acme", new.id).exists()


def test_what_is_still_needed_is_kept_longer_and_never_shorter(files: Files, clock: Clock) -> None:
    soon, never = kept(files, lives_s=3600), kept(files)
    for one in (soon, never):
        files.extend("acme", one.id, clock.now_ms + 7_200_000)
        files.extend("acme", one.id, clock.now_ms + 60_000)
    clock.now_ms += 3_700_000
    assert files.get("acme", soon.id) is not None and files.expire() == 0
    clock.now_ms += 3_700_000
    assert files.get("acme", soon.id) is None and files.get("acme", never.id) is not None


def test_what_a_killed_process_never_finished_is_swept_away_after_some_days(
    files: Files, clock: Clock
) -> None:
    left, busy = files.incoming("acme", 1000), files.incoming("acme", 1000)
    for incoming, age_s in ((left, 4 * 86_400), (busy, 60)):
        then = clock.now_ms / 1000 - age_s
        os.utime(incoming.path.with_name(incoming.path.name + ".part"), (then, then))
    files.expire()
    assert [one.name for one in files.folder.rglob("*.part")] == [busy.path.name + ".part"]
    left.abandon()
    busy.abandon()


def test_forgetting_a_tenant_takes_rows_and_contents(files: Files) -> None:
    kept(files)
    other = kept(files, tenant="other")
    assert files.forget("acme") == 1
    assert not (files.folder / "acme").exists() and files.path("other", other.id).exists()


def test_the_owners_files_lie_in_a_folder_that_no_tenant_can_be_called(files: Files) -> None:
    assert files.path("", kept(files, tenant="").id).parent.name == "_"


def test_two_uploads_at_once_have_no_more_room_than_one(files: Files) -> None:
    ways = [files.incoming("acme", 1000) for _ in range(2)]
    for one in ways:
        one.write(bytes(60))

    def finished(one: Incoming) -> StoredFile:
        return files.keep(one, tenant="acme", key="k", name="n", purpose="batch", lives_s=None)

    with meanwhile(files._database, "INSERT INTO files", lambda: finished(ways[1])) as said:
        finished(ways[0])
    assert isinstance(said[0], TooLarge) and files.used("acme") == 60


def test_a_file_that_is_entered_twice_at_once_is_one_file(files: Files) -> None:
    facts = {
        "tenant": "acme",
        "key": "k",
        "name": "n",
        "purpose": "p",
        "size": 1,
        "sha256": "0",
        "lives_s": 9,
    }

    def entered() -> StoredFile:
        return files.enter("file-1", **facts)  # type: ignore[arg-type]

    with meanwhile(files._database, "INSERT INTO files", entered) as said:
        assert entered() == files.get("acme", "file-1")
    assert said == [files.get("acme", "file-1")]


def test_a_file_that_is_extended_while_it_expires_keeps_its_contents(files: Files, clock: Clock) -> None:
    made = kept(files, lives_s=1)
    clock.now_ms += 1000

    def extended() -> None:
        files.extend("acme", made.id, clock.now_ms + 9000)

    with meanwhile(files._database, "DELETE FROM files", extended):
        gone = files.expire() == 1
    assert (files.get("acme", made.id) is None) == gone == (not files.path("acme", made.id).exists())


def test_two_uploads_that_begin_at_once_have_no_more_room_than_one(files: Files, clock: Clock) -> None:
    uploads = Uploads(files._database, files, clock)

    def begun() -> Upload:
        return uploads.begin(tenant="acme", key="k", name="n", purpose="batch", size=60, lives_s=None)

    with meanwhile(files._database, "INSERT INTO uploads", begun) as said:
        begun()
    assert isinstance(said[0], TooLarge)


def test_an_upload_that_is_completed_while_it_expires_stays_completed(files: Files, clock: Clock) -> None:
    uploads = Uploads(files._database, files, clock)
    began = uploads.begin(tenant="acme", key="k", name="n", purpose="batch", size=1, lives_s=None)
    incoming = uploads.incoming(began)
    incoming.write(b"x")
    part = uploads.add(began, incoming)
    late = Clock()
    late.now_ms = began.expires_ms + 1

    def expired() -> int:
        return Uploads(files._database, files, late).expire()

    known = uploads.get("acme", began.id)
    assert known is not None
    with meanwhile(files._database, "UPDATE uploads", expired):
        ended, file = uploads.complete(known, [part.id], None)
    assert uploads.get("acme", began.id) == ended and ended.file == file.id
