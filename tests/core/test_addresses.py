"""IPv4 addresses are in ranges of IPv6 that they are mapped into."""

from __future__ import annotations

import pytest

from baimo.core.addresses import address, network


@pytest.mark.parametrize(
    ("written", "inside", "outside"),
    [
        ("::/0", ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1"], []),
        ("::/8", ["10.0.0.1", "::ffff:10.0.0.1", "::1"], ["2001:db8::1"]),
        ("::ffff:0:0/96", ["10.0.0.1", "::ffff:10.0.0.1"], ["::1"]),
        ("::ffff:10.0.0.0/104", ["10.0.0.1", "::ffff:10.0.0.1"], ["11.0.0.1"]),
        ("2001:db8::/32", ["2001:db8::1"], ["10.0.0.1", "::ffff:10.0.0.1"]),
        ("0.0.0.0/0", ["10.0.0.1", "::ffff:10.0.0.1"], ["2001:db8::1"]),
    ],
)
def test_a_range_holds_what_is_mapped_into_it(written: str, inside: list[str], outside: list[str]) -> None:
    found = network(written)
    assert all(address(one) in found for one in inside)
    assert not any(address(one) in found for one in outside)
