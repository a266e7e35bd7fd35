"""The thread that owns a continuous-batching pipeline and feeds it.

Prevents the failure where one caller's patience decides the throughput of all: callers put their prompt in a
bounded queue and wait; this thread alone touches the pipeline, adds what fits, steps, and hands tokens back to
each caller's event loop. A caller that goes away frees its slot at the next step.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from baimo.core.call import FinishReason, Usage
from baimo.errors import BadReply, BaimoError, ProviderError, RateLimited, RequestRefused
from baimo.providers.engine import Job, Piece, StopScanner, problem, room
from baimo.providers.prefixes import Prefixes, chained


class Tokens(NamedTuple):
    """What one request has produced since it was last asked."""

    ids: list[int]
    finish_reason: FinishReason | None


class Handle(Protocol):
    """One request inside the pipeline."""

    def read(self) -> Tokens:
        """New tokens; raises ProviderError when the pipeline gave the request up."""
        ...

    def cancel(self) -> None:
        """Stop it; its memory is free after the next step."""
        ...


class Pipeline(Protocol):
    """A batch of running requests. Used by one thread only, except for `encode`."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered prompt, nothing added. Safe from any thread."""
        ...

    def spelled(self, ids: Sequence[int]) -> bytes:
        """UTF-8 of generated tokens without special ones; a character may be spread over several tokens."""
        ...

    def add(self, ids: Sequence[int], job: Job, max_tokens: int) -> Handle:
        """Begin a request."""
        ...

    def step(self) -> None:
        """Advance every running request; an exception leaves the pipeline unusable."""
        ...


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")


@dataclass(slots=True, eq=False)
class _Ticket:
    job: Job
    prompt: list[int]
    max_tokens: int
    loop: asyncio.AbstractEventLoop
    inbox: asyncio.Queue[Piece | BaimoError]
    chain: list[int]
    scanner: StopScanner
    handle: Handle | None = None
    cancelled: bool = False
    ids: list[int] = field(default_factory=list[int])
    decoder: codecs.IncrementalDecoder = field(default_factory=_decoder)
    text: str = ""
    emitted: bool = False


class Batcher:
    """Answers jobs with one pipeline on one thread.

    Args:
        load: makes a pipeline; called once, and again after a failure inside it.
        window: tokens of prompt and answer together.
        max_batch: most requests in the pipeline at once.
        max_waiting: most requests in the queue; more are turned away.
        name: of the thread.
    """

    def __init__(
        self, load: Callable[[], Pipeline], *, window: int, max_batch: int, max_waiting: int, name: str
    ) -> None:
        self._load = load
        self._pipeline = load()
        self._window = window
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._wake = threading.Condition()
        self._waiting: deque[_Ticket] = deque()
        self._active: list[_Ticket] = []
        self._prefixes = Prefixes()
        self._tried: set[str] = set()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Requests in the pipeline."""
        return len(self._active)

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def count(self, text: str) -> int:
        """Tokens of a rendered prompt."""
        return len(self._pipeline.encode(text))

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Answer one job; see `Engine.generate`.

        Raises:
            RequestRefused: the prompt fills the window, or the schema cannot be enforced.
            RateLimited: the queue is full.
            ProviderError: the pipeline failed or was closed.
        """
        prompt = self._pipeline.encode(job.prompt)
        ticket = _Ticket(
            job=job,
            prompt=prompt,
            max_tokens=room(job, len(prompt), self._window),
            loop=asyncio.get_running_loop(),
            inbox=asyncio.Queue(),
            chain=chained(prompt),
            scanner=StopScanner(job.stop),
        )
        self._enqueue(ticket)
        try:
            while True:
                item = await ticket.inbox.get()
                if isinstance(item, BaimoError):
                    raise item
                yield item
                if item.finish_reason is not None:
                    return
        finally:
            self._abandon(ticket)

    def close(self) -> None:
        """End the thread; whoever still waits gets a ProviderError."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _enqueue(self, ticket: _Ticket) -> None:
        with self._wake:
            if self._closing:
                raise ProviderError("local.closed")
            if len(self._waiting) >= self._max_waiting:
                raise RateLimited("local.queue_full", waiting=len(self._waiting))
            self._waiting.append(ticket)
            self._wake.notify()

    def _abandon(self, ticket: _Ticket) -> None:
        with self._wake:
            ticket.cancelled = True
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._waiting or self._active or self._closing):
                    self._wake.wait()
                if self._closing:
                    break
                waiting = self._taken()
            self._drop_cancelled()
            untried = self._add(waiting)
            if not self._active:
                continue
            try:
                self._pipeline.step()
            except Exception as error:
                self._recover(error, untried)
                continue
            self._prefixes.stepped()
            if untried is not None:
                self._tried.add(untried.job.schema or "")
            for ticket in list(self._active):
                self._deliver(ticket)
        self._end()

    def _taken(self) -> list[_Ticket]:
        """The queue's head, as long as there are slots; what is not admitted goes back in order."""
        self._waiting = deque(ticket for ticket in self._waiting if not ticket.cancelled)
        return list(self._waiting)[: 4 * self._max_batch] if len(self._active) < self._max_batch else []

    def _drop_cancelled(self) -> None:
        for ticket in [ticket for ticket in self._active if ticket.cancelled]:
            assert ticket.handle is not None
            ticket.handle.cancel()
            self._leave(ticket)

    def _add(self, waiting: list[_Ticket]) -> _Ticket | None:
        """Add what may be added; at most one whose schema has never been compiled, and returns that one."""
        untried: _Ticket | None = None
        for ticket in waiting:
            if len(self._active) >= self._max_batch:
                break
            new_schema = ticket.job.schema is not None and ticket.job.schema not in self._tried
            if new_schema and untried is not None:
                continue
            if not self._prefixes.admit(ticket, ticket.prompt, ticket.chain):
                continue
            with self._wake:
                self._waiting.remove(ticket)
            try:
                ticket.handle = self._pipeline.add(ticket.prompt, ticket.job, ticket.max_tokens)
            except Exception as error:
                self._prefixes.finished(ticket)
                self._send(ticket, _as_error(error))
                continue
            self._active.append(ticket)
            untried = ticket if new_schema else untried
        return untried

    def _leave(self, ticket: _Ticket) -> None:
        self._active.remove(ticket)
        self._prefixes.finished(ticket)

    def _deliver(self, ticket: _Ticket) -> None:
        assert ticket.handle is not None
        try:
            new = ticket.handle.read()
        except BaimoError as error:
            self._leave(ticket)
            self._send(ticket, error)
            return
        if new.ids:
            self._prefixes.progressed(ticket, new.ids)
            ticket.ids += new.ids
        reason = new.finish_reason
        shown = ticket.decoder.decode(self._pipeline.spelled(new.ids), final=reason is not None)
        ticket.text += ticket.scanner.feed(shown)
        if ticket.scanner.hit and reason is None:
            ticket.handle.cancel()
        if ticket.scanner.hit:
            reason = "stop"
        if reason is not None:
            self._leave(ticket)
            usage = Usage(tokens_in=len(ticket.prompt), tokens_out=len(ticket.ids))
            text = ticket.text + ticket.scanner.rest()
            self._send(ticket, Piece(text=text, finish_reason=reason, usage=usage))
        elif ticket.text and ticket.job.stream:
            self._send(ticket, Piece(text=ticket.text))
            ticket.text, ticket.emitted = "", True

    def _send(self, ticket: _Ticket, item: Piece | BaimoError) -> None:
        with contextlib.suppress(RuntimeError):  # the caller's event loop is gone, and the caller with it
            ticket.loop.call_soon_threadsafe(ticket.inbox.put_nowait, item)

    def _recover(self, error: Exception, untried: _Ticket | None) -> None:
        """A new pipeline; who has not shown anything starts again, the culprit is told so.

        A schema that the grammar compiler refuses fails inside `step` and takes the pipeline with it.
        """
        stranded, self._active = self._active, []
        self._prefixes.clear()
        for ticket in stranded:
            ticket.ids, ticket.text, ticket.decoder = [], "", _decoder()
            ticket.scanner = StopScanner(ticket.job.stop)
            if ticket is untried:
                self._send(ticket, RequestRefused("local.schema", problem=problem(error)))
            elif untried is None or ticket.emitted:
                self._send(ticket, BadReply("local.engine_failed", problem=problem(error)))
            else:
                with self._wake:
                    self._waiting.appendleft(ticket)
        self._pipeline = self._load()

    def _end(self) -> None:
        with self._wake:
            stranded = [*self._active, *self._waiting]
            self._waiting.clear()
        for ticket in self._active:
            assert ticket.handle is not None
            ticket.handle.cancel()
        if self._active:
            with contextlib.suppress(Exception):  # the engine's own clean-up; there is no caller left to tell
                self._pipeline.step()
        self._active = []
        for ticket in stranded:
            self._send(ticket, ProviderError("local.closed"))


def _as_error(error: Exception) -> BaimoError:
    return error if isinstance(error, BaimoError) else BadReply("local.engine_failed", problem=problem(error))
