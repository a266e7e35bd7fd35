"""The result of a search on disk: the prompt as `baimo compare` takes it, as it is served, and what it was chosen from.

prompt.toml      [prompt] for a task: `[[candidates]] prompt = "…/prompt.toml"`
served.json      the same as turns, for serving (see `served`)
history.jsonl    everything that was tried, with scores and intervals
result.json      figures: before, after, gain, calls, money
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from baimo.core.ids import canonical, plain
from baimo.core.message import Message
from baimo.core.task import Example, FewShot, Prompt
from baimo.text import text
from baimo.tuning.search.parts import slice_name
from baimo.tuning.search.served import FILE, Served, Shown
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
    probes = [example for example in work.train if not example.messages][:5] or list(work.train[:5])
    bare = replace(prompt, few_shot=None)
    heads = {_system(work.render(bare, probe)) for probe in probes if not probe.messages}
    block = prompt.few_shot
    solved = {example.id: example for example in work.train if example.target is not None}
    pool: Sequence[Example] = ()
    if block is not None:
        pool = [solved[id] for id in block.ids if id in solved] if block.ids else list(solved.values())
    nearest = block is not None and block.select == "similar"
    return Served(
        system=heads.pop() if len(heads) == 1 else "",
        count=block.count if block else 0,
        select=block.select if block else "fixed",
        by=(block.by or "") if block else "",
        shown=tuple(
            Shown(
                id=one.id,
                turns=(turns := turns_of(work, prompt, one)),
                slice=slice_name(one, (block.by or "") if block else ""),
                asked=str(turns[-2].content) if nearest and len(turns) > 1 else "",
            )
            for one in pool
        ),
        sampling=work.sampling,
    )


def turns_of(work: Work, prompt: Prompt, example: Example) -> tuple[Message, ...]:
    """The turns that show one solved example: what a conversation has more with it than without."""
    probe = next(one for one in work.train if one.id != example.id)
    without = work.render(replace(prompt, few_shot=None), probe)
    shown = work.render(replace(prompt, few_shot=FewShot(count=1, ids=(example.id,))), probe)
    head = 1 if without and without[0].role == "system" else 0
    return shown[head : head + len(shown) - len(without)]


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
