"""One connection to a model's server, one request at a time.

Prevents the two failures that mix up customers' answers: a connection that is used again although bytes of the last
answer may still come, and a request that is sent again although the server may have taken it.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from baimo.errors import BadReply, ProviderError, Unreachable
from baimo.providers.wire.answer import Answer
from baimo.providers.wire.origin import Origin
from baimo.providers.wire.outbox import outbox

LARGEST_HEAD = 256 * 1024
"""Most bytes of an answer's head, 1xx answers included."""
JOIN_BELOW = 64 * 1024
"""Shorter bodies are copied behind the head: one write, one segment."""
NEVER = float("inf")


class Home(Protocol):
    """Where connections go when an answer has ended."""

    now: float
    """The event loop's clock, as exact as time-outs need it."""

    def made(self, connection: Connection) -> None:
        """It is open. Called once."""
        ...

    def back(self, connection: Connection) -> None:
        """It can be used again."""
        ...

    def gone(self, connection: Connection) -> None:
        """It is closed. Called once."""
        ...


class Connection(asyncio.Protocol):
    """Made when bytes can flow; idle until `ask`."""

    __slots__ = (
        "_answer",
        "_deadline",
        "_due",
        "_gone",
        "_head_bytes",
        "_head_only",
        "_headers",
        "_home",
        "_interim",
        "_keep_alive",
        "_keep_s",
        "_loop",
        "_outbox",
        "_parser",
        "_pieces",
        "_surplus",
        "_total",
        "_transport",
        "_unwritten",
        "_writing",
        "idle_since",
        "limit_bytes",
        "on_body",
        "origin",
    )

    def __init__(self, origin: Origin, home: Home, limit_bytes: int) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._home = home
        self.limit_bytes = limit_bytes
        self._loop = asyncio.get_running_loop()
        self._outbox = outbox(self._loop)
        self._answer: Answer | None = None
        self._pieces: list[bytes] = []
        # the parser calls this for each chunk of a stream: no Python frame for it
        self.on_body: Callable[[bytes], None] = self._pieces.append
        self._headers: dict[bytes, bytes] = {}
        self._parser = httptools.HttpResponseParser(self)
        self._due = self._deadline = NEVER
        self._keep_s = origin.idle_s
        self._head_bytes = self._total = self._unwritten = 0
        self._head_only = self._interim = self._keep_alive = self._surplus = self._writing = self._gone = (
            False
        )

    @property
    def host(self) -> str:
        return self.origin.name

    # one request

    def ask(self, head: bytes, body: bytes, *, head_only: bool, deadline: float) -> Answer:
        """Send a request; wait for `Answer.turn` next.

        Args:
            head: everything up to and including the empty line.
            body: exactly as long as `head` says.
            head_only: the answer has no body whatever its head says (HEAD).
            deadline: seconds of the event loop's clock at which the answer must be complete.
        """
        answer = self._answer = Answer(self)
        self._head_only = head_only
        self._head_bytes = self._total = 0
        self._deadline = deadline
        self._due = self._home.now + self.origin.stages.first_byte_s
        if len(body) < JOIN_BELOW:
            self._outbox.write(self._transport, head + body)
        else:
            self._outbox.flush()
            self._transport.write(head)  # writelines of Python 3.12 and 3.13 never says that it is behind
            self._transport.write(body)
        return answer

    def resume(self) -> None:
        if not self._gone:
            self._due = self._home.now + self.origin.stages.silence_s
            self._transport.resume_reading()

    def drop(self) -> None:
        """Close at once; whoever still waits for the answer is not told."""
        self._answer = None
        self._leave()
        self._transport.abort()

    def stop(self) -> None:
        """Close at once; whoever waits for the answer is told."""
        self._fail(Unreachable("wire.closing", stage="first_byte", host=self.host))

    def stale(self) -> bool:
        """Bytes or an end have arrived that the event loop has not yet told us of."""
        poll = select.poll()
        poll.register(cast(int, self._transport.get_extra_info("socket").fileno()), select.POLLIN)
        return bool(poll.poll(0))

    @property
    def usable(self) -> bool:
        return not self._gone and not self._transport.is_closing()

    def check(self, now: float) -> None:
        """Called every tick: has a stage taken too long?"""
        answer = self._answer
        if answer is None:
            if now > self.idle_since + self._keep_s:
                self.drop()
        elif now > self._deadline:
            self._fail(self._late("wire.total_timeout"))
        elif self._writing:
            unwritten = self._transport.get_write_buffer_size()
            if unwritten != self._unwritten:
                self._unwritten = unwritten
                self._due = now + self.origin.stages.write_s
            elif now > self._due:
                self._fail(self._late("wire.write_timeout", seconds=self.origin.stages.write_s))
        elif now > self._due and not answer.paused:
            stages = self.origin.stages
            if answer.status:
                self._fail(self._late("wire.silence_timeout", seconds=stages.silence_s))
            else:
                self._fail(self._late("wire.first_byte_timeout", seconds=stages.first_byte_s))

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.idle_since = self._home.now
        self._home.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        answer = self._answer
        if answer is None or answer.complete:
            return
        if answer.status and exc is None and self._until_close():
            answer.finish()
            answer.wake()
        elif not answer.status and not self._head_bytes:
            problem = str(exc or "") or "EOF"
            self._fail(Unreachable("wire.closed", stage="first_byte", host=self.host, problem=problem))
        elif exc is not None:
            stage = "body" if answer.status else "first_byte"
            self._fail(Unreachable("wire.reset", stage=stage, host=self.host, problem=str(exc)))
        else:
            self._fail(BadReply("wire.truncated", host=self.host))

    def pause_writing(self) -> None:
        self._writing = True
        self._unwritten = self._transport.get_write_buffer_size()
        self._due = self._home.now + self.origin.stages.write_s

    def resume_writing(self) -> None:
        self._writing = False
        answer = self._answer
        if answer is not None:
            stages = self.origin.stages
            self._due = self._home.now + (stages.silence_s if answer.status else stages.first_byte_s)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # nothing was asked: whatever it is, it must not become the next caller's answer
            self.drop()
            return
        if not answer.status:
            self._head_bytes += len(data)
            head_bytes = -1  # how long the head in `data` is, is still to be found out
        else:
            head_bytes = 0
        fault: ProviderError | None = None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # after the end, a parser's complaint is about surplus bytes: the answer itself is good
            self._surplus = True
            if not answer.complete:
                fault = BadReply("wire.not_http", host=self.host, problem=_said(error))
        pieces = self._pieces
        size = 0
        if pieces:
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            size = len(piece)
            self._total += size
            if self._total > self.limit_bytes:
                fault = BadReply("wire.too_large", host=self.host, limit=self.limit_bytes)
            elif self._head_only:
                self._surplus = True
            elif answer.take(piece) and not answer.complete:
                answer.paused = True
                self._transport.pause_reading()
        elif not head_bytes:  # nothing but chunk extensions or trailers: held against the same limit
            self._total += len(data)
            if self._total > self.limit_bytes:
                fault = BadReply("wire.too_large", host=self.host, limit=self.limit_bytes)
        if fault is not None:
            self._fail(fault)
        elif answer.complete:
            self._end(answer, data, len(data) - size, head_bytes)
            answer.wake()
        elif answer.status:
            if not self._writing:
                self._due = self._home.now + self.origin.stages.silence_s
            answer.wake()
        elif self._head_bytes > LARGEST_HEAD:
            self._fail(BadReply("wire.long_head", host=self.host, limit=LARGEST_HEAD))

    # the parser's side

    def on_header(self, name: bytes, value: bytes) -> None:
        name, value = name.lower(), value.rstrip()  # llhttp leaves the blanks after a value
        headers = self._headers
        headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, {}
        answer = self._answer
        if answer is None or answer.complete:
            raise ValueError("bytes after the end")
        if 100 <= status < 200 and status != 101:
            self._interim = True
            return
        if status < 200 or status > 599:
            raise ValueError(f"HTTP status {status}")
        answer.status = status
        answer.headers = headers
        self._keep_alive = self._parser.should_keep_alive()
        if self._head_only:
            answer.finish()

    def on_message_complete(self) -> None:
        if self._headers:  # trailers belong to no head: not to this one, nor to the next (RFC 9110, 6.5)
            self._headers = {}
        if self._interim:
            self._interim = False
        elif self._answer is not None:
            self._answer.finish()

    # the end of an answer

    def _end(self, answer: Answer, data: bytes, framing: int, head_bytes: int) -> None:
        """An answer is complete: the connection may be used again if it ended here and nowhere else.

        Args:
            answer: which.
            data: what was read last.
            framing: how many bytes of `data` are no body.
            head_bytes: how many of them may be head; -1 = as many as it has.
        """
        self._answer = None
        chunked = (
            b"transfer-encoding" in answer.headers and not self._head_only and answer.status not in (204, 304)
        )
        if chunked:
            # the parser alone does not tell: it skips line ends after a message
            exact = data.endswith(b"\r\n\r\n") and not data.endswith(b"\n\r\n\r\n")
        else:
            exact = framing == (data.find(b"\r\n\r\n") + 4 if head_bytes else 0)
        if (
            not exact
            or self._surplus
            or self._writing
            or not self._keep_alive
            or self._transport.is_closing()
        ):
            self._leave()
            self._transport.abort()
            return
        if self._head_only:  # this parser waits for the body that its head announced
            self._parser = httptools.HttpResponseParser(self)
        hint = answer.headers.get(b"keep-alive")
        if hint is not None:
            self._keep_s = _kept(hint, self.origin.idle_s)
        self.idle_since = self._home.now
        self._home.back(self)

    def _until_close(self) -> bool:
        assert self._answer is not None
        headers = self._answer.headers
        coding = headers.get(b"transfer-encoding")
        return b"content-length" not in headers and (
            coding is None or not coding.lower().endswith(b"chunked")
        )

    def _late(self, key: str, **facts: float) -> Unreachable:
        answer = self._answer
        stage = "write" if self._writing else "body" if answer is not None and answer.status else "first_byte"
        return Unreachable(key, sent=True, stage=stage, host=self.host, **facts)

    def _fail(self, fault: ProviderError) -> None:
        answer = self._answer
        self.drop()
        if answer is not None:
            answer.complete = False
            answer.finish(fault)
            answer.wake()

    def _leave(self) -> None:
        if not self._gone:
            self._gone = True
            self._home.gone(self)


def _kept(hint: bytes, idle_s: float) -> float:
    for part in hint.split(b","):
        name, _, value = part.strip().partition(b"=")
        if name.lower() == b"timeout" and value.isdigit():
            return min(idle_s, max(int(value[:6]) - 1.0, 0.0))
    return idle_s


def _said(error: BaseException) -> str:
    return str(error.__context__ or error)[:200]
