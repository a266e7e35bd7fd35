"""What can be said of tenants and keys: the source of the command line's options and of the reference page.

Imports nothing heavy. Each field's help text is `options.<noun>_<field>` in the message catalogue. None and () mean
"not said": a new thing takes the default, a changed one keeps what it has; `clear` takes something away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from baimo.core.rights import OWNER_NAME
from baimo.core.tenant import DataClass, Role

NAMED = {"required": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantOptions:
    """`baimo tenants create ID`: a department or customer that pays for its own keys."""

    id: str = field(metadata=NAMED)
    """Its name, [a-z0-9-]."""
    title: str | None = None
    """Name for people."""
    data_class: DataClass | None = None
    """Of everything that its keys send."""
    pii: Literal["off", "mask"] | None = None
    """mask: personal data is replaced before an outside call."""
    keep_contents: Literal["off", "on"] | None = None
    """on: prompts and answers are kept with their Records."""
    contents_days: int | None = None
    """Days that they are kept."""
    cache: Literal["off", "on", "read", "write"] | None = None
    """Exact cache of answers."""
    limit: tuple[str, ...] = ()
    """Such as `cost=20/month`; all that are given replace all that there were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantChanges(TenantOptions):
    """`baimo tenants change ID`: other facts or limits."""

    clear: tuple[Literal["limit", "contents_days"], ...] = ()
    """What is taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOptions:
    """What new and changed keys have in common."""

    label: str | None = None
    """What people call it."""
    role: Role | None = None
    """What it may do besides calling models."""
    model: tuple[str, ...] = ()
    """Patterns of models, aliases and routes that it may use."""
    surface: tuple[str, ...] = ()
    """Operations that it may use."""
    network: tuple[str, ...] = ()
    """Ranges of addresses that it may be used from."""
    data_class: DataClass | None = None
    """Stricter than its tenant's."""
    limit: tuple[str, ...] = ()
    """Such as `cost=20/month`; all that are given replace all that there were."""
    tag: tuple[str, ...] = ()
    """name=value, put on each of its Records."""
    expires: str | None = None
    """A date, or how long from now: 90d."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey(KeyOptions):
    """`baimo keys create`: a credential, printed once."""

    tenant: str = OWNER_NAME
    """Who pays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChanges(KeyOptions):
    """`baimo keys change KEY`: other rights or limits."""

    key: str = field(metadata=NAMED)
    """Its public part or label."""
    clear: tuple[
        Literal["model", "surface", "network", "data_class", "limit", "tag", "expires", "label"], ...
    ] = ()
    """What is taken away."""
