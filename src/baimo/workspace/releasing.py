"""Releases as people ask for them: a model is promoted to an alias, or the one before it answers again.

Prevents two failures: a tuned model behind an alias that was never held against what was trained, and an alias that
hides a model of the catalogue from those who mean that one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec

from baimo.core.release import Release
from baimo.core.tuning import Adapter
from baimo.errors import Conflict, UnknownModel, UsageError
from baimo.models.catalogue import TUNED
from baimo.store.audit import Actor
from baimo.store.releases import Releases

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace

_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Why = Annotated[str, msgspec.Meta(max_length=1000)]
"""A reason, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What is to answer to an alias, and why."""

    alias: str
    """Name that clients ask for: a route of baimo.toml, or a new name."""
    model: str
    """Tuned model that passed its gate, or a model of the catalogue."""
    why: Why = ""
    """Reason, in words."""
    run: str = ""
    """Id of the comparison that speaks for it."""


class Releasing:
    """The releases of one workspace. Every method blocks."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.releases = Releases(workspace.store.database)

    def promote(
        self, asked: Promotion, by: Actor, permitted: Callable[[str], bool] = lambda model: True
    ) -> Release:
        """Let a model answer to an alias of the actor's tenant.

        Args:
            asked: what is wanted.
            by: who wants it.
            permitted: whether they may ask for a model of this name themselves.

        Raises:
            UsageError: this cannot be an alias.
            UnknownModel: there is no such model for this tenant.
            Conflict: its gate was not passed, or it answers already.
        """
        if not _ALIAS.fullmatch(asked.alias) and asked.alias not in self._workspace.settings.routes:
            raise UsageError("releases.bad_alias", alias=asked.alias[:100], field="/alias")
        unknown = UnknownModel("releases.no_model", model=asked.model[:200], field="/model")
        if not permitted(asked.model):
            raise unknown
        job = ""
        if asked.model.startswith(TUNED):
            adapter = self._workspace.adapting.adapters.named(asked.model, by.tenant)
            if adapter is None:
                raise unknown
            if problem := unfit(adapter):
                raise problem
            model, job = adapter.name, adapter.job
        else:
            try:
                model = self._workspace.catalogue.model(asked.model).name
            except UnknownModel:
                raise unknown from None
        return self.releases.promote(asked.alias, model, by, why=asked.why, job=job, run=asked.run)


def unfit(adapter: Adapter) -> Conflict | None:
    """Why a tuned model may not be promoted; None = it may."""
    name, how = adapter.name, (adapter.parity or {}).get("how", "")
    match adapter.status:
        case "candidate":
            return Conflict("releases.candidate", model=name, field="/model")
        case "blocked":
            return Conflict("releases.blocked", model=name, how=how, field="/model")
        case "retired":
            return Conflict("releases.retired", model=name, field="/model")
        case _:
            judged = bool(adapter.parity) and not adapter.parity.get("unchecked")
            return None if judged else Conflict("releases.unchecked", model=name, field="/model")
