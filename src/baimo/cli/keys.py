"""`baimo keys create|list|show|change|rotate|revoke`: who may call the endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from baimo.cli.command import Group
from baimo.cli.options import options_of
from baimo.cli.tables import show_json, table
from baimo.core.moments import shown
from baimo.text import text
from baimo.workspace.account_options import KeyChanges, NewKey

if TYPE_CHECKING:
    from baimo.store.accounts import Minted


@click.group(cls=Group, help=text("cli.keys"))
def keys() -> None: ...


@keys.command("create", help=text("cli.keys_create"))
@options_of(NewKey, "keys")
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def create(flags: dict[str, Any], as_json: bool, **given: Any) -> None:
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        accounting = workspace.accounting
        made = accounting.create_key(NewKey(**given))
        _warned(accounting.unmatched(made.key.models))
    _print_once(made, as_json=as_json)


@keys.command("list", help=text("cli.keys_list"))
@click.option("--tenant", help=text("cli.option_tenant"))
@click.option("--all", "everything", is_flag=True, help=text("cli.option_all_keys"))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def list_(flags: dict[str, Any], tenant: str | None, everything: bool, as_json: bool) -> None:
    from baimo.workspace.accounting import key_row
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        rows = [key_row(key) for key in workspace.accounting.keys(tenant, all=everything)]
    if as_json:
        show_json(rows)
        return
    shown = ("key", "label", "tenant", "standing", "role", "models", "limits", "expires")
    table([_column(name) for name in shown], _cells(rows, shown), empty=text("cli.no_keys"))


@keys.command("show", help=text("cli.keys_show"))
@click.argument("key")
@click.pass_obj
def show(flags: dict[str, Any], key: str) -> None:
    from baimo.workspace.accounting import key_row
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        found = workspace.accounts.key(key)
        show_json({**key_row(found), "spent": workspace.accounting.spent(found)})


@keys.command("change", help=text("cli.keys_change"))
@options_of(KeyChanges, "keys")
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def change(flags: dict[str, Any], as_json: bool, **given: Any) -> None:
    from baimo.workspace.accounting import key_row
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        key = workspace.accounting.change_key(KeyChanges(**given))
        _warned(workspace.accounting.unmatched(key.models))
    if as_json:
        show_json(key_row(key))
    else:
        click.echo(text("cli.key_changed", key=key.public), err=True)


@keys.command("rotate", help=text("cli.keys_rotate"))
@click.argument("key")
@click.option("--grace", help=text("cli.option_grace"))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def rotate(flags: dict[str, Any], key: str, grace: str | None, as_json: bool) -> None:
    from baimo.core.moments import shown
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        old = workspace.accounts.key(key).public
        made = workspace.accounting.rotate(old, grace)
        ends_ms = workspace.accounts.key(old).expires_ms or 0
    _print_once(made, as_json=as_json)
    click.echo(text("cli.key_replaced", key=old, when=shown(ends_ms)), err=True)


@keys.command("revoke", help=text("cli.keys_revoke"))
@click.argument("key")
@click.pass_obj
def revoke(flags: dict[str, Any], key: str) -> None:
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        revoked = workspace.accounts.revoke(key)
        valid = workspace.accounts.replaced_by(revoked)
    click.echo(text("cli.key_revoked", key=revoked.public), err=True)
    for old in valid:
        click.echo(text("cli.key_still_valid", key=old.public, until=shown(old.expires_ms or 0)), err=True)


def _print_once(made: Minted, *, as_json: bool) -> None:
    from baimo.workspace.accounting import key_row

    credential = made.credential.written()
    if as_json:
        show_json({"credential": credential, **key_row(made.key)})
    else:
        click.echo(credential)
    click.echo(text("cli.key_once"), err=True)


def _warned(patterns: Sequence[str]) -> None:
    for pattern in patterns:
        click.echo(text("cli.unmatched", pattern=pattern), err=True)


def _cells(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[list[str]]:
    return [[_cell(row[name]) or "–" for name in names] for row in rows]


def _cell(value: str | list[str] | None) -> str:
    return " ".join(value) if isinstance(value, list) else value or ""


def _column(name: str) -> str:
    return text(f"cli.column_{'public' if name == 'key' else name}")
