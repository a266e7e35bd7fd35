"""POST /v1/completions, the text completions of before chat.

For models that speak another format the prompt is said as one message of the user: the answer replies to the text
instead of carrying on with it, which is what instruction-tuned models make of it anyway.
Source: developers.openai.com/api/reference/resources/completions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from baimo.core.call import Completion, Delta, FinishReason, Request, TokenLogprob, Usage
from baimo.core.message import Message
from baimo.errors import BaimoError, CallRefused
from baimo.gateway.surface import Events, Peek
from baimo.server.surfaces import openai_errors
from baimo.server.surfaces.asks import ASKS, Asks, connects, searched, unpriced
from baimo.server.surfaces.chat import TEMPLATE_BYTES, Answers, Chat, StreamOptions
from baimo.server.surfaces.chat_answer import DONE, FINISH, several, usage_row
from baimo.server.surfaces.chat_request import extra, sampling, unsayable
from baimo.server.surfaces.given import Given
from baimo.server.surfaces.sse import encoded
from baimo.server.surfaces.wirejson import read, says
from baimo.text import text
from baimo.typed import json_decoder


class Body(Asks):
    """What admission needs of a request."""

    prompt: msgspec.Raw
    model: str = ""
    stream: bool | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] | None = None
    n: Answers | None = None
    best_of: Answers | None = None
    stream_options: StreamOptions | None = None
    service_tier: str | None = None


KNOWN = frozenset(Body.__struct_fields__)
_SAID = (KNOWN - ASKS - {"service_tier"}) | {
    "temperature",
    "top_p",
    "stop",
    "seed",
    "logprobs",
    "echo",
    "suffix",
}
_decoded = json_decoder(Body)
_listed = msgspec.json.Decoder(list[msgspec.Raw]).decode
_OPENING_BYTES = 4096


class Completions(Chat):
    """Implements `Surface`; what is sent on and how its answers are watched is as in chat."""

    name = "completions"
    target = "completions"
    known = KNOWN
    renames = False

    def peek(self, body: bytes, headers: Mapping[bytes, bytes]) -> Peek:
        """See `Surface`. Each prompt of a list gets `n` answers; `best_of` drafts are paid for."""
        given = read(_decoded, body)
        prompt = bytes(given.prompt)
        options = given.stream_options
        asked, told = unpriced(given)
        searching = searched(given)
        answers = _prompts(prompt) * max(given.n or 1, given.best_of or 1)
        return Peek(
            model=given.model,
            stream=given.stream or False,
            max_tokens=given.max_tokens,
            answers=answers,
            wants_usage=(options is not None and options.include_usage) or False,
            text_bytes=len(body) + TEMPLATE_BYTES,
            attachments=bool(searching) + connects(given),
            opening=prompt[:_OPENING_BYTES],
            tier=given.service_tier or "",
            unpriced=asked or searching,
            told=told and not searching,
            long_cache=says(given.cache_control),
            deterministic=answers == 1 and not searching,
        )

    def request(self, body: bytes, peek: Peek, *, model: str, native: bool = False) -> Request:
        """See `Surface`."""
        given = Given.body(body)
        for field, what in (
            ("echo", text("surfaces.what_echo")),
            ("suffix", text("surfaces.what_suffix")),
        ):
            if given.row.get(field):
                raise unsayable(field, what)
        if (given.whole("best_of") or 1) > (given.whole("n") or 1):
            raise unsayable("best_of", text("surfaces.what_best_of"))
        top_logprobs = given.whole("logprobs")
        if top_logprobs is not None and peek.stream:
            raise unsayable("logprobs", text("surfaces.what_stream_logprobs"))
        return Request(
            model=model,
            messages=(Message(role="user", content=_prompt(given)),),
            sampling=sampling(given),
            top_logprobs=top_logprobs,
            extra=extra(given, _SAID),
        )

    def answer(
        self, completion: Completion | Sequence[Completion], peek: Peek, *, id: str, created_s: int
    ) -> bytes:
        """See `Surface`."""
        choices = several(completion)
        return encoded(
            {
                **_head(peek, id, created_s),
                "choices": [_choice(index, one) for index, one in enumerate(choices)],
                "usage": usage_row(Usage.sum(one.usage for one in choices)),
            }
        )

    def events(self, peek: Peek, *, id: str, created_s: int) -> Events:
        """See `Surface`."""
        return TextEvents(peek, id=id, created_s=created_s)


class TextEvents:
    """Implements `Events`.

    Args:
        peek: of the request.
        id: of the call, without the API's prefix.
        created_s: seconds since 1970.
    """

    def __init__(self, peek: Peek, *, id: str, created_s: int) -> None:
        self._head = b"data: " + encoded(_head(peek, id, created_s))[:-1]
        self._usage_wanted = peek.wants_usage
        self._tail = b',"usage":null}\n\n' if peek.wants_usage else b"}\n\n"
        self._answers = peek.answers
        self._finished: set[int] = set()
        self._usages: dict[int, Usage | None] = {}

    def delta(self, delta: Delta, choice: int = 0) -> bytes:
        """Text and finish; reasoning and calls have no place here."""
        sent = self._chunk(choice, delta.text) if delta.text else b""
        if delta.usage is not None:
            self._usages[choice] = delta.usage
        if delta.finish_reason is not None and choice not in self._finished:
            self._finished.add(choice)
            sent += self._chunk(choice, "", _finish(delta.finish_reason))
        return sent

    def end(self) -> bytes:
        """The finish of choices that never told theirs, usage if it is wanted, and [DONE]."""
        unfinished = [choice for choice in range(self._answers) if choice not in self._finished]
        sent = b"".join(self._chunk(choice, "", "stop") for choice in unfinished)
        if self._usage_wanted:
            row = usage_row(Usage.sum(self._usages.get(choice) or Usage() for choice in range(self._answers)))
            sent += self._head + b',"choices":[],"usage":' + encoded(row) + b"}\n\n"
        return sent + DONE

    def failed(self, error: BaimoError) -> bytes:
        """An error event; the stream ends without [DONE]."""
        return openai_errors.event(error)

    def _chunk(self, choice: int, said: str, finish: str | None = None) -> bytes:
        row = {"text": said, "index": choice, "logprobs": None, "finish_reason": finish}
        return b'%s,"choices":[%s]%s' % (self._head, encoded(row), self._tail)


def _head(peek: Peek, id: str, created_s: int) -> dict[str, Any]:
    return {
        "id": f"cmpl-{id}",
        "object": "text_completion",
        "created": created_s,
        "model": peek.model,
        "system_fingerprint": None,
    }


def _prompts(prompt: bytes) -> int:
    """How many prompts there are: a text or a list of token numbers is one."""
    if not prompt.startswith(b"["):
        return 1
    rows = _listed(prompt)
    several = bool(rows) and bytes(rows[0])[:1] in b'"['
    return len(rows) if several else 1


def _prompt(given: Given) -> str:
    value = given.row.get("prompt")
    if isinstance(value, list):
        if not all(isinstance(one, str) for one in value):  # pyright: ignore[reportUnknownVariableType]
            raise unsayable("prompt", text("surfaces.what_tokens"))
        prompts = given.texts("prompt")
        if len(prompts) != 1:
            raise unsayable("prompt", text("surfaces.what_several_prompts"))
        return prompts[0]
    if value is None:
        raise CallRefused("surfaces.missing", field="prompt")
    return given.needed("prompt")


def _choice(index: int, completion: Completion) -> dict[str, Any]:
    return {
        "text": completion.text,
        "index": index,
        "logprobs": _logprobs_row(completion.logprobs),
        "finish_reason": _finish(completion.finish_reason),
    }


def _finish(reason: FinishReason) -> str:
    return "stop" if reason == "tool_calls" else FINISH[reason]


def _logprobs_row(logprobs: tuple[TokenLogprob, ...] | None) -> dict[str, Any] | None:
    if logprobs is None:
        return None
    offsets, at = list[int](), 0
    for one in logprobs:
        offsets.append(at)
        at += len(one.token)
    return {
        "tokens": [one.token for one in logprobs],
        "token_logprobs": [one.logprob for one in logprobs],
        "top_logprobs": [dict(one.top) for one in logprobs],
        "text_offset": offsets,
    }
