"""How a thing was made: `Spec(name, args, version)`, so that any figure can be rebuilt."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from baimo.errors import MissingExtra


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Names a provider, scorer, recipe or router together with its arguments. Never holds a secret."""

    name: str
    """Registered name, or module:attr."""
    args: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Arguments as JSON-ready data."""
    version: str = ""
    """Version of the code or library behind it; a new version means that old figures may differ."""


def resolve(target: str) -> Any:
    """The object that `module:attr` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def require(module: str, extra: str, purpose: str) -> Any:
    """Import a library that belongs to an extra.

    Args:
        module: what to import.
        extra: the extra of baimo that installs it.
        purpose: message key of what it is needed for, e.g. "providers.purpose_local".

    Raises:
        MissingExtra: it is not installed; the message says what to install and why.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        from baimo.text import text

        raise MissingExtra("core.missing_extra", module=module, extra=extra, purpose=text(purpose)) from error
