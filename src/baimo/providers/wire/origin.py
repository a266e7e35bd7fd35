"""Where a server is, how long it may take, and what is said to it in every request.

Everything that can be checked once is checked here: an address without a password in it, header lines that cannot
smuggle a second request, the proxy that the environment asks for.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec

from baimo.errors import ConfigError, RequestRefused

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})

# RFC 9110 section 5: a token, and a value without control characters except the tab
_LINES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\x00-\x08\x0a-\x1f\x7f]*\r\n)*")
# who says how long a message is and where it goes must be one: this client
_OURS = re.compile(
    rb"(?:^|\n)(?:content-length|transfer-encoding|connection|host|expect|upgrade|te|trailer):", re.I
)
_TARGET = re.compile(rb"[/*][!-~]*")


class Stages(msgspec.Struct, frozen=True, gc=False):
    """How long each part of a call may take, in seconds."""

    connect_s: float = 10.0
    """Name, TCP, proxy and TLS together."""
    write_s: float = 60.0
    """Longest time in which the server takes no byte of the request."""
    first_byte_s: float = 300.0
    """From the end of the request to the head of the answer."""
    silence_s: float = 120.0
    """Between two pieces of the answer."""


class Proxy(NamedTuple):
    """An HTTP proxy."""

    host: str
    port: int
    authorization: bytes = b""
    """Value of Proxy-Authorization; empty = none."""


class Lines(bytes):
    """Header lines that were checked; made by `lines`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """One server with its limits. Compared by identity: keep it as long as its connections shall be shared."""

    scheme: str
    """http or https."""
    host: str
    port: int
    socket: str = ""
    """Path of a Unix socket; empty = TCP."""
    stages: Stages = Stages()
    most_connections: int = 1024
    """Connections at once; further calls wait in order."""
    idle_s: float = 4.0
    """An unused connection is closed after that: before the server does it, in the middle of our next request."""
    proxy: Proxy | None = None

    @property
    def name(self) -> str:
        """For messages: no path, no credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return self.socket or (host if self.port == usual else f"{host}:{self.port}")

    def first_line(self, method: bytes, target: bytes) -> bytes:
        """Request line and Host, and what a proxy wants to know.

        Raises:
            RequestRefused: the target has characters that do not belong into a request line.
        """
        if not _TARGET.fullmatch(target) or not method.isalpha():
            raise RequestRefused("wire.bad_target", host=self.name)
        host = (
            b"localhost" if self.socket else self.name.encode("idna" if not self.name.isascii() else "ascii")
        )
        extra = b""
        if self.proxy is not None and self.scheme == "http":
            target = b"http://" + host + target
            if self.proxy.authorization:
                extra = b"proxy-authorization: " + self.proxy.authorization + b"\r\n"
        return b"%s %s HTTP/1.1\r\nhost: %s\r\n%s" % (method, target, host, extra)


def origin(
    url: str,
    *,
    stages: Stages = Stages(),
    most_connections: int = 1024,
    proxy: str = "",
    idle_s: float | None = None,
) -> Origin:
    """The server of an address: `https://host[:port]`, or `http+unix://%2Frun%2Fmodel.sock`. Its path is not looked at.

    Args:
        url: absolute address.
        stages: limits of its calls.
        most_connections: see `Origin`.
        proxy: address of a proxy; empty = what HTTPS_PROXY, HTTP_PROXY and ALL_PROXY say. NO_PROXY holds for both.
        idle_s: see `Origin`; None = 30 s with TLS, whose handshake is dear and whose servers wait long, else 4 s: Node
            and uvicorn close after 5 s.

    Raises:
        ConfigError: no http or https address, or a password in it.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError("wire.bad_address", address=url) from None
    scheme, _, unix = parts.scheme.partition("+")
    if scheme not in {"http", "https"} or not host or unix not in {"", "unix"}:
        raise ConfigError("wire.bad_address", address=url)
    if parts.username is not None or parts.password is not None:
        raise ConfigError("wire.password_in_address", host=host)
    secure = scheme == "https"
    return Origin(
        scheme=scheme,
        host="localhost" if unix else host,
        port=port or (443 if secure else 80),
        socket=unquote(parts.netloc) if unix else "",
        stages=stages,
        most_connections=most_connections,
        idle_s=idle_s if idle_s is not None else (30.0 if secure and host not in LOCAL else 4.0),
        proxy=None if unix else _proxy(scheme, host, proxy),
    )


def lines(headers: Iterable[tuple[bytes, bytes]]) -> Lines:
    """Headers as they go over the wire.

    Raises:
        RequestRefused: a name or value could end the line and begin another, or the header is not the caller's to set.
    """
    pairs = headers if isinstance(headers, (list, tuple)) else list(headers)
    block = b"".join([b"%s: %s\r\n" % pair for pair in pairs])
    if not _LINES.fullmatch(block) or block.count(b"\n") != len(pairs) or _OURS.search(block):
        raise RequestRefused(
            "wire.bad_header"
        )  # without its name: an injected one may hold a secret's beginning
    return Lines(block)


def _proxy(scheme: str, host: str, configured: str) -> Proxy | None:
    if host in LOCAL or proxy_bypass(host):
        return None
    known = {} if configured else getproxies()
    address = configured or known.get(scheme) or known.get("all")
    return proxy_at(address) if address else None


def proxy_at(address: str) -> Proxy:
    """The proxy of an address; `http://` may be left out.

    Raises:
        ConfigError: it is no http address.
    """
    try:
        parts = urlsplit(address if "//" in address else f"//{address}", scheme="http")
        port = parts.port
    except ValueError:
        raise ConfigError("wire.bad_proxy") from None
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError("wire.bad_proxy")
    authorization = b""
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        authorization = b"Basic " + base64.b64encode(credentials)
    return Proxy(parts.hostname, port or 80, authorization)
