"""`baimo`: finds the command, turns errors that a person can mend into two lines, and exits with their code."""

from __future__ import annotations

import os
import sys

import click

import baimo
from baimo.core.registry import resolve
from baimo.errors import BaimoError
from baimo.text import LANGUAGES, text

COMMANDS: dict[str, str] = {
    "compare": "baimo.cli.compare:compare",
    "models": "baimo.cli.models:models",
    "report": "baimo.cli.runs:report",
    "runs": "baimo.cli.runs:runs",
    "tasks": "baimo.cli.tasks:tasks",
}
"""Loaded when called, so that `baimo --help` imports none of them."""


class Lazy(click.Group):
    """A group whose commands are imported when they run; their one-line help is in the message catalogue."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = COMMANDS.get(cmd_name)
        return None if target is None else resolve(target)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section(text("cli.commands")):
            formatter.write_dl([(name, text(f"cli.{name}")) for name in self.list_commands(ctx)])


def _language(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        os.environ["BAIMO_LANG"] = value  # the catalogue and every child process read it there


def group() -> click.Group:
    """The root command, with its help in the reader's language."""

    @click.group(cls=Lazy, help=text("cli.about"), context_settings={"help_option_names": ["-h", "--help"]})
    @click.option("--workspace", "-w", metavar="DIR", help=text("cli.option_workspace"))
    @click.option(
        "--lang",
        type=click.Choice(LANGUAGES),
        is_eager=True,
        expose_value=False,
        callback=_language,
        help=text("cli.option_lang"),
    )
    @click.version_option(baimo.__version__, prog_name="baimo")
    @click.pass_context
    def root(ctx: click.Context, workspace: str | None) -> None:
        ctx.obj = {} if workspace is None else {"workspace.path": os.path.abspath(workspace)}  # noqa: PTH100

    return root


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit."""
    given = sys.argv[1:] if arguments is None else arguments
    if "--lang" in given[:-1]:  # before help texts are made
        chosen = given[given.index("--lang") + 1]
        if chosen in LANGUAGES:
            os.environ["BAIMO_LANG"] = chosen
    try:
        code = group().main(args=given, prog_name="baimo", standalone_mode=False)
    except BaimoError as error:
        code = told(error)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has gone: `| head`
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def told(error: BaimoError) -> int:
    """Say what is wrong and what to do next, on stderr; returns the exit code."""
    click.secho(text("cli.error", message=error), err=True, fg="red")
    if error.hint:
        click.secho(text("cli.hint", message=error.hint), err=True)
    return error.exit_code
