"""`baimo tenants create|list|show|change|disable|forget`: who pays, and whose data it is."""

from __future__ import annotations

from typing import Any

import click

from baimo.cli.command import Group
from baimo.cli.confirm import confirmed
from baimo.cli.options import options_of
from baimo.cli.tables import show_json, table
from baimo.text import text
from baimo.workspace.account_options import TenantChanges, TenantOptions


@click.group(cls=Group, help=text("cli.tenants"))
def tenants() -> None: ...


@tenants.command("create", help=text("cli.tenants_create"))
@options_of(TenantOptions, "tenants")
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def create(flags: dict[str, Any], as_json: bool, **given: Any) -> None:
    from baimo.workspace.accounting import tenant_row
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        made = workspace.accounting.create_tenant(TenantOptions(**given))
    if as_json:
        show_json(tenant_row(made))
    else:
        click.echo(text("cli.tenant_created", tenant=made.id), err=True)


@tenants.command("list", help=text("cli.tenants_list"))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def list_(flags: dict[str, Any], as_json: bool) -> None:
    from baimo.workspace.accounting import tenant_row
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        rows = [tenant_row(tenant) for tenant in workspace.accounts.tenants()]
    if as_json:
        show_json(rows)
        return
    yes_no = {True: text("cli.yes"), False: text("cli.no")}
    table(
        [text(f"cli.column_{name}") for name in ("tenant", "title", "data_class", "limits", "disabled")],
        [
            [
                row["id"],
                row["title"] or "–",
                row["data_class"],
                " ".join(row["limits"]) or "–",
                yes_no[row["disabled"]],
            ]
            for row in rows
        ],
        empty="",
    )


@tenants.command("show", help=text("cli.tenants_show"))
@click.argument("tenant")
@click.pass_obj
def show(flags: dict[str, Any], tenant: str) -> None:
    from baimo.workspace.accounting import key_row, tenant_row
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        found = workspace.accounting.tenant(tenant)
        keys = [key_row(key) for key in workspace.accounting.keys(tenant)]
        spent = workspace.accounting.spent(found)
    show_json({**tenant_row(found), "spent": spent, "keys": keys})


@tenants.command("change", help=text("cli.tenants_change"))
@options_of(TenantChanges, "tenants")
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def change(flags: dict[str, Any], as_json: bool, **given: Any) -> None:
    from baimo.workspace.accounting import tenant_row
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        changed = workspace.accounting.change_tenant(TenantChanges(**given))
    if as_json:
        show_json(tenant_row(changed))
    else:
        click.echo(text("cli.tenant_changed", tenant=given["id"]), err=True)


@tenants.command("disable", help=text("cli.tenants_disable"))
@click.argument("tenant")
@click.option("--undo", is_flag=True, help=text("cli.option_undo"))
@click.pass_obj
def disable(flags: dict[str, Any], tenant: str, undo: bool) -> None:
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        workspace.accounting.disable_tenant(tenant, disabled=not undo)
    click.echo(text("cli.tenant_enabled" if undo else "cli.tenant_disabled", tenant=tenant), err=True)


@tenants.command("forget", help=text("cli.tenants_forget"))
@click.argument("tenant")
@click.option("--yes", is_flag=True, help=text("cli.option_yes"))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def forget(flags: dict[str, Any], tenant: str, yes: bool, as_json: bool) -> None:
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        workspace.accounting.tenant(tenant)
        confirmed(text("cli.confirm_forget_tenant", tenant=tenant), yes=yes)
        gone = workspace.accounting.forget_tenant(tenant)
    if as_json:
        show_json({"tenant": tenant, "deleted": gone})
    else:
        click.echo(text("cli.forgotten", count=sum(gone.values())), err=True)
