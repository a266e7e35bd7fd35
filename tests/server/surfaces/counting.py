"""What an answer counts, to be compared with what was meant."""

from __future__ import annotations

from dataclasses import fields

from baimo.core.call import Usage
from baimo.gateway.surface import Seen


def counted(seen: Seen) -> Usage | None:
    """The counts as a `Usage`, in whichever of the two forms they come."""
    counts = seen.usage
    return None if counts is None else Usage(**{one.name: getattr(counts, one.name) for one in fields(Usage)})
