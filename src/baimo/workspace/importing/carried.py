"""What was carried over from another gateway's settings, and what was not.

Prevents the failure of every migration by hand: a limit or a fallback that was in the old file, is not in the new
one, and is missed by nobody until it would have been needed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, cast

from baimo.evals.tasks.toml import assignment
from baimo.settings import dotted, without_password
from baimo.text import has, text

Path = tuple[str | int, ...]
"""Where a value stands in the source: names of tables, numbers of list entries."""
Weight = Literal["lost", "changed", "secret", "needless"]
"""lost: has no counterpart here. changed: is carried, but means something else. secret: must be put elsewhere by
hand. needless: holds here anyway."""
_SECRET = re.compile(r"(?i)(key|token|secret|passw|pwd|credential|auth|cookie|salt|webhook|license|dsn)")
_SECRET_VALUE = re.compile(
    r"(?i)\b(sk|pk|rk|xox[abp]|ghp|gsk|hf|AKIA|bearer|basic)[-_ ]?[A-Za-z0-9+/=_-]{8,}"
)
_LONGEST = 60
LISTED = "imports.head_notes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One value, or everything below one place, that is not simply carried over."""

    path: str
    """Where it stands in the source: `model_list[0].litellm_params.temperature`."""
    value: str
    """What stands there, shortened; `…` for a table and for what may be a secret."""
    weight: Weight
    """How much it matters."""
    why: str
    """Why it was not carried over as it is, in the reader's language."""
    advice: str
    """What to do; empty where nothing is to be done."""

    def row(self) -> dict[str, str]:
        """As JSON has it."""
        return {
            "path": self.path,
            "value": self.value,
            "weight": self.weight,
            "why": self.why,
            "advice": self.advice,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """The result of an import."""

    settings: str
    """Text of baimo.toml, with comments."""
    places: tuple[tuple[str, str], ...]
    """Path in the source → setting that reflects it, in the order of the source."""
    notes: tuple[Note, ...]
    """Everything else, in the order of the source."""

    @property
    def whole(self) -> bool:
        """Whether nothing is left for a person to look at."""
        return all(note.weight == "needless" for note in self.notes)

    def report(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "settings": self.settings,
            "carried": [{"path": path, "setting": setting} for path, setting in self.places],
            "notes": [note.row() for note in self.notes],
            "whole": self.whole,
        }


class Draft:
    """Settings in the making, and which values of the source are accounted for."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        self.source = source
        self.settings: dict[str, Any] = {}
        self._leaves = dict(leaves(source))
        self._carried: dict[Path, str] = {}
        self._notes: dict[Path, tuple[str, Weight, dict[str, object]]] = {}

    def at(self, path: Path) -> Any:
        """What stands there; None when there is nothing."""
        value: Any = self.source
        for step in path:
            value = _inner(value, step)
        return value

    def table(self, path: Path) -> dict[str, Any]:
        """The table there, by those of its names that are text; empty when it is none."""
        value = self.at(path)
        names = cast("dict[Any, Any]", value) if isinstance(value, dict) else {}
        return {name: one for name, one in names.items() if isinstance(name, str)}

    def length(self, path: Path) -> int:
        """Entries of the list there; 0 when it is none."""
        value = self.at(path)
        return len(cast("list[Any]", value)) if isinstance(value, list) else 0

    def words(self, path: Path) -> str:
        """The text there, if it is text that can be written; else empty."""
        value = self.at(path)
        if not isinstance(value, str):
            return ""
        try:
            value.encode()
        except UnicodeEncodeError:
            return ""
        return value.strip()

    def figure(self, path: Path, *, least: float = 0.0, most: float = 1e15) -> float | None:
        """The number there, if it is one and within the bounds, `least` excluded."""
        value = self.at(path)
        if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?([eE][-+]?\d+)?", value):
            value = float(value)  # YAML reads 1e-6 as text
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return float(value) if math.isfinite(value) and least < value <= most else None

    def count(self, path: Path, *, most: int = 10**12) -> int | None:
        """The whole number there, if it is one and at least 1."""
        figure = self.figure(path, most=most)
        return int(figure) if figure is not None and figure == int(figure) else None

    def put(self, place: Path, value: Any, *paths: Path) -> None:
        """Set `place` of the settings to `value`, which reflects what stands at `paths`."""
        table: dict[str | int, Any] = cast("dict[str | int, Any]", self.settings)
        for step in place[:-1]:
            table = table.setdefault(step, {})
        table[place[-1]] = value
        self.reflected(place, *paths)

    def reflected(self, place: Path, *paths: Path) -> None:
        """What stands at or below `paths` is reflected by the setting at `place`."""
        name = dotted([str(step) for step in place])
        for path in paths:
            for leaf in self._below(path):
                self._carried.setdefault(leaf, name)

    def note(self, path: Path, reason: str, weight: Weight = "lost", **facts: object) -> None:
        """What stands at or below `path` is not simply carried over; the first word on a place counts."""
        if any(True for _ in self._below(path)):
            self._notes.setdefault(path, (reason, weight, facts))

    def otherwise(self, path: Path, reason: str, weight: Weight = "lost", **facts: object) -> None:
        """As `note`, for the values at or below `path` that no setting reflects."""
        for leaf in self._below(path):
            if leaf not in self._carried:
                self.note(leaf, reason, weight, **facts)

    def finished(self, name: str) -> Carried:
        """The result; values that nobody asked for are noted here.

        Args:
            name: of the source, for the file's head.
        """
        noted = set(self._notes)
        for leaf in self._leaves:
            above = {leaf[:depth] for depth in range(len(leaf) + 1)}
            if leaf not in self._carried and not above & noted:
                self.note(leaf, "unknown")
        order = {path: number for number, (path, _) in enumerate(places(self.source))}
        notes = tuple(self._worded(path, *said) for path, said in sorted(self._notes.items(), key=_by(order)))
        return Carried(
            settings=_file(name, self.settings, notes),
            places=tuple(
                (shown(path), place) for path, place in sorted(self._carried.items(), key=_by(order))
            ),
            notes=notes,
        )

    def _below(self, path: Path) -> Iterator[Path]:
        return (leaf for leaf in self._leaves if leaf[: len(path)] == path)

    def _worded(self, path: Path, reason: str, weight: Weight, facts: dict[str, object]) -> Note:
        key = f"imports.why_{reason}"
        advice = f"{key}_hint"
        return Note(
            path=shown(path),
            value=_shortened(path, self.at(path), weight),
            weight=weight,
            why=text(key, **facts),
            advice=text(advice, **facts) if has(advice) else "",
        )


def _inner(tree: Any, step: str | int) -> Any:
    if isinstance(tree, dict):
        return cast("dict[Any, Any]", tree).get(step)
    entries = cast("list[Any]", tree) if isinstance(tree, list) and isinstance(step, int) else []
    return entries[step] if isinstance(step, int) and step < len(entries) else None


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value of a document that says something: no table, no list, not null."""
    return ((place, value) for place, value in places(tree, path) if not isinstance(value, (dict, list)))


def places(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place of a document that is not null, outer ones first."""
    if tree is None:
        return
    yield path, tree
    if isinstance(tree, dict):
        for name, value in cast("dict[Any, Any]", tree).items():
            yield from places(value, (*path, name))
    elif isinstance(tree, list):
        for number, value in enumerate(cast("list[Any]", tree)):
            yield from places(value, (*path, number))


def shown(path: Path) -> str:
    """A place as people write it: `model_list[0].litellm_params.model`."""
    made = ""
    for step in path:
        if isinstance(step, int) and not isinstance(step, bool):
            made += f"[{step}]"
        else:
            name = step if re.fullmatch(r"[\w-]+", str(step), re.ASCII) else json.dumps(str(step))
            made += f".{name}" if made else str(name)
    return made


def decimal(figure: float) -> str:
    """A number as people write it, without an exponent."""
    return format(Decimal(repr(figure)).normalize(), "f")


def secret_name(path: Path) -> bool:
    """Whether what stands there is a secret, by its name."""
    return any(isinstance(step, str) and _SECRET.search(step) for step in path)


def secret_value(value: str) -> bool:
    """Whether a text looks like a key, whatever it is called."""
    return _SECRET_VALUE.search(value) is not None


def _by(order: Mapping[Path, int]) -> Callable[[tuple[Path, Any]], int]:
    return lambda one: order.get(one[0], -1)


def _shortened(path: Path, value: Any, weight: Weight) -> str:
    if isinstance(value, (dict, list)) or weight == "secret":
        return "…"
    if isinstance(value, str) and not value.startswith(("os.environ/", "env::")):
        value = without_password(value)
        if secret_name(path) or secret_value(value):
            return "…"
    words = json.dumps(value, ensure_ascii=False, default=str)
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"


def _file(name: str, settings: Mapping[str, Any], notes: Sequence[Note]) -> str:
    """baimo.toml: the sections in the order in which people read them, what is left to do at the end."""
    parts = [_comment(text("imports.head", name=name))]
    for section in ("serve", "policy", "ledger", "observe"):
        if section in settings:
            parts.append(_table((section,), settings[section]))
    for section in ("providers", "models", "routes"):
        tables = cast("dict[str, dict[str, Any]]", settings.get(section, {}))
        if tables:
            parts.append(_comment(text(f"imports.head_{section}")))
        parts += [_table((section, one), value) for one, value in tables.items()]
    left = [note for note in notes if note.weight != "needless"]
    if left:
        lines = [text(LISTED, count=len(left))]
        lines += [f"- {note.path} = {note.value}: {note.why}" for note in left]
        parts.append(_comment("\n".join(lines)))
    return "\n".join(parts)


def _table(place: tuple[str, ...], values: Mapping[str, Any]) -> str:
    lines = [f"[{dotted(place)}]"]
    lines += [assignment(key, _literal(value)) for key, value in values.items()]
    return "\n".join(lines) + "\n"


class Interpolated(str):
    """A text in which `${NAME}` stands for a variable."""

    __slots__ = ()


def _literal(value: Any) -> Any:
    """The value so written that `${` in it stands for itself."""
    if isinstance(value, Interpolated):
        return str(value)
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {name: _literal(one) for name, one in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_literal(one) for one in cast("list[Any]", value)]
    return value


def _comment(words: str) -> str:
    plain = "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in words
    )
    return "".join(f"# {line}".rstrip() + "\n" for line in plain.split("\n"))
