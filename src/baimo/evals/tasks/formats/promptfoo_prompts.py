"""Prompts of promptfoo configurations: text, files of texts, and chat messages in JSON or YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from baimo.core.task import Example, Prompt
from baimo.errors import TaskError, TemplateError
from baimo.evals.tasks.formats.messages import messages_of, text_of
from baimo.evals.tasks.formats.references import referenced_files
from baimo.evals.tasks.formats.rows import content, table
from baimo.evals.tasks.formats.shapes import as_items, as_map, is_map
from baimo.evals.tasks.formats.yaml import read_yaml
from baimo.evals.tasks.notes import Notebook
from baimo.evals.tasks.prompts import compiled

_DUMP = re.compile(r"\|\s*dump\b")
_SEPARATOR = re.compile(r"^---\s*$", re.MULTILINE)
_FILE = re.compile(r"(file://)?\S+\.(txt|md|j2|json|ya?ml|csv)")


class _Raw(NamedTuple):
    """A prompt as promptfoo has it."""

    label: str
    text: str


def prompts_of(
    value: Any, examples: tuple[Example, ...], path: Path, notebook: Notebook
) -> tuple[tuple[Prompt, ...], tuple[Example, ...]]:
    """Prompts as templates; a conversation of several turns, if it is the only prompt, becomes each example's own.

    Prefix and suffix of tests are put around the user's turn, as promptfoo puts them around the prompt.
    """
    raw = list(_raw_prompts(value, path, notebook))
    if len(raw) == 1 and (turns := _chat(raw[0].text)) and not _fits(turns):
        return (), tuple(_with_turns(example, turns, path, notebook) for example in examples)
    prompts: dict[str, Prompt] = {}
    for label, text in raw:
        turns = _chat(text)
        if turns and not _fits(turns):
            notebook.add("left_conversation_prompt", name=label)
            continue
        name = label if label not in prompts else f"{label} {len(prompts) + 1}"
        prompts[name] = _prompt(name, text, turns)
    if any(example.fields.keys() & {"prefix", "suffix"} for example in examples):
        prompts = {name: _with_affixes(prompt) for name, prompt in prompts.items()}
        empty = {"prefix": "", "suffix": ""}
        examples = tuple(replace(example, fields={**empty, **example.fields}) for example in examples)
    return tuple(prompts.values()), examples


def _raw_prompts(value: Any, path: Path, notebook: Notebook) -> Iterator[_Raw]:
    for number, item in enumerate(as_items(value), start=1):
        text: Any = item
        label = ""
        if is_map(item):
            entry = as_map(item)
            text, label = entry.get("raw", entry.get("id")), str(entry.get("label") or "")
            for key in sorted(entry.keys() - {"raw", "id", "label"}):
                notebook.add("left_prompt_key", name=key)
        if not isinstance(text, str):
            notebook.add("left_prompt", value=str(item)[:60])
        elif text.startswith("exec:") or ("://" in text.split(" ")[0] and not text.startswith("file://")):
            notebook.add("left_prompt", value=text[:60])
        elif text.startswith("file://") or (_FILE.fullmatch(text) and (path.parent / text).is_file()):
            for file in referenced_files(text, path, 1, notebook):
                yield from _prompts_in_file(file, label, notebook)
        else:
            yield _Raw(label or f"prompt-{number}", text)


def _prompts_in_file(path: Path, label: str, notebook: Notebook) -> Iterator[_Raw]:
    label = label or path.stem
    if path.suffix == ".csv":
        for number, row in enumerate(table(path), start=1):
            if "prompt" not in row.value:
                columns = ", ".join(row.value)
                raise TaskError("tasks.no_column", path=path, line=row.line, name="prompt", columns=columns)
            yield _Raw(row.value.get("label") or f"{label}-{number}", row.value["prompt"])
        return
    if path.suffix in {".yaml", ".yml"}:
        value = read_yaml(path).value
        yield _Raw(label, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        return
    whole = content(path)
    parts = [whole] if path.suffix == ".json" else [part.strip("\n") for part in _SEPARATOR.split(whole)]
    for number, part in enumerate(parts, start=1):
        yield _Raw(label if len(parts) == 1 else f"{label}-{number}", part)


def _chat(text: str) -> list[dict[str, Any]] | None:
    """Turns of a prompt that is a JSON list of messages; None when it is plain text."""
    if not text.lstrip().startswith("["):
        return None
    try:
        return msgspec.json.decode(text, type=list[dict[str, Any]]) or None
    except (msgspec.MsgspecError, RecursionError):
        return (
            None  # a template that is no valid JSON until it is rendered, or text that starts with a bracket
        )


def _fits(turns: list[dict[str, Any]]) -> bool:
    roles = [turn.get("role") for turn in turns]
    texts = all(isinstance(turn.get("content"), str) and turn.keys() <= {"role", "content"} for turn in turns)
    return texts and roles in (["user"], ["system", "user"], ["developer", "user"])


def _prompt(name: str, text: str, turns: list[dict[str, Any]] | None) -> Prompt:
    if turns:
        system = turns[0]["content"] if len(turns) == 2 else ""
        return Prompt(name=name, system=_jinja(system), user=_jinja(turns[-1]["content"]))
    return Prompt(name=name, user=_jinja(text))


def _with_affixes(prompt: Prompt) -> Prompt:
    return replace(prompt, user=f"{{{{ prefix }}}}{prompt.user}{{{{ suffix }}}}")


def _with_turns(example: Example, turns: list[dict[str, Any]], path: Path, notebook: Notebook) -> Example:
    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return compiled(_jinja(value), str(path)).render(example.fields)
        if isinstance(value, list):
            return [filled(item) for item in cast("list[Any]", value)]
        if isinstance(value, Mapping):
            return {key: filled(item) for key, item in cast("Mapping[str, Any]", value).items()}
        return value

    try:
        messages = messages_of(filled(turns), path, example.line or 1)
    except TemplateError as error:
        raise TaskError(
            "tasks.prompt_template", path=path, line=example.line or 1, problem=str(error)
        ) from error
    asked = next((text_of(message) for message in reversed(messages) if message.role == "user"), "")
    return replace(example, messages=messages, fields={**example.fields, "input": asked})


def _jinja(text: str) -> str:
    """Nunjucks and Jinja share their syntax but for the name of the JSON filter."""
    return _DUMP.sub("| tojson", text)
