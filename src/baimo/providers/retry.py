"""How long to persist with one call: exponential back-off with full jitter, and no more than is sensible.

Being told to slow down (429, overload) costs patience, not attempts: it says nothing about the model. Everything
else that passes (5xx, broken body, lost connection) uses up attempts. A refusal is final.
Full jitter: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random

from baimo.errors import ProviderError, RateLimited

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 60.0
LONGEST_WAIT_S = 600.0
"""Longest time that one call may spend waiting because the server asked for it."""


def backoff_s(failures: int, chance: random.Random) -> float:
    """A delay before the next attempt, uniform below a bound that doubles with every failure (≥ 1)."""
    return chance.uniform(0, min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(failures, 30)))


class Patience:
    """Decides after each failure of one call whether and how long to wait; one per call."""

    def __init__(
        self, *, retries: int, chance: random.Random, longest_wait_s: float = LONGEST_WAIT_S
    ) -> None:
        self.attempts = 0
        """How many times it was sent."""
        self._retries = retries
        self._chance = chance
        self._longest_wait_s = longest_wait_s
        self._faults = 0
        self._refusals = 0
        self._waited_s = 0.0

    def delay_s(self, error: ProviderError) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            ProviderError: `error` itself, when waiting cannot help or has lasted long enough.
        """
        if not error.retryable:
            raise error
        if isinstance(error, RateLimited):
            self._refusals += 1
            delay = self._asked(error, self._refusals)
            self._waited_s += delay
            if self._waited_s >= self._longest_wait_s:
                raise error
            return delay
        self._faults += 1
        if self._faults > self._retries:
            raise error
        delay = self._asked(error, self._faults)
        if delay > self._longest_wait_s:
            raise error
        return delay

    def _asked(self, error: ProviderError, failures: int) -> float:
        if error.retry_after_s is None:
            return backoff_s(failures, self._chance)
        # a little later than asked: everybody else was told the same moment
        return error.retry_after_s + self._chance.uniform(0, min(1.0, error.retry_after_s * 0.1))
