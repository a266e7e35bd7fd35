"""The gate between training and serving: the same prompts through both, and the verdict whether they are one model.

Prevents the failure that shows in no log: a tuned model that scored 57 % where it was trained and 26 % where it is
served, because of the chat template alone (github.com/hiyouga/LLaMA-Factory/issues/2509). Three things are held
against each other in the order in which one causes the next: template (text and token ids), logits (the trainer's
answer token by token, each engine step after the same tokens), text (what a caller reads, and where it ends). The
first that differs is named, and how.

Judged in f32, since bf16 alone changes 15 to 45 % of greedy texts; what the serving precision costs is stated beside.
docs/concepts/parity.md has the measurements behind the limits.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from baimo.core.call import Request
from baimo.core.message import Message
from baimo.text import text

Differs = Literal["", "template", "logits", "text"]
TOKENS = 24
"""Greedy tokens of an answer."""


class Limits(NamedTuple):
    """What may differ, in nats of a token's log-probability."""

    mean: float
    worst: float
    identical: float
    """Least share of greedy texts that are the same."""


LIMITS: Mapping[str, Limits] = {"f16": Limits(0.01, 0.1, 0.75), "q8_0": Limits(0.12, 1.5, 0.3)}
"""By what the weights are promised to be kept in. Measured: F16 0.001 on average and 0.008 at worst on both engines;
Q8_0 0.05 and 0.41, so that Q8_0 in the place of F16 is four times the limit."""
LEAST_EFFECT = 0.01
"""Nats by which an adapter must change the tokens on average before its strength can be told."""
STRENGTH = 0.15
"""How far the strength with which an adapter counts may be from 1."""


class Spoken(NamedTuple):
    """A conversation as a model gets it."""

    text: str
    ids: list[int]


class Answer(NamedTuple):
    """A greedy answer."""

    text: str
    ended: bool
    """Whether it ended by itself, and was not cut."""
    ids: tuple[int, ...] = ()
    """Where they are known; with the one that ended it."""


class Judged(NamedTuple):
    """Log-probabilities of the tokens that the serving engine chose, at the places of the trainer's answer."""

    tuned: float
    """By the trainer's forward pass."""
    bare: float | None
    """By the same without the adapter; None = there is nothing to take away."""
    served: float


class Trained(Protocol):
    """The trainer's side: transformers and PEFT in f32."""

    def spoken(self, request: Request) -> Spoken: ...

    def answers(self, prompts: Sequence[Sequence[int]], count: int) -> list[Answer]:
        """Greedy answers of at most `count` tokens."""
        ...

    def logprobs(self, prompt: Sequence[int], answer: Sequence[int]) -> Any:
        """[2 or 1, answer, vocabulary]: log-probabilities with the adapter, then without it if there is one."""
        ...

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ...

    def token(self, number: int) -> str:
        """Text of a token."""
        ...


class Serving(Protocol):
    """The serving path in f32."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """engine, precision, weights: as promised; kinds: as the file has them."""
        ...

    def spoken(self, request: Request) -> Spoken: ...

    def answer(self, request: Request, prompt: Sequence[int], count: int) -> Answer: ...

    def steps(self, prompt: Sequence[int], count: int) -> list[tuple[int, float]]:
        """Greedy tokens with their log-probabilities, as far as the engine tells them token by token."""
        ...

    @property
    def ends(self) -> frozenset[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """What the gate found."""

    prompts: int
    """Conversations compared."""
    template: bool
    """Rendered text and token ids are the same for all."""
    logits: bool
    """Within the limits."""
    text: bool
    """Enough greedy answers are the same, and they end where they should."""
    identical: int = 0
    """Greedy answers that are the same."""
    compared: int = 0
    """Tokens whose log-probability was compared."""
    mean_logit_difference: float = 0.0
    """Nats."""
    max_logit_difference: float = 0.0
    """Nats."""
    strength: float | None = None
    """With which the adapter counts where it serves: 1 = as trained, 0 = not at all; None = cannot be told."""
    differs: Differs = ""
    """The first of the three that differs; empty = served is trained."""
    how: str = ""
    """For people: what differs."""
    serving: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Engine and precision; `loss`: share of answers that the serving precision changes."""

    @property
    def good(self) -> bool:
        """Whether it may serve."""
        return not self.differs


def parity(
    trained: Trained, serving: Serving, requests: Sequence[Request], *, tokens: int = TOKENS
) -> Parity:
    """Hold the serving path against the trainer.

    Args:
        trained: the trainer's side.
        serving: the path that will serve, in f32.
        requests: conversations that end where an answer begins.
        tokens: greedy tokens of an answer.
    """
    spoken = [trained.spoken(request) for request in requests]
    count, facts = len(requests), dict(serving.facts)
    for request, ours in zip(requests, spoken, strict=True):
        theirs = serving.spoken(request)
        if theirs != ours:
            how = _template_difference(ours, theirs)
            return Parity(
                prompts=count,
                template=False,
                logits=False,
                text=False,
                differs="template",
                how=how,
                serving=facts,
            )
    expected = trained.answers([one.ids for one in spoken], tokens)
    judged = [
        one
        for prompt, answer in zip(spoken, expected, strict=True)
        for one in _forced(trained, serving, prompt.ids, answer.ids)
    ]
    found = _judged(judged, facts)
    served = [serving.answer(*one, tokens) for one in zip(requests, [one.ids for one in spoken], strict=True)]
    same = sum(ours[:2] == theirs[:2] for ours, theirs in zip(expected, served, strict=True))
    ends = _ends_difference(trained, serving, expected, served)
    limits = LIMITS[str(facts["weights"])]
    text_good = not ends and same >= limits.identical * count
    differs: Differs = "logits" if found.how else "" if text_good else "text"
    how = found.how or ends or ("" if text_good else _text_difference(expected, served))
    return Parity(
        prompts=count,
        template=True,
        logits=not found.how,
        text=text_good,
        identical=same,
        compared=len(judged),
        mean_logit_difference=found.mean,
        max_logit_difference=found.worst,
        strength=found.strength,
        differs=differs,
        how=how,
        serving=facts,
    )


def _forced(trained: Trained, serving: Serving, prompt: Sequence[int], answer: Sequence[int]) -> list[Judged]:
    """The serving engine after every beginning of the trainer's answer; it begins again where it leaves the answer."""
    if not answer:
        return []
    table = trained.logprobs(prompt, answer)
    found: list[Judged] = []
    place = 0
    while place < len(answer):
        steps = serving.steps([*prompt, *answer[:place]], len(answer) - place)
        for token, logprob in steps:
            bare = float(table[1, place, token]) if len(table) > 1 else None
            found.append(Judged(float(table[0, place, token]), bare, logprob))
            place += 1
            if token != answer[place - 1] or place == len(answer):
                break
        else:
            place += 1  # a token that the engine does not tell: the next one is asked for after it
    return found


class _Found(NamedTuple):
    mean: float
    worst: float
    strength: float | None
    how: str


def _judged(judged: Sequence[Judged], facts: Mapping[str, Any]) -> _Found:
    """Whether the log-probabilities are within the limits; else whether the adapter or the weights are to blame."""
    if not judged:
        return _Found(0.0, 0.0, None, text("parity.nothing_compared"))
    off = [abs(one.served - one.tuned) for one in judged]
    mean, worst = statistics.fmean(off), max(off)
    strength = _strength(judged)
    limits = LIMITS[str(facts["weights"])]
    kinds = [kind for kind in facts.get("kinds", ()) if kind not in _PROMISED[str(facts["weights"])]]
    if mean <= limits.mean and worst <= limits.worst and not kinds:
        return _Found(mean, worst, strength, "")
    shown = {"mean": f"{mean:.3f}", "worst": f"{worst:.2f}", "limit": limits.mean}
    if kinds:
        named = {"kinds": ", ".join(kinds), "promised": str(facts["weights"]).upper()}
        return _Found(mean, worst, strength, text("parity.quantised", **named, **shown))
    if strength is not None and abs(strength) < 0.25:
        return _Found(mean, worst, strength, text("parity.not_applied", **shown))
    if strength is not None and abs(strength - 1) > STRENGTH:
        return _Found(mean, worst, strength, text("parity.strength", strength=f"{strength:.2f}", **shown))
    return _Found(mean, worst, strength, text("parity.weights", **shown))


_PROMISED: Mapping[str, tuple[str, ...]] = {
    "f16": ("F32", "F16", "BF16"),
    "q8_0": ("F32", "F16", "BF16", "Q8_0"),
}


def _strength(judged: Sequence[Judged]) -> float | None:
    """Slope of what serving changes against what training changed, by least squares."""
    effects = [(one.tuned - one.bare, one.served - one.bare) for one in judged if one.bare is not None]
    if not effects or statistics.fmean(abs(trained) for trained, _ in effects) < LEAST_EFFECT:
        return None
    return sum(trained * served for trained, served in effects) / sum(trained**2 for trained, _ in effects)


# in words


def _template_difference(ours: Spoken, theirs: Spoken) -> str:
    if ours.text != theirs.text:
        at = next(
            (n for n, (one, other) in enumerate(zip(ours.text, theirs.text, strict=False)) if one != other),
            min(len(ours.text), len(theirs.text)),
        )
        start = max(0, at - 20)
        facts = {"trained": ours.text[start : at + 40], "served": theirs.text[start : at + 40]}
        return text("parity.rendered", at=at, **facts)
    at = next(
        (n for n, (one, other) in enumerate(zip(ours.ids, theirs.ids, strict=False)) if one != other),
        min(len(ours.ids), len(theirs.ids)),
    )
    return text("parity.tokens", at=at, trained=ours.ids[at : at + 6], served=theirs.ids[at : at + 6])


def _ends_difference(
    trained: Trained, serving: Serving, expected: Sequence[Answer], served: Sequence[Answer]
) -> str:
    """Answers that one side ends and the other does not, because they end on other tokens."""
    apart = [(a, b) for a, b in zip(expected, served, strict=True) if a[:2] != b[:2]]
    last = {ours.ids[-1] for ours, _ in apart if ours.ended and ours.ids}
    missed = last - serving.ends
    if missed:
        names = ", ".join(repr(trained.token(number)) for number in sorted(missed))
        return text("parity.not_an_end", tokens=names)
    early = [theirs for ours, theirs in zip(expected, served, strict=True) if theirs.ended and not ours.ended]
    strangers = {ids[-1] for _, _, ids in early if ids} - trained.ends
    if strangers:
        names = ", ".join(repr(trained.token(number)) for number in sorted(strangers))
        return text("parity.ends_early", tokens=names)
    return ""


def _text_difference(expected: Sequence[Answer], served: Sequence[Answer]) -> str:
    pairs = [(a, b) for a, b in zip(expected, served, strict=True) if a[:2] != b[:2]]
    ours, theirs = pairs[0]
    facts = {"trained": ours.text[:80], "served": theirs.text[:80]}
    return text("parity.answers", count=len(pairs), of=len(expected), **facts)


def loss(expected: Sequence[str], served: Sequence[str]) -> dict[str, Any]:
    """What the serving precision changes: greedy texts that differ from the trainer's."""
    same = sum(ours == theirs for ours, theirs in zip(expected, served, strict=True))
    return {"prompts": len(expected), "identical": same}


def ordinary() -> list[Request]:
    """Conversations for adapters whose training data are not here: digits, two languages, a system message, turns."""
    user, system = "user", "system"
    conversations = (
        (Message(role=user, content="What is the capital of France?"),),
        (Message(role=system, content="Answer in one word."), Message(role=user, content="2 + 3 = ?")),
        (Message(role=user, content="把客厅的灯调到 30%，然后告诉我现在几点。"),),
        (
            Message(role=user, content="Name a colour."),
            Message(role="assistant", content="Blue."),
            Message(role=user, content="Another one, please."),
        ),
        (Message(role=user, content="Set an alarm for 6:45 and  12 reminders.\n\nThanks!"),),
        (Message(role=user, content="Wie spät ist es? Réponds en français."),),
        (Message(role=user, content='Give me JSON with the keys "city" and "country" for Tokyo.'),),
        (Message(role=user, content="Summarise in one sentence: the meeting moved from Monday to Friday."),),
    )
    return [Request(model="", messages=messages) for messages in conversations]
