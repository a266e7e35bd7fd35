"""TensorZero's configuration: tensorzero.toml.

Format: tensorzero.com/docs/gateway/configuration-reference, /docs/operations/enforce-custom-rate-limits,
/docs/operations/manage-credentials; read for TensorZero 2026.6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from baimo.workspace.importing.carried import Carried, Draft, Path, Weight, decimal
from baimo.workspace.importing.offers import Offer, Offers
from baimo.workspace.importing.pools import Member, Pool, written
from baimo.workspace.importing.tensorzero_models import SHORTHANDS, offer

PREFIXES = {"models": "tensorzero::model_name::", "embedding_models": "tensorzero::embedding_model_name::"}
"""How clients of the OpenAI-compatible endpoint name them: kept as further names, so that clients go on working."""
FUNCTION = "tensorzero::function_name::"
_BIND = re.compile(r"\[?([0-9a-fA-F:.]+?)\]?:(\d{1,5})")
_RATE = re.compile(r"(model_inferences|tokens|cost)_per_(second|minute|hour|day|week|month)")
NOTED: tuple[tuple[Path, str, Weight], ...] = (
    (("gateway", "observability"), "t0_database", "needless"),
    (("gateway", "base_path"), "base_path", "lost"),
    (("gateway", "relay"), "relay", "lost"),
    (("gateway", "disable_pseudonymous_usage_analytics"), "no_analytics", "needless"),
    (("gateway", "template_filesystem_access"), "template", "lost"),
    (("gateway", "export", "otlp"), "otel", "lost"),
    (("gateway", "auth", "cache"), "tuning", "needless"),
    (("clickhouse",), "t0_database", "needless"),
    (("postgres",), "t0_database", "needless"),
    (("object_storage",), "t0_objects", "lost"),
    (("metrics",), "t0_metrics", "lost"),
    (("tools",), "t0_tools", "lost"),
    (("evaluations",), "t0_evaluations", "lost"),
    (("optimizers",), "t0_optimizers", "lost"),
    (("autopilot",), "t0_optimizers", "lost"),
)


def carried(source: Mapping[str, Any], name: str) -> Carried:
    """The settings of a TensorZero gateway as ours.

    Args:
        source: the document.
        name: of the file, for the head of the result.
    """
    draft = Draft(source)
    offers, made = Offers(draft), list[tuple[tuple[str, str], Offer]]()
    for kind in PREFIXES:
        for model in draft.table((kind,)):
            _deployments(draft, kind, model, offers, made)
    variants = _variants(draft, offers, made)
    taken = {*draft.table(("models",)), *draft.table(("embedding_models",)), *draft.table(("functions",))}
    names = offers.placed([one for _, one in made], {one for one in taken if one}, lambda _: set())
    model_of = {one.path: model for (_, one), model in zip(made, names, strict=True)}
    pools = [*_models(draft, made, model_of)]
    bases = {pool.name for pool in pools}
    pools += _functions(draft, variants, model_of, bases)
    written(draft, pools)
    _further_names(draft, {pool.name for pool in pools})
    _gateway(draft)
    _limits(draft)
    for path, reason, weight in NOTED:
        draft.note(path, reason, weight)
    for kind in draft.table(("provider_types",)):
        draft.otherwise(("provider_types", kind, "defaults"), "unused_default", "needless")
    return draft.finished(name)


def _deployments(
    draft: Draft, kind: str, model: str, offers: Offers, made: list[tuple[tuple[str, str], Offer]]
) -> None:
    path = (kind, model)
    providers = draft.table((*path, "providers"))
    routing = [draft.words((*path, "routing", one)) for one in range(draft.length((*path, "routing")))]
    for provider in providers:
        at = (*path, "providers", provider)
        if provider not in routing:
            draft.note(at, "not_routed", "needless")
        elif (one := offer(draft, at, offers)) is not None:
            made.append(((kind, model), one))
    for name in ("timeouts", "timeout_ms"):
        draft.note((*path, name), "model_timeout")
    draft.note((*path, "skip_relay"), "relay", "needless")


def _models(
    draft: Draft, made: list[tuple[tuple[str, str], Offer]], model_of: Mapping[Path, str]
) -> list[Pool]:
    """A model's providers in the order of its routing: the next one is asked when one fails."""
    pools: dict[str, Pool] = {}
    for kind in PREFIXES:
        for model in draft.table((kind,)):
            mine = {one.path[3]: one for place, one in made if place == (kind, model)}
            if model in pools or not model.strip():
                draft.note((kind, model), "same_name", name=model)
                continue
            members = [
                Member(
                    model=model_of[mine[name].path], order=number, named=((kind, model, "routing", number),)
                )
                for number in range(draft.length((kind, model, "routing")))
                if (name := draft.words((kind, model, "routing", number))) in mine
            ]
            for number in range(draft.length((kind, model, "routing"))):
                if draft.words((kind, model, "routing", number)) not in mine:
                    draft.note((kind, model, "routing", number), "no_provider")
            if members:
                pools[model] = Pool(name=model, named=[], members=members, strategy="fallback")
    return list(pools.values())


def _variants(
    draft: Draft, offers: Offers, made: list[tuple[tuple[str, str], Offer]]
) -> dict[Path, Offer | None]:
    """Variants by the place of their model: an Offer where it is a shorthand, None where it is a model's name."""
    found: dict[Path, Offer | None] = {}
    for function in draft.table(("functions",)):
        for variant in draft.table(("functions", function, "variants")):
            at: Path = ("functions", function, "variants", variant, "model")
            words = draft.words(at)
            if words in draft.table(("models",)):
                found[at] = None
                continue
            kind, _, rest = words.partition("::")
            rest = rest.removeprefix("responses::").removeprefix("chat_completions::")
            if kind not in SHORTHANDS or not rest:
                draft.note(at, "no_such_group", name=words)
                continue
            vendor = offers.vendor(SHORTHANDS[kind])
            one = Offer(path=at, vendor=SHORTHANDS[kind], hint=kind, upstream=rest, named=(at,))
            if vendor is not None and vendor.key_variable:
                one.provider["key"] = (f"env:{vendor.key_variable}", ())
            made.append((("functions", function), one))
            found[at] = one
    return found


def _functions(
    draft: Draft, variants: Mapping[Path, Offer | None], model_of: Mapping[Path, str], known: set[str]
) -> list[Pool]:
    pools: list[Pool] = []
    for function in draft.table(("functions",)):
        place: Path = ("functions", function)
        if function in known or not function.strip():
            draft.note(place, "same_name", name=function)
            continue
        members: list[Member] = []
        weights, weight_paths = _weights(draft, place)
        for variant in draft.table((*place, "variants")):
            at = (*place, "variants", variant)
            path = (*at, "model")
            target = model_of.get(path) or draft.words(path)
            usable = path in variants and (variants[path] is not None or target in known)
            if draft.words((*at, "type")) not in {"chat_completion", ""} or not usable:
                draft.note(at, "variant", kind=draft.words((*at, "type")) or "?")
                continue
            draft.note((*at, "type"), "holds_here", "needless")
            share, paths = weights.get(variant), weight_paths.get(variant, ())
            members.append(
                Member(model=target, weight=share, order=0.0 if share else 1.0, paths=paths, named=(path,))
            )
            _variant_rest(draft, at)
        if members and not any(member.weight for member in members):
            members = [
                Member(model=one.model, weight=1.0, paths=one.paths, named=one.named) for one in members
            ]
        if members:
            pools.append(Pool(name=function, named=[], members=members))
        draft.note((*place, "type"), "function_type", "changed")
        for name in ("system_schema", "user_schema", "assistant_schema", "schemas", "output_schema"):
            draft.note((*place, name), "schema")
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            draft.note((*place, name), "t0_tools")
        draft.note((*place, "evaluators"), "t0_evaluations")
    return pools


def _weights(draft: Draft, place: Path) -> tuple[dict[str, float], dict[str, tuple[Path, ...]]]:
    """Shares of a function's variants: of its experiment if there is one, else of the variants."""
    shares: dict[str, float] = {}
    paths: dict[str, tuple[Path, ...]] = {}
    drawn = (*place, "experimentation", "candidate_variants")
    for number in range(draft.length(drawn)):
        name = draft.words((*drawn, number))
        shares[name], paths[name] = 1.0, ((*drawn, number),)
    for name in draft.table(drawn):
        share = draft.figure((*drawn, name), most=1e9)
        if share is not None:
            shares[name], paths[name] = share, ((*drawn, name),)
    variants = draft.table((*place, "variants"))
    paths = {name: path for name, path in paths.items() if name in variants}
    draft.note((*place, "experimentation", "type"), "experiment", "changed")
    draft.note((*place, "experimentation", "fallback_variants"), "experiment", "changed")
    if shares:
        return shares, paths
    for name in variants:
        path = (*place, "variants", name, "weight")
        share = draft.figure(path, least=-1e-9, most=1e9)
        if share is not None:
            shares[name], paths[name] = max(share, 0.0), (path,)
    return shares, paths


def _variant_rest(draft: Draft, at: Path) -> None:
    for name in draft.table(at):
        if name.endswith("_template") or name in {"templates", "input_wrappers"}:
            draft.note((*at, name), "template")
    for name in ("temperature", "top_p", "max_tokens", "presence_penalty", "frequency_penalty", "seed",
                 "stop_sequences", "json_mode", "reasoning_effort", "service_tier", "verbosity",
                 "thinking_budget_tokens", "extra_body", "extra_headers"):  # fmt: skip
        draft.note((*at, name), "parameters")
    draft.note((*at, "retries"), "retries")
    draft.note((*at, "timeouts"), "model_timeout")


def _further_names(draft: Draft, known: set[str]) -> None:
    for kind, prefix in PREFIXES.items():
        for model in draft.table((kind,)):
            if model in known:
                draft.put(("routes", prefix + model, "models"), [model])
    for function in draft.table(("functions",)):
        if function in known:
            draft.put(("routes", FUNCTION + function, "models"), [function])


def _gateway(draft: Draft) -> None:
    bind = ("gateway", "bind_address")
    if (found := _BIND.fullmatch(draft.words(bind))) and int(found[2]) <= 65535:
        draft.put(("serve", "host"), found[1], bind)
        draft.put(("serve", "port"), int(found[2]), bind)
    ttl = ("gateway", "cache", "valkey", "ttl_s")
    if (seconds := draft.figure(ttl, most=1e9)) is not None:
        draft.put(("policy", "cache_ttl_s"), seconds, ttl)
    timeout = ("gateway", "global_outbound_http_timeout_ms")
    if (milliseconds := draft.figure(timeout, most=1e9)) is not None:
        draft.put(("serve", "call_timeout_s"), milliseconds / 1000, timeout)
        draft.note(timeout, "call_timeout", "changed")
    debug = ("gateway", "debug")
    if isinstance(draft.at(debug), bool):
        draft.put(("observe", "log_level"), "debug" if draft.at(debug) else "info", debug)
    auth = ("gateway", "auth", "enabled")
    draft.note(auth, "auth", "needless" if draft.at(auth) is True else "changed")


def _limits(draft: Draft) -> None:
    """Rules of TensorZero are for API keys and tags; here a key or tenant carries its limits."""
    for number in range(draft.length(("rate_limiting", "rules"))):
        at = ("rate_limiting", "rules", number)
        limits: list[str] = []
        for name in draft.table(at):
            found = _RATE.fullmatch(name)
            amount = draft.figure((*at, name)) or draft.figure((*at, name, "capacity"))
            if found and amount and found[2] not in {"second", "week"}:
                counts = {"model_inferences": "requests"}.get(found[1], found[1])
                limits.append(f"--limit {counts}={decimal(amount)}/{found[2]}")
        if limits:
            draft.note(at, "rule", limits=" ".join(limits))
        else:
            draft.note(at, "odd_rule")
    draft.note(("rate_limiting", "enabled"), "rate_rest")
    draft.note(("rate_limiting", "default_cost"), "default_cost", "needless")
