"""What the name of a model that runs on this machine stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from baimo.core.call import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Files of a model, and what was tuned into it."""

    path: Path
    """GGUF file; of the base, where there is an adapter."""
    adapter: Path | None = None
    """LoRA in GGUF form that is put on the base for its requests; None = the file answers as it is."""
    beside: tuple[Path, ...] = ()
    """Every adapter of the same base that is served now, this one too: they share one engine."""
    template: str = ""
    """Chat template that it was tuned with; empty = the file's own."""
    put: Callable[[Request], Request] | None = None
    """Puts a tuned prompt before a caller's messages."""
    put_hash: str = ""
    """Digest of that prompt."""
    tuned: bool = False
    """Whether it is one of many that come and go."""


Located = Callable[[str], Path | Weights]
"""By a model's upstream name; raises UnknownModel or PullError."""


def weights_of(found: Path | Weights) -> Weights:
    """A bare path is a model as it was pulled."""
    return Weights(path=found) if isinstance(found, Path) else found
