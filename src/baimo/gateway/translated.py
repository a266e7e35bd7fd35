"""The neutral way: any surface to any model, and the only way on which personal data is replaced.

Prevents two failures: a name that was replaced in the prompt and never put back in the answer (or put back in half,
where a stream's pieces split it), and a client of one API that is answered in the words of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from baimo.core.call import Completion, Delta, Provider, Request, Usage
from baimo.errors import BadReply, BaimoError, CallRefused, ProviderError, RequestRefused, Unreachable
from baimo.gateway.answers import EVENTS, Headers, Keeper, Whole
from baimo.gateway.call import Call, Grant, Reply
from baimo.gateway.failures import AttemptFailed, may_be_executed
from baimo.gateway.masking import Masker, Unmasking, calls_unmasked, masked, stop_unmasked, unmasked
from baimo.gateway.surface import Events, Seen

JSON: Headers = [(b"content-type", b"application/json")]
_TOLD = frozenset({404, 413, 422})
"""Statuses of refusals that clients are told as they came; any other 4xx is a 400."""

Numbered = AsyncGenerator[tuple[int, Delta], None]
"""Deltas, each with the number of the answer that it belongs to."""


class Translated:
    """Asks models through `Provider`s."""

    def __init__(
        self,
        provider: Callable[[str], Provider],
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
        masker: Callable[[], Masker] | None = None,
    ) -> None:
        """
        Args:
            provider: by vendor's name; raises ConfigError where its settings cannot be used.
            now: monotonic seconds.
            wall: seconds since 1970.
            masker: makes one for each call whose personal data must be replaced.
        """
        self._provider = provider
        self._now = now
        self._wall = wall
        self._masker = masker

    async def ask(self, call: Call, grant: Grant, *, mask: bool) -> Whole | Told:
        """Ask once; the whole answer, or a stream whose first delta has come.

        Args:
            call: what the client wants.
            grant: names the model.
            mask: replace personal data.

        Raises:
            AttemptFailed: there is nothing that the client could be given as an answer.
            CallRefused: the request cannot be said neutrally; no model would take it this way.
        """
        terms, peek, surface = grant.terms, grant.peek, call.surface
        request = surface.request(call.body, peek, model=terms.model.upstream, native=terms.passes(surface))
        if request.sampling.max_tokens is None and (most := terms.max_tokens(peek, surface.name)) is not None:
            request = replace(request, sampling=replace(request.sampling, max_tokens=most))
        masker = None
        if mask:
            if self._masker is None:
                raise AttemptFailed(BadReply("gateway.no_masker", model=terms.model.name))
            masker = self._masker()
            request = masked(request, masker)
        sent_at = self._now()
        try:
            provider = self._provider(terms.model.vendor)
            async with asyncio.timeout(max(0.0, grant.deadline - sent_at)):
                if peek.stream:
                    return await self._stream(call, grant, provider, request, masker)
                return await self._whole(call, grant, provider, request, masker)
        except TimeoutError:
            raise AttemptFailed(_too_late(grant), unsure=peek.answers) from None
        except CallRefused:
            raise
        except BaimoError as error:
            attempts = int(vars(error).get("attempts", 1))
            unsure = int(vars(error).get("unsure", peek.answers if may_be_executed(error) else 0))
            if isinstance(error, RequestRefused) and error.facts.get("status") in _TOLD:
                error.http_status = int(str(error.facts["status"]))
            grant.entry.attempts += max(0, attempts - 1)
            raise AttemptFailed(error, unsure=unsure) from None
        finally:
            grant.model_s += self._now() - sent_at

    async def _whole(
        self, call: Call, grant: Grant, provider: Provider, request: Request, masker: Masker | None
    ) -> Whole:
        count = grant.peek.answers
        grant.entry.attempts += count - 1
        if count == 1:
            completions = [await provider.complete(request)]
        else:
            asked = [provider.complete(replace(request, repeat=repeat)) for repeat in range(count)]
            completions = list(await all_answered(asked))
        grant.entry.attempts += sum(completion.attempts - 1 for completion in completions)
        if masker is not None:
            json = request.response_format is not None
            completions = [unmasked(completion, masker, json=json) for completion in completions]
        first = completions[0]
        given = first if count == 1 else completions
        body = call.surface.answer(given, grant.peek, id=call.request_id, created_s=int(self._wall()))
        usage = Usage.sum(completion.usage for completion in completions)
        size = sum(len(completion.text.encode()) for completion in completions)
        seen = Seen(usage, first.model, first.finish_reason, True, size)
        return Whole(200, JSON, body, seen, count)

    async def _stream(
        self, call: Call, grant: Grant, provider: Provider, request: Request, masker: Masker | None
    ) -> Told:
        count = grant.peek.answers
        asked = [provider.stream(replace(request, repeat=repeat)) for repeat in range(count)]
        grant.entry.attempts += count - 1
        deltas = numbered(asked[0]) if count == 1 else together(asked)
        try:
            first = await anext(deltas, None)
        except BaseException:
            await deltas.aclose()
            raise
        if first is None:
            raise BadReply("gateway.broke_off", model=grant.terms.model.name)
        events = call.surface.events(grant.peek, id=call.request_id, created_s=int(self._wall()))
        json = request.response_format is not None
        return Told(deltas, first, events, masker, grant, self._now, json=json)


class Told:
    """A translated stream, or several at once, that has begun."""

    status = 200
    headers = EVENTS

    def __init__(
        self,
        deltas: Numbered,
        first: tuple[int, Delta],
        events: Events,
        masker: Masker | None,
        grant: Grant,
        now: Callable[[], float],
        *,
        json: bool,
    ) -> None:
        self._json = json
        self.calls = grant.peek.answers
        self._deltas = deltas
        self._next: tuple[int, Delta] | None = first
        self._events = events
        self._masker = masker
        self._restored: dict[int, tuple[Unmasking, Unmasking]] = {}
        self._grant = grant
        self._now = now
        self._usages: list[Usage] = []
        self._finished: dict[int, str] = {}
        self._model = ""
        self._size = 0

    async def pour(self, reply: Reply, *, hold: bool, keep: list[bytes] | None) -> bytes:
        """See `Flow`. The last events wait for the Record in any case."""
        keeper = None if keep is None else Keeper(keep)
        try:
            async with asyncio.timeout(max(0.0, self._grant.deadline - self._now())):
                while self._next is not None:
                    number, delta = self._next
                    piece = self._events.delta(self._shown(number, delta), number)
                    if piece:
                        reply.write(piece)
                        if keeper is not None:
                            keeper.add(piece)
                        waiting = reply.drained()
                        if waiting is not None:
                            await waiting
                    self._next = await anext(self._deltas, None)
        except TimeoutError:
            raise _too_late(self._grant) from None
        if len(self._finished) < self.calls:
            raise BadReply("gateway.broke_off", model=self._grant.terms.model.name)
        end = self._events.end()
        if keeper is not None:
            keeper.add(end)
        return end

    def _shown(self, number: int, delta: Delta) -> Delta:
        self._size += len(delta.text.encode()) + len(delta.reasoning.encode())
        if delta.usage is not None:
            self._usages.append(delta.usage)
        if delta.finish_reason is not None:
            self._finished[number] = delta.finish_reason
            self._model = self._model or delta.model
        masker = self._masker
        if masker is None:
            return delta
        if number not in self._restored:
            self._restored[number] = (masker.unmasking(json=self._json), masker.unmasking())
        text, reasoning = self._restored[number]
        shown = text.feed(delta.text) if delta.text else ""
        thought = reasoning.feed(delta.reasoning) if delta.reasoning else ""
        if delta.finish_reason is not None:
            shown += text.rest()
            thought += reasoning.rest()
        return replace(
            delta,
            text=shown,
            reasoning=thought,
            tool_calls=calls_unmasked(delta.tool_calls, masker),
            stop_sequence=stop_unmasked(delta.stop_sequence, masker),
        )

    def seen(self) -> Seen:
        """What the stream has said about itself so far."""
        complete = len(self._finished) == self.calls
        usage = Usage.sum(self._usages) if len(self._usages) == self.calls else None
        finish = self._finished[min(self._finished)] if complete else ""
        return Seen(usage, self._model, finish, complete, self._size)

    def failed(self, error: BaimoError) -> bytes:
        """An error event."""
        return self._events.failed(error)

    async def aclose(self) -> None:
        """Stop the provider's stream."""
        await self._deltas.aclose()


async def numbered(deltas: AsyncIterator[Delta]) -> Numbered:
    """The deltas of the only stream."""
    try:
        async for delta in deltas:
            yield 0, delta
    finally:
        await _closed(deltas)


async def together(streams: Sequence[AsyncIterator[Delta]]) -> Numbered:
    """The deltas of all streams as they come, each with the number of its stream; errors as of `all_answered`."""
    queue: asyncio.Queue[tuple[int, Delta] | BaseException | None] = asyncio.Queue(maxsize=64)

    async def fill(number: int, deltas: AsyncIterator[Delta]) -> None:
        try:
            async for delta in deltas:
                await queue.put((number, delta))
            await queue.put(None)
        except Exception as error:
            await queue.put(error)
            raise
        finally:
            await _closed(deltas)

    filling = [asyncio.create_task(fill(number, deltas)) for number, deltas in enumerate(streams)]
    failure: BaseException | None = None
    try:
        left = len(streams)
        while left:
            item = await queue.get()
            if isinstance(item, BaseException):
                failure = item
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        await _stopped(filling, failure)


async def all_answered(asked: list[Any]) -> list[Completion]:
    """All answers; when one call fails, the others are cancelled before its error goes on.

    The error has `unsure`: how many of the calls may have been executed.
    """
    tasks = [asyncio.ensure_future(one) for one in asked]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException as error:
        await _stopped(tasks, error)
        vars(error).pop("unsent", None)  # it is one call's, and may be said of that one only
        raise


async def _stopped(calls: Sequence[asyncio.Future[Any]], failure: BaseException | None) -> None:
    """Cancel what goes on of several calls; note on the failure of one how many may have been executed."""
    for one in calls:
        one.cancel()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    if failure is not None:
        # those that answered, and those that were cut off: only a refusal was certainly not executed
        vars(failure)["unsure"] = sum(not isinstance(end, Exception) or may_be_executed(end) for end in ends)


async def _closed(deltas: AsyncIterator[Delta]) -> None:
    close = getattr(deltas, "aclose", None)
    if close is not None:
        await close()


def _too_late(grant: Grant) -> ProviderError:
    error = Unreachable(
        "gateway.too_late", model=grant.terms.model.name, seconds=round(grant.deadline - grant.began)
    )
    error.http_status = 504
    return error
