"""Kinds of bad input: how each comes about, and what its message must name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cli.tasks import ROWS, TASK, config, task, two_models

CANARY = "sk-canary-5b1c0de-never-shown"
"""Stands where a secret could be; no output may hold it."""


@dataclass(frozen=True, kw_only=True)
class Bad:
    """One kind of bad input."""

    arrange: Callable[[Path], list[str]]
    """Makes it in an empty folder; gives the arguments of the command."""
    code: int
    """Exit code that baimo.errors documents for it."""
    names: tuple[str, ...] = ()
    """What the message must hold in every language: the offending value and its place."""
    hints: tuple[str, ...] = ()
    """What the advice must hold in every language."""


def of(*arguments: str) -> Callable[[Path], list[str]]:
    return lambda _: list(arguments)


def of_task(*arguments: str, **facts: object) -> Callable[[Path], list[str]]:
    def arrange(folder: Path) -> list[str]:
        return ["compare", task(folder, **facts), *(arguments or ("--model", "fake/m"))]  # type: ignore[arg-type]

    return arrange


def of_config(source: str, *arguments: str) -> Callable[[Path], list[str]]:
    def arrange(folder: Path) -> list[str]:
        config(folder, source)
        return list(arguments or ("models", "list", "fake"))

    return arrange


def of_pair(*arguments: str) -> Callable[[Path], list[str]]:
    def arrange(folder: Path) -> list[str]:
        return ["compare", task(folder), *two_models(folder), *arguments]

    return arrange


def lines(*rows: str) -> str:
    return "".join(f"{row}\n" for row in rows)


def _empty_folder(folder: Path) -> list[str]:
    (folder / "empty").mkdir()
    return ["compare", "empty"]


def _misspelt_folder(folder: Path) -> list[str]:
    task(folder)
    return ["compare", "summs"]


def _folder_in_the_way(folder: Path) -> list[str]:
    task(folder)
    return ["tasks", "new", "sums"]


def of_bytes(name: str, data: bytes, *arguments: str) -> Callable[[Path], list[str]]:
    def arrange(folder: Path) -> list[str]:
        (folder / name).write_bytes(data)
        return list(arguments)

    return arrange


def _key_file(folder: Path) -> list[str]:
    config(folder, '[providers.openai]\nkey = "file:no-such-key"\n')
    return ["models", "test", "openai/gpt-4o"]


GOOD = json.dumps(ROWS[0])
JUDGE = '\n[[scorers]]\nname = "judge"\nmodel = "openai/gpt-4o"\n'

TASKS = {
    "a task folder that does not exist": Bad(arrange=of("compare", "gone"), code=2, names=("gone",)),
    "a misspelt task folder": Bad(arrange=_misspelt_folder, code=2, names=("summs",), hints=("sums",)),
    "a folder without task.toml": Bad(
        arrange=_empty_folder, code=2, names=("empty", "task.toml"), hints=("baimo tasks new",)
    ),
    "a broken line in task.toml": Bad(
        arrange=of_task(manifest='name = "a"\n[data\n'), code=2, names=("task.toml", "line 2")
    ),
    "an unknown key in task.toml": Bad(
        arrange=of_task(manifest=TASK + "[sampling]\ntemprature = 0\n"),
        code=2,
        names=("task.toml", "7", "temprature"),
        hints=("temperature",),
    ),
    "a wrong type in task.toml": Bad(
        arrange=of_task(manifest=TASK + '[sampling]\nmax_tokens = "many"\n'),
        code=2,
        names=("task.toml", "7", "max_tokens"),
    ),
    "a split that does not exist": Bad(
        arrange=of_task(manifest=TASK.replace("test.jsonl", "tset.jsonl")),
        code=2,
        names=("task.toml", "3", "tset.jsonl"),
        hints=("test.jsonl",),
    ),
    "examples in GBK": Bad(
        arrange=of_task(lines=lines(GOOD, '{"input": "这是一个测试", "target": "好"}').encode("gbk")),
        code=2,
        names=("test.jsonl", "2", "GB"),
        hints=("UTF-8",),
    ),
    "examples in UTF-16": Bad(
        arrange=of_task(lines=lines(GOOD).encode("utf-16")),
        code=2,
        names=("test.jsonl", "UTF-16"),
        hints=("UTF-8",),
    ),
    "a task without examples": Bad(arrange=of_task(lines=""), code=2, names=("test.jsonl",), hints=("JSON",)),
    "an example that is no JSON": Bad(
        arrange=of_task(lines=lines(GOOD, GOOD.replace("q1", "q2"), '{"input": "3 + 3",')),
        code=2,
        names=("test.jsonl", "3"),
        hints=(".jsonl",),
    ),
    "an example that is no object": Bad(
        arrange=of_task(lines=lines(GOOD, "[1, 2]")), code=2, names=("test.jsonl", "2"), hints=("{",)
    ),
    "two examples with one id": Bad(
        arrange=of_task(lines=lines(GOOD, GOOD)), code=2, names=("test.jsonl", "2", "q1", "1")
    ),
    "examples without references": Bad(
        arrange=lambda folder: [
            "compare",
            task(folder, lines=lines(*(f'{{"input": "{n}"}}' for n in range(9)))),
            *two_models(folder),
        ],
        code=2,
        names=("sums", "exact"),
        hints=("target", "judge"),
    ),
    "a conversation with an unknown role": Bad(
        arrange=of_task(
            lines=lines(
                '{"messages": [{"role": "usr", "content": "hi"}, {"role": "assistant", "content": "a"}]}'
            )
        ),
        code=2,
        names=("test.jsonl", "1", "usr", "user"),
    ),
    "a row with too many cells": Bad(
        arrange=of_bytes("data.csv", b"input,target\na,b\nc,d,e\n", "tasks", "check", "data.csv"),
        code=2,
        names=("data.csv", "3"),
        hints=("[data]",),
    ),
    "a file of another kind": Bad(
        arrange=of_bytes("x.bin", b"\0\1\2" * 99, "tasks", "check", "x.bin"),
        code=2,
        names=("x.bin",),
    ),
    "a misspelt variable in a template": Bad(
        arrange=of_task(manifest=TASK + '[prompt]\nuser = "{{ inptu }}"\n'),
        code=2,
        names=("default", "inptu"),
        hints=("input",),
    ),
    "a template that does not parse": Bad(
        arrange=of_task(manifest=TASK + '[prompt]\nuser = "{{ input "\n'), code=2, names=("default", "1")
    ),
    "an unknown scorer": Bad(
        arrange=of_task(manifest=TASK.replace('"exact"', '"exakt"')),
        code=2,
        names=("sums/task.toml", "exakt", "exact"),
        hints=("scorers.md",),
    ),
    "an unknown argument of a scorer": Bad(
        arrange=of_task(manifest=TASK + "ignore_cse = true\n"),
        code=2,
        names=("sums/task.toml", "exact", "ignore_cse"),
        hints=("scorers.md",),
    ),
    "a wrong argument of a scorer": Bad(
        arrange=of_task(manifest=TASK.replace('"exact"', '"regex"') + 'pattern = "("\n'),
        code=2,
        names=("sums/task.toml", "regex", "("),
    ),
    "a task that is in the way": Bad(arrange=_folder_in_the_way, code=2, names=("sums", "test.jsonl")),
    "an unknown kind of task": Bad(
        arrange=of("tasks", "new", "x", "--kind", "clasify"), code=2, names=("clasify",), hints=("classify",)
    ),
    "an unknown format": Bad(
        arrange=lambda folder: ["tasks", "import", f"{task(folder)}/test.jsonl", "x", "--format", "alpacca"],
        code=2,
        names=("test.jsonl", "alpacca"),
        hints=("alpaca",),
    ),
}

MODELS = {
    "an unknown model": Bad(
        arrange=of_task("--model", "openai/gpt-4.1-mni"),
        code=2,
        names=("openai/gpt-4.1-mni",),
        hints=("openai/gpt-4.1-mini",),
    ),
    "an unknown vendor": Bad(
        arrange=of_task("--model", "opnai/gpt-4.1"), code=2, names=("opnai",), hints=("openai",)
    ),
    "a pattern that fits no model": Bad(
        arrange=of_task("--model", "openai/zzz*"), code=2, names=("openai/zzz*",), hints=("baimo models",)
    ),
    "a name that keeps no candidate": Bad(
        arrange=of_pair("--only", "nobody*"), code=2, names=("nobody*",), hints=("knows/m",)
    ),
    "a model without a key": Bad(
        arrange=of_task("--model", "openai/gpt-4.1-mini"),
        code=2,
        names=("OPENAI_API_KEY",),
        hints=("export OPENAI_API_KEY", "[providers"),
    ),
    "a key file that does not exist": Bad(arrange=_key_file, code=2, names=("no-such-key",)),
    "a spending limit without a price": Bad(
        arrange=of_task("--model", "fake/m", "--max-cost", "1"),
        code=2,
        names=("fake/m",),
        hints=("--max-calls",),
    ),
    "confidential work for a model outside": Bad(
        arrange=of_task("--model", "openai/gpt-4o", manifest='data_class = "confidential"\n' + TASK),
        code=2,
        names=("sums", "openai/gpt-4o"),
        hints=("data_class",),
    ),
    "confidential answers for a judge outside": Bad(
        arrange=of_task("--model", "fake/m", manifest='data_class = "confidential"\n' + TASK + JUDGE),
        code=2,
        names=("sums", "openai/gpt-4o"),
        hints=("data_class",),
    ),
    "a source of weights that is none": Bad(
        arrange=of("models", "pull", "ftp:somewhere"), code=3, names=("ftp:somewhere",), hints=("hf:",)
    ),
    "weights that are not there": Bad(
        arrange=of("models", "pull", "file:gone.gguf"), code=3, names=("gone.gguf",)
    ),
    "an unknown vendor to list": Bad(
        arrange=of("models", "list", "opnai"), code=2, names=("opnai",), hints=("openai",)
    ),
    "an ability to test that there is not": Bad(
        arrange=of("models", "test", "fake/m", "--check", "tols"),
        code=2,
        names=("tols", "tools"),
        hints=("--help",),
    ),
}

SETTINGS = {
    "settings that are no TOML": Bad(
        arrange=of_config("[compare]\nepsilon =\n"), code=2, names=("baimo.toml", "line 2")
    ),
    "settings in GBK": Bad(
        arrange=of_bytes("baimo.toml", "# 设置\n".encode("gbk"), "models", "list", "fake"),
        code=2,
        names=("baimo.toml", "1"),
        hints=("UTF-8",),
    ),
    "an unknown setting": Bad(
        arrange=of_config("[compare]\nepsilno = 0.1\n"),
        code=2,
        names=("baimo.toml", "2", "compare.epsilno"),
        hints=("epsilon",),
    ),
    "a setting of the wrong type": Bad(
        arrange=of_config('[providers.openai]\nretries = "often"\n'),
        code=2,
        names=("baimo.toml", "2", "providers.openai.retries", "often"),
    ),
    "a key in the settings": Bad(
        arrange=of_config(f'[providers.openai]\nkey = "{CANARY}"\n'),
        code=2,
        names=("baimo.toml", "2", "providers.openai.key"),
        hints=("env:NAME",),
    ),
    "an unknown protocol": Bad(
        arrange=of_config('[providers.acme]\nprotocol = "opnai"\n', "models", "test", "acme/m"),
        code=2,
        names=("acme", "opnai"),
        hints=("openai",),
    ),
    "a provider without an address": Bad(
        arrange=of_config("[providers.acme]\n", "models", "test", "acme/m"),
        code=2,
        names=("acme",),
        hints=("base_url",),
    ),
    "an address with a password": Bad(
        arrange=of_config(
            f'[providers.acme]\nbase_url = "https://me:{CANARY}@h/v1"\n', "models", "test", "acme/m"
        ),
        code=2,
        names=("acme", "h"),
        hints=("env:NAME",),
    ),
    "a database that cannot be reached": Bad(
        arrange=of_config(
            f'[workspace]\ndatabase = "postgresql://me:{CANARY}@127.0.0.1:9/x"\n', "runs", "list"
        ),
        code=4,
        names=("127.0.0.1:9",),
        hints=("workspace.database",),
    ),
    "a database of a kind that there is not": Bad(
        arrange=of_config(f'[workspace]\ndatabase = "mysql://me:{CANARY}@h/x"\n', "runs", "list"),
        code=2,
        names=("mysql", "h/x"),
        hints=("postgresql",),
    ),
    "a database that is no address": Bad(
        arrange=of_config(f'[workspace]\ndatabase = "://{CANARY}["\n', "runs", "list"),
        code=2,
        names=("workspace.database",),
        hints=("postgresql",),
    ),
}

CALLS = {
    "a command that does not exist": Bad(
        arrange=of("compair"), code=2, names=("compair",), hints=("compare",)
    ),
    "a subcommand that does not exist": Bad(
        arrange=of("models", "serch"), code=2, names=("models", "serch"), hints=("search",)
    ),
    "an option that does not exist": Bad(
        arrange=of("compare", "x", "--modle", "y"), code=2, names=("--modle",), hints=("--model",)
    ),
    "an argument too few": Bad(arrange=of("tasks", "show"), code=2, names=("TASK",), hints=("--help",)),
    "an argument too many": Bad(
        arrange=of("tasks", "show", "a", "b c"), code=2, names=("b c",), hints=("--help",)
    ),
    "an option without its value": Bad(
        arrange=of("compare", "x", "--epsilon"), code=2, names=("--epsilon",), hints=("--help",)
    ),
    "a word where a number belongs": Bad(
        arrange=of("compare", "x", "--epsilon", "tiny"),
        code=2,
        names=("--epsilon", "tiny"),
        hints=("--help",),
    ),
    "a route where a model is asked for": Bad(
        arrange=of_config('[routes.fast]\nmodels = ["fake/m"]\n', "models", "test", "fast"),
        code=2,
        names=("fast",),
        hints=("fake/m",),
    ),
    "a word that is no choice": Bad(
        arrange=of("compare", "x", "--decision", "bets"),
        code=2,
        names=("--decision", "bets", "best", "cheapest"),
    ),
    "a language that there is not": Bad(
        arrange=of("--lang", "fr", "runs", "list"), code=2, names=("fr", "en", "zh")
    ),
    "no task": Bad(arrange=of("compare"), code=2, hints=("baimo compare", "baimo tasks new")),
    "an unknown run": Bad(
        arrange=of("runs", "show", "run_x"), code=2, names=("run_x",), hints=("baimo runs list",)
    ),
    "a report of an unknown run": Bad(
        arrange=of("report", "run_x"), code=2, names=("run_x",), hints=("baimo runs list",)
    ),
    "a run to resume where there is none": Bad(
        arrange=of("compare", "--resume", "last"), code=2, names=("last",), hints=("baimo runs list",)
    ),
    "a requirement that cannot be read": Bad(
        arrange=of_pair("--require", "score => 0.9"), code=2, names=("score => 0.9", "      ^")
    ),
    "a requirement of an unknown figure": Bad(
        arrange=of_pair("--require", "scroe>0.9"), code=2, names=("scroe>0.9", "score")
    ),
    "a page that cannot be written": Bad(
        arrange=of_pair("--quiet", "--html", "/proc/no/report.html"),
        code=2,
        names=("/proc/no/report.html",),
        hints=("baimo report last --html",),
    ),
    **{
        f"{option} {value}": Bad(
            arrange=of("compare", "x", option, value), code=2, names=(f"{option} {value}",)
        )
        for option, value in (
            ("--epsilon", "1"),
            ("--epsilon", "-0.01"),
            ("--epsilon", "nan"),
            ("--delta", "0"),
            ("--delta", "1"),
            ("--batch", "0"),
            ("--examples", "0"),
            ("--max-calls", "0"),
            ("--max-cost", "0"),
            ("--max-cost", "inf"),
            ("--max-minutes", "-1"),
        )
    },
}

ALL = {**TASKS, **MODELS, **SETTINGS, **CALLS}
