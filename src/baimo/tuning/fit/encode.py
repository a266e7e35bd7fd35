"""Rows as token ids, with those tokens marked that are learnt.

Prevents the failure that costs most and shows nothing: a model that is trained on other tokens than it is served.
A conversation is rendered by `providers.chat_template`, as for serving, and is cut into tokens at the places where
serving cuts it: before every answer that is learnt. What follows the end-of-turn token is nobody's to learn.

No torch here: a forecast needs token counts before a child process starts.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy

from baimo.core.message import Message
from baimo.core.registry import require
from baimo.core.tuning import Row
from baimo.errors import BaimoError, TaskError
from baimo.providers import chat_template

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = numpy.ndarray[tuple[int], numpy.dtype[numpy.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A row as a model sees it."""

    ids: Ids
    """Token ids, up to the last one that is learnt."""
    trained: numpy.ndarray[tuple[int], numpy.dtype[numpy.bool_]]
    """Which of them are learnt; never the first, which nothing predicts."""
    row: int
    """Place of the row in its file of rows."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def answers(self) -> int:
        """How many tokens are learnt."""
        return int(self.trained.sum())


class Told(NamedTuple):
    """A row that cannot be learnt, and why."""

    row: int
    line: int | None
    problem: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a base writes a conversation."""

    tokenizer: Tokenizer
    """Its tokenizer; adds nothing."""
    template: str
    """Jinja2 source; empty = `chat_template.PLAIN`."""
    special: Mapping[str, str]
    """Texts of special tokens, under the names that templates use."""
    ends: tuple[int, ...]
    """Tokens that end an answer when served; the first is written where the template writes none."""
    window: int
    """Most tokens of a conversation."""
    variables: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Further template variables, e.g. `enable_thinking`."""

    def prompt(self, row: Row, messages: Sequence[Message] | None = None) -> str:
        """What is served: the conversation up to where an answer begins."""
        return self._rendered(row, row.messages if messages is None else messages, opening=True)

    def text(self, row: Row, messages: Sequence[Message] | None = None) -> str:
        """The conversation as it stands."""
        return self._rendered(row, row.messages if messages is None else messages, opening=False)

    def ids(self, text: str) -> list[int]:
        """Tokens of a rendered text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def prompt_ids(self, row: Row) -> list[int]:
        """Tokens of `prompt`."""
        return self.ids(self.prompt(row))

    def decoded(self, ids: Iterable[int]) -> str:
        """Text of tokens, end-of-turn tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _rendered(self, row: Row, messages: Sequence[Message], *, opening: bool) -> str:
        return chat_template.rendered(
            self.template,
            tuple(messages),
            tools=row.tools,
            special=self.special,
            variables=self.variables,
            opening=opening,
        )


@functools.lru_cache(maxsize=8)
def dialect(folder: Path) -> Dialect:
    """How the model of a folder in Hugging Face form writes a conversation.

    Raises:
        MissingExtra: tokenizers is not installed.
        OSError: a file of the folder is missing.
    """
    tokenizers = require("tokenizers", "tune", "fit.purpose")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    about = _read(folder / "tokenizer_config.json")
    model = _read(folder / "config.json")
    generation = _read(folder / "generation_config.json")
    special = {
        name: _content(about.get(name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")
    }
    special = {name: text for name, text in special.items() if text is not None}
    served = {"unknown_token": special.get("unk_token", ""), "padding_token": special.get("pad_token", "")}
    written = folder / "chat_template.jinja"
    template = written.read_text(encoding="utf-8") if written.is_file() else _template(about)
    ends = _numbers(generation.get("eos_token_id")) or _numbers(model.get("eos_token_id"))
    if (eos := tokenizer.token_to_id(special.get("eos_token", ""))) is not None:
        ends = [eos, *(end for end in ends if end != eos)]
    window = int(model.get("max_position_embeddings") or 2048)
    return Dialect(
        tokenizer=tokenizer, template=template, special={**special, **served}, ends=tuple(ends), window=window
    )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes()) if path.is_file() else {}


def _template(about: Mapping[str, Any]) -> str:
    """Some models have several by name."""
    found: Any = about.get("chat_template") or ""
    if isinstance(found, str):
        return found
    return next((str(one["template"]) for one in found if one["name"] == "default"), "")


def _content(token: Any) -> str | None:
    return token if token is None or isinstance(token, str) else str(token["content"])


def _numbers(ids: Any) -> list[int]:
    if ids is None:
        return []
    return [int(ids)] if isinstance(ids, int) else [int(number) for number in ids]


class Span(NamedTuple):
    """Where an answer that is learnt stands in the rendered conversation, in characters."""

    start: int
    end: int


def encoded(dialect: Dialect, row: Row, at: int = 0) -> Encoded:
    """A conversation with its answers marked, each with the token that ends it.

    Args:
        dialect: of the base.
        row: ends with an assistant turn.
        at: place of the row in its file, for messages.

    Raises:
        TaskError: nothing in it can be learnt.
        RequestRefused: the template refuses it.
    """
    text = dialect.text(row)
    ids: list[int] = []
    trained: list[bool] = []
    keep = done = 0
    for span in _spans(dialect, row, text):
        before, answer = dialect.ids(text[done : span.start]), dialect.ids(text[span.start : span.end])
        length = next((n for n, token in enumerate(answer, 1) if token in dialect.ends), 0)
        if not length and span.end == len(text) and dialect.ends:
            answer, length = [*dialect.ids(text[span.start : span.end].rstrip("\n")), dialect.ends[0]], 0
        length = length or len(answer)
        ids += before + answer
        trained += [False] * len(before) + [True] * length + [False] * (len(answer) - length)
        keep, done = len(ids) - len(answer) + length, span.end
    if not any(trained):
        raise TaskError("fit.nothing_trained", file=row.file, line=row.line or at + 1)
    marked = numpy.array(trained[:keep], dtype=numpy.bool_)
    marked[0] = False
    return Encoded(ids=numpy.array(ids[:keep], dtype=numpy.int64), trained=marked, row=at)


def _spans(dialect: Dialect, row: Row, text: str) -> Iterator[Span]:
    """The learnt answers, in order.

    Where the beginning of the conversation, rendered alone, is also how the whole begins, the answer starts where the
    prompt of serving ends. Templates that write earlier turns otherwise (Qwen3 drops their reasoning) leave the
    answer's own words to go by.
    """
    turns = [at for at, message in enumerate(row.messages) if message.role == "assistant"]
    learnt = turns if row.trained is None else [at for at in row.trained if at in turns]
    done = 0
    for at in learnt:
        last = at + 1 == len(row.messages)
        prompt = dialect.prompt(row, row.messages[:at])
        start = (
            len(prompt) if text.startswith(prompt) and len(prompt) >= done else _found(row, at, text, done)
        )
        until = text if last else dialect.text(row, row.messages[: at + 1])
        if text.startswith(until) and len(until) > start:
            end = len(until)
        else:
            end = _turn_end(dialect, text, start)
        yield Span(start, end)
        done = end


def _found(row: Row, at: int, text: str, done: int) -> int:
    content = row.messages[at].content
    words = content.strip() if isinstance(content, str) else ""
    start = text.find(words, done) if words else -1
    if start < 0:
        raise TaskError("fit.answer_not_found", file=row.file, line=row.line or at + 1, turn=at + 1)
    return start


def _turn_end(dialect: Dialect, text: str, start: int) -> int:
    """Behind the first token that ends an answer."""
    tokens = dialect.tokenizer.encode(text[start:], add_special_tokens=False)
    ends = (
        offset[1] for token, offset in zip(tokens.ids, tokens.offsets, strict=True) if token in dialect.ends
    )
    return start + next(ends, len(text) - start)


def encoded_rows(
    dialect: Dialect, rows: Iterable[Row], *, longest: int = 0
) -> tuple[list[Encoded], list[Told]]:
    """All rows that can be learnt, and those that cannot, each with the reason.

    Args:
        dialect: of the base.
        rows: conversations.
        longest: most tokens of a row; 0 = the base's window. Longer rows are told, not cut.
    """
    limit = min(longest or dialect.window, dialect.window)
    kept: list[Encoded] = []
    told: list[Told] = []
    for at, row in enumerate(rows):
        try:
            one = encoded(dialect, row, at)
        except BaimoError as error:
            told.append(Told(at, row.line, str(error), 0))
            continue
        if len(one) > limit:
            told.append(Told(at, row.line, "too long", len(one)))
        else:
            kept.append(one)
    return kept, told


def windows(dialect: Dialect, texts: Iterable[str], length: int) -> list[Encoded]:
    """Raw texts, one after the other with an end token between them, in windows of `length` tokens, all learnt.

    Neighbouring windows share one token: the last of one is the first of the next, so that every token but the very
    first is learnt once.
    """
    end = dialect.ends[:1]
    stream = list(itertools.chain.from_iterable([*dialect.ids(text), *end] for text in texts if text))
    found: list[Encoded] = []
    for at, start in enumerate(range(0, len(stream) - 1, length)):
        ids = numpy.array(stream[start : start + length + 1], dtype=numpy.int64)
        trained = numpy.ones(len(ids), dtype=numpy.bool_)
        trained[0] = False
        found.append(Encoded(ids=ids, trained=trained, row=at))
    return found


def shared(rows: Sequence[Encoded]) -> int:
    """How many tokens all rows begin with alike, none of them one that predicts a learnt token."""
    if not rows:
        return 0
    first = rows[0].ids
    length = min(int(row.trained.argmax()) for row in rows) - 1
    for row in rows[1:]:
        if length <= 0:
            return 0
        differs = numpy.flatnonzero(first[:length] != row.ids[:length])
        length = int(differs[0]) if len(differs) else length
    return max(length, 0)
