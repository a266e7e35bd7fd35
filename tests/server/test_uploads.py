"""/v1/uploads with the unmodified `openai` library and with requests that it would not send."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai.types import Upload as WireUpload
from openai.types.uploads import UploadPart as WirePart

from baimo.errors import Conflict, TooLarge
from baimo.store.engine import Database
from baimo.store.files import Files
from baimo.store.uploads import LIVES_MS, MOST_PENDING, Uploads
from tests.server.served import Said, Served, served
from tests.server.wire_schema import problems

LINE = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("uploads")) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def key(house: Served) -> str:
    return house.key()


def client(house: Served, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{house.port}/v1", api_key=key, max_retries=0)


def begun(house: Served, key: str, size: int, **other: object) -> Said:
    body = {
        "bytes": size,
        "filename": "train.jsonl",
        "mime_type": "text/jsonl",
        "purpose": "fine-tune",
        **other,
    }
    return house.call("POST", "/v1/uploads", key, body)


def test_the_librarys_own_helper_sends_a_file_in_parts_and_gets_it_back_whole(
    house: Served, key: str
) -> None:
    whole = LINE * 1000
    with client(house, key) as ours:
        upload = ours.uploads.upload_file_chunked(
            file=whole, filename="train.jsonl", bytes=len(whole), mime_type="text/jsonl", purpose="fine-tune",
            part_size=20_000, md5=hashlib.md5(whole).hexdigest(),
        )  # fmt: skip
        assert upload.status == "completed" and upload.file is not None
        assert problems(upload.to_dict(), WireUpload) == []
        assert ours.files.content(upload.file.id).read() == whole
        assert ours.files.retrieve(upload.file.id).purpose == "fine-tune"
    folder = house.folder / house.workspace.settings.workspace.path / "files" / "_"
    assert not list(folder.glob("upload_*"))


def test_parts_come_in_any_order_and_lie_in_the_order_that_completing_names(house: Served, key: str) -> None:
    with client(house, key) as ours:
        upload = ours.uploads.create(bytes=6, filename="a.jsonl", mime_type="text/jsonl", purpose="evals")
        assert problems(upload.to_dict(), WireUpload) == []
        last, first = (
            ours.uploads.parts.create(upload.id, data=io.BytesIO(piece)) for piece in (b"def", b"abc")
        )
        assert problems(first.to_dict(), WirePart) == []
        ended = ours.uploads.complete(upload.id, part_ids=[first.id, last.id])
        assert ended.file is not None and ours.files.content(ended.file.id).read() == b"abcdef"


def test_a_part_of_64_mib_fits_with_the_form_around_it(house: Served, key: str) -> None:
    limits = house.state["hot"].limits_of(b"/v1/uploads/upload_1/parts")
    assert limits.body_bytes > 64 * 1024 * 1024 >= house.state["hot"].limits_of(b"/v1/batches").body_bytes


@pytest.mark.parametrize(
    ("parts", "status", "word"),
    [
        ({"part_ids": []}, 400, "part_ids"),
        ({"part_ids": ["part_none"]}, 400, "no part"),
        ({"part_ids": ["0", "0"]}, 400, "twice"),
        ({"part_ids": ["1"]}, 400, "announced"),
        ({"part_ids": ["0", "1"], "md5": "0" * 32}, 400, "MD5"),
    ],
)
def test_an_upload_that_does_not_fit_together_says_why_and_stays_open(
    house: Served, key: str, parts: dict[str, object], status: int, word: str
) -> None:
    with client(house, key) as ours:
        upload = ours.uploads.create(bytes=6, filename="a.jsonl", mime_type="x", purpose="evals")
        known = [ours.uploads.parts.create(upload.id, data=piece).id for piece in (b"abcd", b"ef")]
        ids = [known[int(one)] if one.isdigit() else one for one in parts["part_ids"]]  # type: ignore[attr-defined]
        answer = house.call("POST", f"/v1/uploads/{upload.id}/complete", key, {**parts, "part_ids": ids})
        assert (answer.status, word in answer.data["error"]["message"]) == (status, True), answer.data
        assert ours.uploads.complete(upload.id, part_ids=known).status == "completed"


def test_more_than_was_announced_is_not_taken(house: Served, key: str) -> None:
    id = begun(house, key, 4).data["id"]
    with client(house, key) as ours, pytest.raises(openai.APIStatusError) as caught:
        ours.uploads.parts.create(id, data=b"abcde")
    assert caught.value.status_code == 413


def test_a_cancelled_upload_takes_nothing_more(house: Served, key: str) -> None:
    with client(house, key) as ours:
        upload = ours.uploads.create(bytes=3, filename="a.jsonl", mime_type="x", purpose="evals")
        ours.uploads.parts.create(upload.id, data=b"abc")
        cancelled = ours.uploads.cancel(upload.id)
        assert cancelled.status == "cancelled" and problems(cancelled.to_dict(), WireUpload) == []
        for attempt in (
            lambda: ours.uploads.parts.create(upload.id, data=b"abc"),
            lambda: ours.uploads.cancel(upload.id),
        ):
            with pytest.raises(openai.ConflictError):
                attempt()


def test_what_cannot_become_a_file_is_refused_when_it_is_announced(house: Served, key: str) -> None:
    assert begun(house, key, 0).status == 400
    assert begun(house, key, 10, purpose="vision").data["error"]["param"] == "purpose"
    assert begun(house, key, 10, filename="train.csv").data["error"]["param"] == "file"
    assert begun(house, key, 600 * 1024 * 1024).status == 413


def test_another_tenant_finds_nothing_of_an_upload(house: Served, key: str) -> None:
    house.tenant("other")
    stranger = house.key(tenant="other")
    id = begun(house, key, 3).data["id"]
    with client(house, key) as ours:
        part = ours.uploads.parts.create(id, data=b"abc").id
    with client(house, stranger) as theirs:
        for attempt in (
            lambda: theirs.uploads.parts.create(id, data=b"abc"),
            lambda: theirs.uploads.complete(id, part_ids=[part]),
            lambda: theirs.uploads.cancel(id),
        ):
            with pytest.raises(openai.NotFoundError):
                attempt()
        mine = theirs.uploads.create(bytes=3, filename="a.jsonl", mime_type="x", purpose="evals")
        with pytest.raises(openai.BadRequestError):
            theirs.uploads.complete(mine.id, part_ids=[part])


def test_a_key_without_files_cannot_upload(house: Served) -> None:
    assert begun(house, house.key(surfaces=("chat",)), 3).status == 403


class Clock:
    now_ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now_ms


def test_what_is_announced_is_reserved_and_given_back_when_it_expires(
    database_url: str, tmp_path: Path
) -> None:
    database, clock = Database(database_url), Clock()
    uploads = Uploads(database, Files(database, tmp_path, clock, most_bytes=100), clock)

    def begin(size: int) -> str:
        return uploads.begin(tenant="a", key="k", name="n", purpose="evals", size=size, lives_s=None).id

    id = begin(60)
    upload = uploads.get("a", id)
    assert upload is not None and uploads.get("b", id) is None
    incoming = uploads.incoming(upload)
    incoming.write(os.urandom(10))
    uploads.add(upload, incoming)
    with pytest.raises(TooLarge):
        begin(50)
    clock.now_ms += LIVES_MS
    late = uploads.get("a", id)
    assert late is not None and late.status == "expired"
    with pytest.raises(Conflict):
        uploads.incoming(late)
    for _ in range(MOST_PENDING):
        begin(1)
    with pytest.raises(TooLarge):
        begin(1)
    assert uploads.expire() == 1 and not list(tmp_path.glob("**/part_*"))
    uploads.forget("a")
    assert uploads.get("a", id) is None
    database.close()
