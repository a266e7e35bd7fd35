"""JSON as models write it: find it in the reply, repair it, run nothing.

Prevents the failure seen on public boards where a model comes last only for its code fences, or because `\\(` of LaTeX
is no JSON escape. What was repaired is reported, so that strict scoring can still count it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

_DEEPEST = 100
_MOST = 64  # places where an object may begin: bounds the work on text full of braces
_OPENING = re.compile(r"[{\[]")
_WORDS = {"true": True, "false": False, "null": None, "none": None, "undefined": None, "nan": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\", "/": "/"}
_LATEX = re.compile(
    r"(?:neq?|nabla|nu|not|ni|times?|text\w*|theta|tau|tan|to|top|triangle|rho|right\w*|rangle|rm|r?floor|"
    r"beta|bar|begin|binom|big\w*|bmod|boxed|bullet|because|frac|forall|flat)(?![a-z])"
)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
_GAP = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/|#[^\n]*)+", re.DOTALL)
_BARE = re.compile(r"(?:(?!\s//|\s#|/\*)[^,:{}\[\]\"\n\r])+")
_KEY_FOLLOWS = re.compile(r"\s*(?:([\"'“`])[^\"'”`\n]{0,120}[\"'”`]|[\w$.-]{1,120})\s*[:：]|\s*[}\]]|\s*\Z")
_VALUE_FOLLOWS = re.compile(r"\s*(?:[\"'“`{\[\]}\-+\d.]|(?:true|false|null|none)\b|\Z)", re.IGNORECASE)
_CLOSED_FOLLOWS = re.compile(r"\s*(?:[,}\]]|\Z)")
_END_FOLLOWS = re.compile(r"\s*\Z|[ \t]*\r?\n|\s*```|[ \t]+\w")


class Reading(NamedTuple):
    """A JSON value found in a reply."""

    value: Any
    """The value."""
    whole: bool
    """The reply is this JSON text and nothing else."""
    repairs: tuple[str, ...]
    """What had to be mended; empty = valid JSON."""


def parse(text: str) -> Any:
    """`text` as JSON by RFC 8259: no NaN, no Infinity.

    Raises:
        ValueError: it is not.
    """
    try:
        return json.loads(text, parse_constant=_refused)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def read(
    reply: str, wanted: Callable[[Any], bool] = lambda value: isinstance(value, (dict, list))
) -> Reading | None:
    """The JSON value that `reply` gives, however it is wrapped; None when there is none.

    Args:
        reply: the model's text.
        wanted: tells the value that is looked for from other JSON in the text; the last such value wins, valid
            JSON before repaired.
    """
    stripped = reply.strip().removeprefix("\ufeff")
    try:
        return Reading(parse(stripped), True, ())
    except ValueError:
        pass
    readings = [reading for reading in _readings(stripped) if wanted(reading.value)]
    valid = [reading for reading in readings if not reading.repairs]
    return (valid or readings or [None])[-1]


def _readings(text: str) -> Iterator[Reading]:
    """Values that stand in `text` one after the other, nested ones not counted."""
    place, tries = 0, 0
    while (match := _OPENING.search(text, place)) and tries < _MOST:
        tries += 1
        place = match.start()
        try:
            value, place = _decoder.raw_decode(text, place)
            yield Reading(value, False, ())
            continue
        except (ValueError, RecursionError):
            reader, value = _repaired(text, place)
        place += 1
        if reader is None:
            continue
        yield Reading(value, False, tuple(dict.fromkeys(reader.repairs)))
        # an unclosed value with other faults may be prose that swallowed the JSON after it
        if "unclosed" not in reader.repairs or set(reader.repairs) == {"unclosed"}:
            place = reader.position


_decoder = json.JSONDecoder(parse_constant=_refused)


def _repaired(text: str, place: int) -> tuple[_Reader | None, Any]:
    """The value that begins at `place` and its reader: first with quote marks as they stand, then doubting them."""
    for doubtful in (False, True):
        reader = _Reader(text, place, doubtful=doubtful)
        try:
            return reader, reader.value(0)
        except ValueError:
            continue
    return None, None


class _Reader:
    """A forgiving recursive-descent reader of one value; `repairs` names what it forgave.

    A `doubtful` reader asks of every quote mark whether it ends its text or belongs to it, and inserts commas.
    """

    def __init__(self, text: str, position: int, *, doubtful: bool) -> None:
        self.text = text
        self.doubtful = doubtful
        self.position = position
        self.repairs: list[str] = []
        self.closers: list[str] = []

    def value(self, depth: int) -> Any:
        """The value that begins here."""
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        self.skip()
        match self.here():
            case "{":
                return self.object(depth)
            case "[":
                return self.array(depth)
            case '"' | "'" | "`" | "“" as quote:
                return self.string(quote)
            case _:
                return self.word()

    def here(self) -> str:
        return self.text[self.position : self.position + 1]

    def skip(self) -> None:
        """Pass white space and comments."""
        if match := _GAP.match(self.text, self.position):
            if not match[0].isspace():
                self.repairs.append("comment")
            self.position = match.end()

    def object(self, depth: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for _ in self.items("}"):
            quote = self.here()
            name = self.string(quote, key=True) if quote in "\"'`“" else self.name()
            self.skip()
            if self.here() not in (":", "=", "："):
                raise ValueError("no colon")
            self.position += 1
            fields[name] = self.value(depth + 1)
        return fields

    def array(self, depth: int) -> list[Any]:
        return [self.value(depth + 1) for _ in self.items("]")]

    def items(self, closer: str) -> Iterator[None]:
        """Stop before each item until the closing bracket; a missing bracket at the end is forgiven."""
        self.position += 1
        self.closers.append(closer)
        first = True
        while True:
            self.skip()
            comma = not first and self.here() in (",", "，")
            if comma:
                self.position += 1
                self.skip()
            if not self.here():
                self.repairs.append("unclosed")
                break
            if self.here() == closer:
                if comma:
                    self.repairs.append("trailing comma")
                self.position += 1
                break
            if not first and not comma:
                if not self.doubtful:
                    raise ValueError("no comma")
                self.repairs.append("missing comma")
            first = False
            before = self.position
            yield
            if self.position == before:
                raise ValueError("nothing here")
        self.closers.pop()

    def string(self, quote: str, *, key: bool = False) -> str:
        """A quoted text. A quote mark inside it that nothing structural follows belongs to the text."""
        if quote != '"':
            self.repairs.append("quotes")
        quote = "”" if quote == "“" else quote
        fence = 3 if self.text.startswith(quote * 3, self.position) else 1
        self.position += fence
        pieces: list[str] = []
        stop = re.compile(rf"[^{re.escape(quote)}\\\n\r\t]+")
        while character := self.here():
            if match := stop.match(self.text, self.position):
                pieces.append(match[0])
                self.position = match.end()
            elif character == "\\":
                pieces.append(self.escape())
            elif self.text.startswith(quote * fence, self.position) and self.ends(fence, key):
                self.position += fence
                return "".join(pieces)
            else:
                self.repairs.append("unescaped quote" if character == quote else "line break")
                pieces.append(character)
                self.position += 1
        self.repairs.append("unclosed")
        return "".join(pieces)

    def ends(self, fence: int, key: bool) -> bool:
        """Whether the quote mark here closes the text: what may follow it must follow."""
        gap = _GAP.match(self.text, self.position + fence)
        after = gap.end() if gap else self.position + fence
        following = self.text[after : after + 1]
        inside = self.closers[-1] if self.closers else ""
        if key:
            return following in (":", "：", "=")
        if following == "" or not self.doubtful:
            return True
        if following == inside:
            outer = _END_FOLLOWS if len(self.closers) == 1 else _CLOSED_FOLLOWS
            return outer.match(self.text, after + 1) is not None
        if following in (",", "，"):
            follows = _KEY_FOLLOWS if inside == "}" else _VALUE_FOLLOWS
            return follows.match(self.text, after + 1) is not None
        # the comma before the next line is missing, or the object ends without its bracket at a code fence
        return (following == '"' and bool(gap) and "\n" in gap[0]) or self.text.startswith("```", after)

    def escape(self) -> str:
        """One backslash: an escape of JSON, else LaTeX or another literal backslash."""
        follows = self.text[self.position + 1 : self.position + 2]
        if follows in "bfnrt" and follows and _LATEX.match(self.text, self.position + 1):
            self.repairs.append("backslash")
            self.position += 1
            return "\\"
        if follows == "u" and re.compile(r"[0-9a-fA-F]{4}").match(self.text, self.position + 2):
            code = int(self.text[self.position + 2 : self.position + 6], 16)
            self.position += 6
            return chr(code) if not 0xD800 <= code < 0xE000 else self.surrogate(code)
        if follows in _ESCAPES:
            if follows == "'":
                self.repairs.append("backslash")
            self.position += 2
            return _ESCAPES[follows]
        self.repairs.append("backslash")
        self.position += 1
        return "\\"

    def surrogate(self, high: int) -> str:
        """The character of a surrogate pair; U+FFFD for half a pair."""
        low = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})").match(self.text, self.position)
        if high >= 0xDC00 or not low:
            return "\ufffd"
        self.position = low.end()
        return chr(0x10000 + ((high - 0xD800) << 10) + int(low[1], 16) - 0xDC00)

    def name(self) -> str:
        """A key without quotes."""
        match = re.compile(r"[\w$.-]+").match(self.text, self.position)
        if not match:
            raise ValueError("no key")
        self.repairs.append("quotes")
        self.position = match.end()
        return match[0]

    def word(self) -> Any:
        """A number, true, false, null in any spelling, or text without quotes."""
        match = _BARE.match(self.text, self.position)
        if not match:
            raise ValueError("no value")
        self.position = match.end()
        word = match[0].strip()
        if word in ("true", "false", "null"):
            return word == "true" if word != "null" else None
        if _NUMBER.fullmatch(word) and len(word) < 300:
            return float(word) if re.search(r"[.eE]", word) else int(word)
        self.repairs.append("bare word")
        return _WORDS.get(word.lower(), word)
