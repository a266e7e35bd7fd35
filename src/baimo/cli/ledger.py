"""`baimo ledger show|sum|export|verify|reconcile|prune|forget`: what every answer cost, and the proof of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from baimo.cli.command import Group
from baimo.cli.confirm import confirmed
from baimo.cli.options import options_of
from baimo.cli.tables import show_json, table
from baimo.errors import UsageError
from baimo.text import text
from baimo.workspace.ledger_options import ExportOptions, ReconcileOptions, ShowOptions, SumOptions

if TYPE_CHECKING:
    from baimo.store.reconcile import Reconciliation

DOUBTFUL = 10
"""Doubtful calls that are told one by one; `--json` has more."""


@click.group(cls=Group, help=text("cli.ledger"))
def ledger() -> None: ...


@ledger.command("show", help=text("cli.ledger_show"))
@options_of(ShowOptions, "ledger")
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def show(flags: dict[str, Any], as_json: bool, **given: Any) -> None:
    from baimo.workspace.bookkeeping import line_row
    from baimo.workspace.workspace import Workspace

    options = ShowOptions(**given)
    with Workspace(flags=flags) as workspace:
        books = workspace.bookkeeping
        if options.record:
            row = line_row(books.one(options.record))
            if options.content:
                row["content"] = books.content(options.record)
            show_json(row)
            return
        lines = books.newest(options)
    if as_json:
        show_json([line_row(line) for line in lines])
        return
    names = ("at", "record", "tenant", "key", "surface", "model", "tokens_in", "tokens_out", "cost", "status")
    table([_column(name) for name in names], [_cells(line_row(line)) for line in lines], empty=_none())


@ledger.command("sum", help=text("cli.ledger_sum"))
@options_of(SumOptions, "ledger")
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def sum_(flags: dict[str, Any], as_json: bool, **given: Any) -> None:
    from baimo.workspace.bookkeeping import groups, sum_row
    from baimo.workspace.workspace import Workspace

    options = SumOptions(**given)
    by = groups(options.by)
    with Workspace(flags=flags) as workspace:
        rows = [sum_row(by, spend) for spend in workspace.bookkeeping.sums(options)]
    if as_json:
        show_json(rows)
        return
    figures = ("calls", "failed", "unpriced", "tokens_in", "tokens_out", "cost")
    heads = [name if name.startswith("tag:") else _column(name) for name in by]
    cells = [
        [*(_shown(value) for value in row["group"].values()), *(_figure(row, name) for name in figures)]
        for row in rows
    ]
    table([*heads, *(_column(name) for name in figures)], cells, empty=_none())


@ledger.command("export", help=text("cli.ledger_export"))
@options_of(ExportOptions, "ledger")
@click.pass_obj
def export(flags: dict[str, Any], **given: Any) -> None:
    from baimo.store.export import WRITERS, write_parquet
    from baimo.workspace.workspace import Workspace

    options = ExportOptions(**given)
    if options.format == "parquet" and options.output is None:
        raise UsageError("bookkeeping.parquet_needs_file")
    with Workspace(flags=flags) as workspace:
        records = workspace.bookkeeping.records(options)
        if options.output is None:
            WRITERS[options.format](records, sys.stdout)
            return
        path = Path(options.output)
        if options.format == "parquet":
            count = write_parquet(records, path)
        else:
            try:
                with path.open("w", encoding="utf-8", newline="") as out:
                    count = WRITERS[options.format](records, out)
            except OSError as error:
                raise UsageError("bookkeeping.cannot_write", path=path, problem=error.strerror) from error
    click.echo(text("bookkeeping.exported", count=count, path=path), err=True)


@ledger.command("verify", help=text("cli.ledger_verify"))
@click.option("--anchor", multiple=True, metavar="LINE:HASH", help=text("cli.option_anchor"))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def verify(flags: dict[str, Any], anchor: tuple[str, ...], as_json: bool) -> int:
    from baimo.workspace.bookkeeping import anchor_of
    from baimo.workspace.workspace import Workspace

    anchors = [anchor_of(one) for one in anchor]
    with Workspace(flags=flags) as workspace:
        books = workspace.bookkeeping
        with _bar(text("bookkeeping.verifying")) as progress:
            found = books.verify(progress)
        held = {one: books.holds(one) for one in anchors}
    broken = [one for one, holds in held.items() if holds is False]
    ok = found.ok and not broken
    if as_json:
        shown = {name: getattr(found, name) for name in found.__dataclass_fields__}
        shown["findings"] = [one._asdict() for one in found.findings]
        shown["anchors"] = [{**one._asdict(), "holds": holds} for one, holds in held.items()]
        show_json({"ok": ok, **shown})
        return 0 if ok else 1
    for finding in found.findings:
        click.secho(str(finding), fg="red")
    for one, holds in held.items():
        name = {True: "anchor_holds", False: "anchor_broken", None: "anchor_gone"}[holds]
        click.secho(text(f"bookkeeping.{name}", line=one.seq), fg=None if holds else "red")
    if found.problems > len(found.findings):
        click.echo(text("bookkeeping.more_findings", count=found.problems - len(found.findings)))
    facts = {"lines": found.lines, "first": found.first, "last": found.last, "unpriced": found.unpriced}
    click.echo(text("bookkeeping.verified" if ok else "bookkeeping.not_verified", **facts), err=True)
    if found.last:
        click.echo(text("bookkeeping.head", line=found.last, chain=found.chain), err=True)
    return 0 if ok else 1


@ledger.command("reconcile", help=text("cli.ledger_reconcile"))
@options_of(ReconcileOptions, "ledger")
@click.option("--all", "everything", is_flag=True, help=text("cli.option_all_days"))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def reconcile(flags: dict[str, Any], everything: bool, as_json: bool, **given: Any) -> int:
    from baimo.cli.reconciled import rows
    from baimo.workspace.reconciliation import data
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        found = workspace.bookkeeping.reconcile(ReconcileOptions(**given))
    if as_json:
        show_json(data(found))
        return 1 if found.differing else 0
    heads = [_column(name) for name in ("day", "model", "figure", "statement", "ledger", "difference")]
    if everything or found.differing:
        table(heads, rows(found, everything=everything), empty="")
    _told(found)
    return 1 if found.differing else 0


@ledger.command("prune", help=text("cli.ledger_prune"))
@click.option("--before", help=text("cli.option_before_prune"))
@click.option("--yes", is_flag=True, help=text("cli.option_yes"))
@click.pass_obj
def prune(flags: dict[str, Any], before: str | None, yes: bool) -> None:
    from baimo.core.moments import shown
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        books = workspace.bookkeeping
        before_ms = books.prunable_ms(before)
        confirmed(text("bookkeeping.confirm_prune", when=shown(before_ms)), yes=yes)
        with _bar(text("bookkeeping.pruning")) as progress:
            gone = books.prune(before_ms, progress)
    click.echo(text("bookkeeping.pruned", records=gone.records, contents=gone.contents), err=True)


@ledger.command("forget", help=text("cli.ledger_forget"))
@click.option("--tenant", help=text("cli.option_tenant"))
@click.option("--before", help=text("cli.option_before"))
@click.option("--record", help=text("cli.option_record"))
@click.option("--yes", is_flag=True, help=text("cli.option_yes"))
@click.pass_obj
def forget(
    flags: dict[str, Any], tenant: str | None, before: str | None, record: str | None, yes: bool
) -> None:
    from baimo.core.moments import shown
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        books = workspace.bookkeeping
        what = books.forgettable(tenant, before, record)
        named = {
            "tenant": tenant,
            "before": what["before_ms"] and shown(what["before_ms"]),
            "record": record,
        }
        which = [text(f"bookkeeping.of_{name}", it=it) for name, it in named.items() if it]
        confirmed(text("bookkeeping.confirm_forget", which=" ".join(which)), yes=yes)
        gone = books.forget(what)
    click.echo(text("cli.forgotten", count=gone), err=True)


def _told(found: Reconciliation) -> None:
    """What is not a difference but explains one, on stderr."""
    from baimo.core.moments import shown

    for note in found.notes:
        click.echo(text(note.key, **note.facts), err=True)
    for one in found.doubtful[:DOUBTFUL]:
        reasons = {"unsure": one.unsure, "estimated": one.estimated, "unpriced": one.unpriced}
        why = [text(f"bookkeeping.why_{name}") for name, holds in reasons.items() if holds]
        facts = {"record": one.record, "when": shown(one.began_ms), "model": one.model}
        click.echo(
            text("bookkeeping.doubtful", **facts, why=", ".join(why) or text("bookkeeping.why_uncounted")),
            err=True,
        )
    if found.doubts > DOUBTFUL:
        click.echo(text("bookkeeping.more_doubtful", count=found.doubts - DOUBTFUL), err=True)
    facts = {
        "form": found.statement.form.name,
        "since": shown(found.since_ms),
        "until": shown(found.until_ms),
    }
    count = {"rows": len(found.rows), "differing": len(found.differing)}
    click.echo(
        text("bookkeeping.differs" if found.differing else "bookkeeping.agrees", **facts, **count), err=True
    )


@contextmanager
def _bar(words: str) -> Generator[Callable[[int, int], None] | None]:
    """A progress bar on stderr where somebody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(words, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def _cells(row: dict[str, Any]) -> list[str]:
    names = ("tenant", "key", "surface", "model", "tokens_in", "tokens_out")
    cost = "?" if row["cost"] is None else f"{row['cost']} {row['currency']}"
    middle = [_shown(row.get(name)) for name in names]
    return [row["at"], row["id"], *middle, cost, row.get("status", "ok")]


def _figure(row: dict[str, Any], name: str) -> str:
    """Unknown costs are counted beside the sum, never in it."""
    if name != "cost":
        return str(row[name])
    return "?" if row["cost"] is None else f"{row['cost']} {row['currency']}"


def _shown(value: Any) -> str:
    """A cell; what a client named must not move the cursor."""
    if value is None or value == "":
        return "–"
    return "".join(one if one.isprintable() else "\ufffd" for one in str(value))


def _column(name: str) -> str:
    return text(f"cli.column_{'public' if name == 'key' else name}")


def _none() -> str:
    return text("bookkeeping.no_records")
