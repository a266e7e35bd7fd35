"""IP addresses and ranges, as they are compared.

Prevents a range that looks right and never matches: a socket that listens on `::` names its IPv4 peers
`::ffff:10.0.0.1` (RFC 4291, 2.5.5.2), which is in no IPv4 range, and no IPv4 address is in `::ffff:10.0.0.0/104`.
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
"""All IPv4 addresses, as they are mapped into IPv6."""


class _Both(ipaddress.IPv6Network):
    """A range of IPv6 that all of IPv4 lies in: `::/0`."""

    def __contains__(self, other: object) -> bool:
        return isinstance(other, ipaddress.IPv4Address) or super().__contains__(other)


def address(text: str) -> Address | None:
    """An address, of IPv4 also where it is written as one of IPv6; None = it is none (a unix socket has none)."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def network(text: str, *, strict: bool = True) -> Network:
    """A CIDR range, of IPv4 also where it is written as one of IPv6; a single address is a range of one.

    Args:
        text: the range.
        strict: its address must be its beginning.

    Raises:
        ValueError: it is none.
    """
    found = ipaddress.ip_network(text, strict=strict)
    if isinstance(found, ipaddress.IPv6Network) and found.prefixlen >= _MAPPED.prefixlen:
        first = found.network_address.ipv4_mapped
        if first is not None:
            return ipaddress.IPv4Network((first, found.prefixlen - _MAPPED.prefixlen))
    if isinstance(found, ipaddress.IPv6Network) and _MAPPED.subnet_of(found):
        return _Both(str(found))
    return found
