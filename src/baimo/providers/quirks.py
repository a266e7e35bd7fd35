"""Deviations from the two wire formats, by name, and how a server's refusal teaches one.

Hundreds of servers call themselves compatible, and each model of one server may refuse another parameter (OpenAI's
reasoning models take no `max_tokens`, Claude from Opus 4.7 on takes no `temperature`). A quirk that the catalogue or
baimo.toml names is applied from the start. One that they do not name is learnt: a 400 or 422 that names an optional
parameter as unsupported is answered by sending the request again without it, and for this model never with it. What a
refusal says of one request's schema holds for that request alone.
Whatever was left out or changed is listed in `Completion.adapted`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from baimo.core.model import Vendor
from baimo.errors import ConfigError

QUIRKS: Mapping[str, str] = {
    "any_model": "serves models that no catalogue lists; read by the catalogue, nothing changes on the wire",
    "max_completion_tokens": "max_tokens goes by that name",
    "no_temperature": "takes neither temperature nor top_p",
    "no_seed": "takes no seed",
    "random_seed": "seed goes by that name (Mistral)",
    "no_stop": "takes no stop texts",
    "no_logprobs": "reports no log-probabilities",
    "no_strict": "refuses to enforce schemas that are not closed; the schema is sent with strict = false",
    "no_effort": "takes no reasoning_effort",
    "no_strict_tools": "anthropic: does not enforce the schemas of tools",
    "no_json_schema": "openai: json_object and the schema in the prompt; anthropic: a forced tool",
    "no_json_object": "no JSON mode at all: the wish for JSON is put into the prompt",
    "no_plain_json": "no json_object, but schemas: a wish for JSON without a schema is put into the prompt",
    "no_stream_options": "refuses stream_options; usage of streams is then unknown unless sent anyway",
    "tool_choice_any": "calls tool_choice 'required' 'any'",
    "stream_only": "answers in streams only, as some reasoning models do",
    "think_tags": "writes its reasoning between <think> and </think> at the start of the text",
    "azure": "api-key header; path by deployment and options.api_version unless base_url ends in /openai/v1",
    "responses": "has the Responses API; read by the endpoint, nothing changes on the wire",
    "bearer": "anthropic: key in the Authorization header instead of x-api-key",
}
"""Every quirk that `Vendor.quirks` and `[providers.NAME] quirks` may name, with its meaning."""

_UNSUPPORTED = re.compile(
    r"unsupported|not support|n't support|deprecated|extra_forbidden|not permitted|unrecognized"
    r"|unknown (?:name|param|field|arg)|unavailable|not allowed|not available|only the default"
    r"|unexpected (?:keyword|field|argument)|不支持|不可用|不允许",
    re.IGNORECASE,
)
_LESSONS: tuple[tuple[str, str], ...] = (  # (what the refusal names, the quirk), most specific first
    (r"invalid schema for response_format|invalid_json_schema|additionalProperties", "no_strict"),
    (r"\bstrict\b|\btools\.\d+\.|too complex|grammar", "no_strict_tools"),
    (r"reasoning_effort|output_config\.effort|effort parameter", "no_effort"),
    (r"stream_options|include_usage", "no_stream_options"),
    (r"json_schema|output_config(?!\.effort)|output_format|response_format", "no_json_schema"),
    (r"\bmax_tokens\b", "max_completion_tokens"),
    (r"\btemperature\b|\btop_p\b", "no_temperature"),
    (r"logprobs", "no_logprobs"),
    (r"\bseed\b", "no_seed"),
    (r"\bstop(_sequences)?\b", "no_stop"),
    (r"non-?streaming|stream(ing)? (mode )?only|only supports? stream", "stream_only"),
)
_PLAIN = frozenset({"no_strict", "no_strict_tools", "no_effort", "stream_only"})
"""Learnt of whatever names it; everything else must be called unsupported."""
_ANY_JSON = {"type": "json_object"}
_SCHEMA = re.compile(
    r"(?<!json_)schema|propert|keyword|required|additional|minimum|maximum|minItems|maxItems|minLength|maxLength"
    r"|pattern|enum|allOf|anyOf|oneOf|\$ref|recurs|integer",
    re.IGNORECASE,
)
"""What is wrong is in the schema that was sent; servers that know no schemas name the parameter or its type."""


def known(vendor: Vendor, extra: Iterable[str]) -> frozenset[str]:
    """The quirks of a vendor and of its settings that matter on the wire.

    Raises:
        ConfigError: one of them is none of `QUIRKS`.
    """
    names = frozenset((*vendor.quirks, *extra))
    for name in sorted(names - QUIRKS.keys()):
        near = difflib.get_close_matches(name, QUIRKS, n=1)
        shown = ", ".join(near or sorted(QUIRKS))
        raise ConfigError("providers.unknown_quirk", provider=vendor.name, quirk=name, near=shown)
    return names - {"any_model", "responses"}


def learnt(refusal: str, body: Mapping[str, Any], quirks: frozenset[str]) -> str | None:
    """The quirk that a refusal of `body` teaches, or None.

    Args:
        refusal: the body of the 400 or 422, as text.
        body: what was sent.
        quirks: what was known already; nothing is learnt twice.
    """
    for pattern, quirk in _LESSONS:
        if not re.search(pattern, refusal, re.IGNORECASE) or not _sent(quirk, body):
            continue
        if quirk == "no_json_schema" and body.get("response_format") == _ANY_JSON:
            quirk = "no_plain_json"
        if quirk not in quirks and (quirk in _PLAIN or _UNSUPPORTED.search(refusal)):
            return quirk
    return None


def lasts(quirk: str, refusal: str) -> bool:
    """Whether a lesson holds for the model, and not for the refused request alone.

    Args:
        quirk: what was learnt.
        refusal: the body of the 400 or 422, as text.
    """
    if quirk == "no_plain_json":  # or it goes not with something else in this request
        return re.search(r"tool|function|stream|thinking", refusal, re.IGNORECASE) is None
    if quirk == "no_effort":  # or it goes not with these tools, or not with this value
        return re.search(r"tool|value|one of|should be", refusal, re.IGNORECASE) is None
    if quirk == "no_strict_tools":
        return "strict: Extra inputs are not permitted" in refusal
    return quirk != "no_strict" and (quirk != "no_json_schema" or _SCHEMA.search(refusal) is None)


def _sent(quirk: str, body: Mapping[str, Any]) -> bool:
    fields = {
        "no_strict": ("response_format",),
        "no_stream_options": ("stream_options",),
        "no_json_schema": ("response_format", "output_config"),
        "max_completion_tokens": ("max_tokens",),
        "no_temperature": ("temperature", "top_p"),
        "no_logprobs": ("logprobs",),
        "no_seed": ("seed",),
        "no_stop": ("stop", "stop_sequences"),
    }
    if quirk == "stream_only":
        return not body.get("stream")
    if quirk == "no_strict_tools":
        return any(tool.get("strict") for tool in body.get("tools", ()))
    if quirk == "no_effort":
        return "reasoning_effort" in body or "effort" in body.get("output_config", ())
    if quirk == "no_json_schema" and "output_config" in body:
        return "format" in body["output_config"]  # or it holds the effort only
    return any(name in body for name in fields[quirk])
