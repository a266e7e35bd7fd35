"""A prompt that was found, put before a caller's messages: what an adapter of the kind "prompt" does when it serves.

Prevents the failure where a prompt is measured in one form and served in another: turns are stored as they were
rendered while it was measured, and are placed here as they were placed there. No template is rendered for a caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from baimo.core.call import Sampling
from baimo.core.message import Message
from baimo.typed import from_json

FILE = "served.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One solved example as turns."""

    id: str
    """Example.id."""
    turns: tuple[Message, ...]
    """Question and answer, or a whole conversation with its answer."""
    slice: str = ""
    """Value of the metadata that blocks follow."""
    asked: str = ""
    """What nearness is measured by; empty where examples are not chosen by nearness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What is put before a conversation."""

    system: str = ""
    """System message; empty = none."""
    count: int = 0
    """How many solved examples are shown."""
    select: str = "fixed"
    """fixed: the first ones; similar: the nearest to the caller's last message, the nearest last."""
    by: str = ""
    """Name of the metadata under which a caller may say the slice; empty = there are no slices."""
    shown: tuple[Shown, ...] = ()
    """Solved examples to choose from, in order; slices take turns, so the first ones are a mixture."""
    sampling: Sampling = Sampling()
    """Decoding parameters that it was measured with; a caller's own are stronger."""

    @classmethod
    def read(cls, folder: Path) -> Served:
        """From the folder of an adapter of the kind "prompt"."""
        return from_json((folder / FILE).read_bytes(), cls)

    def messages(self, asked: Sequence[Message], slice: str = "") -> tuple[Message, ...]:
        """The conversation that is sent for a caller's.

        Args:
            asked: the caller's messages. A system message of theirs follows ours in one message; where theirs is
                ours already, it stays single.
            slice: the caller's value of the metadata `by`; empty = they did not say.
        """
        system = [message for message in asked[:1] if message.role == "system"]
        rest = tuple(asked[len(system) :])
        block = tuple(turn for one in self.chosen(rest, slice) for turn in one.turns)
        return (*self._system(system), *block, *rest)

    def chosen(self, asked: Sequence[Message], slice: str = "") -> list[Shown]:
        """The solved examples for this conversation."""
        if self.select == "similar" and asked:
            return self._nearest(text_of(asked[-1]), slice)
        ordered = sorted(self.shown, key=lambda one: one.slice != slice) if slice else list(self.shown)
        return ordered[: self.count]

    def _nearest(self, question: str, slice: str) -> list[Shown]:
        from rapidfuzz import fuzz, process

        words = _folded(question)
        scores = process.cdist([words], [_folded(one.asked) for one in self.shown], scorer=fuzz.token_ratio)
        ranked = [
            (not slice or one.slice == slice, float(scores[0][place]), -place)
            for place, one in enumerate(self.shown)
        ]
        best = sorted(ranked, reverse=True)[: self.count]
        return [self.shown[-place] for *_, place in reversed(best)]

    def _system(self, theirs: Sequence[Message]) -> tuple[Message, ...]:
        if not self.system:
            return tuple(theirs)
        said = text_of(theirs[0]) if theirs else ""
        if not said or said.strip() == self.system.strip():
            return (Message(role="system", content=self.system),)
        return (replace(theirs[0], content=f"{self.system}\n\n{said}"),)


def text_of(message: Message) -> str:
    """The words of a message."""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.data for part in message.content if part.kind == "text")


def _folded(words: str) -> str:
    return " ".join(words.casefold().split())
