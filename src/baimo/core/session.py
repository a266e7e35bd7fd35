"""A credential that stands for a key for a while."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Written and presented like a key; has the rights of `key` and no others."""

    public: str
    """12 characters that may appear in logs."""
    digest: str
    """SHA-256 of the secret, 64 hexadecimal digits."""
    key: str
    """Public part of the key that it stands for."""
    created_ms: int
    """Wall clock, milliseconds since 1970."""
    expires_ms: int
    """Refused from then on."""
