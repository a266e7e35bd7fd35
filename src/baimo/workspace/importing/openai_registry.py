"""Evaluations of the open-source registry (github.com/openai/evals, docs/build-eval.md) as task folders.

A registry is a YAML document: a short name that leads to an id, and under that id a class with its arguments; the
samples are JSON Lines of `{"input": …, "ideal": …}` below `registry/data`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from baimo.core.registry import Spec
from baimo.core.task import Example, Prompt, Task
from baimo.evals.tasks.formats.recognise import read_file
from baimo.evals.tasks.manifest import FILE_NAME
from baimo.evals.tasks.notes import Notebook
from baimo.evals.tasks.scaffold import texts_of
from baimo.workspace.importing.carried import Draft, Note
from baimo.workspace.importing.openai_export import Export, Object
from baimo.workspace.importing.openai_prompts import table
from baimo.workspace.importing.tasks import ImportedTask, folder_name

SCORERS = {
    "Match": (Spec(name="exact"), Spec(name="contains")),
    "Includes": (Spec(name="contains"),),
    "FuzzyMatch": (Spec(name="icontains"), Spec(name="text_overlap")),
    "JsonMatch": (Spec(name="json"),),
    "JsonValidator": (Spec(name="asserts", args={"asserts": [{"type": "is-json"}]}),),
}
"""Class of the registry → scorers; the first decides."""
ALIKE = frozenset({"Includes", "JsonMatch", "JsonValidator"})
"""Those that judge the same here."""


def registry_tasks(export: Export) -> Iterator[ImportedTask]:
    """Every evaluation of the export's registries."""
    for file, entries in export.registries:
        aliases = {str(table(one).get("id")): name for name, one in entries.items() if "id" in table(one)}
        for id, entry in entries.items():
            if "class" in table(entry):
                alias = aliases.get(id, "")
                yield _task(id, alias, table(entry), table(entries.get(alias)), file, export)


def _task(id: str, alias: str, entry: Object, about: Object, file: Path, export: Export) -> ImportedTask:
    draft = Draft({"eval": entry, "alias": about})
    name = alias or id
    draft.reflected(("name",), ("alias", "id"))
    description = draft.words(("alias", "description")) or draft.words(("eval", "description"))
    draft.reflected(("description",), ("alias", "description"), ("eval", "description"))
    draft.note(("alias", "metrics"), "evals_metrics", "needless")
    draft.note(("alias", "disclaimer"), "evals_metadata")
    notebook = Notebook(file=str(file))
    examples = _samples(draft, ("eval", "args", "samples_jsonl"), export, notebook)
    task = Task(
        name=name,
        examples=examples,
        scorers=_scorers(draft),
        prompts=(Prompt(),),
        description=description,
    )
    draft.note(("eval", "args"), "evals_args") if not table(entry.get("args")).get("samples_jsonl") else None
    files = texts_of(task)
    done = draft.finished(name)
    notes = (*done.notes, *noted(notebook))
    return ImportedTask(
        name=folder_name(name),
        files=files,
        examples=len(examples),
        carried=replace(done, notes=notes, settings=files[FILE_NAME]),
    )


def _samples(draft: Draft, at: tuple[str, ...], export: Export, notebook: Notebook) -> tuple[Example, ...]:
    """The rows of a file that a registry names; none, with a note, when the export does not hold it."""
    named = draft.words(at)
    found = next(
        (path for name, path in export.samples.items() if name == named or name.endswith(f"/{named}")), None
    )
    if found is None:
        draft.note(at, "evals_no_samples", file=named)
        return ()
    draft.reflected(("data", "test"), at)
    notes = notebook.at(str(found))
    return tuple(
        replace(one, file="", line=None) for one in read_file(found, notes, format="openai-evals").examples
    )


def _scorers(draft: Draft) -> tuple[Spec, ...]:
    kind = draft.words(("eval", "class")).rpartition(":")[2]
    if kind not in SCORERS:
        draft.note(("eval", "class"), "evals_class", kind=kind)
        return ()
    made = SCORERS[kind]
    draft.reflected(("scorers",), ("eval", "class"))
    if kind not in ALIKE:
        draft.note(("eval", "class"), "evals_class_differs", "changed", kind=kind, scorer=made[0].name)
    if kind == "Includes" and draft.at(("eval", "args", "ignore_case")):
        draft.reflected(("scorers",), ("eval", "args", "ignore_case"))
        made = (Spec(name="icontains"),)
    return made


def noted(notebook: Notebook) -> Iterator[Note]:
    """What a reader of foreign data noted, as notes of an import."""
    for note in notebook.notes():
        lines = ",".join(str(line) for line in note.lines[:5])
        yield Note(
            path=f"{Path(note.file).name}:{lines}" if lines else Path(note.file).name,
            value="…",
            weight="changed" if note.assumption else "lost",
            why=note.detail,
            advice="",
        )
