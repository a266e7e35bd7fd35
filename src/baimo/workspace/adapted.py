"""The tuned models that may answer, and the aliases that were released, in memory: what the gateway asks at every call.

Prevents two failures: a model that answers only after a restart (the store is looked at twice a second, and at once
by the process that changed it), and a name of another tenant that is told apart from one that does not exist.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from baimo.core.model import Model
from baimo.core.money import Price
from baimo.core.tenant import OWNER
from baimo.core.tuning import Adapter
from baimo.errors import BaimoError
from baimo.models.catalogue import TUNED, Catalogue
from baimo.store.adapters import Adapters
from baimo.store.releases import Releases
from baimo.text import text

POLL_S = 0.5
"""How often it is looked whether something changed."""
_NOTHING: Mapping[str, str] = {}
log = logging.getLogger("baimo.serve")


class Adapted:
    """Tuned models by tenant and name, as they were at most a second ago.

    Args:
        adapters: where they are kept; read at once.
        catalogue: knows their bases, and prices set in baimo.toml; the one that is in force.
        releases: of aliases; None = there are none.
    """

    def __init__(
        self, adapters: Adapters, catalogue: Callable[[], Catalogue], releases: Releases | None = None
    ) -> None:
        self._adapters = adapters
        self._releases = releases
        self._released: dict[str, dict[str, str]] = {}
        self._catalogue = catalogue
        self._revision: int | None = None
        self._held: dict[str, dict[str, Model]] = {}
        self._names: frozenset[str] = frozenset()
        self.changed: Callable[[], None] = lambda: None
        """Called after something changed; from any thread."""

    def models(self, tenant: str) -> Mapping[str, Model]:
        """A tenant's, by name."""
        return self._held.get(tenant, {})

    def released(self, tenant: str) -> Mapping[str, str]:
        """A tenant's aliases that were released, each with the name of the model that answers."""
        return self._released.get(tenant, _NOTHING)

    def gone(self, name: str) -> bool:
        """Whether nobody may ask for a tuned model any more."""
        return name not in self._names

    def refresh(self, *, anyway: bool = False) -> bool:
        """Read everything again if something changed, or `anyway`; blocks. True = it was read.

        Raises:
            StoreError: it cannot be read.
        """
        revision = self._adapters.revision()
        if revision == self._revision and not anyway:
            return False
        held: dict[str, dict[str, Model]] = {}
        for adapter in self._adapters.ready():
            try:
                held.setdefault(adapter.tenant, {})[adapter.name] = model_of(
                    adapter, self._catalogue(), self._based
                )
            except BaimoError as error:
                log.warning(text("adapters.not_served", name=adapter.name, problem=error))
        released: dict[str, dict[str, str]] = {}
        for release in self._releases.holding() if self._releases is not None else ():
            if release.model:
                released.setdefault(release.tenant, {})[release.alias] = release.model
        self._released = released
        names = frozenset(name for models in held.values() for name in models)
        self._held, self._names, self._revision = held, names, revision
        self.changed()
        return True

    async def watch(self) -> None:
        """Follow changes until cancelled; a store that cannot be read for a while leaves everything as it was."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await asyncio.to_thread(self.refresh)
            except BaimoError as error:
                log.warning(text("adapters.not_read", problem=error))

    def _based(self, name: str) -> Adapter | None:
        return self._adapters.named(name)


def model_of(adapter: Adapter, catalogue: Catalogue, named: Callable[[str], Adapter | None]) -> Model:
    """A tuned model as the gateway knows models: its base under another name.

    Args:
        adapter: that it is.
        catalogue: knows the base.
        named: adapters by name, for one that was tuned from another.

    Raises:
        UnknownModel: the base is not there any more.
    """
    base, seen = adapter.base, {adapter.name}
    while base.startswith(TUNED) and base not in seen and (below := named(base)) is not None:
        seen.add(base)
        base = below.base
    day = datetime.fromtimestamp(adapter.created_ms / 1000, UTC).date().isoformat()
    model = replace(
        _below(base, catalogue),
        name=adapter.name,
        upstream=adapter.name,
        weights="",
        released=day,
        shutdown="",
    )
    return catalogue.configured(model)


def owners_model(name: str, adapters: Adapters, catalogue: Catalogue) -> Model | None:
    """A tuned model of the workspace's owner that may answer; None = there is none of that name."""
    adapter = adapters.named(name, OWNER)
    if adapter is None or adapter.status != "ready":
        return None
    return model_of(adapter, catalogue, adapters.named)


def _below(name: str, catalogue: Catalogue) -> Model:
    """What a tuned model takes over from its base; a base that is a folder is this machine's own, and free."""
    if not Path(name).is_absolute():
        return catalogue.base(name)
    nothing = Price(
        currency="USD", input_per_million=Decimal(0), output_per_million=Decimal(0), source="local"
    )
    return Model(name=name, vendor="local", upstream=name, price=nothing, abilities=("logprobs",))
