"""Which messages the source uses, read from its syntax trees."""

from __future__ import annotations

import ast
import re
import string
from functools import cache
from pathlib import Path
from typing import NamedTuple

import baimo
from baimo import errors
from baimo.text import room

SOURCE = Path(baimo.__file__).parent
ROOMS = sorted(path.stem for path in (SOURCE / "locales" / "en").glob("*.toml"))

ERRORS = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.BaimoError)
}


FAMILIES = {
    "adapters.card_*": ("tuning/adapters/card.py",),
    "adapters.column_*": ("cli/adapters.py",),
    "admin.field_*": ("server/admin", "workspace/releasing.py", "workspace/tune_orders.py"),
    "batches.line_*": ("gateway/batch_input.py",),
    "cli.*": ("cli",),
    "cli.task_column_*": ("cli/kept_tasks.py",),
    "cli.severity_*": ("evals/tasks/check.py",),
    "cli.column_*": ("cli", "store/ledger.py"),
    "cli.wants_*": ("cli",),
    **{
        f"console.{name}_*": ("console", "core", "server", "settings.py", "workspace")
        for name in (
            *("class", "field", "filter", "group", "health", "hint", "model", "page", "pii", "role"),
            *("scope", "standing", "step", "strategy", "theme"),
        )
    },
    "console.step_what_*": ("console",),
    "console_tasks.act_*": ("workspace", "server/admin"),
    "console_tasks.col_*": ("console/templates/task_file.html",),
    "console_tasks.doubles_*": ("workspace", "console"),
    "console_tasks.kind_*": ("console", "evals/tasks"),
    "console_tasks.severity_*": ("evals/tasks/check.py",),
    "console_tasks.sort_*": ("console",),
    "console_tasks.split_*": ("console",),
    "console_tasks.standing_*": ("console",),
    "console_tasks.*": ("console",),
    "console_recipe.about_*": ("evals/scorers/registry.py",),
    "console_recipe.option_*": ("evals/scorers",),
    **{f"console_recipe.{name}_*": ("console",) for name in ("add", "drop", "number", "select", "up")},
    "console_review.between_*": ("server/admin",),
    "console_review.none_*": ("store/judgements.py",),
    "console_review.of_*": ("server/admin",),
    "console_review.outcome_*": ("core/run.py",),
    **{
        f"console_review.{name}_*": ("console/pages/review.py", "console/templates/review.html")
        for name in ("read", "reading")
    },
    "console_review.reason_*": ("workspace/reviewing.py",),
    "console_review.said_*": ("store/judgements.py",),
    "console_review.state_*": ("store/judgements.py",),
    "console_review.short_*": ("workspace/reviewing.py",),
    **{
        f"console_tune.{name}_*": ("console", "core", "server", "store", "tuning", "workspace")
        for name in (
            *("about", "act", "based_on", "effort", "field", "figure", "kind", "phase", "plot", "recipe"),
            *("status", "tuned"),
        )
    },
    "console_tune.*": ("console",),
    "console_models.act_*": ("core/release.py",),
    "console_models.*": ("console",),
    "console.*": ("console",),
    **{
        f"console_compare.{name}_*": ("console", "evals/options.py", "server")
        for name in ("choice", "field", "status")
    },
    "data.*": ("tuning/data", "cli/data.py", "workspace/training_data.py"),
    "data.check_*": ("tuning/data",),
    "data.check_*_hint": ("tuning/data",),
    "data.check_leak_*": ("tuning/data",),
    "data.openai_*": ("tuning/data/openai.py",),
    "data.openai_failed_*": ("tuning/data/openai.py",),
    "data.step_needs_*": ("tuning/data/clean.py",),
    "data.why_*": ("tuning/data/collected.py", "workspace/training_data.py", "workspace/preferences.py"),
    "distill.*": ("tuning/recipes/distill.py",),
    "distill.left_*": ("tuning/recipes/distill.py",),
    "distill.terms_*": ("models/terms.py",),
    "finetuning.cannot_*": ("server/fine_tuning.py",),
    "finetuning.event_*": ("workspace", "server/fine_tuning_wire.py", "store/jobs.py", "tuning"),
    "finetuning.figure_*": ("server/fine_tuning_wire.py",),
    "imports.head_*": ("workspace/importing",),
    "imports.why_*": ("workspace/importing",),
    "cli.import_*": ("cli/imports.py",),
    "options.*_*": ("evals/options.py",),
    "options.compare_*": ("evals/options.py",),
    "bookkeeping.*": ("cli/ledger.py",),
    "bookkeeping.figure_*": ("store/statements", "cli/reconciled.py"),
    "bookkeeping.of_*": ("cli/ledger.py",),
    "bookkeeping.why_*": ("cli/ledger.py",),
    "options.tune_*": ("tuning/options.py",),
    "tune.based_on_*": ("cli/tune.py", "tuning/forecast.py", "core/tuning.py", "workspace"),
    "tune.cannot_*": ("workspace/queue.py", "core/tuning.py"),
    "tune.column_*": ("cli/jobs.py",),
    "tune.event_*": ("cli/walking.py", "core/tuning.py", "store/jobs.py", "tuning", "workspace"),
    "tune.status_*": ("cli/jobs.py", "core/tuning.py"),
    "options.ledger_*": ("workspace/ledger_options.py",),
    "options.keys_*": ("workspace/account_options.py",),
    "options.tenants_*": ("workspace/account_options.py",),
    "options.tasks_*": ("server/admin",),
    "options.reviews_*": ("server/admin",),
    "options.serve_*": ("server/options.py",),
    "gateway.held_*": ("gateway/allowance.py",),
    "ledger.never_*": ("store",),
    "ledger.over_*": ("store",),
    "ledger.whose_*": ("store",),
    "ledger.window_*": ("store",),
    "ledger.wrong_*": ("store",),
    "releases.act_*": ("core/release.py",),
    "releases.column_*": ("cli/releases.py",),
    "report.*": ("evals/report",),
    "report.flag_*": ("evals",),
    "report.mark_*": ("evals",),
    "report.col_*": ("evals",),
    "report.forecast_*": ("evals",),
    "report.stopped_*": ("evals",),
    "report.why_*": ("evals",),
    "scorers.choice_*": ("evals/scorers",),
    "scorers.code_*": ("evals/scorers",),
    "scorers.contains_*": ("evals/scorers",),
    "search.*": ("tuning/recipes/prompt.py",),
    "store.*": ("store",),
    "tasks.*": ("evals/tasks",),
    "tasks.check_*": ("evals/tasks",),
}
"""Keys that the source computes → where the computed part stands as a word of its own."""


class Use(NamedTuple):
    key: str
    """The key, or a pattern with * where the source computes a part."""
    place: str
    """file:line."""


class Told(NamedTuple):
    key: str
    """First argument of text(…) or of an error."""
    facts: frozenset[str]
    """Names of the facts that go with it."""
    error: bool
    """Whether it is an error that is raised."""
    open: bool
    """Whether further facts come from a mapping."""
    place: str
    """file:line."""


@cache
def messages(language: str) -> dict[str, str]:
    """Every message of one language by its full key."""
    return {f"{name}.{key}": value for name in ROOMS for key, value in room(name, language).items()}


@cache
def _nodes() -> dict[str, list[ast.AST]]:
    """Every node of the source's syntax trees, by file."""
    paths = sorted(SOURCE.rglob("*.py"))
    return {
        path.relative_to(SOURCE).as_posix(): list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        for path in paths
    }


@cache
def uses() -> tuple[Use, ...]:
    """Every string in the source that is a key of the catalogue, or computes one."""
    found: list[Use] = []
    is_key = re.compile(rf"(?:{'|'.join(ROOMS)})\.[a-z0-9_*]+").fullmatch
    for file, nodes in _nodes().items():
        pieces = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        # pages say words("key") for text("console.key")
        spoken = {
            id(node.args[0])
            for node in nodes
            if file.startswith("console/")
            and isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "words"
        }
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in pieces:
                key = node.value
            elif isinstance(node, ast.JoinedStr):
                key = "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values
                )
            else:
                continue
            if id(node) in spoken and "." not in key:
                key = f"console.{key}"
            if is_key(key) and key not in NO_KEYS and not key.endswith((".html", ".json")):
                found.append(Use(key, f"{file}:{node.lineno}"))
    for template in sorted(SOURCE.glob("console/templates/*.html")):
        place = template.relative_to(SOURCE).as_posix()
        for key, rest in re.findall(r"\bt\('([\w.]+)'( ~)?", template.read_text(encoding="utf-8")):
            full = key if "." in key else f"console.{key}"
            found.append(Use(f"{full}{'*' if rest else ''}", place))
    return tuple(found)


NO_KEYS = {"report.css", "options.*", "console.*"}
"""Names of files and settings that look like keys."""


@cache
def words(folders: tuple[str, ...]) -> frozenset[str]:
    """Every string constant, field and template word in the files of `folders`."""
    found: set[str] = set()
    for file, nodes in _nodes().items():
        if file.startswith(folders):
            for node in nodes:
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
                elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    found.add(node.target.id)
    for template in SOURCE.rglob("*.html"):
        if template.relative_to(SOURCE).as_posix().startswith(folders):
            found |= set(re.findall(r"\w+", template.read_text(encoding="utf-8")))
    return frozenset(found)


@cache
def _named() -> frozenset[str]:
    return frozenset(use.key for use in uses())


def is_used(key: str) -> bool:
    """Whether the source names this key, or computes it in a declared family."""
    exact = _named()
    name = key.removesuffix("_hint") if key.removesuffix("_hint") in messages("en") else key
    singular = name.removesuffix("_one")
    if name in exact or singular in exact:
        return True
    for family, folders in FAMILIES.items():
        prefix = family.removesuffix("*").replace("*_", "compare_")
        parts = {name.removeprefix(prefix), singular.removeprefix(prefix)}
        if name.startswith(prefix) and parts & words(folders):
            return True
    return False


@cache
def told() -> tuple[Told, ...]:
    """Every text(…) and every error whose key is written out."""
    found: list[Told] = []
    for file, nodes in _nodes().items():
        told_by_text = any(isinstance(node, ast.ImportFrom) and node.module == "baimo.text" for node in nodes)
        ours = ERRORS | {"text"} if told_by_text else ERRORS
        for node in nodes:
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            first = node.args[0]
            if node.func.id in ours and isinstance(first, ast.Constant):
                names = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
                several = any(keyword.arg is None for keyword in node.keywords)
                error, place = node.func.id in ERRORS, f"{file}:{node.lineno}"
                found.append(Told(str(first.value), names, error, several, place))
    return tuple(found)


def placeholders(message: str) -> set[str]:
    """The facts that a message names."""
    fields = (name for _, name, _, _ in string.Formatter().parse(message) if name is not None)
    return {re.split(r"[.\[]", name)[0] for name in fields}
