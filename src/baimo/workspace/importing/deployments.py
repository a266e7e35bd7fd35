"""One entry of LiteLLM's model_list as an Offer.

Format: docs.litellm.ai/docs/proxy/configs and /docs/proxy/config_settings (read for LiteLLM 1.106); prices:
/docs/proxy/custom_pricing; names of providers: /docs/providers.
"""

from __future__ import annotations

import re

from baimo.settings import is_reference
from baimo.workspace.importing.carried import Draft, Interpolated, Path, secret_name, secret_value
from baimo.workspace.importing.offers import (
    DUMMIES,
    Offer,
    Offers,
    address,
    facts_of,
    host,
    per_million,
    slug,
    variable,
)

VENDORS = {
    "openai": "openai", "text-completion-openai": "openai", "azure": "azure", "azure_text": "azure",
    "anthropic": "anthropic", "gemini": "gemini", "bedrock": "bedrock", "mistral": "mistral", "groq": "groq",
    "deepseek": "deepseek", "together_ai": "together", "fireworks_ai": "fireworks", "openrouter": "openrouter",
    "perplexity": "perplexity", "xai": "xai", "cerebras": "cerebras", "cohere": "cohere", "cohere_chat": "cohere",
    "huggingface": "huggingface", "deepinfra": "deepinfra", "ollama": "ollama", "ollama_chat": "ollama",
    "vllm": "vllm", "hosted_vllm": "vllm", "dashscope": "dashscope-intl", "moonshot": "moonshot-intl",
    "volcengine": "ark", "lm_studio": "lmstudio", "nebius": "nebius", "xinference": "xinference",
    "minimax": "minimax-intl",
}  # fmt: skip
"""LiteLLM's prefix → vendor of the catalogue."""
BARE = re.compile(
    r"(?P<openai>gpt-|chatgpt-|o[134]\b|text-embedding-|dall-e|whisper-|tts-)|(?P<anthropic>claude-)"
)
"""Beginnings of names that LiteLLM knows without a prefix, models that no longer run included."""
VARIABLES = {
    "azure": "AZURE_API_KEY", "together": "TOGETHERAI_API_KEY", "fireworks": "FIREWORKS_AI_API_KEY",
    "perplexity": "PERPLEXITYAI_API_KEY", "huggingface": "HUGGINGFACE_API_KEY", "bedrock": "AWS_BEARER_TOKEN_BEDROCK",
    "ark": "VOLCENGINE_API_KEY",
}  # fmt: skip
"""Variables that LiteLLM reads when no key is named, where they differ from the catalogue's."""
BASES = ("api_base", "base_url")
PRICES = {
    "input_cost_per_token": "input_per_million",
    "output_cost_per_token": "output_per_million",
    "cache_read_input_token_cost": "cached_per_million",
    "cache_creation_input_token_cost": "cache_write_per_million",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h_per_million",
}
LIMITS = (
    ("rpm", "requests", "minute"),
    ("tpm", "tokens", "minute"),
    ("max_parallel_requests", "concurrency", "total"),
)
PARAMETERS = (
    "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "presence_penalty", "frequency_penalty",
    "stop", "seed", "n", "response_format", "tools", "tool_choice", "thinking", "reasoning_effort", "extra_body",
    "drop_params", "allowed_openai_params", "additional_drop_params", "cache_control_injection_points",
)  # fmt: skip
"""What LiteLLM puts into each request of a deployment, or takes from it."""
NEEDLESS_INFO = re.compile(
    r"id|mode|db_model|description|supports_\w+|litellm_provider|created_\w+|updated_\w+"
)
_OUT_OF_BASE = re.compile(r"/(chat/completions|v1/messages|messages)$")


def offer(draft: Draft, path: Path, offers: Offers) -> Offer | None:
    """The deployment at `path`, or None where it cannot be reached from here; then a note says why."""
    at = (*path, "litellm_params")
    model, prefix, upstream, prefix_path = _named(draft, at)
    base = _base(draft, at)
    if not upstream:
        draft.note(path, "no_model")
        return None
    if not base and any(draft.words((*at, name)) for name in BASES):
        draft.note(path, "bad_address")  # without it, prompts and key would go to the vendor's own
        return None
    vendor = VENDORS.get(prefix, "")
    if not prefix:
        known = BARE.match(upstream)
        vendor = next((one for one in ("openai", "anthropic") if offers.lists(one, upstream)), "")
        vendor = vendor or (known.lastgroup or "" if known else "")
    foreign = vendor == "openai" and base and host(base) != "api.openai.com"
    vendor = "" if foreign else vendor
    if not vendor and not base:
        draft.note(path, "no_vendor", vendor=prefix or model)
        return None
    hint = host(base) if foreign or not prefix else prefix
    made = Offer(path=path, vendor=vendor, hint=hint, upstream=upstream, named=((*at, "model"), *prefix_path))
    if prefix and prefix not in VENDORS:
        for place in made.named:
            draft.note(place, "taken_for_openai", "changed", vendor=prefix)
    if not vendor:
        made.provider["protocol"] = ("openai", prefix_path if prefix == "openai" else ())
    _provider(draft, at, made, offers, base)
    _facts(draft, path, made, offers)
    return made


def _named(draft: Draft, at: Path) -> tuple[str, str, str, tuple[Path, ...]]:
    """The model as written, its provider's prefix, the name for the server, and where else the prefix stands."""
    model = draft.words((*at, "model"))
    prefix, slash, rest = model.partition("/")
    said = draft.words((*at, "custom_llm_provider"))
    if said:
        return model, said, rest if prefix == said and slash else model, ((*at, "custom_llm_provider"),)
    if not slash or not prefix:
        return model, "", model, ()
    upstream = re.sub(r"^(converse|responses|chat|invoke)/", "", rest)
    return model, prefix, upstream, ()


def _base(draft: Draft, at: Path) -> str:
    for name in BASES:
        if found := address(draft.words((*at, name))):
            return found
    return ""


def _provider(draft: Draft, at: Path, made: Offer, offers: Offers, base: str) -> None:
    if base:
        paths = tuple((*at, name) for name in BASES if address(draft.words((*at, name))) == base)
        root = _root(made.vendor, base)
        made.provider["base_url"] = (root, paths)
        if isinstance(root, Interpolated) and root.endswith("/v1"):
            draft.note(paths[0], "adds_v1", "changed")
    if made.vendor == "azure":
        version = draft.words((*at, "api_version"))
        if version and base and not base.endswith("/v1") and not version.startswith("os.environ/"):
            made.provider["options"] = ({"api_version": version}, ((*at, "api_version"),))
        if not base:
            draft.note((*at, "model"), "no_azure", "changed")
    if made.vendor == "bedrock":
        draft.note((*at, "model"), "bedrock", "changed")
    region = draft.words((*at, "aws_region_name"))
    if made.vendor == "bedrock" and re.fullmatch(r"[a-z0-9-]+", region) and not base:
        made.provider["options"] = ({"region": region}, ((*at, "aws_region_name"),))
    _key(draft, (*at, "api_key"), made, offers)
    _headers(draft, at, made)
    timeout = draft.figure((*at, "timeout"), most=1e6)
    if timeout is not None:
        made.provider["read_timeout_s"] = (timeout, ((*at, "timeout"),))
        draft.note((*at, "timeout"), "silence", "changed")
    for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_role_name"):
        draft.note((*at, name), "aws_keys")
    draft.note((*at, "stream_timeout"), "stream_timeout")
    draft.note((*at, "max_retries"), "retries")
    draft.note((*at, "num_retries"), "retries")


def _root(vendor: str, base: str) -> str:
    """LiteLLM's api_base as the root that we expect."""
    kind = type(base)
    root = _OUT_OF_BASE.sub("", base)
    if vendor in {"ollama", "lmstudio", "xinference"} and not root.endswith("/v1"):
        root += "/v1"
    if vendor == "anthropic":
        root = root.removesuffix("/v1")
    return kind(root)


def _key(draft: Draft, path: Path, made: Offer, offers: Offers) -> None:
    words = draft.words(path)
    vendor = offers.vendor(made.vendor)
    usual = VARIABLES.get(made.vendor) or (vendor.key_variable if vendor else None)
    if found := re.fullmatch(r"os\.environ/(\w+)", words, re.ASCII):
        made.provider["key"] = (f"env:{found[1]}", (path,))
    elif words.casefold() in DUMMIES and not usual:
        draft.note(path, "dummy_key", "needless")
    elif words:
        held_in = offers.variable(made, words)
        made.provider["key"] = (f"env:{held_in}", ())
        draft.note(path, "bare_key", "secret", variable=held_in)
    elif usual:
        made.provider["key"] = (f"env:{usual}", ())


def _headers(draft: Draft, at: Path, made: Offer) -> None:
    headers: dict[str, str] = {}
    paths: list[Path] = []
    wanted = {"OpenAI-Organization": (*at, "organization")}
    wanted |= {name: (*at, "extra_headers", name) for name in draft.table((*at, "extra_headers"))}
    for name, path in wanted.items():
        value = draft.words(path)
        if (
            not value
            or not re.fullmatch(r"[A-Za-z0-9-]+", name)
            or not value.isascii()
            or not value.isprintable()
        ):
            continue
        if found := re.fullmatch(r"os\.environ/(\w+)", value):
            headers[name] = f"env:{found[1]}"
            paths.append(path)
        elif secret_name((name,)) or secret_value(value) or is_reference(value):
            held_in = variable(f"{slug(made.vendor or made.hint)}_{name}")
            headers[name] = f"env:{held_in}"
            draft.note(path, "bare_header", "secret", variable=held_in)
        else:
            headers[name] = value
            paths.append(path)
    if headers:
        made.provider["headers"] = (headers, tuple(paths))


def _facts(draft: Draft, path: Path, made: Offer, offers: Offers) -> None:
    at, info = (*path, "litellm_params"), (*path, "model_info")
    for theirs, ours in PRICES.items():
        for place in ((*at, theirs), (*info, theirs)):  # litellm_params is the stronger one
            price = draft.figure(place, least=-1e-12, most=1.0)
            if price is not None and ours not in made.model:
                made.model[ours] = (per_million(max(price, 0.0)), (place,))
            elif price is not None:
                draft.note(place, "stronger", "needless", other=f"litellm_params.{theirs}")
    if any(name in made.model for name in PRICES.values()):
        made.model["currency"] = ("USD", ())
    _window(draft, info, made)
    limits = [
        ({"counts": counts, "amount": amount, "window": window}, (*place, theirs))
        for theirs, counts, window in LIMITS
        for place in (at, info)
        if (amount := draft.count((*place, theirs))) is not None
    ]
    first = {limit["counts"]: (limit, where) for limit, where in reversed(limits)}
    if not _enforced(draft):
        for limit, where in first.values():
            if limit["counts"] in {"requests", "tokens"}:
                draft.note(where, "hard_limit", "changed")
    if first:
        ordered = sorted(first.values(), key=lambda one: str(one[0]["counts"]))
        made.model["limits"] = ([limit for limit, _ in ordered], tuple(where for _, where in ordered))
    for name in draft.table(info):
        if NEEDLESS_INFO.fullmatch(name):
            draft.note((*info, name), "info", "needless")
    _base_model(draft, (*info, "base_model"), made, offers)
    for name in PARAMETERS:
        draft.note((*at, name), "parameters")


def _enforced(draft: Draft) -> bool:
    """Whether LiteLLM refuses calls beyond rpm and tpm; else it only chooses by them."""
    checks = ("router_settings", "optional_pre_call_checks")
    said = {draft.words((*checks, number)) for number in range(draft.length(checks))}
    strategy = draft.words(("router_settings", "routing_strategy"))
    return "enforce_model_rate_limits" in said or strategy.startswith("usage-based")


def _base_model(draft: Draft, path: Path, made: Offer, offers: Offers) -> None:
    """What a deployment with a name of its own costs: as the model that it is of."""
    prefix, _, name = draft.words(path).rpartition("/")
    listed = offers.lists(VENDORS.get(prefix, prefix) or made.vendor, name)
    if listed is None or listed.price is None or any(ours in made.model for ours in PRICES.values()):
        draft.note(path, "base_model")
        return
    offers.note_tiers(path, listed)
    made.model |= {
        one: (value, (path,)) for one, (value, _) in facts_of(listed).items() if one not in made.model
    }


def _window(draft: Draft, info: Path, made: Offer) -> None:
    prompt, answer = draft.count((*info, "max_input_tokens")), draft.count((*info, "max_output_tokens"))
    answer_path = (*info, "max_output_tokens")
    if answer is None:
        answer, answer_path = draft.count((*info, "max_tokens")), (*info, "max_tokens")
    if answer is not None:
        made.model["max_output"] = (answer, (answer_path,))
    if prompt is not None:
        made.model["context_window"] = (prompt, ((*info, "max_input_tokens"),))
