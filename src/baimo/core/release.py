"""Releases: which model answers to an alias from when on, who wanted it, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One line of an alias's history; the newest one holds."""

    id: str
    """rel_… sortable by time."""
    tenant: str
    """Whose alias it is; empty = the workspace's owner."""
    alias: str
    """Name that clients ask for."""
    act: Literal["promote", "roll_back"]
    """promote: another model than before; roll_back: the one before that again."""
    model: str
    """Model that answers from now on; empty = whatever baimo.toml says."""
    before: str
    """Model that answered until now; empty likewise."""
    at_ms: int
    """Wall clock, milliseconds since 1970."""
    key: str = ""
    """Public part of the key that wanted it; empty = the command line."""
    why: str = ""
    """Reason, in the words of whoever wanted it."""
    job: str = ""
    """TuneSpec.id of the job that made the model; empty = none is known."""
    run: str = ""
    """Run.id of the comparison that spoke for it; empty = none was named."""
    below: str = ""
    """Release that holds again after a roll back; empty = what baimo.toml says."""
