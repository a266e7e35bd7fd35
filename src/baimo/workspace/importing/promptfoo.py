"""promptfoo's configurations as task folders: tests, prompts, assertions (see `evals/tasks/formats/promptfoo`), models.

Source: https://www.promptfoo.dev/docs/configuration/reference/ and /docs/providers/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from baimo.errors import ConfigError
from baimo.evals.tasks.folder import read_task
from baimo.evals.tasks.formats.rows import container, content, json_value
from baimo.evals.tasks.formats.yaml import read_yaml
from baimo.evals.tasks.manifest import FILE_NAME
from baimo.evals.tasks.notes import Notebook
from baimo.evals.tasks.scaffold import texts_of
from baimo.workspace.importing.carried import Draft
from baimo.workspace.importing.openai_prompts import items_of, table
from baimo.workspace.importing.openai_registry import noted
from baimo.workspace.importing.tasks import ImportedTask, folder_name

NAMES = ("promptfooconfig.yaml", "promptfooconfig.yml", "promptfooconfig.json")
VENDORS = {
    "openai": "openai", "anthropic": "anthropic", "mistral": "mistral", "groq": "groq", "deepseek": "deepseek",
    "openrouter": "openrouter", "ollama": "ollama", "xai": "xai", "google": "gemini", "togetherai": "together",
    "fireworks": "fireworks", "cohere": "cohere", "cerebras": "cerebras", "perplexity": "perplexity",
    "alibaba": "dashscope-intl", "huggingface": "huggingface", "deepinfra": "deepinfra", "vllm": "vllm",
}  # fmt: skip
"""promptfoo's prefix → vendor of the catalogue."""
_WAYS = re.compile(r"^(chat|messages|completion|responses|text-generation|inference):")
_FIGURES = (
    ("temperature", "temperature", -1e-9, 2.0),
    ("top_p", "top_p", -1e-9, 1.0),
    ("max_tokens", "max_tokens", 0.0, 1e9),
    ("max_completion_tokens", "max_tokens", 0.0, 1e9),
    ("seed", "seed", -1e18, 1e18),
)
_READ_ELSEWHERE = ("prompts", "tests", "scenarios", "defaultTest", "description")
"""What the reader of promptfoo's format carries or notes itself."""


def imported_tasks(path: Path) -> list[ImportedTask]:
    """A configuration, or the folder that holds one, as a task.

    Raises:
        ConfigError: there is none.
        TaskError: it cannot be read; names file and line.
    """
    file = next((path / name for name in NAMES if (path / name).is_file()), path) if path.is_dir() else path
    if not file.is_file():
        raise ConfigError("imports.unreadable", path=file, problem="No such file or directory")
    reading = read_task(file, format="promptfoo")
    draft = Draft(_configuration(file))
    named = tuple(_candidates(draft))
    for name in _READ_ELSEWHERE:
        draft.reflected(("data", "test") if name in ("tests", "scenarios") else (name,), (name,))
    left = tuple(note for note in reading.notes if note.kind != "left_providers")
    task = replace(
        reading.task,
        candidates=named,
        examples=tuple(replace(one, file="", line=None) for one in reading.task.examples),
    )
    # what the reader has noted is not said twice
    for note in left:
        if note.kind == "left_config":
            draft.reflected((), (str(note.facts["name"]),))
    done = draft.finished(file.name)
    notebook = Notebook(file=str(file))
    for note in left:
        for line in note.lines or (None,):
            notebook.at(note.file).add(note.kind, line, **note.facts)
    files = texts_of(task)
    places = tuple(place for place in done.places if place[1])
    return [
        ImportedTask(
            name=folder_name(task.name),
            files=files,
            examples=len(task.examples),
            carried=replace(
                done, places=places, notes=(*done.notes, *noted(notebook)), settings=files[FILE_NAME]
            ),
        )
    ]


def _configuration(file: Path) -> Mapping[str, Any]:
    """The document as data; empty when the file is nothing but tests."""
    kind = container(file)
    if kind == "yaml":
        return table(read_yaml(file).value)
    return table(json_value(content(file), file, 1)) if kind == "json" else {}


def _candidates(draft: Draft) -> Iterator[dict[str, Any]]:
    names: set[str] = set()
    for section in ("providers", "targets"):
        listed = draft.at((section,))
        places = (
            [(section,)] if isinstance(listed, str) else [(section, n) for n in range(len(items_of(listed)))]
        )
        for at in places:
            made = _candidate(draft, at)
            if made is None:
                draft.note(at, "foo_provider")
            elif made["name"] not in names:
                names.add(made["name"])
                yield made


def _candidate(draft: Draft, at: tuple[str | int, ...]) -> dict[str, Any] | None:
    """A provider as a candidate; None where it cannot be one (code, a URL, a vendor that the catalogue lacks)."""
    whole = draft.table(at)
    id_at = (*at, "id") if whole else at
    prefix, _, rest = draft.words(id_at).partition(":")
    model = _WAYS.sub("", rest)
    if prefix not in VENDORS or not model or "://" in model or prefix == "file":
        return None
    if prefix == "google":
        model = model.rpartition(":")[2]
    made: dict[str, Any] = {"name": draft.words((*at, "label")) or f"{VENDORS[prefix]}/{model}"}
    made["model"] = f"{VENDORS[prefix]}/{model}"
    sampling: dict[str, Any] = {}
    for name, ours, least, most in _FIGURES:
        figure = draft.figure((*at, "config", name), least=least, most=most)
        if figure is not None:
            sampling[ours] = round(figure, 9) if ours in ("temperature", "top_p") else int(figure)
            draft.reflected(("candidates", made["name"]), (*at, "config", name))
    if sampling:
        made["sampling"] = sampling
    draft.reflected(("candidates", made["name"]), id_at, (*at, "label"))
    if whole:
        draft.otherwise((*at, "config"), "foo_config")
        for name in sorted(whole.keys() - {"id", "label", "config"}):
            draft.note((*at, name), "foo_config")
    return made
