"""Forms that come in pieces: the same fields wherever the pieces are cut."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.errors import CallRefused
from baimo.server.upload import LONGEST_HEAD, Form

HEAD = b'--XX\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
FILE = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\nContent-Type: x/y\r\n\r\n%b\r\n'
END = b"--XX--\r\n"


def read(pieces: Iterable[bytes]) -> list[tuple[str, str | None, bytes]]:
    form = Form(b"XX")
    found: list[tuple[str, str | None, bytes]] = []
    data = b""
    for piece in pieces:
        for part in form.feed(piece):
            data += part.data
            if part.last:
                found.append((part.name, part.filename, data))
                data = b""
    if not form.ended:
        raise CallRefused("surfaces.broken_form")
    return found


@given(
    st.lists(st.sampled_from([b"\r\n", b"--XX", b"\r\n--X", b"-", b"XX", b"a", b"\r", b"\n", b"--XX--"])),
    st.lists(st.integers(min_value=1, max_value=40), min_size=1),
)
def test_fields_are_the_same_however_the_body_is_cut(pieces: list[bytes], cuts: list[int]) -> None:
    contents = b"".join(pieces).replace(b"\r\n--XX", b"\r\n--XY")
    if contents.startswith(b"--XX"):
        contents = b"." + contents
    body = HEAD + FILE % contents + END
    cut, at, turn = [], 0, 0
    while at < len(body):
        cut.append(body[at : at + cuts[turn % len(cuts)]])
        at, turn = at + cuts[turn % len(cuts)], turn + 1
    assert read(cut) == [("purpose", None, b"batch"), ("file", "a.jsonl", contents)]


def test_no_more_is_held_back_than_may_be_the_beginning_of_a_delimiter() -> None:
    form = Form(b"XX")
    form.feed(FILE.partition(b"%b")[0])
    assert sum(len(part.data) for part in form.feed(b"y" * 100_000)) > 100_000 - 10


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"junk" + HEAD + END,
        HEAD,
        HEAD + b"--XX-\r\n",
        HEAD + END + b"more",
        HEAD + b"--XXjunk\r\n\r\n",
        b"--XX\r\nContent-Disposition: form-data\r\n\r\nv\r\n" + END,
        b'--XX\r\nContent-Disposition: form-data; name="a"; name="b"\r\n\r\nv\r\n' + END,
        b"--XX\r\n" + b"a" * (LONGEST_HEAD + 10),
        b"--XX\r\n\r\n\r\n" + END,
    ],
)
def test_a_form_that_is_not_plain_is_refused(body: bytes) -> None:
    with pytest.raises(CallRefused):
        read([body[:5], body[5:]])
