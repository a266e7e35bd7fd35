"""`baimo tasks list|recipe|delete|restore`: the tasks of a workspace by their names, as the console shows them.

Prevents the failure of a command that goes around a rule of the API: the same code looks whether a task is still used,
and what is deleted is put away with its history.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import click

from baimo.cli.command import Command
from baimo.cli.tables import show_json, table
from baimo.text import text

if TYPE_CHECKING:
    from baimo.store.audit import Actor
    from baimo.workspace.task_keeping import TaskKeeping

_TENANT = click.option("--tenant", default="owner", help=text("cli.option_tasks_tenant"))
_JSON = click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))


class Keeper(NamedTuple):
    """Who looks after which tasks."""

    keeping: TaskKeeping
    tenant: str
    """Tenant.id."""
    actor: Actor


@contextmanager
def _keeper(flags: dict[str, Any], tenant: str) -> Generator[Keeper]:
    from baimo.store.audit import Actor
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        known = workspace.accounting.tenant(tenant).id
        yield Keeper(workspace.tasks, known, Actor(known))


@click.command("list", cls=Command, help=text("cli.tasks_list"))
@click.option("--deleted", is_flag=True, help=text("cli.option_deleted"))
@_TENANT
@_JSON
@click.pass_obj
def list_(flags: dict[str, Any], deleted: bool, tenant: str, as_json: bool) -> None:
    with _keeper(flags, tenant) as keeper:
        found = (
            _deleted(keeper)
            if deleted
            else [_line(keeper, one) for one in keeper.keeping.tasks.listed(keeper.tenant)]
        )
    if as_json:
        show_json(found)
        return
    names = (
        ("deleted", "name", "test", "train", "at")
        if deleted
        else ("name", "test", "train", "scorers", "version", "changed", "standing")
    )
    rows = [[_cell(one[name]) for name in names] for one in found]
    empty = text("cli.no_deleted_tasks" if deleted else "cli.no_tasks")
    table([text(f"cli.task_column_{name}") for name in names], rows, empty=empty)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, cast("list[Any]", value)))
    return "–" if value is None else str(value)


def _line(keeper: Keeper, known: Any) -> dict[str, Any]:
    from baimo.core.moments import shown
    from baimo.errors import BaimoError

    facts: dict[str, Any] = {"name": known.name, "own": known.own, "folder": str(known.folder)}
    standing = text("cli.task_own" if known.own else "cli.task_read_only")
    try:
        task = keeper.keeping.kept(known.name, keeper.tenant).task
    except BaimoError as error:
        nothing = dict.fromkeys(("test", "train", "scorers", "version", "changed"))
        return {**facts, **nothing, "standing": text("cli.task_broken"), "problem": str(error)}
    versions = keeper.keeping.versions(known.name, keeper.tenant)
    last = versions[-1] if versions else None
    facts |= {
        "test": len(task.examples),
        "train": len(task.train),
        "scorers": [one.name for one in task.scorers],
    }
    facts |= {"version": last.version if last else 0, "changed": shown(last.at_ms) if last else None}
    return {**facts, "standing": standing, "problem": None}


def _deleted(keeper: Keeper) -> list[dict[str, Any]]:
    from baimo.workspace.task_deleted import DeletedTasks

    return [_gone(one) for one in DeletedTasks(keeper.keeping).all(keeper.tenant)]


def _gone(one: Any) -> dict[str, Any]:
    from baimo.core.moments import shown
    from baimo.core.rights import OWNER_NAME

    facts = {"deleted": one.id, "name": one.name, "at": shown(one.at_ms), "tenant": one.tenant or OWNER_NAME}
    return {**facts, "key": one.key or None, "test": one.test, "train": one.train}


@click.command(cls=Command, help=text("cli.tasks_recipe"))
@click.argument("name")
@click.option("--from", "source", type=click.File(encoding="utf-8"), help=text("cli.option_recipe_from"))
@_TENANT
@_JSON
@click.pass_obj
def recipe(flags: dict[str, Any], name: str, source: Any, tenant: str, as_json: bool) -> None:
    import msgspec

    from baimo.workspace.task_recipe import Recipes, recipe_of, source_of

    with _keeper(flags, tenant) as keeper:
        if source is not None:
            made = Recipes(keeper.keeping).rewrite(name, keeper.tenant, keeper.actor, source.read())
            said = text("cli.recipe_same", name=name)
            if made is not None:
                said = text("cli.recipe_version", name=name, version=made.version)
            click.echo(said, err=True)
        if as_json:
            found = recipe_of(keeper.keeping.kept(name, keeper.tenant))
            show_json({"hash": found.hash, **msgspec.to_builtins(found)})
        elif source is None:
            click.echo(source_of(keeper.keeping.tasks.known(name, keeper.tenant)), nl=False)


@click.command(cls=Command, help=text("cli.tasks_delete"))
@click.argument("name")
@_TENANT
@_JSON
@click.pass_obj
def delete(flags: dict[str, Any], name: str, tenant: str, as_json: bool) -> None:
    from baimo.workspace.compare_queue import CompareQueue
    from baimo.workspace.task_deleted import DeletedTasks

    with _keeper(flags, tenant) as keeper:
        runs = CompareQueue(keeper.keeping.workspace).unended()
        gone = DeletedTasks(keeper.keeping).delete(name, keeper.tenant, keeper.actor, runs=runs)
    click.echo(text("cli.task_deleted", name=name, id=gone.id), err=True)
    if as_json:
        show_json(_gone(gone))


@click.command(cls=Command, help=text("cli.tasks_restore"))
@click.argument("deleted")
@click.option("--name", default="", help=text("cli.option_restore_name"))
@_TENANT
@_JSON
@click.pass_obj
def restore(flags: dict[str, Any], deleted: str, name: str, tenant: str, as_json: bool) -> None:
    from baimo.workspace.task_deleted import DeletedTasks

    with _keeper(flags, tenant) as keeper:
        kept = DeletedTasks(keeper.keeping)
        newest = next((one.id for one in kept.all(keeper.tenant) if one.name == deleted), deleted)
        now = kept.bring_back(newest, keeper.tenant, keeper.actor, name=name)
        line = _line(keeper, keeper.keeping.tasks.known(now, keeper.tenant))
    click.echo(text("cli.task_restored", name=now), err=True)
    if as_json:
        show_json(line)
