"""What is to be done: examples, the prompt that asks, and the candidates that answer.

A candidate is model × prompt variant × decoding parameters: two prompts of one model compete like two models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from baimo.core.call import JsonFormat, Sampling
from baimo.core.ids import digest
from baimo.core.message import Message, Tool
from baimo.core.registry import Spec
from baimo.core.tenant import DataClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One item of work with its reference answer."""

    id: str
    """Unique in its split."""
    fields: Mapping[str, Any]
    """Variables for the prompt template; at least `input`, unless `messages` is given."""
    target: Any = None
    """Reference: text, number, list of accepted texts, or JSON; None = no reference."""
    messages: tuple[Message, ...] = ()
    """A conversation to continue, in place of a template."""
    tools: tuple[Tool, ...] = ()
    """Functions that the model may call on this example."""
    group: str | None = None
    """Examples of one group (paraphrases, one document, one dialogue) are not independent."""
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Slices for the report: language, category, difficulty …"""
    line: int | None = None
    """Line of the source file, for messages; not part of its identity."""
    file: str = ""
    """Source file, for messages."""

    @property
    def hash(self) -> str:
        """Digest of what the example asks and expects."""
        return digest([self.fields, self.target, self.messages, self.tools])


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShot:
    """Solved examples shown before the question, drawn from the train split."""

    count: int
    """How many."""
    by: str | None = None
    """Prefer examples whose metadata has the same value under this name."""
    select: str = "fixed"
    """fixed: the same examples for every question (prefix caches work); similar: nearest by text."""
    ids: tuple[str, ...] = ()
    """Only these examples, in this order; empty = any, by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """How an example becomes a conversation."""

    name: str = "default"
    """Name of the variant."""
    system: str = ""
    """Jinja2 template of the system message; empty = none."""
    user: str = "{{ input }}"
    """Jinja2 template of the user message."""
    assistant: str = "{{ target if target is string else target | tojson }}"
    """Jinja2 template of a solved example's answer, for few-shot blocks."""
    few_shot: FewShot | None = None
    """Solved examples to show first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A company's own work, as examples and scorers."""

    name: str
    """Short name, also of the folder."""
    examples: tuple[Example, ...]
    """What is evaluated: the test split."""
    scorers: tuple[Spec, ...]
    """The first one decides; the others are reported."""
    prompts: tuple[Prompt, ...] = (Prompt(),)
    """Variants; the first is the default."""
    train: tuple[Example, ...] = ()
    """Never evaluated: few-shot blocks and tuning draw from it."""
    description: str = ""
    """One sentence for people."""
    license: str = ""
    """SPDX id of the data."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=256)
    """Decoding parameters of every candidate that has none of its own."""
    response_format: JsonFormat | None = None
    """Asked of every candidate that does not say otherwise."""
    candidates: tuple[Mapping[str, Any], ...] = ()
    """[[candidates]] of task.toml as data; the workspace resolves them."""
    data_class: DataClass = "internal"
    """public, internal or confidential: confidential work is only sent to models that run inside."""
    folder: str = ""
    """Where it was read from; relative paths of scorers start here."""

    @property
    def hash(self) -> str:
        """Digest of examples and scorers: which work was compared, wherever the folder lies."""
        return digest([[example.hash for example in self.examples], self.scorers])


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One contender: model × prompt × decoding parameters."""

    name: str
    """Unique in the comparison, e.g. `local/smollm2-135m few-shot`."""
    model: str
    """vendor/model."""
    prompt: Prompt = Prompt()
    """How it is asked."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=256)
    """How it decodes."""
    response_format: JsonFormat | None = None
    """None = free text."""
