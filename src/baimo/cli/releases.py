"""`baimo models promote|rollback|releases`: which model answers to an alias, and the way back."""

from __future__ import annotations

from typing import Any

import click

from baimo.cli.command import Command, Number, with_default
from baimo.cli.tables import show_json, table
from baimo.text import text


@click.command(cls=Command, help=text("releases.help_promote"))
@click.argument("alias")
@click.argument("model")
@click.option("--why", default="", help=text("releases.option_why"))
@click.option("--run", default="", help=text("releases.option_run"))
@click.option("--tenant", default="owner", help=text("releases.option_tenant"))
@click.pass_obj
def promote(flags: dict[str, Any], alias: str, model: str, why: str, run: str, tenant: str) -> None:
    from baimo.workspace.releasing import Promotion
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        asked = Promotion(alias=alias, model=model, why=why, run=run)
        made = workspace.releasing.promote(asked, _by(workspace, tenant))
    click.echo(text("releases.now", alias=made.alias, model=made.model), err=True)


@click.command(cls=Command, help=text("releases.help_rollback"))
@click.argument("alias")
@click.option("--why", default="", help=text("releases.option_why"))
@click.option("--tenant", default="owner", help=text("releases.option_tenant"))
@click.pass_obj
def rollback(flags: dict[str, Any], alias: str, why: str, tenant: str) -> None:
    from baimo.errors import NotFound
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        by, releases = _by(workspace, tenant), workspace.releasing.releases
        newest = next(iter(releases.page(by.tenant, alias=alias, limit=1)), None)
        if newest is None:
            raise NotFound("releases.none_of", alias=alias)
        made = releases.roll_back(newest.id, by, why=why)
    model = made.model or text("releases.configured")
    click.echo(text("releases.now", alias=made.alias, model=model), err=True)


@click.command(cls=Command, help=text("releases.help_releases"))
@click.argument("alias", required=False)
@click.option("--limit", type=Number(int), default=20, help=with_default(text("cli.option_limit"), 20))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def releases(flags: dict[str, Any], alias: str | None, limit: int, as_json: bool) -> None:
    from baimo.core.ids import plain
    from baimo.core.moments import shown
    from baimo.core.rights import OWNER_NAME
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        found = workspace.releasing.releases.page(None, alias=alias, limit=limit)
    if as_json:
        show_json([{**plain(one), "tenant": one.tenant or OWNER_NAME} for one in found])
        return
    names = ("at", "tenant", "alias", "act", "model", "before", "why")
    rows = [
        [
            shown(one.at_ms),
            one.tenant or OWNER_NAME,
            one.alias,
            text(f"releases.act_{one.act}"),
            one.model or "–",
            one.before or "–",
            one.why,
        ]
        for one in found
    ]
    table([text(f"releases.column_{name}") for name in names], rows, empty=text("releases.empty"))


def _by(workspace: Any, tenant: str) -> Any:
    """Who acts: the command line, for a tenant that there is."""
    from baimo.store.audit import Actor

    return Actor(workspace.accounting.tenant(tenant).id)
