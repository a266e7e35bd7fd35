"""What a template may take, so that none holds a thread of a server or fills its memory.

Prevents the failure of a sandbox that only looks where a template reaches, not how long it goes on: a loop inside a
loop over 100,000 things, a macro that calls itself twice, a text that is doubled sixty times. The steps of a template's
own code are counted by the interpreter's trace function (https://docs.python.org/3/library/sys.html#sys.settrace), so
that the same template ends at the same place on every machine; time is a second limit, for steps that are slow.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Template, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from types import FrameType

STEPS, SECONDS, CHARACTERS = 300_000, 2.0, 4_000_000
"""Most lines of a template's code and calls of functions, seconds of this thread's work, and characters of the text."""
_DIGITS = 10_000
"""Most bits of a whole number."""
_WIDE = re.compile(r"\d{7,}|\*")
_OURS = "<template>"


class TooMuch(Exception):
    """A template takes more than it may."""

    def __init__(self, limit: int = 0) -> None:
        """
        Args:
            limit: characters that it may make; 0 = it goes on for too long.
        """
        super().__init__(limit)
        self.limit = limit


class Bounded(ImmutableSandboxedEnvironment):
    """A sandbox in which no single operation takes long: what a trace function cannot cut off is refused before."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.filters["joined"] = joined
        for name in ("center", "indent", "format", "round", "truncate", "wordwrap"):
            self.filters[name] = _narrow(self.filters[name])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str) and _WIDE.search(left):
            raise TooMuch(CHARACTERS)
        if operator == "**" and _bits(left) * (right if isinstance(right, int) else 1) > _DIGITS:
            raise TooMuch(CHARACTERS)
        if operator == "*" and (
            _bits(left) + _bits(right) > _DIGITS
            or _size(left) * _times(right) + _size(right) * _times(left) > CHARACTERS
        ):
            raise TooMuch(CHARACTERS)
        if operator == "+" and _size(left) + _size(right) > CHARACTERS:
            raise TooMuch(CHARACTERS)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, *given: Any, **named: Any) -> Any:
        if isinstance(owner := getattr(getattr(obj, "__wrapped__", obj), "__self__", None), str):
            _checked(given)
            _checked(named.values())
            if _WIDE.search(owner) and getattr(obj, "__name__", "") in ("format", "format_map"):
                raise TooMuch(CHARACTERS)
        return super().call(context, obj, *given, **named)


class Compiled(NamedTuple):
    """A template that can be rendered."""

    template: Template
    watched: bool
    """Whether it can take long at all."""

    def text(self, variables: Mapping[str, Any]) -> str:
        """With these variables.

        Raises:
            TooMuch: it takes more than it may.
        """
        if not self.watched:
            return self.template.render(variables)
        pieces, length = list[str](), 0
        with _watched():
            for piece in self.template.generate(variables):
                length += len(piece)
                if length > CHARACTERS:
                    raise TooMuch(CHARACTERS)
                pieces.append(piece)
        return "".join(pieces)


def bounded(source: str, environment: Bounded) -> Compiled:
    """Compile it.

    Raises:
        jinja2.TemplateSyntaxError: a slip of syntax.
    """
    tree = environment.parse(source)
    for one in list(tree.find_all(nodes.Concat)):  # `~` cannot be intercepted as the other operators are
        parts = nodes.List(one.nodes)
        one.nodes = [nodes.Filter(parts, "joined", [], [], None, None)]
    tree.set_environment(environment)
    return Compiled(environment.from_string(tree), _endless(tree))


def _endless(tree: nodes.Template) -> bool:
    """Whether it may take longer than what it is given is long: one loop over a field does not, and is not slowed."""
    if any(tree.find(kind) for kind in (nodes.Macro, nodes.CallBlock, nodes.Call, nodes.Mul)):
        return True
    return any(one.recursive or one.find(nodes.For) for one in tree.find_all(nodes.For))


def joined(parts: list[Any]) -> str:
    """The filter that `~` becomes."""
    texts = [str(part) for part in parts]
    if sum(map(len, texts)) > CHARACTERS:
        raise TooMuch(CHARACTERS)
    return "".join(texts)


@contextmanager
def _watched() -> Generator[None]:
    steps, end = 0, time.thread_time() + SECONDS

    def step(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        nonlocal steps
        steps += 1
        if steps > STEPS or (steps % 64 == 0 and time.thread_time() > end):
            raise TooMuch
        return step if frame.f_code.co_filename == _OURS else None  # of others only that they are called

    before = sys.gettrace()
    sys.settrace(step)
    try:
        yield
    finally:
        sys.settrace(before)


def _narrow(filter: Callable[..., Any]) -> Callable[..., Any]:
    def narrow(*given: Any, **named: Any) -> Any:
        _checked(given)
        _checked(named.values())
        if filter.__name__ == "do_format" and _WIDE.search(str(given[0])):
            raise TooMuch(CHARACTERS)
        return filter(*given, **named)

    for name in ("jinja_pass_arg", "__name__", "__doc__"):
        if hasattr(filter, name):
            setattr(narrow, name, getattr(filter, name))
    return narrow


def _checked(given: Any) -> None:
    if any(isinstance(one, int) and abs(one) > CHARACTERS for one in given):
        raise TooMuch(CHARACTERS)


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _times(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _size(value: Any) -> int:
    return len(value) if isinstance(value, (str, list, tuple)) else 0  # pyright: ignore[reportUnknownArgumentType]
