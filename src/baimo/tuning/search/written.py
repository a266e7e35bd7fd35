"""The result of a search on disk: the prompt as `baimo compare` takes it, as it is served, and what it was chosen from.

prompt.toml      [prompt] for a task: `[[candidates]] prompt = "…/prompt.toml"`
served.json      the same as turns, for serving (see `served`)
history.jsonl    everything that was tried, with scores and intervals
result.json      figures: before, after, gain, calls, money
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from baimo.core.ids import canonical, plain
from baimo.core.message import Message
from baimo.core.task import Example, FewShot, Prompt
from baimo.text import text
from baimo.tuning.search.parts import slice_name, sliced
from baimo.tuning.search.served import FILE, Served, Shown, text_of
from baimo.tuning.search.work import Work


def write(
    folder: Path, work: Work, prompt: Prompt, history: Iterable[Mapping[str, Any]], figures: Mapping[str, Any]
) -> None:
    """Write the four files into a folder that is there."""
    (folder / "prompt.toml").write_text(as_toml(prompt, figures), encoding="utf-8", newline="\n")
    (folder / FILE).write_bytes(canonical(served(work, prompt)) + b"\n")
    lines = (json.dumps(plain(one), ensure_ascii=False) + "\n" for one in history)
    (folder / "history.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
    (folder / "result.json").write_text(
        json.dumps(plain(figures), ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n"
    )


def as_toml(prompt: Prompt, figures: Mapping[str, Any]) -> str:
    """The [prompt] of a task.toml; what equals the default is left out."""
    lines = [f"# {line}" for line in text("search.toml_head", **_headline(figures)).splitlines()]
    lines += ["[prompt]", f"name = {_string(prompt.name)}"]
    usual = Prompt()
    for name in ("system", "user", "assistant"):
        if (value := getattr(prompt, name)) != getattr(usual, name):
            lines.append(f"{name} = {_string(value)}")
    block = prompt.few_shot
    if block is not None and block.count > 0:
        lines += ["", "[prompt.few_shot]", f"count = {block.count}"]
        lines += [f"by = {_string(block.by)}"] if block.by else []
        lines += [f"select = {_string(block.select)}"] if block.select != "fixed" else []
        ids = ", ".join(_string(id) for id in block.ids)
        lines += [f"ids = [{ids}]"] if ids else []
    return "\n".join(lines) + "\n"


def served(work: Work, prompt: Prompt) -> Served:
    """The prompt as turns. A system message that differs from example to example cannot be served and is left out."""
    bare = replace(prompt, few_shot=None)
    probes = [one for one in work.train if not one.messages or one.messages[0].role != "system"][:5]
    heads = {_system(work.render(bare, probe)) for probe in probes}
    block = prompt.few_shot
    solved = {example.id: example for example in work.train if example.target is not None}
    pool: Sequence[Example] = ()
    if block is not None:
        pool = [solved[id] for id in block.ids if id in solved] if block.ids else list(solved.values())
    nearest = block is not None and block.select == "similar"
    turns = turns_by_id(work, prompt, pool)
    return Served(
        system=heads.pop() if len(heads) == 1 else "",
        count=block.count if block else 0,
        select=block.select if block else "fixed",
        by=(block.by or "") if block else "",
        shown=tuple(
            Shown(
                id=one.id,
                turns=turns[one.id],
                slice=slice_name(one, (block.by or "") if block else ""),
                asked=text_of(turns[one.id][-2]) if nearest else "",
            )
            for one in pool
        ),
        sampling=work.sampling,
    )


def pinned(work: Work, prompt: Prompt) -> Prompt:
    """The prompt with the solved examples named that it shows by chance, so that it is served as it is measured."""
    block = prompt.few_shot
    if block is None or block.count <= 0 or block.ids or block.select != "fixed":
        return prompt
    solved = [example for example in work.train if example.target is not None]
    ids = {turns: id for id, turns in reversed(turns_by_id(work, prompt, solved).items())}
    blocks = [
        [id for turns in _cut(_shown(work, prompt, members[0]), ids) if (id := ids.get(turns)) is not None]
        for members in sliced(work.train, block.by or "").values()
    ]
    named = tuple(dict.fromkeys(id for turn in zip_longest(*blocks) for id in turn if id is not None))
    return replace(prompt, few_shot=replace(block, ids=named))


def turns_by_id(work: Work, prompt: Prompt, examples: Sequence[Example]) -> dict[str, tuple[Message, ...]]:
    """The turns that show each solved example: the question and its answer, or a conversation and its end."""
    ids = tuple(example.id for example in examples)
    if not ids:
        return {}
    block = replace(prompt, few_shot=FewShot(count=len(ids), ids=ids))
    turns, at = _shown(work, block, examples[0]), 0
    found: dict[str, tuple[Message, ...]] = {}
    for example in examples:
        asked = sum(message.role != "system" for message in example.messages) or 1
        found[example.id] = turns[at : at + asked + 1]
        at += asked + 1
    return found


def _shown(work: Work, prompt: Prompt, probe: Example) -> tuple[Message, ...]:
    """The few-shot turns: what a conversation has more with them than without."""
    without = work.render(replace(prompt, few_shot=None), probe)
    whole = work.render(prompt, probe)
    head = 1 if without and without[0].role == "system" else 0
    return whole[head : head + len(whole) - len(without)]


def _cut(
    turns: tuple[Message, ...], known: Mapping[tuple[Message, ...], str]
) -> Iterator[tuple[Message, ...]]:
    """A block as the turns of single examples."""
    while turns:
        end = next((end for end in range(2, len(turns) + 1) if turns[:end] in known), len(turns))
        yield turns[:end]
        turns = turns[end:]


def _system(messages: Sequence[Message]) -> str:
    first = messages[0]
    return str(first.content) if first.role == "system" else ""


def _headline(figures: Mapping[str, Any]) -> dict[str, str]:
    def words(one: Mapping[str, Any]) -> str:
        return f"{one['mean']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"

    return {
        "model": str(figures["model"]),
        "before": words(figures["before"]),
        "after": words(figures["after"]),
        "count": str(figures["confirmed"]),
    }


def _string(value: str) -> str:
    """A basic string of TOML: as JSON has it, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
