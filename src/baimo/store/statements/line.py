"""One line of a provider's statement, and the cells that it is read from."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, cast

from baimo.core.moments import DAY_MS
from baimo.errors import UsageError

_LATEST_S = 10**11
"""Of moments, seconds since 1970: far away, and a date still has a name for it."""
TOKENS = ("tokens_in", "tokens_cached", "tokens_cache_write", "tokens_out")
"""Counts that a line may hold, as the ledger calls them; tokens_in are all prompt tokens, cached ones included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one row or bucket of an export says. A line without figures says that its time is covered, and empty."""

    begins_ms: int
    """First millisecond that it covers, since 1970."""
    ends_ms: int
    """First millisecond after it."""
    model: str = ""
    """As the provider calls it; empty = all models together."""
    what: str = ""
    """Something that is no model: web searches, storage; empty = tokens."""
    key: str = ""
    """The provider's own key, its id or name; empty = not told apart."""
    project: str = ""
    """Project or workspace at the provider; empty = not told apart."""
    requests: int | None = None
    """Calls."""
    tokens_in: int | None = None
    """Prompt tokens, cached and cache-write ones included."""
    tokens_cached: int | None = None
    """Prompt tokens read from the cache."""
    tokens_cache_write: int | None = None
    """Prompt tokens written into the cache."""
    tokens_out: int | None = None
    """Generated tokens."""
    cost: Decimal | None = None
    """Units of `currency`."""
    currency: str = "USD"
    """ISO 4217 code."""
    rounded: bool = False
    """The cost was rounded to the cent before it was exported."""

    @property
    def empty(self) -> bool:
        """It holds no figure."""
        return self.cost is None and self.tokens_in is None and self.tokens_out is None


class Cells:
    """A row of a table or an object of JSON: cells by name, with their place in hand for whoever must mend them."""

    def __init__(self, path: Path, place: str, values: Mapping[str, Any]) -> None:
        """
        Args:
            path: the file.
            place: `7` for line 7, or `data[3].results[0]`.
            values: name → cell.
        """
        self._path = path
        self._place = place
        self._values = values

    def text(self, name: str) -> str:
        """A cell as text; empty when it is null or not there."""
        value = self._values.get(name)
        return "" if value is None else str(value).strip()

    def whole(self, name: str) -> int | None:
        """A count; None when it is empty or not there. Some tables write 3 as 3.0.

        Raises:
            UsageError: it is something else.
        """
        amount = self.amount(name)
        if amount is None:
            return None
        if amount < 0 or amount != amount.to_integral_value():
            raise self.wrong(name)
        return int(amount)

    def amount(self, name: str) -> Decimal | None:
        """A decimal number; None when it is empty or not there.

        Raises:
            UsageError: it is something else.
        """
        value = self._values.get(name)
        if value is None or value == "":
            return None
        try:
            amount = Decimal(value.strip() if isinstance(value, str) else value)
        except (InvalidOperation, TypeError, ValueError):
            raise self.wrong(name) from None
        if isinstance(value, bool) or not amount.is_finite():
            raise self.wrong(name)
        return amount

    def second_ms(self, name: str) -> int:
        """A moment given in seconds since 1970, as milliseconds.

        Raises:
            UsageError: it is missing or something else.
        """
        seconds = self.whole(name)
        if seconds is None or seconds > _LATEST_S:
            raise self.wrong(name)
        return seconds * 1000

    def instant_ms(self, name: str) -> int:
        """A date (midnight UTC) or an RFC 3339 moment, as milliseconds since 1970.

        Raises:
            UsageError: it is missing or something else.
        """
        try:
            moment = datetime.datetime.fromisoformat(self.text(name))
        except ValueError:
            raise self.wrong(name) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        seconds = moment.timestamp()
        if not 0 <= seconds <= _LATEST_S:
            raise self.wrong(name)
        return round(seconds * 1000)

    def span_ms(self, first: str, last: str, moment: Callable[[Cells, str], int]) -> tuple[int, int]:
        """When that which a row is about begins and ends.

        Args:
            first: cell of its begin.
            last: cell of its end.
            moment: `Cells.second_ms` or `Cells.instant_ms`.

        Raises:
            UsageError: one is missing or something else, or it ends before it begins.
        """
        begins_ms, ends_ms = moment(self, first), moment(self, last)
        if ends_ms < begins_ms:
            raise self.wrong(last)
        return begins_ms, ends_ms

    def inner(self, name: str) -> Cells:
        """An object within; without cells when there is none.

        Raises:
            UsageError: it is something else.
        """
        value = self._values.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(name)
        return Cells(self._path, f"{self._place}.{name}", cast("dict[str, Any]", value or {}))

    def list(self, name: str) -> list[Cells]:
        """A list of objects within.

        Raises:
            UsageError: it is something else.
        """
        value = self._values.get(name)
        if not isinstance(value, list):
            raise self.wrong(name)
        found: list[Cells] = []
        for number, item in enumerate(cast("list[Any]", value)):
            place = f"{self._place}.{name}[{number}]".removeprefix(".")
            if not isinstance(item, dict):
                raise UsageError("statements.bad_cell", path=self._path, place=place, name=name, value=item)
            found.append(Cells(self._path, place, cast("dict[str, Any]", item)))
        return found

    def has(self, name: str) -> bool:
        """Whether there is such a cell, if empty."""
        return name in self._values

    def wrong(self, name: str) -> UsageError:
        """The complaint about a cell that cannot be read."""
        shown = self.text(name)[:60] or "–"
        return UsageError("statements.bad_cell", path=self._path, place=self._place, name=name, value=shown)


def day_of(cells: Cells, name: str) -> tuple[int, int]:
    """When the UTC day that a cell names begins and ends."""
    begins_ms = cells.instant_ms(name) // DAY_MS * DAY_MS
    return begins_ms, begins_ms + DAY_MS


def total(*counts: int | None) -> int | None:
    """The sum of the counts that are known; None when none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
