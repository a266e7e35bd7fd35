"""Types are learned one at a time, and nowhere else."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

import baimo
from baimo.typed import choices, converted, from_json, from_msgpack, json_decoder, msgpack_decoder

SOURCES = Path(baimo.__file__).parent
WITHOUT_CLASSES = re.compile(r"object|(list\[|dict\[str, |tuple\[)*(Any|str|msgspec\.Raw)(, \.\.\.)?\]*")
RACE = """
import sys, threading
sys.setswitchinterval(0.0005)
from baimo.core.verdict import Verdict
from baimo.typed import converted, from_json, from_msgpack
ways = [lambda: from_json(b"{}", Verdict), lambda: from_msgpack(b"\\x80", Verdict), lambda: converted({}, Verdict)]
together = threading.Barrier(2 * len(ways))
def use(way):
    together.wait()
    for _ in range(20):
        try:
            way()
        except ValueError as error:
            assert "missing required field" in str(error)
threads = [threading.Thread(target=use, args=(way,)) for way in 2 * ways]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@dataclass(frozen=True)
class Lamp:
    room: str
    watts: int | None = None


def test_what_is_written_comes_back_as_its_type() -> None:
    assert from_json('{"room": "hall"}', Lamp) == converted({"room": "hall"}, Lamp) == Lamp("hall")
    assert from_msgpack(msgspec.msgpack.encode([{"room": "hall", "watts": 9}]), list[Lamp]) == [
        Lamp("hall", 9)
    ]
    assert msgpack_decoder(Lamp)(msgspec.msgpack.encode({"room": "hall"})) == Lamp("hall")
    assert converted({"room": "hall", "watts": "9"}, Lamp, strict=False) == Lamp("hall", 9)
    assert json_decoder(Lamp) is json_decoder(Lamp)


@pytest.mark.parametrize("made", [lambda: from_json("{}", Lamp), lambda: converted({"room": 1}, Lamp)])
def test_what_is_no_such_thing_is_named(made: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match="room"):
        made()


def test_threads_that_meet_a_type_for_the_first_time_together_do_not_crash() -> None:
    for _ in range(8):
        done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def learning(call: ast.Call) -> str:
    """The type that this call teaches msgspec; empty = none."""
    said = ast.unparse(call.func)
    given = {one.arg: ast.unparse(one.value) for one in call.keywords}
    if said == "msgspec.convert":
        return ast.unparse(call)
    if re.fullmatch(r"msgspec\.\w+\.(decode|Decoder)", said):
        kind = given.get("type", "object")
        if said.endswith("Decoder") and call.args:
            kind = ast.unparse(call.args[0])
        return "" if WITHOUT_CLASSES.fullmatch(kind) else kind
    return ""


def test_nothing_learns_types_by_itself() -> None:
    found = [
        f"{path.relative_to(SOURCES)}:{node.lineno}: {kind}"
        for path in SOURCES.rglob("*.py")
        if path.name != "typed.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and (kind := learning(node))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("msgspec.json.decode(data, type=Task)", "Task"),
        ("msgspec.json.Decoder(list[Task])", "list[Task]"),
        ("msgspec.convert(data, Task)", "msgspec.convert(data, Task)"),
        ("msgspec.json.decode(data)", ""),
        ("msgspec.json.decode(data, type=dict[str, Any])", ""),
        ("msgspec.msgpack.Decoder(tuple[Any, ...])", ""),
    ],
)
def test_the_search_for_it_finds_what_it_is_for(source: str, kind: str) -> None:
    call = ast.parse(source, mode="eval").body
    assert isinstance(call, ast.Call)
    assert learning(call) == kind


@dataclass
class Inner:
    colour: Literal["red", "blue"] | None = None
    open: Literal["auto"] | int = 1


class Outer(msgspec.Struct):
    one: Annotated[Inner, msgspec.Meta(description="x")]
    many: list[Inner] | None = None
    named: dict[str, Literal["a", "b"]] = {}


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (["one", "colour"], ["red", "blue"]),
        (["many", 3, "colour"], ["red", "blue"]),
        (["many", "3", "colour"], ["red", "blue"]),
        (["named", "x"], ["a", "b"]),
        (["one", "open"], []),
        (["one", "size"], []),
        (["one"], []),
        (["nothing", "there"], []),
    ],
)
def test_the_words_that_a_place_takes_are_known(steps: list[str | int], words: list[str]) -> None:
    assert choices(Outer, steps) == words
