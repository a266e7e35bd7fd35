"""Identities: hashes of content, and ids that sort by time.

Prevents the failure where two processes believe that they asked the same question and did not: a digest is taken
over canonical JSON (sorted keys, no spaces, UTF-8), never over `repr` or pickles.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from typing import Any, cast

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32, lower case


def plain(value: Any) -> Any:
    """`value` as JSON-ready data: dataclasses to dicts, enums to values, tuples to lists, NumPy's scalars to Python's.

    Fields that hold their default are left out, so a field added later does not change the digest of what was
    stored before it existed.

    Raises:
        TypeError: the value holds something that has no JSON form.
    """
    if isinstance(value, Enum):
        return value.value
    if value is None or type(value) in (str, bool, int, float):
        return value
    if getattr(value, "ndim", None) == 0:  # of NumPy, which is not imported for this
        return plain(value.item())
    if isinstance(value, (str, int, float)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {field.name: plain(item) for field, item in fields if not _is_default(field, item)}
    if isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)
        return {str(key): plain(item) for key, item in mapping.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in cast("list[Any]", value)]
    raise TypeError(f"{type(value).__name__} has no canonical form")


def _is_default(field: dataclasses.Field[Any], item: object) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return item == field.default_factory()
    return item == field.default


def canonical(value: object) -> bytes:
    """Canonical JSON of `value`: the same bytes for equal values on every machine."""
    return json.dumps(
        plain(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode("utf-8")


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON of `value`, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def sortable_id(prefix: str, now_ms: int, entropy: bytes) -> str:
    """An id such as `run_01jd3k…`: 10 characters of time (ms since 1970), then 10 of entropy; sorts by time.

    Args:
        prefix: what it names: run, rec, key …
        now_ms: wall clock in milliseconds.
        entropy: at least 7 random bytes.
    """
    return f"{prefix}_{base32(now_ms, 10)}{base32(int.from_bytes(entropy[:7], 'big') & (1 << 50) - 1, 10)}"


def base32(number: int, width: int) -> str:
    """The lowest 5 × `width` bits of `number` in Crockford's base 32, lower case, `width` characters."""
    digits = [_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(width))]
    return "".join(digits)
