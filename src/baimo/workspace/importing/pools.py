"""Deployments under one name as routes of ours: shares, orders and fallbacks.

Prevents the failure where two models that are each other's fallback become a route that leads to itself: what falls
back falls back to the deployments of the other, never to the other's own fallbacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from baimo.workspace.importing.carried import Draft, Path

USUAL = ("error", "timeout", "rate_limit", "context_length")


@dataclass(slots=True, kw_only=True)
class Member:
    """One deployment of a pool."""

    model: str
    """Its name here."""
    weight: float | None = None
    """Its share; None = nothing is said."""
    order: float = 0.0
    """Lower ones are asked first."""
    paths: tuple[Path, ...] = ()
    """Where the weight stands."""
    ranked: tuple[Path, ...] = ()
    """Where the order stands."""
    named: tuple[Path, ...] = ()
    """Where the source names this deployment as one of the pool."""


@dataclass(slots=True, kw_only=True)
class Pool:
    """Everything that one name stands for."""

    name: str
    """What clients ask for."""
    named: list[Path]
    """Where the source gives this name."""
    members: list[Member]
    """Its deployments, in the order of the source."""
    strategy: str = "weighted"
    """Among the members of the same order."""
    strategy_paths: tuple[Path, ...] = ()
    """Where the source says so."""
    fallbacks: list[tuple[str, Path]] = field(default_factory=list[tuple[str, Path]])
    """Other pools, by name, and where they are named."""
    fallback_on: tuple[str, ...] = USUAL
    """Which failures pass a call on."""

    @property
    def plain(self) -> bool:
        """Whether the name is the model's own, so that no route is needed."""
        models = {member.model for member in self.members}
        return models == {self.name} and not self.fallbacks


def written(draft: Draft, pools: Sequence[Pool]) -> None:
    """Write the routes of all pools."""
    known = {pool.name: pool for pool in pools}
    taken = {*known, *draft.settings.get("models", {})}
    bases = {pool.name: _base(draft, pool, taken) for pool in pools}
    for pool in pools:
        if pool.plain:
            draft.reflected(("models", pool.name), *pool.named)
            continue
        place = ("routes", pool.name)
        onward = [(bases[name], path) for name, path in pool.fallbacks if name in known and name != pool.name]
        if pool.fallbacks:
            models = list(dict.fromkeys([bases[pool.name], *(name for name, _ in onward)]))
            draft.put((*place, "models"), models, *pool.named, *(path for _, path in onward))
            draft.put((*place, "fallback_on"), list(pool.fallback_on))
        draft.reflected((*place, "models"), *pool.named)


def _base(draft: Draft, pool: Pool, taken: set[str]) -> str:
    """The node that holds a pool's own deployments: a model, or a route that is written here."""
    if pool.plain:
        return pool.name
    names = list(dict.fromkeys(member.model for member in pool.members))
    if pool.fallbacks and len(names) == 1:
        draft.reflected(("models", names[0]), *(path for member in pool.members for path in member.named))
        return names[0]
    name = _free(f"{pool.name}.deployments", taken) if pool.fallbacks else pool.name
    orders = sorted({member.order for member in pool.members})
    if len(orders) == 1:
        _tier(draft, name, pool, pool.members)
        return name
    nodes: list[str] = []
    for number, order in enumerate(orders, start=1):
        members = [member for member in pool.members if member.order == order]
        if len({member.model for member in members}) == 1:
            nodes.append(members[0].model)
        else:
            nodes.append(_free(f"{pool.name}.order-{number}", taken))
            _tier(draft, nodes[-1], pool, members)
    paths = [path for member in pool.members for path in (*member.ranked, *member.named)]
    draft.put(("routes", name, "models"), list(dict.fromkeys(nodes)), *paths)
    return name


def _tier(draft: Draft, name: str, pool: Pool, members: Sequence[Member]) -> None:
    """A route over deployments of equal rank."""
    shares: dict[str, float] = {}
    for member in members:
        shares[member.model] = shares.get(member.model, 0.0) + (
            1.0 if member.weight is None else member.weight
        )
    paths = [path for member in members for path in member.paths]
    place = ("routes", name)
    draft.put((*place, "models"), list(shares), *(path for member in members for path in member.named))
    if len(shares) == 1 or pool.strategy == "fallback":
        return
    weighted = pool.strategy == "weighted" and any(shares.values())
    draft.put((*place, "strategy"), pool.strategy if pool.strategy != "weighted" or weighted else "fallback")
    draft.reflected((*place, "strategy"), *pool.strategy_paths)
    if weighted:
        draft.put((*place, "weights"), list(shares.values()), *paths)


def _free(name: str, taken: set[str]) -> str:
    number = 1
    found = name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found)
    return found
