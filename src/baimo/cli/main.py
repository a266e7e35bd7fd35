"""`baimo`: finds the command, turns errors that a person can mend into two lines, and exits with their code."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Sequence
from typing import Any

import click

import baimo
from baimo.cli.command import Group, anywhere, complaint
from baimo.core.registry import resolve
from baimo.errors import BaimoError, UsageError
from baimo.text import LANGUAGES, text

COMMANDS: dict[str, str] = {
    "adapters": "baimo.cli.adapters:adapters",
    "compare": "baimo.cli.compare:compare",
    "data": "baimo.cli.data:data",
    "import": "baimo.cli.imports:imports",
    "jobs": "baimo.cli.jobs:jobs",
    "keys": "baimo.cli.keys:keys",
    "ledger": "baimo.cli.ledger:ledger",
    "models": "baimo.cli.models:models",
    "report": "baimo.cli.runs:report",
    "runs": "baimo.cli.runs:runs",
    "serve": "baimo.cli.serve:serve",
    "tasks": "baimo.cli.tasks:tasks",
    "tenants": "baimo.cli.tenants:tenants",
    "tune": "baimo.cli.tune:tune",
}
"""Loaded when called, so that `baimo --help` imports none of them."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


class Lazy(Group):
    """A group whose commands are imported when they run; their one-line help is in the message catalogue."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = COMMANDS.get(cmd_name)
        return None if target is None else resolve(target)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section(text("cli.commands")):
            formatter.write_dl([(name, text(f"cli.{name}")) for name in self.list_commands(ctx)])


def group() -> click.Group:
    """The root command, with its help in the reader's language."""

    @click.group(cls=Lazy, help=text("cli.about"), context_settings={"help_option_names": ["-h", "--help"]})
    @click.option("--workspace", "-w", metavar="DIR", help=text("cli.option_workspace"))
    @click.option("--lang", metavar="|".join(LANGUAGES), expose_value=False, help=text("cli.option_lang"))
    @click.version_option(baimo.__version__, prog_name="baimo", help=text("cli.option_version"))
    @click.pass_context
    def root(ctx: click.Context, workspace: str | None) -> None:
        ctx.obj = {} if workspace is None else {"workspace.path": os.path.abspath(workspace)}  # noqa: PTH100

    return root


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit."""
    _writable_streams()
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
    except BaimoError as error:
        code = told(error)
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        _leave_streams()  # whoever read us has gone: `| head`
        code = 0
    except OSError as error:
        where = error.filename or text("cli.standard_output")
        code = told(BaimoError("cli.system", where=where, problem=error.strerror or error))
        _leave_streams()
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    language, rest = anywhere(arguments, "--lang")
    _speak(language)
    workspace, rest = anywhere(rest, "--workspace", "-w")
    rest = rest if workspace is None else ["--workspace", workspace, *rest]
    try:
        code = group().main(args=rest, prog_name="baimo", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:  # a bare `baimo models`: show what there is
        error.show()
        return error.exit_code
    except click.ClickException as error:
        raise complaint(error) from None
    except SystemExit:  # click's answer to a reader that has gone, and to nothing else
        raise BrokenPipeError from None
    return code if isinstance(code, int) else 0


def _speak(language: str | None) -> None:
    """Settle the language before any help text is made: --lang, BAIMO_LANG, baimo.toml, locale."""
    if language is not None and language not in LANGUAGES:
        wanted = text("cli.wants_one_of", choices=", ".join(LANGUAGES))
        raise UsageError("cli.bad_option", option="--lang", value=language, wanted=wanted)
    language = language or os.environ.get("BAIMO_LANG") or _configured()
    if language:
        os.environ["BAIMO_LANG"] = language  # the catalogue and every child process read it there


def _configured() -> str | None:
    """`language` of the nearest baimo.toml; what is wrong with that file is told when the settings are read."""
    folder = os.getcwd()  # noqa: PTH109
    while not os.path.isfile(path := os.path.join(folder, "baimo.toml")):  # noqa: PTH113, PTH118
        if folder == (folder := os.path.dirname(folder)):  # noqa: PTH120
            return None
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            found = tomllib.load(file).get("language")
    except (OSError, ValueError):
        return None
    return found if found in LANGUAGES else None


def _writable_streams() -> None:
    """Let no character stop a message: a terminal that cannot show it gets its code point."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif hasattr(stream, "reconfigure") and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")


def _leave_streams() -> None:
    """Nothing more can be written; the interpreter must not try again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def told(error: BaimoError) -> int:
    """Say what is wrong and what to do next, on stderr; returns the exit code."""
    click.secho(text("cli.error", message=error), err=True, fg="red")
    cause = error.__cause__  # what led to it is mended first
    hints = [cause.hint, error.hint] if isinstance(cause, BaimoError) else [error.hint]
    for hint in dict.fromkeys(hint for hint in hints if hint):
        click.secho(text("cli.hint", message=hint), err=True)
    return error.exit_code
