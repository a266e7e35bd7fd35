"""Whether an engine reads a converted model as llama.cpp reads the original.

Prevents the failure that no load-time check sees: weights that were mis-read or mis-written give fluent, wrong
text. Both engines continue the same prompts greedily; as long as they agree on the tokens, the log-probabilities
must agree too. The result is kept beside the copy, so it is measured once per file, engine and precision.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from baimo.errors import ProviderError
from baimo.providers.llamacpp_server import Step

PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n    if n",
    "1, 2, 3, 4, 5,  6, 7,",
    "The days of the week are Monday, Tuesday,",
    "Once upon a time, there was a",
    "Translate to English: 'Guten Morgen, wie geht es dir?'\n",
    '{"name": "Alice", "age": 30, "city":',
    "Water boils at 100 degrees",
)
"""Continued by both engines. ASCII only: llama.cpp reports one log-probability per character, not per token."""

SPELLINGS = (
    "a 1",
    "x  12 345",
    "\n\n3.50\t7",
    "日本語 42 テスト",
    "😀 1 👩‍👩‍👧",
    "don't I'LL",
    " 12",
    "１２ ٣ ½",
)
"""Where tokenizers are known to differ: digits after spaces, marks, contractions, wide digits."""

TOKENS = 10
"""Greedy tokens per prompt."""
TOLERANCE = 0.15
"""Highest mean difference of log-probabilities, in nats: see docs/findings/local-engines.md."""
_DIFFERENT = 5.0  # counted for a token that is not even among the reference's alternatives


class Agreement(NamedTuple):
    """What a comparison found."""

    mean: float
    """Mean absolute difference of log-probabilities, nats."""
    worst: float
    """Greatest one."""
    compared: int
    """Tokens compared."""

    @property
    def good(self) -> bool:
        """Whether the copy may be used."""
        return self.mean <= TOLERANCE


class Reference(Protocol):
    """The engine that is believed."""

    def encode(self, text: str) -> list[int]:
        """Token ids, nothing added."""
        ...

    def greedy(self, prompt: Sequence[int], count: int) -> list[Step]:
        """Greedy continuation with alternatives."""
        ...


class Candidate(Protocol):
    """The engine that is checked."""

    def encode(self, text: str) -> list[int]:
        """Token ids, nothing added."""
        ...

    def greedy(self, prompt: Sequence[int], count: int) -> list[tuple[int, float]]:
        """Greedy continuation."""
        ...


def compared(reference: Reference, candidate: Candidate) -> Agreement:
    """Continue every prompt on both engines.

    Raises:
        ProviderError: their tokenizers differ.
    """
    for sample in (*PROMPTS, *SPELLINGS):
        if reference.encode(sample) != candidate.encode(sample):
            raise ProviderError("local.tokens_differ", sample=sample)
    differences: list[float] = []
    for prompt in PROMPTS:
        ids = reference.encode(prompt)
        differences += _differences(reference.greedy(ids, TOKENS), candidate.greedy(ids, TOKENS))
    return Agreement(statistics.fmean(differences), max(differences), len(differences))


def _differences(expected: Sequence[Step], found: Sequence[tuple[int, float]]) -> list[float]:
    """One per token, up to and including the first on which they part: what follows has another context."""
    differences: list[float] = []
    for step, (token, logprob) in zip(expected, found, strict=False):
        known = step.top.get(token)
        differences.append(_DIFFERENT if known is None else min(_DIFFERENT, abs(known - logprob)))
        if token != step.token:
            break
    return differences


def ensured(record: Path, measure: Callable[[], Agreement], *, source: Path) -> Agreement:
    """The agreement that `record` keeps, measured now if it keeps none.

    Args:
        record: JSON file named for everything that the result depends on.
        measure: loads both engines and compares; seconds.
        source: the original file, for the message.

    Raises:
        ProviderError: they disagree; a failed check is not kept.
    """
    if kept := _kept(record):
        return kept
    result = measure()
    if not result.good:
        raise ProviderError(
            "local.disagrees",
            path=source,
            mean=f"{result.mean:.2f}",
            tolerance=TOLERANCE,
            worst=f"{result.worst:.1f}",
        )
    handle, draft = tempfile.mkstemp(dir=record.parent, prefix=record.name)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        json.dump(result._asdict(), out)
    Path(draft).replace(record)
    return result


def _kept(record: Path) -> Agreement | None:
    try:
        kept = Agreement(**json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # no record, or one that another version wrote
        return None
    return kept if kept.good else None
