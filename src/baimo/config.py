"""Settings: defaults < baimo.toml < BAIMO_* variables < flags, each value with the place that it came from.

Prevents the failure where a misspelt key is ignored in silence: an unknown or ill-typed key is an error that names
file and line. Keys of providers are references (`env:NAME`, `file:path`), so a snapshot never holds a secret.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import msgspec

from baimo.errors import ConfigError
from baimo.settings import (
    CAPITALS,
    CompareSettings,
    LedgerSettings,
    LimitSettings,
    ModelSettings,
    MoneySettings,
    ObserveSettings,
    PolicySettings,
    ProviderSettings,
    RouteSettings,
    ServeSettings,
    Settings,
    TuneSettings,
    WorkspaceSettings,
    dotted,
    is_reference,
    without_password,
)
from baimo.text import text
from baimo.typed import choices, converted

FILE_NAME = "baimo.toml"


def settings(
    folder: Path, *, environment: Mapping[str, str] = os.environ, flags: Mapping[str, Any] | None = None
) -> Settings:
    """Settings of the workspace in `folder`.

    Args:
        folder: where baimo.toml is looked for, then in its parents.
        environment: BAIMO_COMPARE_EPSILON=0.02 sets compare.epsilon; BAIMO_CONFIG names another file.
        flags: dotted name → value, the strongest source.

    Raises:
        ConfigError: a file that is no TOML, an unknown key or a wrong type; names file and line, or the variable.
    """
    return _Reading(folder, environment, flags or {}).settings()


class Origin(NamedTuple):
    """Where a setting comes from."""

    source: str
    """The variable that set it, or file and line."""
    written: str | None
    """As it stands in the file, where that names variables as `${NAME}`; None = as it is."""


def origins(folder: Path, *, environment: Mapping[str, str] = os.environ) -> dict[str, Origin]:
    """Dotted name → origin, of every setting that is not a default; arguments and errors as for `settings`."""
    reading = _Reading(folder, environment, {})
    reading.settings()
    return reading.found()


def config_file(folder: Path, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The configuration file in force: BAIMO_CONFIG, else baimo.toml in `folder` or the nearest parent."""
    if named := environment.get("BAIMO_CONFIG"):
        if not Path(named).is_file():
            raise ConfigError("config.missing_file", path=named)
        return Path(named)
    absolute = folder.absolute()
    for candidate in (absolute, *absolute.parents):
        if (candidate / FILE_NAME).is_file():
            return candidate / FILE_NAME
    return None


def secret(reference: str, *, environment: Mapping[str, str] = os.environ) -> str:
    """What a key reference points to.

    Raises:
        ConfigError: the variable is not set, the file cannot be read, or it is no reference but a bare key.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        if value := environment.get(name, "").strip():
            return value
        raise ConfigError("config.key_not_set", name=name)
    if kind == "file":
        try:
            value = Path(name).expanduser().read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError("config.key_file", path=name, problem=error.strerror) from error
        except UnicodeDecodeError:
            problem = text("config.no_text")
            # `from None`: the error quotes the bytes, which may be the key
            raise ConfigError("config.key_file", path=name, problem=problem) from None
        if value:
            return value
        raise ConfigError("config.key_file", path=name, problem=text("config.empty"))
    raise ConfigError("config.bare_key")  # the value is not repeated: it may be the key


def variable_of(section: str, key: str) -> str:
    """The environment variable that sets `section.key`."""
    return f"BAIMO_{section}_{key}".upper()


def misfit(problem: str, kind: Any = None, steps: Sequence[str | int] = ()) -> str:
    """What msgspec says of a value that does not fit, in the reader's language.

    Args:
        problem: msgspec's words, without the place.
        kind: what was expected; with `steps` to the value it tells which words are possible.
        steps: names of fields and numbers, from the outside.
    """
    if problem.endswith(f"matching regex {CAPITALS!r}"):
        return text("config.expected", expected=text("config.currency"))
    if found := re.fullmatch(r"Expected (.+?), got (.+)", problem):
        return text("config.expected_got", expected=found[1], got=found[2])
    if found := re.fullmatch(r"Expected (.+)", problem):
        return text("config.expected", expected=found[1])
    if re.fullmatch(r"Invalid enum value .*", problem):
        known = choices(kind, steps)
        return (
            text("config.one_of", known=", ".join(one or '""' for one in known))
            if known
            else text("config.no_choice")
        )
    return problem


def line_of(source: str, place: Sequence[str | int]) -> int:
    """Line of the key or table at `place` in a TOML text; the nearest enclosing table if the key is not found.

    Args:
        source: the whole text.
        place: e.g. ("prompts", 1, "few_shot", "count"); numbers count the tables of a [[list]].
    """
    best, depth = 1, 0
    table: tuple[str | int, ...] = ()
    counts: dict[tuple[str | int, ...], int] = {}
    for number, line in enumerate(source.splitlines(), start=1):
        header = re.match(r"\s*(\[\[?)(.+?)\]\]?\s*(?:#.*)?$", line)
        key = re.match(r"\s*((?:\"[^\"]*\"|'[^']*'|[\w.-]|\s)+?)\s*=", line)
        names = _steps(header[2]) if header else []
        if header and names:
            table = (*_counted((), names[:-1], counts), names[-1])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
            here = table = _counted(table[:-1], names[-1:], counts)
        elif key:
            here = (*table, *_steps(key[1]))
        else:
            continue
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(here, place, strict=False)))
        if shared > depth and shared in (len(here), len(place)):
            best, depth = number, shared
    return best


def _counted(
    place: tuple[str | int, ...], names: Sequence[str], counts: Mapping[tuple[str | int, ...], int]
) -> tuple[str | int, ...]:
    """`names` within `place`; after the name of a [[list]], the number of its newest table."""
    for name in names:
        place = (*place, name)
        if place in counts:
            place = (*place, counts[place])
    return place


def _steps(dotted: str) -> list[str]:
    return [
        part[1:-1] if part[0] in "\"'" else part for part in re.findall(r"\"[^\"]*\"|'[^']*'|[\w-]+", dotted)
    ]


_SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "workspace": WorkspaceSettings,
    "money": MoneySettings,
    "compare": CompareSettings,
    "serve": ServeSettings,
    "tune": TuneSettings,
    "ledger": LedgerSettings,
    "policy": PolicySettings,
    "observe": ObserveSettings,
}
_NAMED: Mapping[str, type[msgspec.Struct]] = {
    "providers": ProviderSettings,
    "models": ModelSettings,
    "routes": RouteSettings,
}
_Section = TypeVar("_Section", bound=msgspec.Struct)
_SECRET = ("key", "headers", "database")


class _Reading:
    """One reading of all sources; remembers where each value came from, for messages."""

    def __init__(self, folder: Path, environment: Mapping[str, str], flags: Mapping[str, Any]) -> None:
        self.path = config_file(folder, environment)
        self.source = "" if self.path is None else _read(self.path)
        self.origins: dict[tuple[str, ...], str] = {}
        self.tree: dict[str, Any] = {}
        if self.path is not None:
            try:
                self.tree = tomllib.loads(self.source)
            except (tomllib.TOMLDecodeError, RecursionError) as error:
                raise ConfigError("config.bad_toml", path=self.path, problem=error) from error
            self.tree = self._interpolated(self.tree, (), environment)
        for variable, value in sorted(environment.items()):
            if variable.startswith("BAIMO_") and value:
                self._set_from_variable(variable, value)
        for name, value in flags.items():
            self._put(tuple(name.split(".")), value, name)

    def settings(self) -> Settings:
        """All sections, checked."""
        made: dict[str, Any] = {}
        for name, value in self.tree.items():
            if name in _NAMED:
                made[name] = {
                    one: self._section(table, _NAMED[name], (name, one))
                    for one, table in self._table(value, (name,)).items()
                }
            elif name in _SECTIONS:
                made[name] = self._section(value, _SECTIONS[name], (name,))
        rest = {name: value for name, value in self.tree.items() if name not in made}
        for name, one in made.get("providers", {}).items():
            if one.key and not is_reference(one.key):
                place = ("providers", name, "key")
                raise ConfigError("config.bare_key_at", key=".".join(place), where=self._where(place))
        return msgspec.structs.replace(self._section(rest, Settings, ()), **made)

    def found(self) -> dict[str, Origin]:
        """Every value that was set, and where."""
        made = {dotted(place): Origin(origin, None) for place, origin in self.origins.items()}

        def walk(value: Any, place: tuple[str, ...]) -> None:
            if isinstance(value, dict):
                for name, one in cast("dict[str, Any]", value).items():
                    walk(one, (*place, name))
            elif place not in self.origins:
                refers = isinstance(value, str) and "${" in value and "headers" not in place
                made[dotted(place)] = Origin(self._where(place), without_password(value) if refers else None)

        walk(tomllib.loads(self.source), ())
        return made

    def _interpolated(self, value: Any, place: tuple[str, ...], environment: Mapping[str, str]) -> Any:
        """`value` with `${NAME}` replaced by the environment's; `$${` stands for `${` itself."""

        def found(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            if match[1] not in environment:
                raise ConfigError(
                    "config.variable_not_set", name=match[1], key=".".join(place), where=self._where(place)
                )
            return environment[match[1]]

        if isinstance(value, str):
            return re.sub(r"\$\$\{|\$\{(\w+)\}", found, value)
        if isinstance(value, dict):
            table = cast("dict[str, Any]", value)
            return {name: self._interpolated(one, (*place, name), environment) for name, one in table.items()}
        if isinstance(value, list):
            return [self._interpolated(one, place, environment) for one in cast("list[Any]", value)]
        return value

    def _set_from_variable(self, variable: str, value: str) -> None:
        section, _, key = variable.removeprefix("BAIMO_").lower().partition("_")
        if section in _SECTIONS and key:
            self._put((section, key), value, variable)
        elif key and (near := difflib.get_close_matches(section, _SECTIONS, n=1, cutoff=0.8)):
            raise ConfigError(
                "config.unknown_near", key=variable, near=variable_of(near[0], key), where=variable
            )

    def _put(self, place: tuple[str, ...], value: Any, origin: str) -> None:
        tree = self.tree
        for depth, step in enumerate(place[:-1], start=1):
            tree = self._table(tree.setdefault(step, {}), place[:depth])
        tree[place[-1]] = value
        self.origins[place] = origin

    def _table(self, value: Any, place: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._bad_value(place, text("config.expected", expected=f"[{'.'.join(place)}]"))
        return cast("dict[str, Any]", value)

    def _section(self, value: Any, kind: type[_Section], place: tuple[str, ...]) -> _Section:
        try:
            return converted(self._table(value, place) if place else value, kind, strict=False)
        except msgspec.ValidationError as error:
            raise self._error(error, kind, place) from error

    def _error(
        self, error: msgspec.ValidationError, kind: type[msgspec.Struct], place: tuple[str, ...]
    ) -> ConfigError:
        # a key of a table is told as its table
        problem, _, where = str(error).replace("`key` in `$", "`$").partition(" - at `$")
        found = [step for step in re.split(r"[.\[\]]+", where.rstrip("`")) if step and step != "..."]
        steps = [int(step) if step.isdigit() else step for step in found]
        unknown = re.search(r"unknown field `([^`]+)`", problem)
        if not unknown:
            return self._bad_value((*place, *steps), misfit(problem, kind, steps))
        if "limits" in steps:
            kind = LimitSettings
        full = (*place, *steps, unknown[1])
        near = "".join(difflib.get_close_matches(unknown[1], kind.__struct_fields__, n=1))
        known = ", ".join(kind.__struct_fields__)
        message = "config.unknown_near" if near else "config.unknown"
        return ConfigError(message, key=_joined(full), near=near, known=known, where=self._where(full))

    def _bad_value(self, place: tuple[str | int, ...], problem: str) -> ConfigError:
        value: Any = self.tree
        for step in place:
            if isinstance(step, int):
                value = cast("list[Any]", value)[step] if isinstance(value, list) else None
            else:
                value = cast("dict[str, Any]", value).get(step) if isinstance(value, dict) else None
        # a value that may be a secret is not repeated
        shown = (
            "…" if set(place) & set(_SECRET) or isinstance(value, dict) else json.dumps(value, default=str)
        )
        facts = {"key": _joined(place), "value": shown, "problem": problem}
        return ConfigError("config.bad_value", where=self._where(place), **facts)

    def _where(self, place: tuple[str | int, ...]) -> str:
        """The variable or flag that set it, else file and line."""
        if origin := self.origins.get(tuple(map(str, place))):
            return origin
        return text("config.place", path=self.path, line=line_of(self.source, place))


def _joined(place: Sequence[str | int]) -> str:
    return ".".join(map(str, place))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError("config.bad_encoding", path=path, line=line) from error
    except OSError as error:
        raise ConfigError("config.unreadable", path=path, problem=error.strerror) from error
