"""From a Vendor and its settings to a Provider."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import cast

from baimo.core.call import Provider
from baimo.core.model import Vendor
from baimo.core.registry import resolve
from baimo.errors import ConfigError
from baimo.providers.weights import Located
from baimo.settings import ProviderSettings

PROTOCOLS: dict[str, str] = {
    "openai": "baimo.providers.openai:OpenAIProvider",
    "anthropic": "baimo.providers.anthropic:AnthropicProvider",
    "local": "baimo.providers.local:LocalProvider",
    "vllm": "baimo.providers.vllm:VllmProvider",
    "replay": "baimo.providers.replay:ReplayProvider",
    "fake": "baimo.providers.fake:FakeProvider",
}
"""Wire formats; each class is constructed as `(vendor, settings, *, weights=None)` and loaded when first used."""


def provider(vendor: Vendor, settings: ProviderSettings, *, weights: Located | None = None) -> Provider:
    """A way to reach the models of `vendor`.

    Args:
        vendor: of the catalogue, or made up by configuration.
        settings: `[providers.NAME]`; its protocol wins over the vendor's.
        weights: turns a source of weights into a local path, for engines in this process.

    Raises:
        ConfigError: no such protocol, or settings that its class refuses.
    """
    protocol = settings.protocol or vendor.protocol
    target = PROTOCOLS.get(protocol)
    if target is None:
        near = difflib.get_close_matches(protocol, PROTOCOLS, n=1)
        shown = ", ".join(near or PROTOCOLS)
        raise ConfigError("providers.unknown_protocol", provider=vendor.name, protocol=protocol, near=shown)
    build = cast("Callable[..., Provider]", resolve(target))
    return build(vendor, settings, weights=weights)
