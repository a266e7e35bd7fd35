"""`baimo models`: what is on offer, how it gets here, and what was released to whom."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from baimo.cli.command import Group, Number
from baimo.cli.releases import promote, releases, rollback
from baimo.cli.tables import show_json, table
from baimo.errors import UsageError
from baimo.text import language, text

if TYPE_CHECKING:
    from baimo.core.model import Model


@click.group(cls=Group, help=text("cli.models"))
def models() -> None: ...


for command in (promote, rollback, releases):
    models.add_command(command)


@models.command("list", help=text("cli.models_list"))
@click.argument("vendor", required=False)
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def list_(flags: dict[str, Any], vendor: str | None, as_json: bool) -> None:
    _show(_catalogue(flags).models(vendor), as_json=as_json)


@models.command("search", help=text("cli.models_search"))
@click.argument("words", nargs=-1)
@click.option("--vendor", help=text("cli.option_vendor"))
@click.option("--ability", multiple=True, help=text("cli.option_ability"))
@click.option("--max-price", type=Number(float), help=text("cli.option_max_price"))
@click.option("--country", help=text("cli.option_country"))
@click.option("--inside", is_flag=True, default=None, help=text("cli.option_inside"))
@click.option("--open-weights", is_flag=True, default=None, help=text("cli.option_open_weights"))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def search(flags: dict[str, Any], words: tuple[str, ...], as_json: bool, **conditions: Any) -> None:
    _show(_catalogue(flags).search(" ".join(words), **conditions), as_json=as_json)


@models.command("vendors", help=text("cli.models_vendors"))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def vendors(flags: dict[str, Any], as_json: bool) -> None:
    from dataclasses import asdict

    found = _catalogue(flags).vendors()
    if as_json:
        show_json([asdict(vendor) for vendor in found])
        return
    chinese = language() == "zh"
    table(
        [text(f"cli.column_{name}") for name in ("vendor", "title", "key", "address")],
        [
            [
                vendor.name,
                (vendor.title_zh if chinese else "") or vendor.title,
                vendor.key_variable or "–",
                vendor.base_url or "–",
            ]
            for vendor in found
        ],
        empty=text("cli.no_models"),
    )


@models.command("show", help=text("cli.models_show"))
@click.argument("name")
@click.pass_obj
def show(flags: dict[str, Any], name: str) -> None:
    from dataclasses import asdict

    catalogue = _catalogue(flags)
    model = catalogue.model(name)
    shown = {"model": _row(model), "vendor": asdict(catalogue.vendor(model.vendor))}
    show_json(shown)


@models.command("pull", help=text("cli.models_pull"))
@click.argument("name")
@click.pass_obj
def pull(flags: dict[str, Any], name: str) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from baimo.workspace.workspace import Workspace

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Workspace(flags=flags) as workspace, Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(name, total=None)
        pulled = workspace.pull(name, lambda done, total: progress.update(bar, completed=done, total=total))
        progress.update(bar, completed=pulled.bytes, total=pulled.bytes)
    click.echo(pulled.path)
    click.echo(text("cli.pulled", bytes=pulled.bytes, sha256=pulled.sha256), err=True)


@models.command("test", help=text("cli.models_test"))
@click.argument("name")
@click.option("--check", "checks", multiple=True, help=text("cli.option_check"))
@click.option("--json", "as_json", is_flag=True, help=text("cli.option_json"))
@click.pass_obj
def test(flags: dict[str, Any], name: str, checks: tuple[str, ...], as_json: bool) -> int:
    from baimo.core.ids import plain
    from baimo.models.probe import CHECKS
    from baimo.workspace.workspace import Workspace

    for check in checks:
        if check not in (*CHECKS, "all"):
            wanted = text("cli.wants_one_of", choices=", ".join((*CHECKS, "all")))
            raise UsageError("cli.bad_option", option="--check", value=check, wanted=wanted)
    wanted = tuple(CHECKS) if "all" in checks else checks
    with Workspace(flags=flags) as workspace:
        found = workspace.probe(name, wanted)
    if found.error is not None:
        raise found.error
    if as_json:
        shown = {**plain(found), "checks": {check.ability: check.seen for check in found.checks}}
        show_json(shown)
        return 0
    yes_no = {True: text("cli.yes"), False: text("cli.no")}
    rows = [
        [text("cli.probe_reachable"), yes_no[found.reachable]],
        [text("cli.probe_reply"), found.reply.strip()[:80]],
        [text("cli.probe_latency"), "–" if found.latency_ms is None else f"{found.latency_ms:.0f} ms"],
        [text("cli.probe_usage"), yes_no[found.usage_reported]],
        [text("cli.probe_price"), yes_no[found.price_known]],
        *([check.ability, yes_no[check.seen]] for check in found.checks),
    ]
    table(["", ""], rows, empty="")
    return 0


def _catalogue(flags: dict[str, Any]) -> Any:
    from pathlib import Path

    from baimo.config import settings
    from baimo.models.catalogue import Catalogue

    return Catalogue.load(settings(Path(), flags=flags))


def _row(model: Model) -> dict[str, Any]:
    from baimo.core.ids import plain

    price = model.price
    row = plain({**{name: getattr(model, name) for name in _FACTS}, "name": model.name})
    row["price"] = None if price is None else {name: _number(getattr(price, name)) for name in _PRICES}
    return row


_FACTS = (
    "upstream",
    "context_window",
    "max_output",
    "abilities",
    "open_weights",
    "license",
    "released",
    "shutdown",
)
_PRICES = ("currency", "input_per_million", "output_per_million", "cached_per_million", "source", "as_of")


def _number(value: Any) -> Any:
    return None if value is None else str(value)


def _show(found: Iterable[Model], *, as_json: bool) -> None:
    found = list(found)
    if as_json:
        show_json([_row(model) for model in found])
        return
    rows = [
        [model.name, *_price(model), str(model.context_window or "?"), " ".join(model.abilities)]
        for model in found
    ]
    columns = [text(f"cli.column_{name}") for name in ("model", "input", "output", "context", "abilities")]
    table(columns, rows, empty=text("cli.no_models"))


def _price(model: Model) -> tuple[str, str]:
    """Per million tokens; an unknown price is a question mark, never 0."""
    price = model.price
    if price is None:
        return "?", "?"
    sides = (price.input_per_million, price.output_per_million)
    first, second = ("?" if side is None else f"{side} {price.currency}" for side in sides)
    return first, second
