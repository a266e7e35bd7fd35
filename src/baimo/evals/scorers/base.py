"""What all scorers share: their Spec, and the rule that content and form are judged apart."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeGuard

from baimo.core.call import Completion, Request
from baimo.core.ids import digest, plain
from baimo.core.registry import Spec
from baimo.core.run import Score
from baimo.text import text

Ask = Callable[[Request], Awaitable[Completion]]
"""How a judge is called. `Request.model` is the full `vendor/model`; whoever passes it stores and meters the call."""

GIVEN = frozenset({"folder", "ask", "runs"})
"""Fields that the platform fills in; never part of a Spec."""

_THINKING = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """Base of every scorer: its fields are its arguments, so `spec` can build it again."""

    name: ClassVar[str]
    """Name in the registry."""
    version: ClassVar[str] = "1"
    """Raised when the same answer may get another score."""

    @property
    def spec(self) -> Spec:
        """Name, arguments that differ from their default, version."""
        args: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            if not field.init:
                continue
            value = getattr(self, field.name)
            default = field.default
            if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            if field.name not in GIVEN and value != default:
                args[field.name] = plain(value)
        source = self.sources()
        version = f"{self.version}+{digest(source)[:12]}" if source else self.version
        return Spec(name=self.name, args=args, version=version)

    def sources(self) -> object:
        """Content of the files that the arguments name; part of the version, because editing one changes figures."""
        return None


def judged(content: float, form: bool, explanation: str = "", **details: Any) -> Score:
    """A Score from the two questions: how right is the content (0..1), and is the form the one asked for?"""
    return Score.of(content, content if form else 0.0, explanation=explanation, malformed=not form, **details)


def verdict(content: bool, expected: object, reply: str, *, form: bool = True) -> Score:
    """Right or wrong with the usual explanation."""
    why = "" if content and form else text("scorers.expected", expected=short(expected), found=short(reply))
    return judged(float(content), form, why)


def no_reference() -> Score:
    """The example has nothing to compare with."""
    return Score.unscored(text("scorers.no_reference"))


def visible(reply: str) -> str:
    """The answer without a leading <think> block that some servers leave in the text."""
    return _THINKING.sub("", reply, count=1)


def accepted(target: object) -> tuple[str, ...]:
    """The accepted texts: a list names alternatives; numbers, booleans and objects in JSON notation."""
    if target is None:
        return ()
    if is_array(target):
        return tuple(as_text(item) for item in target)
    return (as_text(target),)


def is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a JSON value is an object."""
    return isinstance(value, Mapping)


def is_array(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether a JSON value is an array."""
    return isinstance(value, (list, tuple))


def as_text(value: object) -> str:
    """`value` as a person would write it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


def short(value: object, most: int = 160) -> str:
    """`value` for an explanation: one line, cut in the middle."""
    line = " ".join(as_text(value).split())
    return line if len(line) <= most else f"{line[: most // 2]} … {line[-most // 2 :]}"


def found(mapping: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    value: Any = mapping
    for part in path.split("."):
        if not is_object(value):
            return None
        value = value.get(part)
    return value
