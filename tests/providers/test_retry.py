"""How long one call is tried."""

from __future__ import annotations

import random

import pytest

from baimo.errors import AuthenticationFailed, BadReply, ProviderError, RateLimited, RequestRefused
from baimo.providers.retry import LONGEST_WAIT_S, Patience


def delays(patience: Patience, error: ProviderError) -> list[float]:
    """All delays until the error is final."""
    found: list[float] = []
    with pytest.raises(type(error)):
        while True:
            found.append(patience.delay_s(error))
    return found


def broken(**more: float) -> BadReply:
    return BadReply("providers.truncated", host="h", model="m", **more)


def limited(wait: float | None = None) -> RateLimited:
    return RateLimited(
        "providers.rate_limited", retry_after_s=wait, host="h", model="m", status=429, detail=""
    )


def test_passing_failures_use_up_attempts_with_growing_random_delays() -> None:
    bounds = [1, 2, 4, 8, 16, 32]
    longest = [0.0] * len(bounds)
    for seed in range(200):
        found = delays(Patience(retries=6, chance=random.Random(seed)), broken())
        assert len(found) == 6 and all(
            0 <= delay <= bound for delay, bound in zip(found, bounds, strict=True)
        )
        longest = [max(pair) for pair in zip(longest, found, strict=True)]
    assert all(most > bound * 0.9 for most, bound in zip(longest, bounds, strict=True)), (
        "full jitter fills its range"
    )


def test_refusals_to_serve_now_use_up_patience_but_no_attempts() -> None:
    patience = Patience(retries=0, chance=random.Random(1))
    found = delays(patience, limited())
    assert len(found) > 5
    assert sum(found) <= LONGEST_WAIT_S


def test_the_server_s_own_wish_is_followed_and_only_slightly_exceeded() -> None:
    found = delays(Patience(retries=0, chance=random.Random(1)), limited(30.0))
    assert all(30 <= delay <= 31 for delay in found)
    assert 600 / 31 - 1 <= len(found) <= 20


@pytest.mark.parametrize("retry_after_s", [None, 0.0, 30.0])
def test_who_decides_for_itself_is_told_of_a_refusal_at_once(retry_after_s: float | None) -> None:
    patience = Patience(retries=0, chance=random.Random(1), longest_wait_s=0.0)
    assert delays(patience, limited(retry_after_s)) == []


def test_nobody_waits_an_hour_because_a_server_says_so() -> None:
    assert delays(Patience(retries=5, chance=random.Random(1)), limited(3600)) == []
    assert delays(Patience(retries=5, chance=random.Random(1)), broken(retry_after_s=3600)) == []


@pytest.mark.parametrize("kind", [RequestRefused, AuthenticationFailed])
def test_refusals_are_final(kind: type[ProviderError]) -> None:
    error = kind("providers.refused", host="h", model="m", status=400, detail="")
    assert delays(Patience(retries=5, chance=random.Random(1)), error) == []
