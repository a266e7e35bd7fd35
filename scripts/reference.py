"""Writes docs/reference/{api,cli,config,errors,metrics,models}.md from the code, so that no page tells another story.

    python scripts/reference.py [--check]

With --check nothing is written; the exit code is 1 when a page is not what the code says.
"""

from __future__ import annotations

import ast
import inspect
import os
import sys
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ["BAIMO_LANG"] = "en"  # help texts are made when the commands are imported

import click
import msgspec

from baimo import config, errors
from baimo.cli.main import COMMANDS, group
from baimo.evals.tasks.toml import written
from baimo.models.catalogue import Catalogue
from baimo.server.admin.describing import document
from baimo.server.admin.table import OPERATIONS
from baimo.server.metrics import OTHER, TABLE
from baimo.settings import CAPITALS, Settings

FOLDER = Path(__file__).parents[1] / "docs" / "reference"


def pages() -> dict[str, str]:
    """Name of each file and what it must hold."""
    return {
        "api.md": api(),
        "cli.md": cli(),
        "config.md": settings(),
        "errors.md": exceptions(),
        "metrics.md": metrics(),
        "models.md": models(),
    }


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


# the admin API


def api() -> str:
    """Every operation of the admin API with its fields."""
    described = document(OPERATIONS)
    parts = [
        "# The admin API\n\n",
        f"{described['info']['description']}\n\n",
        "A running endpoint describes itself at `/api/docs` (a page; the browser's password is the key) and "
        "`/api/openapi.json` (OpenAPI 3.1), in English and Chinese. Refusals are "
        '`{"error": {"code", "message", "hint", "field"}}`; `field` is a JSON pointer.\n',
    ]
    for tag in described["tags"]:
        parts.append(f"\n## {tag['name']}\n")
        for path, methods in described["paths"].items():
            for method, one in methods.items():
                if one["tags"] == [tag["name"]]:
                    parts.append(_operation(method, path, one))
    return "".join(parts)


def _operation(method: str, path: str, one: dict[str, Any]) -> str:
    content = one.get("requestBody", {}).get("content", {}).get("application/json", {})
    fields = {field["name"]: field["schema"] for field in one["parameters"]}
    fields |= content.get("schema", {}).get("properties", {})
    needed = {field["name"] for field in one["parameters"] if field["required"]}
    needed |= set(content.get("schema", {}).get("required", ()))
    head = f"\n### {method.upper()} {path}\n\n{one['summary']}. {one['description']}\n"
    rows = [
        [f"`{name}`" + (" (needed)" if name in needed else ""), field.get("description", "")]
        for name, field in fields.items()
    ]
    return head + ("\n" + table(["field", "meaning"], rows) if rows else "")


# the command line


def cli() -> str:
    """Every command with its arguments and options."""
    root = group()
    context = click.Context(root, info_name="baimo", **root.context_settings)
    parts = [
        "# The command line\n\nData goes to stdout, talk to stderr; where there is `--json`, stdout is JSON and "
        "nothing else. `--lang` may stand anywhere. `NO_COLOR` and `BAIMO_LANG` are heeded.\n",
        _options(root, context),
        *(page for name in sorted(COMMANDS) for page in _command(root, context, name)),
        "## Exit codes\n\n",
        table(["code", "meaning", "exceptions"], list(exit_codes())),
    ]
    return "\n".join(parts)


def _command(parent: click.Group, above: click.Context, name: str) -> Iterator[str]:
    command = parent.get_command(above, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=above)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"{'##' if above.parent is None else '###'} {context.command_path}\n"
    yield f"`{usage}`\n\n{inspect.cleandoc(command.help or '')}\n"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            yield from _command(command, context, inner)
    else:
        yield _options(command, context)


def _options(command: click.Command, context: click.Context) -> str:
    options = [one for one in command.get_params(context) if isinstance(one, click.Option)]
    records = [record for one in options if (record := one.get_help_record(context))]
    return table(["option", "meaning"], [[f"`{names}`", words] for names, words in records])


EXIT_CODES = {
    0: "done",
    1: "anything else that a person can mend; `baimo tasks check`, `baimo data check`: something must be mended; "
    "`baimo ledger verify`: the ledger does not hold; `baimo ledger reconcile`: it differs from the statement",
    2: "wrong input: the command, the settings, the task, or the name of a model",
    3: "nobody answered: a provider, a scorer or a source of weights failed",
    4: "the workspace cannot be read or written",
    5: "the next call could cost more than is left",
    6: "`--require` was not met; the verdict stands",
    130: "interrupted with Ctrl-C; `compare` says how to go on",
}


def exit_codes() -> Iterator[tuple[str, str, str]]:
    """What every exit code says, and the exceptions that end with it."""
    for code, words in EXIT_CODES.items():
        kinds = [kind for kind in error_kinds() if kind.__dict__.get("exit_code") == code]
        yield str(code), words, ", ".join(f"`{kind.__name__}`" for kind in kinds)


# settings


def settings() -> str:
    """Every key of baimo.toml with type, default and variable."""
    sections = typing.get_type_hints(Settings, include_extras=True)
    parts = [
        "# baimo.toml\n\nLooked for in the current folder, then in its parents; `BAIMO_CONFIG` names another file. "
        "Every value may come from four places, each stronger than the one before: default, baimo.toml, environment "
        "variable, flag. An unknown key is an error.\n",
        table(
            ["key", "type", "default", "variable", "meaning"],
            [
                [
                    "`language`",
                    _type(sections["language"]),
                    "",
                    "`BAIMO_LANG`",
                    docstrings(Settings)["language"],
                ]
            ],
        ),
    ]
    for section, hint in sections.items():
        kind = (
            hint if isinstance(hint, type) else typing.get_args(hint)[-1] if typing.get_args(hint) else None
        )
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            title, _, words = inspect.cleandoc(kind.__doc__ or "").partition(": ")
            parts.append(f"## {title}\n\n{words[0].upper()}{words[1:]}\n")
            parts.append(_keys(section, kind))
    return "\n".join(parts)


def _keys(section: str, kind: type[msgspec.Struct]) -> str:
    hints, told = typing.get_type_hints(kind, include_extras=True), docstrings(kind)
    named = section in ("providers", "models", "routes")
    rows: list[list[str]] = []
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        single = typing.get_origin(hint) not in (dict, list, tuple)
        variable = f"`{config.variable_of(section, field.name)}`" if single and not named else "–"
        default = text_of_default(field)
        rows.append([f"`{field.name}`", _type(hint), default, variable, told[field.name]])
    return table(["key", "type", "default", "variable", "meaning"], rows)


def text_of_default(field: Any) -> str:
    """What holds when nothing is said; "required" where something must be."""
    if field.required:
        return "required"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return "–" if value is None else f"`{written(value)}`" if value != "" else ""


def _type(hint: Any) -> str:
    """A type for a person, with its bounds."""
    if typing.get_origin(hint) is typing.Annotated:
        kind, *bounds = typing.get_args(hint)
        return f"{_type(kind)} {' and '.join(_bound(one) for one in bounds)}"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_type(one) for one in typing.get_args(hint) if one is not type(None))
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(f"`{one}`" for one in typing.get_args(hint) if one)
    if typing.get_origin(hint) is dict:
        return f"table of {_type(typing.get_args(hint)[1])}"
    if typing.get_origin(hint) in (list, tuple):
        return f"list of {_type(typing.get_args(hint)[0])}"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return "table with " + ", ".join(f"`{name}`" for name in hint.__struct_fields__)
    return {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}[hint]


def _bound(meta: msgspec.Meta) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = ((sign, getattr(meta, name)) for name, sign in signs.items())
    shown = [f"{sign} {value:g}" for sign, value in bounds if value is not None]
    return " and ".join([*shown, *(["of three capitals"] if meta.pattern == CAPITALS else [])])


def docstrings(kind: type[Any]) -> dict[str, str]:
    """The line under each field of a class."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, words in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(words, ast.Expr)
        ):
            found[field.target.id] = " ".join(ast.literal_eval(words.value).split())
    return found


# errors


def error_kinds() -> list[type[errors.BaimoError]]:
    """Every exception, in the order of the source."""
    kinds = [
        one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.BaimoError)
    ]
    return [one for one in kinds if one.__module__ == errors.__name__]


def sentence(kind: type[Any]) -> str:
    """The first sentence of a class's documentation."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split())


def exceptions() -> str:
    """The tree, and what each exception asks of the reader."""
    tree = inspect.cleandoc(errors.__doc__ or "").split("\n\n")[1]
    rows = [
        [
            f"`{kind.__name__}`",
            str(kind.exit_code),
            str(kind.http_status),
            "yes" if getattr(kind, "retryable", False) else "–",
            sentence(kind),
        ]
        for kind in error_kinds()
    ]
    return (
        "# Exceptions and exit codes\n\nAll live in `baimo.errors`. `str(error)` says what is wrong and where, "
        "`error.hint` what to do next, in the reader's language; `error.key` is the same in all languages, and "
        "`error.facts` holds what the message names.\n\n"
        f"```\n{inspect.cleandoc(tree)}\n```\n\n"
        + table(["exception", "exit code", "HTTP status", "tried again", "meaning"], rows)
        + "\n## Exit codes\n\n"
        + table(["code", "meaning", "exceptions"], list(exit_codes()))
    )


# metrics


def metrics() -> str:
    """Every metric of /metrics."""
    parts = [
        "# Metrics\n\nWhat `GET /metrics` answers, as Prometheus text or OpenMetrics: the sum of all workers of "
        "the workspace on this machine. Counters outlive workers and restarts. How to use them: "
        "[observe](../guides/observe.md).\n\n"
        "Model names are labels if the catalogue, the settings or a route names them, or once they have answered; "
        f"others are counted as `vendor/{OTHER}`. Keys appear by their public part, and only those with a money "
        "limit. A sum of money is in millionths of its currency's unit.\n"
    ]
    for kind, title in (("counter", "Counters"), ("gauge", "Gauges"), ("histogram", "Histograms")):
        rows = [
            [
                f"`{metric.name}`",
                ", ".join(f"`{label}`" for label in metric.labels) or "–",
                metric.means,
                *([", ".join(f"{bound:g}" for bound in metric.bounds)] if kind == "histogram" else []),
            ]
            for metric in TABLE
            if metric.kind == kind
        ]
        heads = ["metric", "labels", "meaning", *(["buckets, seconds"] if kind == "histogram" else [])]
        parts.append(f"## {title}\n\n{table(heads, rows)}")
    return "\n".join(parts)


# the catalogue


def models() -> str:
    """Every vendor, with key, address and how much is known of its models."""
    catalogue = Catalogue.load(Settings())
    rows: list[list[str]] = []
    total = priced = 0
    for vendor in catalogue.vendors():
        listed = list(catalogue.models(vendor.name))
        known = [model for model in listed if model.price is not None]
        total, priced = total + len(listed), priced + len(known)
        title = (
            vendor.title if vendor.title_zh in ("", vendor.title) else f"{vendor.title} ({vendor.title_zh})"
        )
        rows.append(
            [
                f"`{vendor.name}`",
                f"[{title}]({vendor.docs})" if vendor.docs else title,
                f"`{vendor.key_variable}`" if vendor.key_variable else "–",
                f"`{vendor.base_url}`" if vendor.base_url else "–",
                vendor.protocol,
                "inside" if vendor.inside else vendor.country,
                str(len(listed)) if listed else "any",
                str(len(known)) if listed else "–",
            ]
        )
    return (
        "# Vendors and models\n\nWhat `baimo models` knows without asking anybody: "
        f"{len(rows)} vendors, {total} models, {priced} of them with prices. `baimo models list VENDOR` shows the "
        "models, `baimo models show NAME` everything about one, with the source and date of its price. Where a vendor "
        "lists no models, any name is passed on. Add your own in [baimo.toml](config.md).\n\n"
        + table(["vendor", "name", "key variable", "address", "protocol", "seat", "models", "priced"], rows)
    )


def main() -> None:
    """Write the pages, or say which are not current."""
    check = sys.argv[1:] == ["--check"]
    stale: list[str] = []
    for name, page in pages().items():
        path = FOLDER / name
        if path.exists() and path.read_text(encoding="utf-8") == page:
            continue
        stale.append(str(path.relative_to(FOLDER.parents[1])))
        if not check:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(page, encoding="utf-8")
    for path in stale:
        print(f"{path} is not what the code says; run `make docs`" if check else f"written: {path}")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
