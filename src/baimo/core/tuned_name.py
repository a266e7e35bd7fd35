"""Names of tuned models as people read them: what they chose comes first, what is long stays out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_TUNED = re.compile(r"ft:([^:]+):([^:]*):([^:@]*):([^:@ ]{6,})(?::ckpt-step-(\d+))?([@ ].*)?")
_LEAST = 6
"""Characters at the end of an id that tell models of one name apart."""


def brief(name: str) -> str:
    """`ft:<base>:<organization>:<suffix>:<id>` as `ft:<suffix>·<end of id>`; without a suffix its base stands there.

    A checkpoint keeps its step, a candidate its prompt; other names are as they are.
    """
    found = _TUNED.fullmatch(name)
    if found is None:
        return name
    base, _, suffix, id, step, prompt = found.groups()
    return f"ft:{suffix or base}·{id[-_LEAST:]}{f' ({step})' if step else ''}{prompt or ''}"


def briefs(names: Iterable[str]) -> dict[str, str]:
    """Name → how it is read beside the others; where two would be read alike, all of the name stays."""
    found = {name: brief(name) for name in names}
    often = Counter(found.values())
    return {name: short if often[short] == 1 else name for name, short in found.items()}
