"""Fields of OpenAI's chat that reach Anthropic's Messages, which refuses every field it does not know.

Prevents the failure of a client that changed nothing but the model, and whose every request is refused because of a
`user` or a `parallel_tool_calls` that the model could have done without.
Source: developers.openai.com/api/reference/resources/chat, platform.claude.com/docs/en/api/messages (November 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from baimo.errors import RequestRefused

EFFORTS = ("low", "medium", "high", "xhigh", "max")
_UNKNOWN = frozenset(
    {
        "frequency_penalty", "logit_bias", "moderation", "prediction", "presence_penalty", "prompt_cache_key",
        "prompt_cache_options", "prompt_cache_retention", "service_tier", "store", "verbosity", "web_search_options",
    }
)  # fmt: skip
"""Of no meaning there. service_tier has one, with other words."""


def add_extra(body: dict[str, Any], extra: Mapping[str, Any], adapted: list[str]) -> None:
    """Put `extra` into `body`, in Anthropic's words where they differ; what has none is noted in `adapted`.

    Raises:
        RequestRefused: a field contradicts what `body` says.
    """
    rest = dict(extra)
    effort = rest.pop("reasoning_effort", None)
    if effort in EFFORTS:
        body["output_config"] = {"effort": effort, **body.get("output_config", {})}
    elif effort is not None:
        adapted.append("reasoning_effort")
    if rest.pop("parallel_tool_calls", None) is False and body.get("tools"):
        choice = body.setdefault("tool_choice", {"type": "auto"})
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
    names = [str(rest.pop(name)) for name in ("safety_identifier", "user") if isinstance(rest.get(name), str)]
    metadata = rest.pop("metadata", None)
    if isinstance(metadata, Mapping) and "user_id" in metadata:
        body["metadata"] = {"user_id": metadata["user_id"]}
    elif names:
        body["metadata"] = {"user_id": names[0]}
    elif metadata is not None:
        adapted.append("metadata")
    if isinstance(rest.get("output_config"), Mapping):
        config = cast("Mapping[str, Any]", rest.pop("output_config"))
        _add(body.setdefault("output_config", {}), config, "output_config.")
    for name in sorted(rest.keys() & _UNKNOWN):
        adapted.append(name)
        del rest[name]
    _add(body, rest)


def _add(body: dict[str, Any], more: Mapping[str, Any], place: str = "") -> None:
    """Nothing that the request has said may be replaced: a system text, a limit."""
    for name, value in more.items():
        if name in body and body[name] != value:
            raise RequestRefused("providers.said_twice", field=f"{place}{name}")
        body[name] = value
