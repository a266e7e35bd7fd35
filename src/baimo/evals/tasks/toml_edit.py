"""A TOML text with other values: comments, order and whatever is not touched stay as somebody wrote them.

Prevents the failure where a form that changes one value rewrites a file that a person wrote: only values that differ
are replaced, and the result is read again and held against what was wanted.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from itertools import product
from typing import Any, cast

import tomlkit
from tomlkit.container import Container, OutOfOrderTableProxy
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Item, Key, Table

from baimo.evals.tasks.toml import written

_Body = list[tuple[Key | None, Item]]
_Tree = Mapping[str, Any]
_MARK = "#\ue000"
"""Begins a line that belongs above the header that it is below."""


def edited(source: str, wanted: _Tree, order: Sequence[str] = ()) -> str | None:
    """The text with other values; None where that cannot be done without losing something.

    Args:
        source: TOML.
        wanted: what it is to say, as a whole; tables of a [[list]] that stay keep their comments wherever they go.
        order: names of tables in the order in which new ones come.

    Raises:
        tomllib.TOMLDecodeError: `source` is no TOML.
        ValueError: null is wanted, which TOML does not know.
    """
    before = tomllib.loads(source)
    if before == wanted:
        return source
    try:
        document = tomlkit.parse(_marked(source if source.endswith("\n") else source + "\n"))
        new = {key: one for key, one in wanted.items() if _shape(one) not in (None, _shape(before.get(key)))}
        _merge(document, before, {key: one for key, one in wanted.items() if key not in new})
        for key, value in new.items():
            later = order[order.index(key) + 1 :] if key in order else ()
            block = _table(value) if _shape(value) is dict else AoT([_table(one) for one in value])
            document.body.insert(_header(document.body, later), (tomlkit.key(key), block))
        made = _unmarked(document)
        return made if tomllib.loads(made) == wanted else None
    except (TOMLKitError, IndexError, tomllib.TOMLDecodeError):  # IndexError: most of a scattered table goes
        return None


def listed(source: str, key: str, name: str) -> str:
    """The text with its table [key] as the only one of a [[list]] that is called `name`."""
    try:
        document = tomlkit.parse(_marked(source))
    except TOMLKitError:
        return source
    places = [at for at, (one, _) in enumerate(document.body) if one is not None and one.key == key]
    table = document.body[places[0]][1] if len(places) == 1 else None
    if not isinstance(table, Table) or table.is_super_table():
        return source
    table.invalidate_display_name()
    document.body[places[0]] = (tomlkit.key(name), AoT([table]))
    return _unmarked(document)


def _marked(source: str) -> str:
    """Comments and empty lines above headers moved below them, where tomlkit counts them to the table."""
    made: list[str] = []
    above: list[str] = []
    for line in StringIO(source):
        if not line.lstrip().startswith("[") or not _whole("".join(above)):
            above.append(line)
            continue
        start = len(above)
        for sign in ("#", ""):
            # what a file begins with is about all of it
            while start > (not made) and above[start - 1].strip()[:1] == sign:
                start -= 1
        lead = above[start:] if made or above else ["\n"]
        made += [*above[:start], line, *(_MARK + one for one in lead)]
        above = []
    return "".join(made + above)


def _whole(text: str) -> bool:
    """Whether no text and no list is still open at its end."""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _unmarked(document: tomlkit.TOMLDocument) -> str:
    def turned(found: re.Match[str]) -> str:
        return found[2].replace(_MARK, "") + found[1]

    return re.sub(rf"(.*\n)((?:{_MARK}.*\n)+)", turned, document.as_string()).lstrip("\n")


def _merge(into: Any, old: _Tree, new: _Tree) -> None:
    """Take over what differs; `into` is what tomlkit keeps of a table that says `old`."""
    gone, added = old.keys() - new.keys(), cast("_Body", [])
    scattered = isinstance(into, OutOfOrderTableProxy)
    for key, value in new.items():
        now: Any = into.get(key)
        below: Any = now.value if isinstance(now, Table) else now
        inside = isinstance(below, (Container, OutOfOrderTableProxy))
        headed = isinstance(now, Table) and not now.is_super_table()
        if now is not None and old[key] == value:
            continue
        if isinstance(now, AoT) and _shape(value) is list:
            now.body[:] = _merged(now.body, old[key], value)
        elif inside and _shape(value) is dict and (value or headed):
            _merge(below, old[key], value)
        elif not scattered and (now is None or isinstance(now, (AoT, Table, OutOfOrderTableProxy))):
            gone |= {key} & old.keys()
            added.append((tomlkit.key(key), _item(value)))
        else:
            into[key] = _item(value)
    for key in gone:
        del into[key]
    if added:  # behind the last value: tomlkit would put them behind the comments that follow it
        end = _header(into.body)
        at = next((at + 1 for at in reversed(range(end)) if into.body[at][0] is not None), end)
        into.body[at:at] = added


def _merged(tables: Sequence[Table], old: Sequence[_Tree], new: Sequence[_Tree]) -> list[Table]:
    """Tables of a [[list]]: each is the one that was the same, else had its name, else was at its place."""
    alike: list[Callable[[int, int], bool]] = [
        lambda at, other: old[other] == new[at],
        lambda at, other: _called(old[other]) == _called(new[at]),
        lambda at, other: at == other and (len(old) == len(new) or _called(old[other]) is None),
    ]
    found: dict[int, int] = {}
    for same, at in product(alike, range(len(new))):
        free = [other for other in range(len(old)) if other not in found.values() and same(at, other)]
        if at not in found and free:
            found[at] = free[0]
    for at, other in found.items():
        _merge(tables[other].value, old[other], new[at])
    return [tables[found[at]] if at in found else _table(one) for at, one in enumerate(new)]


def _called(table: _Tree) -> Any:
    return table.get("name") or table.get("model")


def _header(body: _Body, names: Sequence[str] | None = None) -> int:
    """Where the first table (of these names) begins that is written below a header; else the end."""
    for at, (key, one) in enumerate(body):
        headed = isinstance(one, (Table, AoT))
        if headed and key and not key.is_dotted() and (names is None or key.key in names):
            return at
    return len(body)


def _table(values: _Tree) -> Table:
    table = tomlkit.table()
    table.trivia.indent = "\n"
    table.update({key: _item(value) for key, value in values.items()})
    return table


def _item(value: Any) -> Item:
    """As `written`; a text of several lines keeps them."""
    if isinstance(value, str) and "\n" in value and "\r" not in value:
        # behind the x a line break is a character, not the one that may follow the quotes
        return tomlkit.value('"""\n' + tomlkit.string(f"x{value}", multiline=True).as_string()[4:])
    return tomlkit.value(written(value))


def _shape(value: Any) -> type | None:
    """How a value may be written: dict = as a table, list = as several, None = neither."""
    if isinstance(value, Mapping):
        return dict
    tables = cast("list[Any]", value) if isinstance(value, list) else []
    return list if tables and all(isinstance(one, dict) for one in tables) else None
