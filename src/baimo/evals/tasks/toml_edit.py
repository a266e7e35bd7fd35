"""A TOML text with other values: comments, order and whatever is not touched stay as somebody wrote them.

Prevents the failure where a form that changes one value rewrites a file that a person wrote: only the lines of values
that differ are replaced, and the result is read again and held against what was wanted.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from baimo.evals.tasks.toml import assignment, written

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}(?!")|\'\'\'.*?\'{3,5}(?!\')|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\''
    r"|#[^\n]*|\n|[\[\]{}]|[^\"'#\n\[\]{}]+|.",
    re.DOTALL,
)
_KEY = re.compile(r"\s*((?:\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'|[\w.-]|[ \t])+?)[ \t]*=[ \t]*")
_HEADER = re.compile(r"\s*(\[\[?)[ \t]*(.+?)[ \t]*\]\]?[ \t]*(?:#[^\n]*)?\n?\Z")
_Tables = Sequence[Mapping[str, Any]]


def edited(source: str, wanted: Mapping[str, Any], order: Sequence[str] = ()) -> str | None:
    """The text with other values; None where that cannot be done without losing something.

    Args:
        source: TOML.
        wanted: what it is to say, as a whole; tables of a [[list]] that stay keep their comments wherever they go.
        order: names of tables in the order in which new ones come.

    Raises:
        tomllib.TOMLDecodeError: `source` is no TOML.
    """
    before = tomllib.loads(source)
    text = _Text(source)
    for key in dict.fromkeys([*before, *wanted]):
        old, new = before.get(key), wanted.get(key)
        if old == new:
            continue
        if _is_tables(new) and (old is None or _is_tables(old)):
            text.merge_list(key, cast("_Tables", old or ()), cast("_Tables", new), order)
        elif new is None:
            text.drop(key)
        elif isinstance(new, Mapping):
            text.merge_table(key, cast("Any", old), cast("Mapping[str, Any]", new), order)
        else:
            text.top.put(key, new)
    made = text.whole()
    try:
        return made if tomllib.loads(made) == wanted else None
    except tomllib.TOMLDecodeError:
        return None


def listed(source: str, key: str, name: str) -> str:
    """The text with its table [key] as the only one of a [[list]] that is called `name`."""
    text = _Text(source)
    for one in text.tables:
        if one.path == (key,) and not one.is_list:
            one.header = re.sub(rf"\[[ \t]*{re.escape(key)}[ \t]*\]", f"[[{name}]]", one.header, count=1)
        elif one.path[:1] == (key,):
            one.header = re.sub(rf"\[[ \t]*{re.escape(key)}[ \t]*\.", f"[{name}.", one.header, count=1)
    return text.whole()


@dataclass
class _Table:
    """A header with the lines below it; the first one of a text has none."""

    path: tuple[str, ...] = ()
    header: str = ""
    is_list: bool = False
    lead: list[str] = field(default_factory=list[str])
    """Comments directly above the header."""
    body: list[str] = field(default_factory=list[str])
    """Assignments, each with all its lines; comments and empty lines between them."""

    def whole(self) -> str:
        return "".join([*self.lead, self.header, *self.body])

    def places(self, key: str) -> list[int]:
        """Where the body says something of a key, also as `key.part = …`."""
        return [at for at, one in enumerate(self.body) if _path(one)[:1] == (key,)]

    def put(self, key: str, value: Any) -> None:
        places = self.places(key)
        if len(places) == 1 and _path(self.body[places[0]]) == (key,):
            self.body[places[0]] = _replaced(self.body[places[0]], value)
            return
        self.drop(key)
        last = max((at for at, one in enumerate(self.body) if _path(one)), default=-1)
        if last < 0 and not self.header:
            last = len(self.body) - 1
        if last >= 0 and not self.body[last].endswith("\n"):
            self.body[last] += "\n"
        if self.header and not self.header.endswith("\n"):
            self.header += "\n"
        self.body.insert(last + 1, f"{_key(key)} = {_value(value)}\n")

    def drop(self, key: str) -> None:
        gone = self.places(key)
        self.body = [one for at, one in enumerate(self.body) if at not in gone]

    def merge(self, old: Mapping[str, Any], new: Mapping[str, Any], below: list[_Table]) -> list[_Table]:
        """Take over what differs; `below` are the tables of its own, and those that stay are returned."""
        for key in dict.fromkeys([*old, *new]):
            if old.get(key) == new.get(key):
                continue
            mine = [one for one in below if one.path[len(self.path)] == key]
            plain = len(mine) == 1 and not mine[0].is_list and len(mine[0].path) == len(self.path) + 1
            if plain and isinstance(new.get(key), Mapping) and not self.places(key):
                mine[0].merge(old.get(key) or {}, new[key], [])
                continue
            below = [one for one in below if one not in mine]
            if key in new:
                self.put(key, new[key])
            else:
                self.drop(key)
        return below


class _Text:
    """A TOML text in pieces."""

    def __init__(self, source: str) -> None:
        self.tables = list(_tables(source))

    @property
    def top(self) -> _Table:
        return self.tables[0]

    def whole(self) -> str:
        return "".join(one.whole() for one in self.tables)

    def drop(self, key: str) -> None:
        self.top.drop(key)
        self.tables = [one for one in self.tables if one.path[:1] != (key,)]

    def merge_table(
        self, key: str, old: Mapping[str, Any] | None, new: Mapping[str, Any], order: Sequence[str]
    ) -> None:
        mine = [one for one in self.tables if one.path[:1] == (key,)]
        if old is not None and mine and mine[0].path == (key,) and not mine[0].is_list:
            stays = mine[0].merge(old, new, mine[1:])
            gone = [id(one) for one in mine[1:] if one not in stays]
            self.tables = [one for one in self.tables if id(one) not in gone]
            return
        self.drop(key)
        self._add(key, [[_made(key, new, is_list=False)]], order)

    def merge_list(self, key: str, old: _Tables, new: _Tables, order: Sequence[str]) -> None:
        blocks: list[list[_Table]] = []
        for one in self.tables:
            if one.path == (key,) and one.is_list:
                blocks.append([one])
            elif one.path[:1] == (key,) and blocks:
                blocks[-1].append(one)
        if len(blocks) != len(old):  # written as `key = [{…}]`
            blocks, old = [], ()
        made: list[list[_Table]] = []
        for at, one in zip(_matched(old, new), new, strict=True):
            if at is None:
                made.append([_made(key, one, is_list=True)])
            else:
                head, *below = blocks[at]
                made.append([head, *head.merge(old[at], one, below)])
        place = next((at for at, one in enumerate(self.tables) if one.path[:1] == (key,)), None)
        self.drop(key)
        self._add(key, made, order, place)

    def _add(
        self, key: str, blocks: Iterable[list[_Table]], order: Sequence[str], place: int | None = None
    ) -> None:
        if place is None:
            later = set(order[order.index(key) + 1 :]) if key in order else set[str]()
            behind = (at for at, one in enumerate(self.tables) if one.path and one.path[0] in later)
            place = next(behind, len(self.tables))
        for block in blocks:
            before = self.tables[place - 1]
            text = before.whole()
            if text and not text.endswith("\n\n"):
                before.body.append("\n" if text.endswith("\n") else "\n\n")
            self.tables[place:place] = block
            place += len(block)
        if place < len(self.tables) and not self.tables[place - 1].whole().endswith("\n\n"):
            self.tables[place - 1].body.append("\n")


def _matched(old: _Tables, new: _Tables) -> list[int | None]:
    """For each new table the old one that it comes from: the same, else of the same name, else at the same place."""
    alike: list[Callable[[int, int], bool]] = [
        lambda at, other: old[other] == new[at],
        lambda at, other: _called(old[other]) == _called(new[at]),
        lambda at, other: at == other and (len(old) == len(new) or _called(old[other]) is None),
    ]
    found: list[int | None] = [None] * len(new)
    for same in alike:
        for at in range(len(new)):
            free = (other for other in range(len(old)) if other not in found and same(at, other))
            if found[at] is None:
                found[at] = next(free, None)
    return found


def _called(table: Mapping[str, Any]) -> Any:
    return table.get("name") or table.get("model")


def _tables(source: str) -> Iterator[_Table]:
    table = _Table()
    for piece in _pieces(source):
        header = _HEADER.match(piece) if piece.lstrip().startswith("[") else None
        if header is None:
            table.body.append(piece)
            continue
        lead: list[str] = []
        while (
            table.body and table.body[-1].lstrip().startswith("#") and (table.header or len(table.body) > 1)
        ):
            lead.insert(0, table.body.pop())
        yield table
        table = _Table(_steps(header[2]), piece, header[1] == "[[", lead)
    yield table


def _pieces(source: str) -> Iterator[str]:
    """Statements, comments and empty lines, each with its line break."""
    start = depth = 0
    for token in _TOKEN.finditer(source):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        elif token[0] == "\n" and depth <= 0:
            yield source[start : token.end()]
            start, depth = token.end(), 0
    if start < len(source):
        yield source[start:]


def _path(piece: str) -> tuple[str, ...]:
    """What an assignment assigns to; () = it is none."""
    found = None if piece.lstrip().startswith(("#", "[")) else _KEY.match(piece)
    return _steps(found[1]) if found else ()


def _steps(dotted: str) -> tuple[str, ...]:
    steps: list[str] = []
    try:
        tree: Any = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return (dotted,)
    while isinstance(tree, dict):
        step, tree = next(iter(cast("dict[str, Any]", tree).items()))
        steps.append(step)
    return tuple(steps)


def _replaced(piece: str, value: Any) -> str:
    """An assignment of another value; the comment behind it stays."""
    head = _KEY.match(piece)
    assert head is not None
    comment, depth = "", 0
    for token in _TOKEN.finditer(piece, head.end()):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if token[0].startswith("#") and depth == 0:
            before = piece[: token.start()]
            comment = before[len(before.rstrip(" \t")) :] + token[0]
    end = "\n" if piece.endswith("\n") else ""
    return f"{head[0]}{_value(value)}{comment}{end}"


def _made(key: str, table: Mapping[str, Any], *, is_list: bool) -> _Table:
    header = f"[[{_key(key)}]]\n" if is_list else f"[{_key(key)}]\n"
    return _Table(
        (key,), header, is_list, [], [f"{_key(name)} = {_value(one)}\n" for name, one in table.items()]
    )


def _key(name: str) -> str:
    return assignment(name, 0).removesuffix(" = 0")


def _value(value: Any) -> str:
    """As `written`; a text of several lines keeps them."""
    if isinstance(value, str) and "\n" in value and not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", value):
        body = value.replace("\\", "\\\\").replace('"""', '""\\"')
        body = re.sub(r'"\Z', r"\\" + '"', body)
        return f'"""\n{body}"""'
    return written(value)


def _is_tables(value: Any) -> bool:
    tables = cast("list[Any]", value) if isinstance(value, list) else []
    return bool(tables) and all(isinstance(one, dict) for one in tables)
