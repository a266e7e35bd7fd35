"""One provider of a TensorZero model as an Offer.

Format: tensorzero.com/docs/gateway/configuration-reference, sections [models.NAME.providers.NAME] and
[provider_types]; read for TensorZero 2026.6.
"""

from __future__ import annotations

import re

from baimo.workspace.importing.carried import Draft, Path
from baimo.workspace.importing.offers import Offer, Offers, address, host, per_million

VENDORS = {
    "anthropic": "anthropic", "aws_bedrock": "bedrock", "azure": "azure", "deepseek": "deepseek",
    "fireworks": "fireworks", "google_ai_studio_gemini": "gemini", "groq": "groq", "mistral": "mistral",
    "openai": "openai", "openrouter": "openrouter", "sglang": "sglang", "together": "together", "vllm": "vllm",
    "xai": "xai",
}  # fmt: skip
"""TensorZero's type of provider → vendor of the catalogue."""
SHORTHANDS = {
    kind: vendor for kind, vendor in VENDORS.items() if vendor not in {"azure", "sglang", "vllm", "bedrock"}
}
"""Types that a variant can name as `type::model`."""
ADDRESSES = {"tgi": "", "hyperbolic": "https://api.hyperbolic.xyz/v1"}
"""Types that the catalogue has no vendor for, but that speak OpenAI's format."""
VARIABLES = {
    "azure": "AZURE_API_KEY",
    "google_ai_studio_gemini": "GOOGLE_AI_STUDIO_API_KEY",
    "hyperbolic": "HYPERBOLIC_API_KEY",
    "vllm": "VLLM_API_KEY",
}
"""Variables that TensorZero reads when no location is given, where they differ from the catalogue's."""
DEFAULTS = {"google_ai_studio_gemini": "google_ai_studio"}
"""Names of [provider_types] that differ from the type's."""
POINTERS = {
    "/usage/prompt_tokens": "input_per_million",
    "/usage/total_tokens": "input_per_million",
    "/usage/input_tokens": "input_per_million",
    "/usage/completion_tokens": "output_per_million",
    "/usage/output_tokens": "output_per_million",
    "/usage/cache_read_input_tokens": "cached_per_million",
    "/usage/cache_creation_input_tokens": "cache_write_per_million",
    "/usage/prompt_tokens_details/cached_tokens": "discount",
    "/usage/input_tokens_details/cached_tokens": "discount",
}
"""Where a vendor's answer counts tokens → the price that they have here; discount: subtracted from the input's."""


def offer(draft: Draft, at: Path, offers: Offers) -> Offer | None:
    """The provider at `at`, or None where it cannot be reached from here; then a note says why."""
    kind = draft.words((*at, "type"))
    upstream_path = next(
        (path for name in ("model_name", "deployment_id", "model_id") if draft.words(path := (*at, name))),
        None,
    )
    upstream = draft.words(upstream_path) if upstream_path else ""
    if not upstream and kind in {"sglang", "tgi"}:
        upstream = "default"  # TensorZero sends no name to these
    base_path = (*at, "endpoint") if kind == "azure" else (*at, "api_base")
    base = address(draft.words(base_path))
    if not base and draft.words(base_path):
        draft.note(at, "bad_address")  # without it, prompts and key would go to the vendor's own
        return None
    base = base or ADDRESSES.get(kind, "")
    vendor = VENDORS.get(kind, "")
    foreign = kind == "openai" and base and host(base) != "api.openai.com"
    if not upstream or not (vendor or kind in ADDRESSES) or (kind in ADDRESSES and not base):
        draft.note(at, "no_vendor", vendor=kind or "?")
        return None
    hint = host(base) if foreign else kind
    named = ((*at, "type"), *([upstream_path] if upstream_path else []))
    made = Offer(path=at, vendor="" if foreign else vendor, hint=hint, upstream=upstream, named=named)
    if not made.vendor:
        made.provider["protocol"] = ("openai", ((*at, "type"),) if foreign else ())
    if base:
        root = re.sub(r"/v1/messages$|/messages$", "", base) if kind == "anthropic" else base
        root = f"{root}/openai/v1" if kind == "azure" and not root.endswith("/v1") else root
        paths = (base_path,) if address(draft.words(base_path)) else ()
        made.provider["base_url"] = (type(base)(root), paths)
    region = draft.words((*at, "region"))
    if kind == "aws_bedrock" and re.fullmatch(r"[a-z0-9-]+", region):
        made.provider["options"] = ({"region": region}, ((*at, "region"),))
        draft.note((*at, "model_id"), "bedrock", "changed")
    _key(draft, at, kind, made, offers)
    _costs(draft, at, made)
    _rest(draft, at)
    return made


def _key(draft: Draft, at: Path, kind: str, made: Offer, offers: Offers) -> None:
    own = (*at, "api_key") if kind == "aws_bedrock" else (*at, "api_key_location")
    usual = ("provider_types", DEFAULTS.get(kind, kind), "defaults", "api_key_location")
    for path in (own, usual):
        if draft.at(path) is None:
            continue
        places = [(*path, "default"), (*path, "fallback")] if draft.table(path) else [path]
        for place in places:
            if (found := _reference(draft.words(place))) is not None and "key" not in made.provider:
                if found:
                    made.provider["key"] = (found, (place,))
                else:
                    draft.note(place, "dummy_key", "needless")
            elif found is not None:
                draft.note(place, "second_key")
            elif draft.words(place).startswith(("dynamic::", "sdk")):
                draft.note(place, "dynamic_key")
            else:
                draft.note(place, "bare_key", "secret", variable=offers.variable(made, draft.words(place)))
        if "key" in made.provider or path == own:
            return
    vendor = offers.vendor(made.vendor)
    variable = VARIABLES.get(kind) or (vendor.key_variable if vendor else None)
    variable = "OPENAI_API_KEY" if kind == "openai" else variable
    if variable:
        made.provider["key"] = (f"env:{variable}", ())


def _reference(words: str) -> str | None:
    """Our reference for a location of theirs; empty = no key, None = nothing that we have."""
    if words == "none":
        return ""
    if found := re.fullmatch(r"env::(\w+)", words, re.ASCII):
        return f"env:{found[1]}"
    if found := re.fullmatch(r"path::(\S+)", words):
        return f"file:{found[1]}"
    return None


def _costs(draft: Draft, at: Path, made: Offer) -> None:
    prices = _rates(draft, (*at, "cost"), made)
    if prices is None:
        draft.note((*at, "cost"), "cost")
        draft.note((*at, "batch_cost"), "cost")
        return
    for name, (price, paths) in prices.items():
        made.model[name] = (price, paths)
    if prices:
        made.model["currency"] = ("USD", ())
    batch = _rates(draft, (*at, "batch_cost"), made)
    whole = {
        name: one[0] for name, one in prices.items() if name in {"input_per_million", "output_per_million"}
    }
    shares = {
        round(batch[name][0] / price, 6) for name, price in whole.items() if price and batch and name in batch
    }
    if batch and len(shares) == 1 and set(batch) == set(whole) and (share := shares.pop()) <= 1:
        made.model["batch_discount"] = (
            round(1 - share, 6),
            tuple(path for one in batch.values() for path in one[1]),
        )
    else:
        draft.note((*at, "batch_cost"), "batch_cost")


def _rates(draft: Draft, path: Path, made: Offer) -> dict[str, tuple[float, tuple[Path, ...]]] | None:
    """Prices per million tokens and the places that they come from; None where something else is billed too."""
    found: dict[str, tuple[float, tuple[Path, ...]]] = {}
    for number in range(draft.length(path)):
        entry = (*path, number)
        pointers = {draft.words((*entry, name)) for name in draft.table(entry) if name.startswith("pointer")}
        name = POINTERS.get(pointers.pop(), "") if len(pointers) == 1 else ""
        rate = draft.figure((*entry, "cost_per_million"), least=-1e6, most=1e6)
        if (
            rate is None
            and (unit := draft.figure((*entry, "cost_per_unit"), least=-1.0, most=1.0)) is not None
        ):
            rate = per_million(unit)
        if not name or rate is None or name in found or (rate < 0) != (name == "discount"):
            return None
        found[name] = (rate, (entry,))
    if "discount" in found:
        less, paths = found.pop("discount")
        if "input_per_million" not in found or found["input_per_million"][0] + less < 0:
            return None
        found["cached_per_million"] = (round(found["input_per_million"][0] + less, 9), paths)
    return found


def _rest(draft: Draft, at: Path) -> None:
    draft.note((*at, "timeouts"), "model_timeout")
    draft.note((*at, "timeout_ms"), "model_timeout")
    for name in ("extra_body", "provider_tools"):
        draft.note((*at, name), "parameters")
    draft.note((*at, "extra_headers"), "t0_headers")
    draft.note((*at, "api_type"), "api_type")
    draft.note((*at, "discard_unknown_chunks"), "chunks", "needless")
    for name in ("access_key_id", "secret_access_key", "session_token"):
        draft.note((*at, name), "aws_keys")
