"""The most that a call may take: what is reserved before anything is sent.

Prevents the failure where a budget holds on average: a bound that any usage the model may report can exceed. Every
count below is an upper bound; where two prices are possible, the dearer one counts.
"""

from __future__ import annotations

from math import ceil

import msgspec

from baimo.core.model import Model
from baimo.core.money import MICROS, Price
from baimo.gateway.surface import Peek

ATTACHMENT_TOKENS = 32_768
"""Assumed for each image, sound or file where the model's context window is not known; a page of a PDF takes about
3,000 tokens, a large image about 5,000 (platform.claude.com/docs/en/build-with-claude/pdf-support, …/vision)."""
WITHOUT_OUTPUT = frozenset({"embeddings", "rerank", "moderations", "count_tokens"})
"""Surfaces whose answers are no generated tokens."""
WITHOUT_LIMIT = frozenset({"images", "speech", "transcriptions"})
"""Surfaces whose requests cannot say how long an answer may become."""


class Bound(msgspec.Struct, frozen=True, gc=False):
    """The most that one call may take."""

    tokens: int
    """Prompt and answers."""
    micros: int | None
    """Micro-units of money.currency; None = the price is not known."""


NOTHING = Bound(0, 0)


class Ceiling(msgspec.Struct, frozen=True, gc=False):
    """Dearest rates of one tier, whole micro-units per million tokens."""

    above: int
    """Prompts longer than this many tokens pay them."""
    upto: int | None
    """And not longer than this; None = any length."""
    input: int
    long_cache: int
    """Of the prompt, where it may be written into a cache for an hour."""
    output: int
    call: int


class Bounds:
    """Bounds of the calls of one model under one price."""

    __slots__ = ("_assumed", "_ceilings", "_model", "_put", "_rate", "endless", "free", "priced")

    def __init__(
        self,
        model: Model,
        *,
        rate: float | None,
        assumed_output: int,
        own_output: int | None = None,
        usual_output: int | None = None,
    ) -> None:
        """
        Args:
            model: whose price, context window and longest answer are known or not.
            rate: units of money.currency for one unit of the price's currency; None = not known.
            assumed_output: tokens of an answer when neither request nor model says.
            own_output: the administrator's own max_output, which no server need know of.
            usual_output: what a wire format that wants a number is given when the request does not say.
        """
        ceilings = None if model.price is None or rate is None else _ceilings(model.price)
        self._model = model
        self._rate = rate or 1.0
        self._assumed = assumed_output
        self._put = _put(model, assumed_output, own_output, usual_output)
        self._ceilings = ceilings or ()
        self.priced = bool(ceilings)
        """Whether the most that a call may cost can be told."""
        self.endless = not model.max_output
        """Whether an answer has no bound unless the request says how long it may be."""
        self.free = self.priced and not any(one.output for one in self._ceilings)
        """Whether that does not matter to its cost."""

    def tokens_in(self, peek: Peek) -> int:
        """Most prompt tokens."""
        window = self._model.context_window
        if peek.attachments:
            return window or peek.text_bytes + peek.attachments * ATTACHMENT_TOKENS
        most = peek.text_bytes
        return most if window is None or most < window else window

    def tokens_out(self, peek: Peek, surface: str) -> int:
        """Most generated tokens of all answers together."""
        if surface in WITHOUT_OUTPUT:
            return 0
        most = peek.max_tokens
        # to Anthropic's API 0 means no answer; servers of other formats may take it for no limit
        if not most and (most is None or surface != "messages"):
            put = None if surface in WITHOUT_LIMIT else self._put
            most = put or self._model.max_output or self._assumed
        return most * peek.answers

    def assumes(self, peek: Peek, surface: str) -> int | None:
        """The `max_tokens` that must be put into the request for the bound to hold; None = it holds anyway: the request
        says it, or its vendor's own longest answer, which the catalogue knows, is the bound."""
        return None if peek.max_tokens is not None or surface in WITHOUT_OUTPUT else self._put

    def bound(self, peek: Peek, surface: str) -> Bound:
        """The most that this call may take."""
        tokens_in = self.tokens_in(peek)
        tokens_out = self.tokens_out(peek, surface)
        if not self.priced:
            return Bound(tokens_in * peek.answers + tokens_out, None)
        if len(self._ceilings) == 1:
            only = self._ceilings[0]
            rate = only.long_cache if peek.long_cache else only.input
            most = (tokens_in * rate + only.call * MICROS) * peek.answers + tokens_out * only.output
        else:
            most = self._dearest(peek, tokens_in, tokens_out)
        micros = -(-most // MICROS)
        if self._rate != 1.0:
            micros = ceil(micros * self._rate)
        return Bound(tokens_in * peek.answers + tokens_out, micros)

    def _dearest(self, peek: Peek, tokens_in: int, tokens_out: int) -> int:
        """Over all tiers that the prompt may fall into; in millionths of a micro-unit."""
        most = 0
        for one in self._ceilings:
            if tokens_in > one.above or not one.above:
                prompt = tokens_in if one.upto is None or tokens_in < one.upto else one.upto
                rate = one.long_cache if peek.long_cache else one.input
                exact = prompt * peek.answers * rate + tokens_out * one.output
                exact += one.call * peek.answers * MICROS
                most = max(most, exact)
        return most


def _put(model: Model, assumed: int, own: int | None, usual: int | None) -> int | None:
    """What is put into requests that do not say how long an answer may be; None = nothing need be."""
    if usual is not None and model.max_output:
        return min(usual, model.max_output)  # a longer answer than the model's longest is refused
    if own is None:
        return None if model.max_output else assumed
    # as long as the window, it would leave no room for a prompt
    return own if model.context_window is None or own < model.context_window else min(own, assumed)


def _ceilings(price: Price) -> tuple[Ceiling, ...] | None:
    """The dearest rates of every tier; None when one of them is not known."""
    starts = [0, *(tier.above_tokens for tier in price.tiers)]
    found: list[Ceiling] = []
    for place, above in enumerate(starts):
        upto = starts[place + 1] if place + 1 < len(starts) else None
        rates = price.rates(above + 1)
        if rates is None:
            return None
        dearest = max(rates.input, rates.cached, rates.cache_write)
        long_cache = max(dearest, rates.cache_write_1h or 0)
        found.append(Ceiling(above, upto, dearest, long_cache, rates.output, rates.call))
    return tuple(found)
