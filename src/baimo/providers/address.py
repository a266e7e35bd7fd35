"""Where a provider's server is: the catalogue's address, overridden and completed by configuration."""

from __future__ import annotations

import string
from collections.abc import Collection

from yarl import URL

from baimo.core.model import Vendor
from baimo.errors import ConfigError
from baimo.settings import ProviderSettings


def base_address(vendor: Vendor, settings: ProviderSettings, *, known: Collection[str]) -> URL:
    """The root of the API, placeholders filled from `[providers.NAME.options]`.

    Args:
        vendor: whose address the catalogue holds.
        settings: may name another address, and holds what the placeholders stand for.
        known: options that the wire format understands besides the placeholders.

    Raises:
        ConfigError: no address, an unfilled placeholder, an option that nothing reads, a password or a query in the
            address, or no http address at all.
    """
    template = settings.base_url or vendor.base_url or ""
    if not template:
        raise ConfigError("providers.no_address", provider=vendor.name)
    shown = template.partition("?")[0].rpartition("@")[2]  # what else there is may be a secret
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(template) if name}
    except ValueError:
        raise ConfigError("providers.bad_address", provider=vendor.name, address=shown) from None
    for name in sorted(names - settings.options.keys()):
        raise ConfigError("providers.placeholder", provider=vendor.name, address=shown, name=name)
    for name in sorted(settings.options.keys() - names - set(known)):
        readable = ", ".join(sorted({*names, *known})) or "–"
        raise ConfigError("providers.unknown_option", provider=vendor.name, option=name, known=readable)
    try:
        filled = template.format_map(settings.options)
        address = URL(filled.rstrip("/"))
    except ValueError:
        filled, address = "", URL()
    if address.scheme not in {"http", "https"} or not address.host:
        raise ConfigError("providers.bad_address", provider=vendor.name, address=shown)
    if address.raw_user or address.raw_password:
        raise ConfigError("providers.password_in_address", provider=vendor.name, host=address.host)
    if "?" in filled or "#" in filled:
        raise ConfigError("providers.query_in_address", provider=vendor.name, host=address.host)
    return address
