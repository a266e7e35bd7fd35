"""What may leave: the data class of a call, and what that means for models outside the walls.

Prevents the failure where a stricter wish is lost on the way: of tenant, key and header the strictest counts, and a
confidential call has no road that leads outside, fallbacks included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from baimo.core.tenant import OWNER, DataClass, Key, Tenant
from baimo.errors import CallRefused
from baimo.settings import Outside, PolicySettings

CLASSES: tuple[DataClass, ...] = ("public", "internal", "confidential")
"""From the least to the most strict."""
CacheMode = Literal["off", "on", "read", "write"]
CLASS_HEADER = b"x-baimo-data-class"
_READS = frozenset({"on", "read"})
_WRITES = frozenset({"on", "write"})


def data_class(policy: PolicySettings, key: Key, tenant: Tenant, headers: Mapping[bytes, bytes]) -> DataClass:
    """The class of everything that this call sends.

    The tenant's, or the policy's for the workspace's owner and wherever the policy says confidential; then made
    stricter by key and header, never looser.

    Raises:
        CallRefused: x-baimo-data-class names no class.
    """
    base = (
        policy.data_class if tenant.id == OWNER or policy.data_class == "confidential" else tenant.data_class
    )
    if key.data_class is not None:
        base = strictest(key.data_class, base)
    wish = headers.get(CLASS_HEADER)
    if wish is None:
        return base
    asked = wish.decode("latin-1").strip().lower()
    if asked not in CLASSES:
        raise CallRefused(
            "gateway.bad_header", header=CLASS_HEADER.decode(), value=asked[:40], known=", ".join(CLASSES)
        )
    return strictest(asked, base)


def strictest(*classes: DataClass) -> DataClass:
    """The one of these that allows least."""
    return max(classes, key=CLASSES.index)


def may_leave(outside: Outside, data: DataClass) -> bool:
    """Whether models outside the walls may get data of this class where the policy says `outside` of them."""
    if data == "confidential" or outside == "deny":
        return False
    return outside == "allow" or data == "public"


def masks(policy: PolicySettings, tenant: Tenant) -> bool:
    """Whether personal data is replaced before a call goes outside."""
    return policy.pii == "mask" or tenant.pii == "mask"


def cache_modes(policy: PolicySettings, tenant: Tenant, headers: Mapping[bytes, bytes]) -> tuple[bool, bool]:
    """Whether this call may be answered from the tenant's cache, and whether its answer may go there.

    Policy or tenant opens the cache; the header may only close it.

    Raises:
        CallRefused: x-baimo-cache names no mode.
    """
    opened = {policy.cache, tenant.cache}
    read, write = bool(opened & _READS), bool(opened & _WRITES)
    wish = headers.get(b"x-baimo-cache")
    if wish is None or not (read or write):
        return read, write
    asked = wish.decode("latin-1").strip().lower()
    if asked not in ("off", "on", "read", "write"):
        raise CallRefused(
            "gateway.bad_header", header="x-baimo-cache", value=asked[:40], known="off, on, read, write"
        )
    return read and asked in _READS, write and asked in _WRITES
