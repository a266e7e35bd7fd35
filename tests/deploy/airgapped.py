"""Serves a call in a network namespace that has nothing but a loopback; prints what tried to get out of it.

Run as `unshare --map-root-user --net python -m tests.deploy.airgapped FOLDER`.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import sys
import urllib.request
from pathlib import Path

from tests.serving import serving
from tests.waiting import PATIENCE_S

SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x1 | 0x40


def packets_without_a_way() -> int:
    """What the kernel had no route for (RFC 4293, ipSystemStatsOutNoRoutes)."""
    lines = [
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")
    ]
    return int(dict(zip(*lines, strict=True))["OutNoRoutes"])


def main() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14s", b"lo", IFF_UP_RUNNING, b""))
    before = packets_without_a_way()
    with serving(Path(sys.argv[1]), '[serve]\ndefault_model = "fake/m"\n') as endpoint:
        body = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()
        headers = {"authorization": f"Bearer {endpoint.key}", "content-type": "application/json"}
        request = urllib.request.Request(f"{endpoint.address}/v1/chat/completions", body, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            status = answer.status
        endpoint.baimo("ledger", "verify")
    during = packets_without_a_way() - before
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        outward.connect_ex(("192.0.2.1", 53))  # TEST-NET-1: shows that an attempt would have been counted
    counted = packets_without_a_way() - before - during
    print(json.dumps({"status": status, "attempts": during, "counted": counted}))


if __name__ == "__main__":
    main()
