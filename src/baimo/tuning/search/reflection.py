"""The words in which a model is asked to rewrite an instruction, and what is taken out of its reply.

Prevents three failures: material that talks the rewriter into something (it stands between marks that it cannot
know), an instruction that breaks the template it is put into, and one that lost the variables which the old one had.
"""

from __future__ import annotations

import functools
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import NamedTuple

from baimo.core.ids import digest
from baimo.core.message import Message
from baimo.core.task import Example

LONGEST = 8000
"""Characters of an instruction; more is no instruction."""
SHOWN = 1200
"""Characters of a request or an answer that the rewriter sees."""
_MARK = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_FENCED = re.compile(r"```[\w-]*[ \t]*\n(.*)```", re.DOTALL)
_OPENERS = re.compile(r"\{(?=[{%#])")
_OPENER = "{{ '{' }}"
"""A brace that opens nothing."""


class Trial(NamedTuple):
    """One request under one instruction."""

    example: Example
    messages: tuple[Message, ...]
    text: str
    score: float
    why: str


def reflection(instruction: str, trials: Sequence[Trial], language: str) -> str:
    """The request to rewrite `instruction`, given what it led to."""
    parts = _parts()[language]
    shown = "\n\n".join(
        "\n".join(
            (
                parts["request"].format(request=_short(_asked(trial.messages))),
                parts["expected"].format(expected=_short(_words(trial.example.target))),
                parts["answered"].format(answered=_short(trial.text)),
                parts["examiner"].format(score=trial.score, why=_short(trial.why)),
            )
        )
        for trial in trials
    )
    return _filled("reflect", language, instruction=instruction, trials=shown, marks_of=instruction)


def merging(first: str, second: str, wins: Sequence[tuple[bool, Trial]], language: str) -> str:
    """The request to merge two instructions; `wins` are trials with whether the first one won."""
    parts = _parts()[language]
    shown = "\n\n".join(
        "\n".join(
            (
                parts["request"].format(request=_short(_asked(trial.messages))),
                parts["by_first" if by_first else "by_second"].format(
                    expected=_short(_words(trial.example.target))
                ),
            )
        )
        for by_first, trial in wins
    )
    return _filled("merge", language, instruction=first, other=second, trials=shown, marks_of=first)


def rewritten(reply: str, before: str) -> str | None:
    """The instruction in a rewriter's reply as a template; None where there is none that can be used.

    Args:
        reply: what the model said; the instruction is between the first ``` and the last, or all of it.
        before: the template that it replaces. Its marks must all come again, and no others.
    """
    match = _FENCED.search(reply)
    words = (match[1] if match else reply.replace("```", "")).strip()
    if not words or len(words) > LONGEST:
        return None
    if is_constant(before):
        return as_template(words)
    return words if set(_MARK.findall(words)) == set(_MARK.findall(before)) else None


def as_template(words: str) -> str:
    """Text as a Jinja template that renders as it."""
    return _OPENERS.sub(_OPENER, words)


def is_constant(template: str) -> bool:
    """Whether a template renders the same for every example: its only marks are those of `as_template`."""
    return not _MARK.search(template.replace(_OPENER, ""))


def _filled(name: str, language: str, *, marks_of: str, **material: str) -> str:
    parts = _parts()[language]
    fence = f"material-{digest(material)[:16]}"
    marks = "" if is_constant(marks_of) else " ".join(dict.fromkeys(_MARK.findall(marks_of)))
    keep = parts["keep"].format(marks=marks) if marks else ""
    for one in ("instruction", "other"):
        if one in material and is_constant(material[one]):
            material[one] = material[one].replace(_OPENER, "{") or parts["none"]
    template = (resources.files("baimo.tuning.search") / "prompts" / f"{name}.{language}.md").read_text(
        encoding="utf-8"
    )
    return template.format(fence=fence, keep=keep, **material)


def _asked(messages: Sequence[Message]) -> str:
    """The last turn, which is the question; what came before it is the instruction and solved examples."""
    content = messages[-1].content
    if isinstance(content, str):
        return content
    return " ".join(part.data if part.kind == "text" else f"[{part.kind}]" for part in content)


def _words(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _short(words: str) -> str:
    return words if len(words) <= SHOWN else f"{words[: SHOWN // 2]} … {words[-SHOWN // 2 :]}"


@functools.cache
def _parts() -> Mapping[str, Mapping[str, str]]:
    source = (resources.files("baimo.tuning.search") / "prompts" / "parts.toml").read_text(encoding="utf-8")
    return tomllib.loads(source)
