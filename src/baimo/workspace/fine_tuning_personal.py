"""Personal data in training files, as `[tune].pii` wants it: told, masked, or a reason to refuse the file.

Prevents the failure where a model repeats a customer's telephone number to strangers and nobody had known that it was
in the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from baimo.core.tuning import Row
from baimo.errors import DataError

How = Literal["report", "mask", "refuse"]


class Seen(NamedTuple):
    """Rows, and what was found in them."""

    rows: Sequence[Row]
    found: Mapping[str, int] = {}
    """Kind → how often."""
    cleaned: tuple[Mapping[str, Any], ...] = ()
    """What was done about it, for the lineage."""


See = Callable[[Sequence[Row]], Seen]
"""Raises DataError where such rows must not be learnt."""


def seen(rows: Sequence[Row], how: How, kinds: Sequence[str] | None = None) -> Seen:
    """Look for personal data.

    Args:
        rows: of a training file.
        how: what happens to it.
        kinds: what is looked for; None = every kind.

    Raises:
        DataError: there is some, and it is not to be learnt.
    """
    from baimo.tuning.data.clean import clean  # its tables are loaded where something is tuned
    from baimo.tuning.data.finding import Aids
    from baimo.tuning.data.personal import PersonalData

    if how == "mask":
        cleaned = clean(rows, ["mask_pii"], Aids(pii=kinds))
        (line,) = cleaned.lines
        return Seen(cleaned.rows, line["replaced"], cleaned.lines)
    personal, counts = PersonalData(kinds), Counter[str]()
    for row in rows:
        found = personal.kinds_in(row)
        if found and how == "refuse":
            told = ", ".join(sorted(found))
            raise DataError("finetuning.personal_data", line=row.line, kinds=told)
        counts.update(found)
    return Seen(rows, dict(sorted(counts.items())))
