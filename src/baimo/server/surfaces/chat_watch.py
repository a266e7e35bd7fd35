"""Watching a stream of chat or text completions that passes through.

Prevents three failures: an interpreter that spends more on a chunk than the network does, a token count that is
missed because its event was cut in two, and a client that gets the usage chunk which only the gateway asked for.

A piece is searched once for the mark of token counts. What else is to be known at the end (whether it is complete,
the finish reason, an error, about how much text came) is read from the last few events, and only when it is asked for:
before that only what would not be kept until then, long last events and the ends of single answers of several.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Any

from baimo.core.call import Usage
from baimo.errors import BaimoError
from baimo.gateway.surface import Counts, Events, Seen
from baimo.providers.faults import error_message
from baimo.providers.openai_reply import fields, items
from baimo.providers.sse import SseParser
from baimo.server.surfaces.usage import object_in, seen_usage

LONGEST_EVENT = 1024 * 1024
"""Bytes of an unfinished event that are held back; a longer one passes on in pieces and is not looked at."""
_RECENT = 8  # blocks that are kept and events that are read: finish reason, usage, [DONE], a comment or two
_KEPT = 4096  # bytes of a block that are kept: a thousand streams must not hold a thousand socket buffers
_MARK = b'_tokens"'
_first_mark = re.compile(_MARK).search  # twice as fast as `find` where every second byte may be a quote
# inside a JSON string the quotes are escaped: these are found as names of members only
_ERROR = b'"error"'
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"[^"]')
_END = b"[DONE]"
_BLANK_LF = re.compile(rb"(\n\n+)")
_BLANK = re.compile(rb"((?:\r\n|\n|\r(?!\n)){2,})")


class ChatWatch:
    """Implements `Watch`; whole events are passed on, an unfinished one waits for its end.

    Args:
        drop_usage: nobody but us asked for usage: the chunk that holds nothing else is kept from the client.
        answers: how many choices must be finished.
    """

    __slots__ = (
        "_answers",
        "_bytes",
        "_done",
        "_drop",
        "_events",
        "_failed",
        "_finished",
        "_frame",
        "_held",
        "_held_bytes",
        "_model",
        "_seen",
        "_tier",
        "_unread",
        "_usage",
    )

    def __init__(self, *, drop_usage: bool, answers: int = 1) -> None:
        self._drop = drop_usage
        self._answers = answers
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._bytes = 0
        self._events = 0
        self._usage: Usage | Counts | None = None
        self._unread: deque[bytes] = deque(maxlen=_RECENT)
        self._model = self._tier = ""
        self._failed = ""
        self._finished: dict[int, str] = {}
        self._seen: Seen | None = None
        self._done = False
        self._frame = 0  # bytes of an event around its text

    def feed(self, piece: bytes) -> bytes:
        """The events that the piece completes, as they came."""
        if self._held or not piece.endswith(b"\n\n"):
            piece = self._completed(piece)
            if not piece:
                return b""
        return self._passed(piece)

    def rest(self) -> bytes:
        """An event without its end, unless it is the usage chunk that only we asked for."""
        if not self._held:
            return b""
        half = b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        shown = self._passed(half + b"\n\n")
        return half if shown else b""

    def seen(self) -> Seen:
        """What the stream has said so far."""
        if not self._unread and self._seen is not None:
            return self._seen
        if self._unread:
            block = b"".join(self._unread)
            self._unread.clear()
            self._look(block)
        finished = self._finished
        self._seen = Seen(
            usage=self._usage,
            model=self._model,
            finish_reason=finished[min(finished)] if finished else "",
            # some servers end without [DONE]
            complete=self._done or len(finished) >= self._answers,
            text_bytes=max(0, self._bytes - self._events * self._frame) if self._frame else 0,
            failed=self._failed,
            tier=self._tier,
        )
        return self._seen

    def failed(self, error: BaimoError, events: Events) -> bytes:
        """An error event; nothing in it depends on what came."""
        return events.failed(error)

    def _look(self, block: bytes) -> None:
        """Read the last events, but those that hold nothing that is not known."""
        if block.find(b"\r") >= 0:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        places = [found.start() for found in _FINISH.finditer(block)][-max(_RECENT, self._answers) :]
        end = block.rfind(_END)
        telling = [_around(block, place) for place in (*places, end) if place >= 0]
        if block.rfind(_ERROR) >= 0:
            telling += block.rsplit(b"\n\n", _RECENT + 1)[-_RECENT - 1 :]
        for event in telling:
            self._read(event)
        if self._lacks():
            for event in block.rsplit(b"\n\n", _RECENT + 1)[-_RECENT - 1 :]:
                self._read(event)
                if not self._lacks():
                    break

    def _lacks(self) -> bool:
        """Whether any event may say something that is not known."""
        return not self._model or not (self._frame or self._counted())

    def _counted(self) -> bool:
        """Whether nobody needs an estimate."""
        return self._usage is not None and self._usage.tokens_in is not None

    def _read(self, event: bytes) -> None:
        for data in _data(event):
            if data.strip() == _END:
                self._done = True
                continue
            row = object_in(data)
            self._model = str(row.get("model") or self._model)
            if row.get("error"):
                self._failed = error_message(row) or "error"
            for choice in map(fields, items(row.get("choices"))):
                if isinstance(reason := choice.get("finish_reason"), str) and reason:
                    self._finished[_index(choice)] = reason
                if said := _said(choice):
                    self._frame = max(1, len(event) + 2 - said)

    def _completed(self, piece: bytes) -> bytes:
        """What is complete of what is held and `piece`; the rest is held."""
        self._held.append(piece)
        self._held_bytes += len(piece)
        long = self._held_bytes > LONGEST_EVENT
        if not long and piece.find(b"\n") < 0 and piece.find(b"\r") < 0:
            return b""
        whole = b"".join(self._held)
        end = whole.rfind(b"\n\n") + 2
        if whole.find(b"\r") >= 0:
            end = max(end, whole.rfind(b"\n\r\n") + 3, whole.rfind(b"\r\r") + 2)
        if end < 4:  # -1 + 3 is none; no event is that short
            end = len(whole) - 3 if long else 0  # the line ends of a blank line may be cut
        self._held = [whole[end:]] if end < len(whole) else []
        self._held_bytes = len(whole) - end
        return whole[:end]

    def _passed(self, block: bytes) -> bytes:
        if self._answers > 1 and _FINISH.search(block):
            self._look(block)  # the others may go on for long
        if len(block) <= _KEPT:
            self._unread.append(block)
        else:
            self._unread.append(block[-_KEPT:])
            start = _last(block)
            if start < len(block) - _KEPT:
                self._look(block[start:])
        mark = _first_mark(block)
        shown = block if mark is None else self._without_usage(block, mark.start())
        if not self._counted():
            self._bytes += len(block)
            self._events += block.count(b"data:")
        return shown

    def _without_usage(self, block: bytes, mark: int) -> bytes:
        """`block` without the chunks that hold usage and nothing else, if they are to be dropped; notes the counts.

        Args:
            block: whole events.
            mark: where its first counts are.
        """
        # a pattern that begins with one fixed byte is fifty times as fast as one that must be tried at every byte
        blank = _BLANK if block.find(b"\r") >= 0 else _BLANK_LF
        # what lies before the event with the first counts needs no pattern
        start = 0 if blank is _BLANK else block.rfind(b"\n\n", 0, mark) + 2
        before, block = (block[:start], block[start:]) if start > 1 else (b"", block)
        parts = blank.split(block)  # event, blank line, event, blank line …
        for place in range(0, len(parts), 2):
            if parts[place].find(_MARK) < 0:
                continue
            for data in _data(parts[place]):
                counts, alone, tier = seen_usage(data)
                self._usage, self._tier = counts or self._usage, tier or self._tier
                if self._drop and counts is not None and alone:
                    parts[place : place + 2] = [b""] * len(parts[place : place + 2])
        return b"".join((before, *parts))


def _around(block: bytes, place: int) -> bytes:
    """The event in which a place lies."""
    start, end = block.rfind(b"\n\n", 0, place), block.find(b"\n\n", place)
    return block[start + 2 if start >= 0 else 0 : end if end >= 0 else len(block)]


def _last(block: bytes) -> int:
    """Where the last events begin that end a stream: finish reason, usage, [DONE]."""
    start = len(block)
    for _ in range(4):  # the first that is found is the end of the last
        start = block.rfind(b"\n\n", 0, max(0, start))
    return max(0, start)


def _data(event: bytes) -> list[bytes]:
    """The data of one event; its blank line may be missing."""
    if event.startswith(b"data:") and event.find(b"\n") < 0 and event.find(b"\r") < 0:
        return [event[5:]]
    parser = SseParser()
    return [one.data.encode() for one in (*parser.feed(event + b"\n\n"), *parser.close())]


def _index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _said(choice: Mapping[str, Any]) -> int:
    """UTF-8 bytes of text, reasoning and arguments in a choice of a chunk."""
    delta = fields(choice.get("delta"))
    calls = [fields(fields(call).get("function")) for call in items(delta.get("tool_calls"))]
    said = [choice.get("text"), delta.get("content"), delta.get("reasoning_content"), delta.get("reasoning")]
    said += [call.get("arguments") for call in calls]
    return sum(len(text.encode()) for text in said if isinstance(text, str))
