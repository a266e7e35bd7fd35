"""One batch from its first line to its last, as far as this process gets.

Prevents three failures: a batch that stops because its server was restarted (what has a result is in the files, the
rest is asked), one that goes on after another process has taken it over, and one that keeps asking when the client has
cancelled it or its time is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import NamedTuple

from baimo.core.call import Usage
from baimo.core.waiting import happened
from baimo.errors import BaimoError, StoreError
from baimo.gateway.batch_input import Line, inspected, lines
from baimo.gateway.batch_results import Results, Written
from baimo.gateway.collected import Collected
from baimo.gateway.idle import Gate
from baimo.gateway.surface import Counts
from baimo.store.batches import Batch, Batches, LineError, Status
from baimo.store.files import Files
from baimo.text import text

BEAT_S = 1.0
"""How often progress is kept, and looked whether the batch is still ours and wanted."""
SILENCE_S = 20.0
"""Longest time for which nothing new is begun without having heard that it is still ours."""
LIVES_S = 30 * 86_400
"""Results are kept for so long unless the client says otherwise."""
PAUSES_S = (5.0, 30.0)
"""Before a line is asked again whose server failed or could not be reached."""
LONGEST_PAUSE_S = 60.0
"""A limit may say "next month"; it may also be raised before."""
_READ_AHEAD = 32
_PASSING = frozenset({502, 504})
_FULL = frozenset({429, 503})

log = logging.getLogger("baimo.serve")


class Tools(NamedTuple):
    """What working on batches needs."""

    batches: Batches
    files: Files
    gate: Gate
    holder: str
    """`Books.holder` of this process."""
    ask: Callable[[Batch, Line, str, Collected], Awaitable[None]]
    """Answers a line under its request id; raises BaimoError when its key may not ask any more."""
    vendors: Callable[[Batch, str], frozenset[str]]
    """Vendors of all models that may answer what asks for this name."""
    usage: Callable[[str, bytes], Usage | Counts | None]
    """Tokens of an answer of an endpoint, as far as it says."""
    longest: Callable[[], int]
    """Most bytes of a line."""


class Work:
    """One batch while this process works on it."""

    def __init__(self, tools: Tools, batch: Batch) -> None:
        self.batch = batch
        self._input = tools.files.path(batch.tenant, batch.input_file)
        self._tools = tools
        self._results: Results | None = None
        self._lines: set[asyncio.Task[None]] = set()
        self._halt = asyncio.Event()
        self._lost = False
        self._leaving = False
        self._error: StoreError | None = None

    def halted(self) -> bool:
        """Whether no line is begun any more."""
        return self._halt.is_set()

    def leave(self) -> None:
        """Begin no line any more; another process goes on, or this one after its restart."""
        self._leaving = True
        self._stop()

    def interrupt(self) -> None:
        """Give up the lines in flight; they are asked again later, and their Records say that they were broken off."""
        for line in self._lines:
            line.cancel()

    async def done(self) -> None:
        """Work until it has ended, or `leave` was called, or another process has it.

        Raises:
            StoreError: database or disk refuse; nothing is lost, and it can be tried again.
        """
        try:
            if not self.batch.output_file and self.batch.status != "finalizing":
                await self._validate()
            if self.batch.status == "in_progress" and not self._late() and self._input.exists():
                await self._answer()
            if self.batch.active and not self._leaving and not self._lost and self._error is None:
                await self._finish()
            if self._error is not None:
                raise self._error
        finally:
            self.interrupt()
            await asyncio.gather(*self._lines, return_exceptions=True)
            if self._results is not None:
                self._results.close()

    # validating

    async def _validate(self) -> None:
        batch, tools, path = self.batch, self._tools, self._input
        if not path.exists():
            await self._fail((_missing(),))
            return
        found = await asyncio.to_thread(inspected, path, batch.endpoint, tools.longest())
        if found.errors:
            await self._fail(found.errors)
            return
        now_ms = tools.batches.now_ms()

        def begun(one: Batch) -> Batch:
            return replace(
                one,
                status="in_progress" if one.status == "validating" else one.status,
                in_progress_ms=now_ms,
                total=found.total,
                model=found.model,
                output_file=tools.files.new_id(),
                error_file=tools.files.new_id(),
            )

        await self._change(begun)

    async def _fail(self, errors: tuple[LineError, ...]) -> None:
        ended_ms = self._tools.batches.now_ms()
        await self._change(
            lambda one: replace(
                one,
                status="cancelled" if one.status == "cancelling" else "failed",
                errors=errors,
                ended_ms=ended_ms,
            )
        )

    # in progress

    async def _answer(self) -> None:
        batch, tools = self.batch, self._tools
        results = await self._opened()
        beating = asyncio.create_task(self._beat(results))
        try:
            source = lines(tools.files.path(batch.tenant, batch.input_file), batch.endpoint, tools.longest())
            while not self.halted() and (some := await asyncio.to_thread(_next, source, results)):
                for line in some:
                    vendors = tools.vendors(batch, line.model)
                    if not await tools.gate.enter(vendors, self.halted):
                        break
                    self._lines.add(task := asyncio.create_task(self._line(line, vendors, results)))
                    task.add_done_callback(self._lines.discard)
            while self._lines:
                await asyncio.wait(self._lines)
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating
        await self._progress(results)

    async def _line(self, line: Line, vendors: frozenset[str], results: Results) -> None:
        name = self._request_id(line)
        tries = 0
        try:
            while True:
                reply = Collected()
                reply.told = partial(self._told, line=line, name=name, results=results, tries=tries)
                try:
                    await self._tools.ask(self.batch, line, name, reply)
                except BaimoError as error:
                    results.left(line.custom_id, name, error.key.rpartition(".")[2], str(error))
                except Exception as error:
                    log.error("%s: %s", name, type(error).__name__)
                if line.custom_id in results.done or self._error is not None:
                    return
                pause_s = self._pause_s(reply, tries)
                if pause_s is None:
                    results.left(line.custom_id, name, "internal_error", text("gateway.fault", request=name))
                    return
                tries += reply.status in _PASSING
                await happened(self._halt, pause_s)
                if self.halted():
                    return
        except StoreError as error:
            self._error = error
            self._stop()
        finally:
            self._tools.gate.leave(vendors)

    def _told(self, reply: Collected, *, line: Line, name: str, results: Results, tries: int) -> None:
        if self._pause_s(reply, tries) is None:
            try:
                results.answered(line.custom_id, name, reply.status, reply.body)
            except StoreError as error:
                self._error = error
                self._stop()

    def _pause_s(self, reply: Collected, tries: int) -> float | None:
        """Seconds until the line is asked again; None = its answer stands."""
        left_s = (self.batch.expires_ms - self._tools.batches.now_ms()) / 1000
        pause_s: float | None = None
        if reply.status in _FULL and reply.retry_after_s is not None and reply.retry_after_s < left_s:
            pause_s = min(reply.retry_after_s, LONGEST_PAUSE_S)
        elif reply.status in _PASSING and tries < len(PAUSES_S):
            pause_s = PAUSES_S[tries]
        return pause_s if pause_s is not None and pause_s < left_s else None

    async def _beat(self, results: Results) -> None:
        """Keep progress; notice that it is cancelled, over, or another's."""
        clock = asyncio.get_running_loop()
        heard_at = clock.time()
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self._progress(results)
                heard_at = clock.time()
            except StoreError as error:
                if clock.time() - heard_at > SILENCE_S:
                    self._error = error
                    self._stop()
            if self._lost:
                self._stop()
                self.interrupt()
            elif self._late() or self.batch.status == "cancelling":
                self._stop()

    async def _progress(self, results: Results) -> None:
        await asyncio.to_thread(results.sync)
        await self._change(
            lambda one: replace(one, completed=results.completed, failed=results.failed, **_tokens(results))
        )

    # finishing

    async def _finish(self) -> None:
        batch, tools = self.batch, self._tools
        results = await self._opened()
        late = self._late()
        begun_ms = batch.finalizing_ms or tools.batches.now_ms()
        if batch.status == "in_progress":
            await self._change(
                lambda one: replace(
                    one,
                    finalizing_ms=begun_ms,
                    status="finalizing" if one.status == "in_progress" else one.status,
                )
            )
            if self._lost:
                return
        cancelled = self.batch.status == "cancelling"
        code = "batch_cancelled" if cancelled else "batch_expired"
        message = text("batches.cancelled" if cancelled else "batches.expired")
        left = await asyncio.to_thread(self._give_up, results, code, message)
        written = await asyncio.to_thread(results.finish)
        lives_s = batch.output_lives_s or LIVES_S
        await asyncio.to_thread(self._enter, written, lives_s)
        output, error = written
        ended: Status = "completed"
        gone = results.completed + results.failed < self.batch.total
        if gone:  # deleted by hand: what was answered is there, the rest is not known
            ended = "failed"
        elif cancelled:
            ended = "cancelled"
        elif left and late:
            ended = "expired"
        ended_ms = tools.batches.now_ms()
        await self._change(
            lambda one: replace(
                one,
                status=ended,
                errors=(_missing(),) if gone else (),
                ended_ms=ended_ms,
                output_file=one.output_file if output else "",
                error_file=one.error_file if error else "",
                completed=results.completed,
                failed=results.failed,
                **_tokens(results),
            )
        )

    def _give_up(self, results: Results, code: str, message: str) -> int:
        """Say of every line that has no result why; returns how many there are."""
        batch, tools = self.batch, self._tools
        left = 0
        if not self._input.exists():
            return left
        for line in lines(self._input, batch.endpoint, tools.longest()):
            if line.custom_id not in results.done:
                results.left(line.custom_id, self._request_id(line), code, message)
                left += 1
        return left

    def _enter(self, written: Sequence[Written | None], lives_s: int) -> None:
        batch = self.batch
        for id, file, kind in zip(
            (batch.output_file, batch.error_file), written, ("output", "errors"), strict=True
        ):
            if file is not None:
                self._tools.files.enter(
                    id,
                    tenant=batch.tenant,
                    key=batch.key,
                    name=f"{batch.id}_{kind}.jsonl",
                    purpose="batch_output",
                    size=file.size,
                    sha256=file.sha256,
                    lives_s=lives_s,
                    data_class=batch.data_class,
                )

    # small things

    def _late(self) -> bool:
        return self._tools.batches.now_ms() >= self.batch.expires_ms

    async def _opened(self) -> Results:
        if self._results is None:
            batch, files = self.batch, self._tools.files
            self._results = await asyncio.to_thread(
                Results,
                files.path(batch.tenant, batch.output_file),
                files.path(batch.tenant, batch.error_file),
                lambda body: self._tools.usage(batch.endpoint, body),
            )
        return self._results

    async def _change(self, changed: Callable[[Batch], Batch]) -> None:
        batch, tools = self.batch, self._tools
        after = await asyncio.to_thread(
            tools.batches.change, batch.tenant, batch.id, changed, holder=tools.holder
        )
        if after is None:
            self._lost = True
        else:
            self.batch = after

    def _stop(self) -> None:
        self._halt.set()
        self._tools.gate.nudge()

    def _request_id(self, line: Line) -> str:
        return f"batch_req_{self.batch.id.partition('_')[2]}_{line.number}"


def _missing() -> LineError:
    return LineError(code="missing_file", message=text("batches.no_input"))


def _next(source: Iterator[Line], results: Results) -> list[Line]:
    """Some of the lines that have no result yet; empty = there are none any more."""
    return list(islice((line for line in source if line.custom_id not in results.done), _READ_AHEAD))


def _tokens(results: Results) -> Mapping[str, int]:
    names = ("tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning")
    return {**dict(zip(names, results.tokens, strict=True)), "unexecuted": results.unexecuted}
