"""Where a vendor's server is, and what is sent to it besides the body: its own key, never the client's.

Prevents two failures: a client's header that changes what a request means or smuggles a second one (only a short list
is passed on), and a vendor's answer header that sets cookies or names our account at the vendor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from baimo.config import secret
from baimo.core.model import Model, Vendor
from baimo.errors import AuthenticationFailed, ConfigError, RequestRefused
from baimo.gateway.answers import Headers
from baimo.gateway.surface import Surface
from baimo.providers.address import base_address
from baimo.providers.faults import Place
from baimo.providers.quirks import known
from baimo.providers.wire.origin import Lines, Origin, Stages, lines, origin
from baimo.settings import ProviderSettings, ServeSettings, is_reference

KEY_AGE_S = 30.0
"""A key in a file or variable is read again after that, and by the next call after it was refused."""
ANTHROPIC_VERSION = b"2023-06-01"
OPTIONS = frozenset({"api_version", "max_tokens"})
"""Options of the wire formats that pass through; their providers are not loaded only to be asked for them."""
PASSED_ON = frozenset({b"anthropic-version", b"anthropic-beta", b"openai-beta"})
"""Headers of clients that the model's server gets. Not idempotency-key: all tenants share one account there, and one
must not get what another one asked."""
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, level 1: the only header of clients that is different in every call, and no secret."""
HANDED_BACK = (b"content-type", b"retry-after", b"retry-after-ms", b"x-should-retry", b"openai-processing-ms")
"""Headers of answers that clients get."""


class Outbound(msgspec.Struct, frozen=True):
    """Everything of a request but its body."""

    origin: Origin
    target: bytes
    headers: Lines
    place: Place


class Upstream:
    """One vendor's server."""

    def __init__(
        self,
        vendor: Vendor,
        settings: ProviderSettings,
        serve: ServeSettings,
        *,
        now: Callable[[], float],
    ) -> None:
        """
        Args:
            vendor: of the catalogue.
            settings: `[providers.NAME]`.
            serve: time-outs and proxy of the endpoint.
            now: seconds on a clock that never goes back.

        Raises:
            ConfigError: there is no usable address.
        """
        base = base_address(vendor, settings, known=OPTIONS)
        self.vendor = vendor
        self.quirks = frozenset((*vendor.quirks, *settings.quirks))
        self._settings = settings
        self._origin = origin(
            str(base.origin()),
            stages=Stages(
                connect_s=settings.connect_timeout_s,
                first_byte_s=serve.first_byte_timeout_s,
                silence_s=settings.read_timeout_s,
            ),
            proxy=serve.proxy,
        )
        self._path = base.raw_path.rstrip("/")
        self._host = f"{base.host}:{base.port}" if base.explicit_port else str(base.host)
        self._now = now
        self._base_headers: Headers = []
        self._out: dict[tuple[str, str, bytes], Outbound] = {}
        self._secrets: tuple[str, ...] = ()
        self._read_at = float("-inf")

    def outbound(self, surface: Surface, model: Model, given: Mapping[bytes, bytes]) -> Outbound:
        """Where and with which headers a call is sent.

        Args:
            surface: names the operation.
            model: whose name some vendors want in the path.
            given: headers of the client.

        Raises:
            AuthenticationFailed: the vendor's key is not where the settings say.
            RequestRefused: a header cannot be sent safely.
        """
        if self._now() - self._read_at > KEY_AGE_S:
            self._read(model)
        # JSON is read as JSON here, whatever the client calls it: no server may read it otherwise
        form = getattr(surface, "form", False)
        content_type = given.get(b"content-type", b"") if form else b"application/json"
        place = (surface.target, model.name, content_type)
        out = self._out.get(place)
        if out is None or not PASSED_ON.isdisjoint(given):
            out = self._made(surface, model, given, content_type)
            if len(self._out) > 1024:  # a multipart body's type holds a boundary of its own
                self._out.clear()
            if PASSED_ON.isdisjoint(given):
                self._out[place] = out
        parent = given.get(b"traceparent")
        if parent is not None and _TRACEPARENT.fullmatch(parent):
            out = msgspec.structs.replace(
                out, headers=Lines(b"%straceparent: %s\r\n" % (out.headers, parent))
            )
        return out

    def read_again(self) -> None:
        """The key was refused: it may be another one by now."""
        self._read_at = float("-inf")

    def _made(
        self, surface: Surface, model: Model, given: Mapping[bytes, bytes], content_type: bytes
    ) -> Outbound:
        headers = [*self._base_headers, (b"content-type", content_type)]
        headers += [(name, given[name]) for name in sorted(PASSED_ON & given.keys())]
        if self.vendor.protocol == "anthropic" and b"anthropic-version" not in given:
            headers.append((b"anthropic-version", ANTHROPIC_VERSION))
        target = self._target(surface.target, model.upstream if "azure" in self.quirks else "")
        place = Place(host=self._host, model=model.name, key=self._reference, secrets=self._secrets)
        return Outbound(self._origin, target, lines(headers), place)

    def usable(self) -> bool:
        """Whether its key is there."""
        reference = self._reference
        try:
            return not reference or bool(secret(reference))
        except ConfigError:
            return False

    @property
    def _reference(self) -> str:
        variable = self.vendor.key_variable
        return self._settings.key or (f"env:{variable}" if variable else "")

    def _target(self, operation: str, deployment: str) -> bytes:
        if self.vendor.protocol == "anthropic" and self._path.endswith("/v1"):
            operation = operation.removeprefix("v1/")
        elif self.vendor.protocol == "anthropic" and not operation.startswith("v1/"):
            operation = f"v1/{operation}"
        query = ""
        # learn.microsoft.com/azure/ai-foundry/openai/reference: dated versions name the deployment in the path
        if deployment and not self._path.endswith("/v1"):
            operation = f"openai/deployments/{quote(deployment, safe='')}/{operation}"
            query = (
                f"?api-version={quote(str(self._settings.options.get('api_version', '2024-10-21')), safe='')}"
            )
        return f"{self._path}/{operation}{query}".encode("ascii")

    def _read(self, model: Model) -> None:
        named = {b"user-agent": b"baimo", b"accept": b"*/*", b"accept-encoding": b"identity"}
        secrets: list[str] = []
        try:
            if self._reference:
                key = secret(self._reference)
                secrets.append(key)
                named.update([self._key_header(key)])
            for name, value in self._settings.headers.items():
                shown = secret(value) if is_reference(value) else value
                secrets.append(shown)
                named[name.lower().encode("ascii")] = shown.encode("latin-1")
        except ConfigError as error:
            facts: dict[str, Any] = {
                "provider": self.vendor.name,
                "model": model.name,
                "problem": str(error),
                "advice": error.hint,
            }
            raise AuthenticationFailed("providers.no_key", **facts) from None
        except UnicodeEncodeError:
            raise AuthenticationFailed(
                "providers.unprintable_key", provider=self.vendor.name, key=self._reference or "–"
            ) from None
        if any(byte < 32 or byte == 127 for value in named.values() for byte in value):
            raise AuthenticationFailed(
                "providers.unprintable_key", provider=self.vendor.name, key=self._reference or "–"
            )
        self._base_headers = list(named.items())
        self._out.clear()
        self._secrets, self._read_at = tuple(filter(None, secrets)), self._now()

    def _key_header(self, key: str) -> tuple[bytes, bytes]:
        value = key.encode("latin-1")
        if "azure" in self.quirks:
            return b"api-key", value
        if self.vendor.protocol == "anthropic" and "bearer" not in self.quirks:
            return b"x-api-key", value
        return b"authorization", b"Bearer " + value


def checked_provider(vendor: Vendor, settings: ProviderSettings) -> None:
    """Refuse settings of a provider to which no call could be sent.

    Keys, and what the catalogue's own address lacks, are not asked for: a provider without them is not offered.

    Raises:
        ConfigError: there is no usable address, no such quirk, or a header that cannot be sent.
    """
    known(vendor, settings.quirks)
    if vendor.protocol not in {"openai", "anthropic"}:
        return
    try:
        base_address(vendor, settings, known=OPTIONS)
    except ConfigError as error:
        if settings.base_url or error.key != "providers.placeholder":
            raise
    for name, value in settings.headers.items():
        try:
            lines([(name.encode("ascii"), b"" if is_reference(value) else value.encode("latin-1"))])
        except (RequestRefused, UnicodeEncodeError):
            raise ConfigError("gateway.bad_provider_header", provider=vendor.name, header=name) from None


def handed_back(headers: Mapping[bytes, bytes]) -> Headers:
    """The headers of an answer that the client may see."""
    return [(name, headers[name]) for name in HANDED_BACK if name in headers]
