"""What an in-process engine does for `LocalProvider`: one prompt in, pieces of text out.

The prompt arrives rendered; both engines turn it into the same token ids and neither adds a token of its own.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from baimo.core.call import FinishReason, TokenLogprob, Usage
from baimo.errors import RequestRefused

DEFAULT_TEMPERATURE = 0.7
"""For requests that state none."""
DEFAULT_MAX_TOKENS = 1024
"""For requests that state none; a small model may otherwise repeat itself to the end of its window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One generation."""

    prompt: str
    """Rendered by the chat template, special tokens written out."""
    max_tokens: int = DEFAULT_MAX_TOKENS
    """Most tokens to generate."""
    temperature: float = DEFAULT_TEMPERATURE
    """0 = greedy."""
    top_p: float = 1.0
    """Nucleus mass."""
    seed: int | None = None
    """None = a new one for every call."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer; not part of it."""
    schema: str | None = None
    """JSON Schema, as JSON, that the answer must satisfy."""
    top_logprobs: int | None = None
    """Alternatives per token; None = no logprobs."""
    adapter: int | None = None
    """Place of a LoRA among those that the engine was loaded with; None = the bare model."""
    stream: bool = False
    """Whether pieces are wanted as they come, or one at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of the answer; the last one has finish_reason and usage."""

    text: str = ""
    """Text that came with it."""
    finish_reason: FinishReason | None = None
    """Set on the last piece."""
    usage: Usage | None = None
    """Set on the last piece; exact."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the tokens of this piece, when asked for."""


class Engine(Protocol):
    """A loaded model. Safe for many generations at once."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What decides its answers: engine, version, precision, weights format …; JSON-ready."""
        ...

    def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Answer one prompt; closing the iterator frees its slot."""
        ...

    def count(self, text: str) -> int:
        """Tokens of a rendered prompt. Safe from any thread; may block for milliseconds.

        Raises:
            ProviderError: the engine failed.
        """
        ...

    def close(self) -> None:
        """End threads and free memory; waits for both."""
        ...


def room(job: Job, prompt_tokens: int, window: int) -> int:
    """Tokens that may be generated: what the job asks for, or what is left of the window.

    Raises:
        RequestRefused: the prompt alone fills the window.
    """
    if prompt_tokens >= window:
        raise RequestRefused("local.overflow", tokens=prompt_tokens, window=window)
    return min(job.max_tokens, window - prompt_tokens)


def problem(error: Exception) -> str:
    """What a C++ exception says at its end, without the build machine's source path."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", lines[-1]) if lines else type(error).__name__


class StopScanner:
    """Holds back text that might be the beginning of a stop string.

    Args:
        stop: texts that end the answer.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = tuple(text for text in stop if text)
        self._held = ""
        self.hit = False

    def feed(self, text: str) -> str:
        """The part of all text so far that is safe to show and was not shown yet."""
        if self.hit:
            return ""
        self._held += text
        found = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            self.hit = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = max((self._overlap(stop) for stop in self._stop), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def rest(self) -> str:
        """What was held back when the text ended without a stop string."""
        shown, self._held = self._held, ""
        return shown

    def _overlap(self, stop: str) -> int:
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
