"""What each surface does with each kind of model: the table that the guide shows and the tests hold.

An outcome is `=` (the client's bytes pass through), `~` (translated), `-` (answered, and the wish is left out, as the
model cannot fulfil it), a status with the words of the refusal, or nothing, where the API has no such thing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

DIALECTS = ("openai", "responses", "anthropic", "local", "fake")
"""Kinds of servers: OpenAI's chat format; the same with the Responses API; Anthropic's; in process; scripted."""
REMOTE = ("openai", "responses", "anthropic")
MODELS = {
    "openai": "plain/model",
    "responses": "modern/model",
    "anthropic": "claude/model",
    "local": "local/smollm2-135m-instruct",
    "fake": "scripted/model",
}
_PASSED = ("=", "=", "~", "~", "~")
_NATIVE = ("~", "=", "~", "~", "~")
_MESSAGES = ("~", "~", "=", "~", "~")
_MEDIA = ("=", "=", *("501 no model behind it offers",) * 3)
_BLIND = "400 local models read text only"
_UNCOUNTED = "501 offers count_tokens"
_TOOLLESS = "400 the model's chat template has no place for tools"

TABLE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "chat": {
        "whole": _PASSED,
        "stream": _PASSED,
        "tools": ("=", "=", "~", _TOOLLESS, "~"),
        "tools streamed": ("=", "=", "~", _TOOLLESS, "~"),
        "schema": _PASSED,
        "n": _PASSED,
        "n streamed": _PASSED,
        "logprobs": ("=", "=", "-", "~", "-"),
        "vision": ("=", "=", "~", _BLIND, "~"),
    },
    "completions": {
        "whole": _PASSED,
        "stream": _PASSED,
        "n": _PASSED,
        "logprobs": ("=", "=", "-", "~", "-"),
    },
    "responses": {
        "whole": _NATIVE,
        "stream": _NATIVE,
        "tools": ("~", "=", "~", _TOOLLESS, "~"),
        "tools streamed": ("~", "=", "~", _TOOLLESS, "~"),
        "schema": _NATIVE,
        "logprobs": ("~", "=", "-", "~", "-"),
        "vision": ("~", "=", "~", _BLIND, "~"),
        "previous_response_id": _NATIVE,
    },
    "messages": {
        "whole": _MESSAGES,
        "stream": _MESSAGES,
        "tools": ("~", "~", "=", _TOOLLESS, "~"),
        "tools streamed": ("~", "~", "=", _TOOLLESS, "~"),
        "schema": _MESSAGES,
        "vision": ("~", "~", "=", _BLIND, "~"),
    },
    "count_tokens": {"whole": (_UNCOUNTED, _UNCOUNTED, "=", "~", _UNCOUNTED)},
    "embeddings": {"whole": _MEDIA},
    "rerank": {"whole": _MEDIA},
    "moderations": {"whole": _MEDIA},
    "transcriptions": {"whole": _MEDIA, "stream": _MEDIA},
    "speech": {"whole": _MEDIA, "stream": _MEDIA},
    "images": {"whole": _MEDIA, "stream": _MEDIA, "n": _MEDIA},
}
"""Surface → feature → outcome by dialect."""


class Cell(NamedTuple):
    """One claim."""

    surface: str
    feature: str
    dialect: str
    outcome: str

    @property
    def refused(self) -> bool:
        """The documented answer is a refusal."""
        return self.outcome[:1].isdigit()

    def __str__(self) -> str:
        return f"{self.surface}/{self.feature}/{self.dialect}".replace(" ", "_")


def cells() -> Iterator[Cell]:
    """Every claim of the table."""
    for surface, features in TABLE.items():
        for feature, outcomes in features.items():
            for dialect, outcome in zip(DIALECTS, outcomes, strict=True):
                yield Cell(surface, feature, dialect, outcome)


def markdown() -> str:
    """The table as the guide prints it; the same text in every language."""
    shown = {"=": "=", "~": "≈", "-": "–"}
    lines = [
        "| | | openai | openai + `responses` | anthropic | local | fake |",
        "|---|---|---|---|---|---|---|",
    ]
    for surface, features in TABLE.items():
        for place, (feature, outcomes) in enumerate(features.items()):
            named = f"**{surface}**" if not place else ""
            row = [named, feature, *(shown.get(one, one[:3]) for one in outcomes)]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)
