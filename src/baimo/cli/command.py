"""Commands that explain themselves in the reader's language: help pages, and complaints about how they were called.

Prevents two failures of the library underneath: its own words exist in English only, and it takes a Chinese character
for one column wide, so that lines run out of the terminal.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import click

from baimo.errors import BaimoError, UsageError
from baimo.text import text

_WIDE = r"\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_CLOSING = r",.:;!?)\]\u2026\u3001\u3002\u300b\u300d\u300f\u3011\uff01\uff09\uff0c\uff1a\uff1b\uff1f"
_PIECE = re.compile(rf"[{_WIDE}][{_CLOSING}]*|\s+|[^\s{_WIDE}]+")


class Formatter(click.HelpFormatter):
    """A help page whose lines end where the terminal does, whatever the script."""

    def write_text(self, text: str) -> None:
        indent = " " * self.current_indent
        for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
            if number:
                self.write("\n")
            for line in wrapped(paragraph, self.width - self.current_indent):
                self.write(f"{indent}{line}\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        rows = list(rows)
        first = min(max(columns(term) for term, _ in rows), col_max) + col_spacing
        indent = " " * self.current_indent
        for term, words in rows:
            lines = wrapped(words, max(self.width - self.current_indent - first, 10))
            if columns(term) > first - col_spacing:
                self.write(f"{indent}{term}\n")
            else:
                self.write(f"{indent}{term}{' ' * (first - columns(term))}{lines.pop(0)}".rstrip() + "\n")
            for line in lines:
                self.write(f"{indent}{' ' * first}{line}\n")


class Context(click.Context):
    formatter_class = Formatter


class Command(click.Command):
    """A command whose headings, help option and complaints come from the message catalogue."""

    context_class = Context

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not isinstance(self, click.Group):
            ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if rest and not isinstance(self, click.Group) and not ctx.resilient_parsing:
            raise UsageError("cli.extra_arguments", command=ctx.command_path, rest=" ".join(rest))
        return rest

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.help = text("cli.option_help")
        return option

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        known = {"[OPTIONS]": text("cli.metavar_options"), "COMMAND [ARGS]...": text("cli.metavar_command")}
        return [known.get(piece, piece) for piece in super().collect_usage_pieces(ctx)]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        pieces = " ".join(self.collect_usage_pieces(ctx))
        formatter.write(text("cli.usage", command=ctx.command_path, arguments=pieces) + "\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = (one for one in self.get_params(ctx) if isinstance(one, click.Option))
        records = [record for one in options if (record := one.get_help_record(ctx))]
        with formatter.section(text("cli.options")):
            formatter.write_dl(records)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)


class Group(Command, click.Group):
    """A command that holds others; a misspelt one is answered with the nearest."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = self.get_command(ctx, args[0])
        if found is None and not ctx.resilient_parsing and not args[0].startswith("-"):
            known = self.list_commands(ctx)
            near = difflib.get_close_matches(args[0], known, n=1) or known
            raise UsageError(
                "cli.no_such_command", name=args[0], command=ctx.command_path, near=", ".join(near)
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section(text("cli.commands")):
            formatter.write_dl([(name, (command and command.help) or "") for name, command in commands])


class Number(click.ParamType):  # pyright: ignore[reportMissingTypeArgument] — generic since click 8.5 only
    """A number; whether it is in range is for whoever takes it to say."""

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind
        self.name = "integer" if kind is int else "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.kind(value)
        except ValueError:
            wanted = text(f"cli.wants_{self.name}")
            raise UsageError("cli.bad_option", option=_named(param), value=value, wanted=wanted) from None


class OneOf(click.Choice[str]):
    """One of a few words; a misspelt one is answered with all of them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            wanted = text("cli.wants_one_of", choices=", ".join(self.choices))
            raise UsageError("cli.bad_option", option=_named(param), value=value, wanted=wanted)
        return str(value)


def complaint(error: click.ClickException) -> BaimoError:
    """What click has to say about a call, in our own words."""
    ctx: click.Context | None = getattr(error, "ctx", None)
    command = "baimo" if ctx is None else ctx.command_path
    if isinstance(error, click.NoSuchOption):
        near = ", ".join(error.possibilities or ())
        message = "cli.no_such_option_near" if near else "cli.no_such_option"
        return UsageError(message, name=error.option_name, command=command, near=near)
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return UsageError("cli.missing_parameter", name=_named(error.param), command=command)
    if isinstance(error, click.BadOptionUsage):
        return UsageError("cli.no_value", option=error.option_name)
    return UsageError("cli.misused", problem=error.format_message(), command=command)


def with_default(words: str, default: object) -> str:
    """A help text with the value that holds when the option is not given."""
    return text("cli.with_default", words=words, default=default)


def columns(shown: str) -> int:
    """Width on a terminal."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in shown)


def wrapped(words: str, width: int) -> list[str]:
    """Lines of at most `width` columns; Chinese may break after every character, but not before punctuation."""
    lines: list[str] = [""]
    for piece in _PIECE.findall(words):
        if columns(lines[-1] + piece.rstrip()) > width and lines[-1].strip():
            lines.append("")
        lines[-1] += " " if piece.isspace() else piece
        if not lines[-1].strip():
            lines[-1] = ""
    return [line.rstrip() for line in lines]


def _named(parameter: click.Parameter | None) -> str:
    if parameter is None:
        return ""
    if isinstance(parameter, click.Argument):
        return parameter.human_readable_name
    return max(parameter.opts, key=len)


def anywhere(arguments: Sequence[str], *names: str) -> tuple[str | None, list[str]]:
    """The value of an option that may stand anywhere on the command line, and the other arguments.

    Args:
        arguments: all of them; what follows `--` is left alone.
        names: spellings of the option, such as `--workspace` and `-w`; the last one given holds.

    Raises:
        UsageError: it is given without a value.
    """
    chosen: str | None = None
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        name, has_value, value = argument.partition("=")
        if argument == "--":
            return chosen, [*rest, argument, *queue]
        if argument in names:
            if not queue:
                raise UsageError("cli.no_value", option=argument)
            chosen = queue.pop(0)
        elif has_value and name in names:
            chosen = value
        else:
            rest.append(argument)
    return chosen, rest
