"""A credential `bm-<public>-<secret>`: how it is written, read and compared.

Prevents two failures: a secret in a traceback or log (it is in no repr), and a comparison whose duration tells how
much of a guess was right.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field

from baimo.core.ids import base32

PUBLIC_LENGTH = 12
SECRET_LENGTH = 48
ENTROPY_BYTES = 38
"""What `minted` takes: 60 bits for the public part, 240 for the secret."""

_DIGIT = "[0-9a-hjkmnp-tv-z]"
_WHOLE = re.compile(rf"bm-({_DIGIT}{{{PUBLIC_LENGTH}}})-({_DIGIT}{{{SECRET_LENGTH}}})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """Both parts; exists only while it is printed or presented."""

    public: str
    """May appear in logs, Records and pages."""
    secret: str = field(repr=False)
    """Never kept; `Key.digest` is its hash."""

    def written(self) -> str:
        """The credential as clients send it."""
        return f"bm-{self.public}-{self.secret}"


def minted(entropy: bytes) -> Credential:
    """A credential of `ENTROPY_BYTES` bytes from a cryptographic source."""
    if len(entropy) < ENTROPY_BYTES:
        raise ValueError("too little entropy for a credential")
    public, secret = int.from_bytes(entropy[:8], "big"), int.from_bytes(entropy[8:ENTROPY_BYTES], "big")
    return Credential(public=base32(public, PUBLIC_LENGTH), secret=base32(secret, SECRET_LENGTH))


def presented(source: str) -> Credential | None:
    """What a client sent, or None when it has not the shape of a credential of ours."""
    found = _WHOLE.fullmatch(source.strip())
    return None if found is None else Credential(public=found[1], secret=found[2])


def digest_of(secret: str) -> str:
    """SHA-256 of a secret, 64 hexadecimal digits. It has 240 bits of entropy, so that no slow hash is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def fits(secret: str, digest: str) -> bool:
    """Whether `secret` is the one that `digest` was made of; takes as long for every guess."""
    return hmac.compare_digest(digest_of(secret), digest)
