"""What a search works on. Everything that costs money or belongs to another room is lent by the workspace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from baimo.core.call import Completion, JsonFormat, Request, Sampling, Usage
from baimo.core.message import Message
from baimo.core.run import Score
from baimo.core.task import Example, Prompt

Ask = Callable[[Request], Awaitable[Completion]]
"""One call. `Request.model` is the full `vendor/model`; whoever lends it stores and meters the call."""
Judge = Callable[[Example, Completion], Awaitable[Score]]
"""The task's deciding scorer."""
Render = Callable[[Prompt, Example], tuple[Message, ...]]
"""The conversation that asks an example under a prompt; few-shot turns come from the whole train split."""
Price = Callable[[str, Usage], "int | None"]
"""What a call of `vendor/model` costs, in micro-units; None = not known."""


def unpriced(model: str, usage: Usage) -> int | None:
    """No price is known."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A task as the search sees it."""

    model: str
    """vendor/model that is asked."""
    prompt: Prompt
    """How it is asked so far."""
    train: tuple[Example, ...]
    """The train split; those without a reference are not shown. Never the test split."""
    ask: Ask
    """How models are called."""
    judge: Judge
    """How answers are judged; `lenient` decides."""
    render: Render
    """How an example becomes a conversation."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=256)
    """Decoding parameters of the answers."""
    response_format: JsonFormat | None = None
    """None = free text."""
    reflect_with: str = ""
    """vendor/model that rewrites instructions; empty = the one that is asked."""
    price: Price = unpriced
    """What calls cost."""
    currency: str = "USD"
    """Of the prices."""
