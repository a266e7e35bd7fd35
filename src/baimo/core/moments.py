"""Points in time as people write them: a date, a date with a time, or a distance such as `90d`. All in UTC."""

from __future__ import annotations

import datetime
import re
import time

from baimo.errors import UsageError

_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DISTANCE = re.compile(r"(\d{1,6})([mhdw])")
DAY_MS = 86_400_000
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_000
"""The moments that can be shown: the years 1 to 9999."""


def wall_ms() -> int:
    """Wall clock, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def distance_ms(source: str) -> int | None:
    """Milliseconds of `30m`, `12h`, `90d` or `2w`; None when it is no distance, or one of more than a century."""
    found = _DISTANCE.fullmatch(source.strip())
    distance = -1 if found is None else int(found[1]) * _UNITS_MS[found[2]]
    return distance if 0 <= distance <= 36_525 * DAY_MS else None


def moment_ms(source: str, now_ms: int, *, back: bool) -> int:
    """Milliseconds since 1970 of a moment.

    Args:
        source: `2027-01-31` (midnight UTC), `2027-01-31T12:00`, `…+08:00`, or a distance from now.
        now_ms: wall clock.
        back: distances go into the past, else into the future.

    Raises:
        UsageError: it is none of these.
    """
    distance = distance_ms(source)
    if distance is not None:
        return now_ms - distance if back else now_ms + distance
    try:
        moment = datetime.datetime.fromisoformat(source.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        found = round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise UsageError("accounts.bad_moment", value=source) from None
    if not _FIRST_MS <= found <= _LAST_MS:  # with its offset it lies beyond the calendar
        raise UsageError("accounts.bad_moment", value=source)
    return found


def shown(milliseconds: int) -> str:
    """A moment to the second, ISO 8601 in UTC."""
    return _moment(milliseconds).isoformat()[:19] + "Z"


def day(milliseconds: int) -> str:
    """The UTC day of a moment, ISO 8601."""
    return _moment(milliseconds).isoformat()[:10]


def _moment(milliseconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC)
