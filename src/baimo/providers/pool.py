"""The providers of one run: made when first needed, one per vendor, closed together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

import msgspec

from baimo.config import secret
from baimo.core.call import Provider
from baimo.core.model import Vendor
from baimo.providers.factory import provider
from baimo.providers.weights import Located
from baimo.settings import ProviderSettings


class Providers:
    """Providers by vendor. Belongs to one event loop; use it as an asynchronous context manager."""

    def __init__(
        self,
        vendor: Callable[[str], Vendor],
        settings: Mapping[str, ProviderSettings],
        weights: Located,
        *,
        once: bool = False,
    ) -> None:
        """
        Args:
            vendor: the catalogue's facts by name.
            settings: `[providers]` of the settings.
            weights: turns the name of a model that runs here into the path of its weights.
            once: every call is one attempt, made at once: whoever calls knows its deadline, what the provider
                may be asked, and what else to try.
        """
        self._vendor = vendor
        self._settings = settings
        self._weights = weights
        self._once = once
        self._made: dict[str, Provider] = {}

    def provider(self, vendor: str) -> Provider:
        """The way to the models of this vendor.

        Raises:
            ConfigError: its settings cannot be used, or its key is not where the settings say.
        """
        if vendor not in self._made:
            facts = self._vendor(vendor)
            settings = self._settings.get(vendor, ProviderSettings())
            if self._once:
                settings = msgspec.structs.replace(settings, retries=0)
            reference = settings.key or (f"env:{facts.key_variable}" if facts.key_variable else "")
            if reference:
                secret(reference)  # a missing key is told before the first call, not after a hundred
            made = self._made[vendor] = provider(facts, settings, weights=self._weights)
            unpaced = getattr(made, "unpaced", None)  # of those that are servers
            if self._once and unpaced is not None:
                unpaced()
        return self._made[vendor]

    def made(self) -> list[Provider]:
        """Those that were asked for before."""
        return list(self._made.values())

    async def __aenter__(self) -> Providers:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for made in self._made.values():
            await made.aclose()
