"""Embeddings, rerank, moderations, speech, pictures: bounds, usage, and the official SDK against what we pass on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from baimo.core.call import Completion, Usage
from baimo.errors import CallRefused, NotSupported
from baimo.gateway.surface import Surface
from baimo.server.surfaces.embeddings import Embeddings
from baimo.server.surfaces.images import Images
from baimo.server.surfaces.moderations import Moderations
from baimo.server.surfaces.rerank import Rerank
from baimo.server.surfaces.speech import Speech
from baimo.server.surfaces.table import PATHS, surfaces

PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
MINIMAL: list[tuple[Surface, dict[str, Any]]] = [
    (Embeddings(), {"input": "hi"}),
    (Rerank(), {"query": "q", "documents": ["a"]}),
    (Moderations(), {"input": "hi"}),
    (Speech(), {"input": "hi", "voice": "alloy"}),
    (Images(), {"prompt": "a cat"}),
]


def peeked(surface: Surface, **fields: Any) -> Any:
    return surface.peek(json.dumps({"model": "asked", **fields}).encode(), {})


@pytest.mark.parametrize(("surface", "fields"), MINIMAL)
def test_only_the_models_name_is_changed(surface: Surface, fields: dict[str, Any]) -> None:
    body = json.dumps({**fields, "extra": {"model": "decoy"}, "model": "asked", "Model": "smuggled"}).encode()
    peek = surface.peek(body, {})
    sent = json.loads(surface.sent(body, peek, model="up", max_tokens=100))
    assert (peek.model, peek.stream) == ("asked", False)
    assert sent == {**fields, "extra": {"model": "decoy"}, "model": "up"}


@pytest.mark.parametrize(("surface", "fields"), MINIMAL)
def test_what_must_be_there_is_asked_for_by_name(surface: Surface, fields: dict[str, Any]) -> None:
    for name in fields.keys() - {"voice"}:
        with pytest.raises(CallRefused) as caught:
            peeked(surface, **{key: value for key, value in fields.items() if key != name})
        assert caught.value.facts["field"] == name


@pytest.mark.parametrize(("surface", "fields"), MINIMAL)
def test_other_wire_formats_have_no_word_for_it(surface: Surface, fields: dict[str, Any]) -> None:
    peek = peeked(surface, **fields)
    assert not surface.neutral
    with pytest.raises(NotSupported):
        surface.request(b"{}", peek, model="m")
    with pytest.raises(NotSupported):
        surface.answer(Completion(text=""), peek, id="i", created_s=1)
    with pytest.raises(NotSupported, match=surface.name):
        surface.events(peek, id="i", created_s=1)


@pytest.mark.parametrize(
    ("surface", "fields", "attachments"),
    [
        (Embeddings(), {"input": "say {x}"}, 0),
        (Embeddings(), {"input": ["a", "b"]}, 0),
        (Embeddings(), {"input": [[1, 2], [3]]}, 0),
        (Embeddings(), {"input": [{"text": "a"}, {"image": "https://x"}, {"image": "QUJD"}]}, 2),
        (
            Embeddings(),
            {"messages": [{"role": "user", "content": [PICTURE, {"type": "text", "text": "a"}]}]},
            1,
        ),
        (Rerank(), {"query": "q", "documents": [{"text": "a"}, {"image": "https://x"}]}, 1),
        (Rerank(), {"query": {"image": "x"}, "documents": []}, 1),
        (Moderations(), {"input": [PICTURE, PICTURE, {"type": "text", "text": "a"}]}, 2),
    ],
)
def test_pictures_are_counted(surface: Surface, fields: dict[str, Any], attachments: int) -> None:
    assert peeked(surface, **fields).attachments == attachments


def test_a_reranker_reads_the_query_with_every_document() -> None:
    query, documents = "q" * 500, ["d" * 100] * 40
    assert peeked(Rerank(), query=query, documents=documents).text_bytes >= 40 * (500 + 100)


@pytest.mark.parametrize(
    ("surface", "answer", "usage"),
    [
        (Embeddings(), {"usage": {"prompt_tokens": 8, "total_tokens": 8}}, Usage(tokens_in=8, tokens_out=0)),
        (Embeddings(), {"usage": {"total_tokens": 8}}, Usage(tokens_in=8, tokens_out=0)),  # Jina, Voyage
        (Embeddings(), {"data": []}, None),
        (Rerank(), {"usage": {"prompt_tokens": 5, "total_tokens": 5}}, Usage(tokens_in=5, tokens_out=0)),
        (
            Rerank(),
            {"meta": {"tokens": {"input_tokens": 6, "output_tokens": 0}}},
            Usage(tokens_in=6, tokens_out=0),
        ),
        (Rerank(), {"meta": {"billed_units": {"search_units": 1}}}, None),
        (Moderations(), {"id": "modr", "results": []}, None),
        (Images(), {"created": 1, "data": [{"url": "x"}]}, None),
        (
            Images(),
            {
                "usage": {
                    "input_tokens": 9,
                    "output_tokens": 4160,
                    "total_tokens": 4169,
                    "input_tokens_details": {"image_tokens": 0},
                }
            },
            Usage(tokens_in=9, tokens_out=4160),
        ),
    ],
)
def test_usage_is_read_where_the_api_has_it(
    surface: Surface, answer: dict[str, Any], usage: Usage | None
) -> None:
    assert surface.seen(json.dumps({"model": "m", **answer}).encode()).usage == usage


@pytest.mark.parametrize(
    "body", [b"", b"RIFF\x00\xff", b"[1]", b'{"usage": 7}', b'{"usage": {"prompt_tokens": "x"}}']
)
@pytest.mark.parametrize(("surface", "_"), MINIMAL)
def test_what_cannot_be_read_is_unknown(surface: Surface, body: bytes, _: object) -> None:
    assert surface.seen(body).usage is None


IMAGE_STREAM = (
    b'event: image_generation.partial_image\ndata: {"type":"image_generation.partial_image","b64_json":"AAAA"}\n\n'
    b'event: image_generation.completed\ndata: {"type":"image_generation.completed","b64_json":"BBBB",'
    b'"usage":{"input_tokens":3,"output_tokens":7,"total_tokens":10}}\n\n'
)
SPEECH_STREAM = (
    b'data: {"type":"speech.audio.delta","audio":"AAAA"}\n\n'
    b'data: {"type":"speech.audio.done","usage":{"input_tokens":3,"output_tokens":7,"total_tokens":10}}\n\n'
)


@pytest.mark.parametrize(("surface", "stream"), [(Images(), IMAGE_STREAM), (Speech(), SPEECH_STREAM)])
def test_streams_pass_unchanged_and_their_usage_is_seen_wherever_they_are_cut(
    surface: Surface, stream: bytes
) -> None:
    peek = peeked(surface, prompt="p", input="i")
    for cut in range(len(stream) + 1):
        watch = surface.watch(peek)
        assert watch.feed(stream[:cut]) + watch.feed(stream[cut:]) + watch.rest() == stream
        assert watch.seen().usage == Usage(tokens_in=3, tokens_out=7)
        assert watch.seen().complete
    watch = surface.watch(peek)
    watch.feed(stream[:60])
    assert not watch.seen().complete
    watch = surface.watch(peek)
    watch.feed(b'data: {"type":"error","error":{"message":"broken"}}\n\n')
    assert watch.seen().failed == "broken"


def test_streams_are_recognised() -> None:
    assert peeked(Images(), prompt="p", stream=True, n=2).stream
    assert (peeked(Images(), prompt="p", n=2).answers, peeked(Images(), prompt="p", n=2).billed) == (2, 2)
    assert peeked(Speech(), input="x", stream_format="sse").stream
    assert not peeked(Speech(), input="x", stream_format="audio").stream


def test_the_table_names_surfaces_by_their_own_names() -> None:
    found = surfaces()
    assert found.keys() == PATHS.keys()
    for path, surface in found.items():
        assert path.endswith(surface.target.removeprefix("v1/")), path
    names = [surface.name for surface in found.values()]
    assert len(set(names)) == len(names)
