"""How `data` is wired: files, a task's held-out split, a model's tokenizer and kept calls come together.

Rooms on one level do not meet below: what `tuning.data` needs of `evals` (near texts, a task's questions) and of
`store` (kept calls) is handed to it here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from baimo.core.task import Example, Task
from baimo.core.tuning import Row
from baimo.errors import DataError, RequestRefused, TemplateError, UsageError
from baimo.store.votes import Vote, Votes
from baimo.text import text
from baimo.tuning.data import lineage
from baimo.tuning.data.checks import Report, check
from baimo.tuning.data.clean import Line, clean
from baimo.tuning.data.collected import Collected, Kept, from_records
from baimo.tuning.data.export import write
from baimo.tuning.data.finding import Aids, Count, Use
from baimo.tuning.data.formats import Columns, Reading, read
from baimo.tuning.data.split import split
from baimo.tuning.data.structure import use_of
from baimo.tuning.data.turns import said, text_of
from baimo.workspace.ledger_options import LedgerOptions
from baimo.workspace.preferences import preference_rows

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace

TRAIN, VALID = "train.jsonl", "valid.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which files, and how they are read."""

    files: Sequence[str]
    """Paths; their rows follow each other."""
    format: str = ""
    """One of `formats.NAMES`; empty = by content."""
    columns: Columns = Columns()
    """Which column holds what."""
    skip_unreadable: bool = False
    """Whether lines that cannot be read are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """What checks and steps go by."""

    task: str = ""
    """Folder of a task whose held-out questions must not be learnt."""
    model: str = ""
    """Model on this machine whose tokenizer counts."""
    longest: int = 0
    """Most tokens of a row; 0 = what fits into the model."""
    words: str = ""
    """File with a word or phrase a line that must not be learnt."""
    languages: Sequence[str] = ()
    """Languages that are wanted; none = all."""
    use: Use | None = None
    """What the rows are for; None = what most of them are good for."""
    near: bool = True
    """Whether near duplicates are looked for."""


class Made(NamedTuple):
    """A file of rows that was written."""

    path: Path
    rows: int
    steps: tuple[Line, ...]
    """What was done to its rows, also before this."""


class TrainingData:
    """Training data of one workspace. Without --model and kept calls, nothing of the workspace is opened."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def check(self, source: Source, looking: Looking) -> Report:
        """What is wrong with the rows of some files.

        Raises:
            DataError: a file cannot be read at all.
            TaskError, UnknownModel, UsageError: what they are checked against cannot be used.
        """
        readings = self._read(source)
        left: Counter[str] = Counter()
        for reading in readings:
            left.update(reading.left)
        problems = [problem for reading in readings for problem in reading.problems]
        return check(_rows(readings), self.aids(looking), problems=problems, left=left)

    def clean(
        self, source: Source, looking: Looking, steps: Sequence[str], out: Path, *, force: bool = False
    ) -> Made:
        """Write the rows of some files without what `steps` take out.

        Raises:
            DataError: a line cannot be read, or the file cannot be written.
            TaskError, UnknownModel, UsageError: a step cannot be done.
        """
        rows, before = self._wanted(source)
        aids = self.aids(looking)
        cleaned = clean(rows, steps, replace(aids, use=aids.use or use_of(rows)))
        return _made(out, cleaned.rows, (*before, *cleaned.lines), force=force)

    def split(
        self,
        source: Source,
        looking: Looking,
        folder: Path,
        share: float,
        *,
        seed: int = 0,
        force: bool = False,
    ) -> tuple[Made, Made]:
        """Write the rows of some files as train.jsonl and valid.jsonl.

        Raises:
            DataError: a line cannot be read, no split is possible, or a file cannot be written.
            UsageError: the share is none.
        """
        if not 0 < share < 1:
            raise UsageError("data.bad_share", value=share)
        rows, before = self._wanted(source)
        parts = split(rows, share, seed=seed, near=self.aids(looking).near)
        made: list[Made] = []
        for name, some, others in ((TRAIN, parts.train, parts.valid), (VALID, parts.valid, parts.train)):
            counts = {"removed": len(others), "changed": 0, "kept": len(some)}
            line = {"step": "split", **counts, "share": share, "seed": seed, "part": name}
            made.append(_made(folder / name, some, (*before, line), force=force))
        return made[0], made[1]

    def collect(
        self, options: LedgerOptions, out: Path, *, force: bool = False
    ) -> tuple[Made, Mapping[str, int]]:
        """Write the answers that are kept with calls; also says why calls were left out.

        Raises:
            UsageError, NotFound: a filter names what there is not, or nothing is kept.
            DataError: the file cannot be written.
        """
        found = self.collected(options)
        _some(found.rows, found.skipped, "data.none_kept", "data.skipped")
        line = {
            "step": "collect",
            "removed": sum(found.skipped.values()),
            "changed": 0,
            "kept": len(found.rows),
        }
        made = _made(out, found.rows, ({**line, "skipped": dict(found.skipped)},), force=force)
        return made, found.skipped

    def preferred(
        self, options: LedgerOptions, out: Path, *, force: bool = False
    ) -> tuple[Made, Mapping[str, int]]:
        """Write what people preferred in blind votes; also says why votes were left out.

        Raises:
            UsageError, NotFound: a filter names what there is not or what votes do not have, or there is no preference.
            DataError: the file cannot be written.
        """
        for name in ("surface", "status", "route", "run", "tag"):
            if getattr(options, name):
                raise UsageError("data.votes_filter", option=f"--{name}")
        skipped: Counter[str] = Counter()
        found = preference_rows(self._votes(options), skipped)
        _some(found, skipped, "data.none_preferred", "data.votes_skipped")
        line = {"step": "votes", "removed": sum(skipped.values()), "changed": 0, "kept": len(found)}
        made = _made(out, found, ({**line, "skipped": dict(skipped)},), force=force)
        return made, skipped

    def _votes(self, options: LedgerOptions) -> Iterator[Vote]:
        """The votes that are meant; `model` is the one that was chosen."""
        chosen = self._workspace.bookkeeping.filters(options)
        for vote in Votes(self._workspace.store.database).walk(chosen.tenant):
            at_ms, best = vote.at_ms or 0, {one.place: one.model for one in vote.answers}.get(vote.choice)
            if (
                (chosen.since_ms is None or at_ms >= chosen.since_ms)
                and (chosen.until_ms is None or at_ms < chosen.until_ms)
                and chosen.key in (None, vote.key)
                and chosen.model in (None, best)
            ):
                yield vote

    def collected(self, options: LedgerOptions) -> Collected:
        """The answers that are kept with calls of tenants that opted in, oldest first."""
        skipped: Counter[str] = Counter()
        found = from_records(self._kept(options, skipped))
        return Collected(found.rows, {**found.skipped, **skipped})

    def aids(self, looking: Looking) -> Aids:
        """What checks and steps need from outside.

        Raises:
            TaskError, UnknownModel, UsageError: it cannot be had.
        """
        from baimo.evals.tasks.near import proposed

        count, window = self._counting(looking.model) if looking.model else (None, 0)
        return Aids(
            near=proposed if looking.near else None,
            count=count,
            longest=looking.longest or window,
            held_out=held_out(looking.task) if looking.task else (),
            words=_words(Path(looking.words)) if looking.words else (),
            languages=looking.languages,
            use=looking.use,
        )

    def _read(self, source: Source) -> list[Reading]:
        return [read(Path(file), format=source.format, columns=source.columns) for file in source.files]

    def _wanted(self, source: Source) -> tuple[list[Row], tuple[Line, ...]]:
        """Rows of the files, and what was done to them before; unreadable lines only on purpose."""
        readings = self._read(source)
        problems = [problem for reading in readings for problem in reading.problems]
        before = tuple(line for file in source.files for line in lineage.noted(Path(file)))
        if problems and not source.skip_unreadable:
            raise DataError("data.lost", count=len(problems), problem=problems[0]) from problems[0]
        rows = _rows(readings)
        if problems:
            counts = {"removed": len(problems), "changed": 0, "kept": len(rows)}
            before = (*before, {"step": "skip_unreadable", **counts})
        return rows, before

    def _counting(self, name: str) -> tuple[Count, int]:
        """Tokens of a row as the model learns them, and how many fit."""
        from baimo.providers.hf import hf_folder
        from baimo.tuning.fit.encode import dialect

        model = self._workspace.catalogue.model(name)
        if model.vendor != "local":
            raise UsageError("data.bad_model", model=name)
        spoken = dialect(hf_folder(self._workspace.pulled(model)))

        def tokens(row: Row) -> int:
            if not row.messages:
                return len(spoken.ids(row.text))
            endings = [row.messages]
            if row.rejected:
                endings.append((*row.messages[:-1], *row.rejected))
            try:
                return max(len(spoken.ids(spoken.text(row, one))) for one in endings)
            except RequestRefused:  # no template for this: at least its words
                return max(len(spoken.ids("\n".join(map(said, one)))) for one in endings)

        return tokens, spoken.window

    def _kept(self, options: LedgerOptions, skipped: Counter[str]) -> Iterator[Kept]:
        from baimo.store.contents import Contents

        contents = Contents(self._workspace.store.database)
        for record in self._workspace.bookkeeping.records(options):
            if not record.content_hash:
                continue
            if record.status != "ok":
                skipped["failed"] += 1
            elif (content := contents.content(record.id)) is not None:
                kept = msgspec.msgpack.decode(content, type=dict[str, Any])
                if kept["cut"]:
                    skipped["cut"] += 1
                else:
                    yield Kept(
                        record.id, kept["surface"], kept["request"], kept["answer"], record.conversation
                    )


def held_out(folder: str) -> tuple[str, ...]:
    """What a task's held-out examples ask: as their field `input`, and as its first prompt asks it.

    Raises:
        TaskError: the task cannot be read.
    """
    from baimo.evals.tasks.folder import load_task

    return tuple(dict.fromkeys(_questions(load_task(folder))))


def _questions(task: Task) -> Iterator[str]:
    from baimo.evals.tasks.prompts import Renderer

    renderer = Renderer(replace(task.prompts[0], few_shot=None))
    for example in task.examples:
        question = example.fields.get("input")
        if isinstance(question, str):
            yield question
        yield from _asked(example, renderer)


def _asked(example: Example, renderer: Any) -> Iterator[str]:
    try:
        messages = renderer.messages(example)
    except TemplateError:  # `tasks check` says so
        return
    words = next((text_of(one) for one in reversed(messages) if one.role == "user"), "")
    if words.strip():
        yield words


def _rows(readings: Iterable[Reading]) -> list[Row]:
    return [row for reading in readings for row in reading.rows]


def _some(rows: Sequence[Row], skipped: Mapping[str, int], key: str, told: str) -> None:
    """
    Raises:
        UsageError: there are no rows to write.
    """
    if not rows:
        left = "; ".join(
            text(told, count=count, why=text(f"data.why_{name}")) for name, count in skipped.items()
        )
        raise UsageError(key, left=f" ({left})" if left else "")


def _made(path: Path, rows: Sequence[Row], steps: tuple[Line, ...], *, force: bool) -> Made:
    count = write(path, rows, force=force)
    try:
        lineage.note(path, steps)
    except OSError as error:
        raise DataError("data.cannot_write", path=path, problem=error.strerror or error) from error
    return Made(path, count, steps)


def _words(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        problem = getattr(error, "strerror", None) or error
        raise DataError("data.unreadable", path=path, line=1, problem=problem) from error
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
