"""Transcriptions: forms as clients write them, and forms that two parsers would read in two ways."""

from __future__ import annotations

import random
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.call import Usage
from baimo.errors import BaimoError, CallRefused
from baimo.server.surfaces.form import boundary_of, fields_of
from baimo.server.surfaces.transcriptions import Transcriptions
from tests.server.surfaces.endpoint import listening

SOUND = random.Random(7).randbytes(200_000) + b"\r\n--not\r\n"


def form(fields: list[tuple[str, Any]], boundary: str = "bound") -> tuple[bytes, dict[bytes, bytes]]:
    lines = []
    for name, value in fields:
        file = isinstance(value, bytes)
        head = f'Content-Disposition: form-data; name="{name}"' + ('; filename="a.wav"' if file else "")
        lines.append(
            f"--{boundary}\r\n{head}\r\n\r\n".encode() + (value if file else value.encode()) + b"\r\n"
        )
    body = b"".join(lines) + f"--{boundary}--\r\n".encode()
    return body, {b"content-type": f"multipart/form-data; boundary={boundary}".encode()}


def test_admission_reads_the_form_around_the_sound() -> None:
    body, headers = form([("file", SOUND), ("model", "asked"), ("stream", "true"), ("prompt", "晴" * 50)])
    peek = Transcriptions().peek(body, headers)
    assert (peek.model, peek.stream, peek.attachments) == ("asked", True, 1)
    assert 150 < peek.text_bytes < 1000


@given(
    st.permutations(
        [("file", SOUND[:300]), ("model", "asked"), ("language", "zh"), ("timestamp_granularities[]", "word")]
    ),
    st.text("abcxyz/-.", min_size=1, max_size=20),
)
def test_only_the_models_name_is_changed(fields: list[tuple[str, Any]], name: str) -> None:
    body, headers = form(fields)
    surface = Transcriptions()
    sent = surface.sent(body, surface.peek(body, headers), model=name, max_tokens=7)
    expected, _ = form([(key, name if key == "model" else value) for key, value in fields])
    assert sent == expected


def test_a_form_without_a_model_gets_one() -> None:
    body, headers = form([("file", SOUND)])
    surface = Transcriptions()
    peek = surface.peek(body, headers)
    assert peek.model == ""
    sent = surface.sent(body, peek, model="up", max_tokens=None)
    assert sent == form([("model", "up"), ("file", SOUND)])[0]
    assert surface.peek(sent, headers).model == "up"


@pytest.mark.parametrize(
    "content_type",
    [b'multipart/form-data; charset=utf-8; boundary="b o"', b"Multipart/Form-Data;boundary=b-o"],
)
def test_boundaries_are_read_as_written(content_type: bytes) -> None:
    assert boundary_of({b"content-type": content_type}) in {b"b o", b"b-o"}


@pytest.mark.parametrize(
    "content_type", [b"application/json", b"multipart/form-data", b"multipart/mixed; boundary=x", b""]
)
def test_anything_but_a_form_is_refused(content_type: bytes) -> None:
    with pytest.raises(CallRefused) as caught:
        Transcriptions().peek(b"--x--", {b"content-type": content_type})
    assert caught.value.key == "surfaces.no_form"


DISPOSITION = b"Content-Disposition: form-data; "
TRICKS: dict[str, bytes] = {
    "a boundary with a bare newline": (
        b'--b\r\n%sname="file"; filename="a"\r\n\r\nx\n--b\n%sname="model"\n\nevil\r\n--b--\r\n'
        % (DISPOSITION, DISPOSITION)
    ),
    "a boundary behind a bare newline": (
        b'--b\r\n%sname="file"; filename="a"\r\n\r\nx\n--b\r\n%sname="model"\r\n\r\nevil\r\n--b--\r\n'
        % (DISPOSITION, DISPOSITION)
    ),
    "a boundary inside a value": b'--b\r\n%sname="model"\r\n\r\nasked--b\r\n--b--\r\n' % DISPOSITION,
    "a longer boundary": b'--b\r\n%sname="model"\r\n\r\nasked\r\n--bb\r\n%sname="x"\r\n\r\ny\r\n--b--\r\n'
    % (DISPOSITION, DISPOSITION),
    "two names": b'--b\r\n%sname="x"; name="model"\r\n\r\nasked\r\n--b--\r\n' % DISPOSITION,
    "an encoded name": b"--b\r\n%sname=\"x\"; name*=utf-8''model\r\n\r\nasked\r\n--b--\r\n" % DISPOSITION,
    "an escaped name": b'--b\r\n%sname="mod\\el"\r\n\r\nasked\r\n--b--\r\n' % DISPOSITION,
    "no name": b"--b\r\nContent-Type: text/plain\r\n\r\nasked\r\n--b--\r\n",
    "no end": b'--b\r\n%sname="model"\r\n\r\nasked\r\n' % DISPOSITION,
    "no blank line": b'--b\r\n%sname="model"\r\n--b--\r\n' % DISPOSITION,
    "text before": b'preamble\r\n--b\r\n%sname="model"\r\n\r\nasked\r\n--b--\r\n' % DISPOSITION,
    "text behind": b'--b\r\n%sname="model"\r\n\r\nasked\r\n--b--\r\nmore' % DISPOSITION,
    "nothing": b"",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_form_that_can_be_read_in_two_ways_is_refused(trick: str) -> None:
    with pytest.raises(CallRefused) as caught:
        Transcriptions().peek(TRICKS[trick], {b"content-type": b"multipart/form-data; boundary=b"})
    assert caught.value.key == "surfaces.broken_form"


@pytest.mark.parametrize(
    "fields",
    [
        [("model", "a"), ("file", b"x"), ("model", "b")],
        [("model", "a"), ("Model", "b")],
        [("MODEL", "a")],
        [("model", b"a")],
        [("file", "a")],
    ],
)
def test_a_field_that_servers_might_read_differently_is_refused(fields: list[tuple[str, Any]]) -> None:
    body, headers = form(fields)
    with pytest.raises(CallRefused) as caught:
        Transcriptions().peek(body, headers)
    assert caught.value.key == "surfaces.given_twice"


@given(
    st.lists(
        st.tuples(st.text("abc", min_size=1), st.text("xyz\r\n-", max_size=9) | st.binary(max_size=30)),
        max_size=5,
    )
)
def test_every_field_lies_where_it_is_said_to_lie(fields: list[tuple[str, Any]]) -> None:
    body, _ = form(fields, "quite-a-long-boundary")
    found = fields_of(body, b"quite-a-long-boundary")
    values = [value if isinstance(value, bytes) else value.encode() for _, value in fields]
    assert [body[one.start : one.end] for one in found] == values
    assert [(one.name, one.file) for one in found] == [
        (name, isinstance(value, bytes)) for name, value in fields
    ]


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        (
            b'{"text":"hi","usage":{"type":"tokens","input_tokens":14,"output_tokens":45,"total_tokens":59}}',
            Usage(tokens_in=14, tokens_out=45),
        ),
        (b'{"text":"hi","usage":{"type":"duration","seconds":3}}', None),
        (b'{"text":"hi"}', None),
        (b"1\n00:00:00,000 --> 00:00:01,000\nhi\n", None),
    ],
)
def test_usage_is_read_where_the_api_has_it(answer: bytes, usage: Usage | None) -> None:
    assert Transcriptions().seen(answer).usage == usage


def test_the_official_sdks_form_is_understood_and_its_stream_read() -> None:
    surface, seen = Transcriptions(), list[Any]()
    stream = (
        b'data: {"type":"transcript.text.delta","delta":"hi"}\n\ndata: {"type":"transcript.text.done","text":"hi",'
        b'"usage":{"type":"tokens","input_tokens":1,"output_tokens":2,"total_tokens":3}}\n\ndata: [DONE]\n\n'
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = dict(scope["headers"])
        try:
            peek = surface.peek(body, headers)
            again = surface.peek(surface.sent(body, peek, model="whisper-up", max_tokens=None), headers)
            seen.append((peek.model, again.model, peek.stream, peek.attachments))
            status, kind, answer = 200, b"text/event-stream", stream
            if not peek.stream:
                kind, answer = b"application/json", b'{"text":"hi"}'
        except BaimoError as error:
            status, kind, answer = (
                error.http_status,
                b"application/json",
                surface.refusal(error, request_id="r"),
            )
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": answer})

    with (
        listening(app) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="k", max_retries=0) as client,
    ):
        whole = client.audio.transcriptions.create(model="asked", file=("a.wav", SOUND), prompt="晴")
        events = list(client.audio.transcriptions.create(model="asked", file=("a.wav", SOUND), stream=True))
        with pytest.raises(openai.BadRequestError, match="multipart"):
            client.post("/audio/transcriptions", body={"model": "x"}, cast_to=object)
    assert whole.text == "hi"
    assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]
    assert seen == [("asked", "whisper-up", False, 1), ("asked", "whisper-up", True, 1)]
    watch = surface.watch(surface.peek(*form([("model", "m"), ("file", b"x")])))
    for at in range(len(stream)):
        watch.feed(stream[at : at + 1])
    assert watch.seen().usage == Usage(tokens_in=1, tokens_out=2)
    assert watch.seen().complete
