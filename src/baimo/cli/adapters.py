"""`baimo adapters list|show|merge|export|import|check|retire|rm`: tuned models, and whether they may answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from baimo.cli.command import Group, OneOf
from baimo.cli.confirm import confirmed
from baimo.cli.tables import show_json, table
from baimo.text import text

FORMS = ("safetensors", "gguf-f16", "gguf-q8_0", "gguf-adapter", "ollama")


@click.group(cls=Group, help=text("adapters.help"))
def adapters() -> None: ...


@adapters.command("list", help=text("adapters.help_list"))
@click.option("--tenant", help=text("adapters.option_tenant"))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def list_(flags: dict[str, Any], tenant: str | None, as_json: bool) -> None:
    from baimo.core.moments import shown as day
    from baimo.workspace.accounting import tenant_id
    from baimo.workspace.adapting import shown
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        found = workspace.adapting.page(None if tenant is None else tenant_id(tenant))
    if as_json:
        show_json([shown(one) for one in found])
        return
    names = ("name", "kind", "status", "tenant", "base", "created")
    rows = [
        [one.name, one.kind, one.status, one.tenant or "–", one.base, day(one.created_ms)] for one in found
    ]
    table([text(f"adapters.column_{name}") for name in names], rows, empty=text("adapters.empty"))


@adapters.command("show", help=text("adapters.help_show"))
@click.argument("name")
@click.pass_obj
def show(flags: dict[str, Any], name: str) -> None:
    from baimo.workspace.adapting import shown
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        show_json(shown(workspace.adapting.found(name)))


@adapters.command("merge", help=text("adapters.help_merge"))
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.pass_obj
def merge(flags: dict[str, Any], name: str, folder: Path) -> None:
    _export(flags, name, folder, "safetensors")


@adapters.command("export", help=text("adapters.help_export"))
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--form", type=OneOf(FORMS), default="gguf-f16", help=text("adapters.option_form"))
@click.pass_obj
def export(flags: dict[str, Any], name: str, folder: Path, form: str) -> None:
    _export(flags, name, folder, form)


@adapters.command("import", help=text("adapters.help_import"))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--base", required=True, help=text("adapters.option_base"))
@click.option("--suffix", default="", help=text("adapters.option_suffix"))
@click.option("--tenant", help=text("adapters.option_tenant"))
@click.option("--unchecked", is_flag=True, help=text("adapters.option_unchecked"))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def import_(flags: dict[str, Any], folder: Path, tenant: str | None, as_json: bool, **given: Any) -> int:
    from baimo.workspace.accounting import tenant_id
    from baimo.workspace.adapting import ImportOptions
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        whose = "" if tenant is None else workspace.accounting.tenant(tenant_id(tenant)).id
        made = workspace.adapting.imported(ImportOptions(folder=folder, tenant=whose, **given))
    return _told(made, as_json=as_json)


@adapters.command("check", help=text("adapters.help_check"))
@click.argument("name")
@click.option("--prompts", type=int, default=8, help=text("adapters.option_prompts"))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def check(flags: dict[str, Any], name: str, prompts: int, as_json: bool) -> int:
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        judged = workspace.adapting.check(workspace.adapting.found(name), prompts=prompts)
    return _told(judged, as_json=as_json)


@adapters.command("retire", help=text("adapters.help_retire"))
@click.argument("name")
@click.pass_obj
def retire(flags: dict[str, Any], name: str) -> None:
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        gone = workspace.adapting.retire(workspace.adapting.found(name))
    click.echo(text("adapters.now_retired", name=gone.name), err=True)


@adapters.command("rm", help=text("adapters.help_rm"))
@click.argument("name")
@click.option("--yes", is_flag=True, help=text("cli.option_yes"))
@click.pass_obj
def rm(flags: dict[str, Any], name: str, yes: bool) -> None:
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        found = workspace.adapting.found(name)
        confirmed(text("adapters.confirm_rm", name=found.name), yes=yes)
        workspace.adapting.delete(found)
    click.echo(text("adapters.removed", name=found.name), err=True)


def _export(flags: dict[str, Any], name: str, folder: Path, form: str) -> None:
    from baimo.workspace.workspace import Workspace

    with Workspace(flags=flags) as workspace:
        click.echo(workspace.adapting.exported(workspace.adapting.found(name), folder, form))


def _told(adapter: Any, *, as_json: bool) -> int:
    """The adapter and the gate's judgement; exit code 1 where it is blocked."""
    from baimo.tuning.adapters.card import parity_line
    from baimo.workspace.adapting import shown

    if as_json:
        show_json(shown(adapter))
    else:
        click.echo(adapter.name)
        click.echo(parity_line(adapter.parity), err=True)
        click.echo(text("adapters.now", name=adapter.name, status=adapter.status), err=True)
    return 1 if adapter.status == "blocked" else 0
