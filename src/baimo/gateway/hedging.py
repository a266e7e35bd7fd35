"""A second model is asked while the first one still thinks; whoever answers first wins.

Prevents the failure where the loser's bill is forgotten: it is reserved before the second request is sent, and counted
as unsure when the loser is cut off.
"""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from baimo.gateway.answers import Flow, Whole
from baimo.gateway.attempts import Attempts, lose
from baimo.gateway.call import Call, Grant
from baimo.gateway.failures import AttemptFailed
from baimo.gateway.limits import merged

_Attempt = asyncio.Future[Whole | Flow]


async def hedged(attempts: Attempts, call: Call, grant: Grant) -> Whole | Flow:
    """The first answer of the choice's first two models.

    Raises:
        AttemptFailed: neither gave one; it is the first model's failure.
    """
    model = grant.choice.fallbacks[0]
    terms = attempts.ways.terms.of(call.key, call.tenant, model, grant.choice.route, batch=bool(call.batch))
    first = asyncio.ensure_future(attempts.attempt(call, grant))
    try:
        await asyncio.wait({first}, timeout=(grant.choice.hedge_after_ms or 0) / 1000)
        if first.done():
            return first.result()
        ready = attempts.ways.breaker(model.name).ready()
        if not ready or not await attempts.reserved(call, grant, terms, beside=grant.bound):
            return await first
    except BaseException:
        await _stopped(first)
        raise
    bound = terms.bound(grant.peek, call.surface)
    _, reserved = merged(grant.reserved, terms.plan.charges(grant.entry.began_ms, 0, 0))  # its own first
    other = replace(grant, terms=terms, bound=bound, reserved=reserved, model_s=0.0, out=False)
    grant.choice = replace(grant.choice, fallbacks=grant.choice.fallbacks[1:])
    second = asyncio.ensure_future(attempts.attempt(call, other))
    return await _race(grant, other, first, second)


async def _race(grant: Grant, other: Grant, first: _Attempt, second: _Attempt) -> Whole | Flow:
    """What the quicker one brings; afterwards `grant` is the winner's."""
    sides = {first: grant, second: other}
    running: set[_Attempt] = {first, second}
    uncounted = {first, second}
    try:
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for one in (first, second):
                error = one.exception() if one in done else None
                if isinstance(error, AttemptFailed):
                    _lost(grant, other, sides[one], error.unsure)
                    error.unsure = 0  # it is counted here
                    uncounted.discard(one)
                elif error is not None:
                    raise error
            for one, rival in ((first, second), (second, first)):
                if one in done and one.exception() is None:
                    if rival in uncounted:
                        _lost(grant, other, sides[rival], int(sides[rival].out))
                        uncounted.discard(rival)
                        await _stopped(rival)
                    if one is second:
                        grant.terms, grant.bound = other.terms, other.bound
                        grant.reserved = grant.entry.reserved = other.reserved
                        grant.entry.model, grant.entry.route = other.terms.model.name, "hedge"
                        grant.out = True
                    # both waited at the same time, for a place or for an answer: the longer one's times are the call's
                    times = (grant.queue_s, grant.model_s), (other.queue_s, other.model_s)
                    grant.queue_s, grant.model_s = max(times, key=sum)
                    grant.entry.queue_ms = grant.queue_s * 1000.0
                    return one.result()
    except BaseException:
        try:
            await _stopped(first)
            await _stopped(second)
        finally:
            if other.out:
                _lost(grant, other, other, 1)  # the caller counts the grant's own
        raise
    failure = first.exception()
    assert failure is not None  # both are done, and none had an answer
    raise failure


def _lost(grant: Grant, other: Grant, side: Grant, unsure: int) -> None:
    lose(side, unsure)
    grant.lost = other.lost = side.lost


async def _stopped(attempt: _Attempt) -> None:
    """Cancel an attempt, and close what it brought nevertheless."""
    attempt.cancel()
    await asyncio.wait({attempt})
    if not attempt.cancelled() and attempt.exception() is None:
        answer = attempt.result()
        if not isinstance(answer, Whole):
            await answer.aclose()
