"""LiteLLM's proxy configuration: config.yaml.

Format: docs.litellm.ai/docs/proxy/configs, /docs/proxy/config_settings, /docs/proxy/reliability (fallbacks),
/docs/routing (strategies, order, weight), /docs/proxy/caching, /docs/proxy/users (budgets); read for LiteLLM 1.106.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from baimo.workspace.importing.carried import Carried, Draft, Path
from baimo.workspace.importing.deployments import VENDORS, offer
from baimo.workspace.importing.litellm_settings import carry_settings
from baimo.workspace.importing.offers import Offer, Offers
from baimo.workspace.importing.pools import Member, Pool, written

ROUTER, LITELLM, GENERAL = "router_settings", "litellm_settings", "general_settings"
STRATEGIES = {
    "simple-shuffle": "weighted",
    "latency-based-routing": "latency",
    "cost-based-routing": "cheapest",
    "least-busy": "weighted",
    "usage-based-routing": "weighted",
    "usage-based-routing-v2": "weighted",
}
"""LiteLLM's routing_strategy → ours; the last three are approximated."""
EXACT = frozenset({"simple-shuffle", "latency-based-routing", "cost-based-routing"})
FALLBACKS = (
    ("fallbacks", ("error", "timeout", "rate_limit", "context_length", "content_policy")),
    ("context_window_fallbacks", ("context_length",)),
    ("content_policy_fallbacks", ("content_policy",)),
)
"""LiteLLM's lists of fallbacks and which failures they are for; the strongest first."""


class Chain(NamedTuple):
    """One group's fallbacks of one kind."""

    names: list[tuple[str, Path]]
    on: tuple[str, ...]


def carried(source: Mapping[str, Any], name: str) -> Carried:
    """The settings of a LiteLLM proxy as ours.

    Args:
        source: the document; names of tables are text.
        name: of the file, for the head of the result.
    """
    draft = Draft(source)
    pools = _pools(draft)
    known = {pool.name for pool in pools}
    _fallbacks(draft, pools, known)
    written(draft, pools)
    several = {path[1] for pool in pools if len(pool.members) > 1 for path in pool.named}
    for number in range(draft.length(("model_list",))):
        for one in ("weight", "order"):
            reason = "not_weighed" if number in several else "alone"
            draft.otherwise(("model_list", number, "litellm_params", one), reason, "needless")
    draft.otherwise(
        (ROUTER, "routing_strategy"), "alone" if _strategy(draft)[1] else "no_strategy", "needless"
    )
    known |= _aliases(draft, known)
    carry_settings(draft, known)
    return draft.finished(name)


def _pools(draft: Draft) -> list[Pool]:
    offers = Offers(draft)
    found: list[tuple[str, Offer]] = []
    for number in range(draft.length(("model_list",))):
        path: Path = ("model_list", number)
        name = draft.words((*path, "model_name"))
        if not name:
            draft.note(path, "no_model_name")
        elif "*" in name or "*" in draft.words((*path, "litellm_params", "model")):
            _wildcard(draft, path, name)
        elif (made := offer(draft, path, offers)) is not None:
            found.append((name, made))
    groups: dict[str, list[Offer]] = {}
    for name, made in found:
        groups.setdefault(name, []).append(made)

    def clashes(names: Sequence[str]) -> set[str]:
        """Names of models that are also names of groups with something else behind them."""
        plain = {
            name
            for name, (group, _) in zip(names, found, strict=True)
            if name == group and len(groups[group]) == 1 and not _leads_on(draft, group)
        }
        return (set(names) & set(groups)) - plain

    reserved = set(draft.table((ROUTER, "model_group_alias")))
    models = offers.placed([made for _, made in found], reserved, clashes)
    model_of = {made.path: model for (_, made), model in zip(found, models, strict=True)}
    strategy, paths = _strategy(draft)
    return [
        Pool(
            name=name,
            named=[(*made.path, "model_name") for made in members],
            members=_members(draft, [(made, model_of[made.path]) for made in members]),
            strategy=strategy,
            strategy_paths=paths,
        )
        for name, members in groups.items()
    ]


def _leads_on(draft: Draft, name: str) -> bool:
    """Whether fallbacks begin at this name, so that it must be a route."""
    lists = [(section, kind) for section in (ROUTER, LITELLM) for kind, _ in FALLBACKS]
    defaults = any(draft.length((section, "default_fallbacks")) for section in (ROUTER, LITELLM))
    return defaults or any(
        name in draft.table((*place, number)) for place in lists for number in range(draft.length(place))
    )


def _members(draft: Draft, offers: Sequence[tuple[Offer, str]]) -> list[Member]:
    """Shares by the first of weight, rpm, tpm that counts, else equal ones.

    For simple-shuffle it is the first that the first deployment has, as there; the strategies that are approximated
    give calls to every deployment, so one counts that all of them have.
    """
    by_all = draft.words((ROUTER, "routing_strategy")) in STRATEGIES.keys() - EXACT
    measures: list[list[tuple[float, Path] | None]] = []
    for name in ("weight", "rpm", "tpm"):
        paths = [(*made.path, "litellm_params", name) for made, _ in offers]
        figures = [(draft.figure(path, least=-1e-9, most=1e12), path) for path in paths]
        measures.append([None if figure is None else (max(figure, 0.0), path) for figure, path in figures])
    chosen = next((one for one in measures if (None not in one if by_all else one[0] is not None)), None)
    orders = [draft.figure((*made.path, "litellm_params", "order"), least=-1e9) for made, _ in offers]
    # those without one are not asked as long as one with an order is well
    last = math.inf if any(order is not None for order in orders) else 0.0
    members: list[Member] = []
    for (made, model), order, said in zip(offers, orders, chosen or [None] * len(offers), strict=True):
        at = (*made.path, "litellm_params", "order")
        paths = [] if said is None else [said[1]]
        weight = said[0] if said is not None else (None if chosen is None else 0.0)
        members.append(
            Member(
                model=model,
                weight=weight,
                order=last if order is None else order,
                paths=tuple(paths),
                ranked=() if order is None else (at,),
            )
        )
    return members


def _wildcard(draft: Draft, path: Path, name: str) -> None:
    """`openai/*`: here every model of a vendor can be asked for by its name anyway."""
    model = draft.words((*path, "litellm_params", "model"))
    vendor = VENDORS.get(model.partition("/")[0], "")
    if not vendor or name != model or model != f"{vendor}/*":
        draft.note(path, "other_wildcard")
        return
    for place in ((*path, "model_name"), (*path, "litellm_params", "model")):
        draft.note(place, "wildcard", "needless", vendor=vendor)
    key = (*path, "litellm_params", "api_key")
    usual = f"{vendor.upper()}_API_KEY"
    if draft.words(key) == f"os.environ/{usual}":
        draft.note(key, "usual_key", "needless", variable=usual)
    draft.otherwise(path, "other_wildcard")


def _strategy(draft: Draft) -> tuple[str, tuple[Path, ...]]:
    path = (ROUTER, "routing_strategy")
    said = draft.words(path)
    if said not in STRATEGIES:
        return "weighted", ()
    if said not in EXACT:
        draft.note(path, "strategy", "changed")
    return STRATEGIES[said], (path,)


def _fallbacks(draft: Draft, pools: Sequence[Pool], known: set[str]) -> None:
    for pool in pools:
        chains = [
            chain for kind, on in FALLBACKS if (chain := _chain(draft, pool.name, kind, on, known)).names
        ]
        if not any(chain.on == FALLBACKS[0][1] for chain in chains):
            defaults = _defaults(draft, pool.name, known)
            if defaults or not chains:
                chains.insert(0, Chain(defaults, FALLBACKS[0][1]))
        first = chains[0]
        pool.fallbacks, pool.fallback_on = first.names, first.on
        if len(chains) > 1 or first.on == FALLBACKS[0][1]:
            others = {failure for chain in chains[1:] for failure in chain.on}
            pool.fallback_on = tuple(one for one in first.on if one not in others)
        for chain in chains[1:]:
            if [name for name, _ in chain.names] == [name for name, _ in first.names]:
                pool.fallback_on = tuple(dict.fromkeys((*pool.fallback_on, *chain.on)))
                draft.reflected(("routes", pool.name, "models"), *(path for _, path in chain.names))
                continue
            for _, path in chain.names:
                draft.note(path, "one_chain", group=pool.name)
        several = len({member.model for member in pool.members}) > 1
        if pool.fallbacks and several and "error" not in pool.fallback_on:
            # the deployments are each other's fallbacks too, and a route has one set of reasons
            pool.fallback_on = ("error", "timeout", "rate_limit", *pool.fallback_on)
            for _, path in pool.fallbacks:
                draft.note(path, "also_errors", "changed", group=pool.name)
        if not pool.fallbacks:
            pool.fallback_on = ()


def _chain(draft: Draft, group: str, kind: str, on: tuple[str, ...], known: set[str]) -> Chain:
    """Router settings are stronger than LiteLLM's."""
    found: list[tuple[str, Path]] = []
    for section in (ROUTER, LITELLM):
        place = (section, kind)
        for number in range(draft.length(place)):
            at = (*place, number, group)
            if group not in draft.table((*place, number)):
                continue
            if found:
                draft.note(at, "stronger", "needless", other=f"{ROUTER}.{kind}")
                continue
            paths = [(*at, one) for one in range(draft.length(at))]
            found = _known(draft, group, paths, known)
    return Chain(found, on)


def _defaults(draft: Draft, group: str, known: set[str]) -> list[tuple[str, Path]]:
    for section in (ROUTER, LITELLM):
        place = (section, "default_fallbacks")
        if paths := [(*place, one) for one in range(draft.length(place))]:
            return [(name, path) for name, path in _known(draft, "", paths, known) if name != group]
    return []


def _known(draft: Draft, group: str, paths: Sequence[Path], known: set[str]) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for path in paths:
        name = draft.words(path)
        if name in known and name != group:
            found.append((name, path))
        elif name:
            draft.note(path, "no_such_group", name=name)
    return found


def _aliases(draft: Draft, known: set[str]) -> set[str]:
    made: set[str] = set()
    for alias in draft.table((ROUTER, "model_group_alias")):
        path: Path = (ROUTER, "model_group_alias", alias)
        target_path = (*path, "model") if draft.table(path) else path
        target = draft.words(target_path)
        if target in known and alias not in known and alias.strip():
            draft.put(("routes", alias, "models"), [target], target_path)
            draft.note((*path, "hidden"), "hidden")
            made.add(alias)
        else:
            draft.note(path, "alias")
    return made
