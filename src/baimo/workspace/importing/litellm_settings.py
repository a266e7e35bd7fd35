"""LiteLLM's settings besides models: router_settings, litellm_settings, general_settings, environment_variables.

Format: docs.litellm.ai/docs/proxy/config_settings, /docs/proxy/caching, /docs/proxy/users; read for LiteLLM 1.106.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from typing import Any

from baimo.workspace.importing.carried import Draft, Path, Weight, decimal

ROUTER, LITELLM, GENERAL = "router_settings", "litellm_settings", "general_settings"
_DAYS = re.compile(r"(\d{1,5})d")
_WINDOWS = {
    "1d": "day",
    "24h": "day",
    "1mo": "month",
    "30d": "month",
    "1h": "hour",
    "60s": "minute",
    "1m": "minute",
}

NOTED: tuple[tuple[Path, str, Weight], ...] = (
    ((GENERAL, "database_url"), "database", "secret"),
    ((GENERAL, "master_key"), "master_key", "secret"),
    ((GENERAL, "alerting"), "alerting", "lost"),
    ((GENERAL, "custom_auth"), "own_code", "lost"),
    ((GENERAL, "allowed_ips"), "networks", "lost"),
    ((GENERAL, "use_x_forwarded_for"), "proxies", "lost"),
    ((GENERAL, "store_model_in_db"), "in_database", "lost"),
    ((GENERAL, "store_prompts_in_spend_logs"), "contents", "lost"),
    ((GENERAL, "database_connection_pool_limit"), "tuning", "needless"),
    ((GENERAL, "database_connection_timeout"), "tuning", "needless"),
    ((GENERAL, "proxy_batch_write_at"), "tuning", "needless"),
    ((GENERAL, "max_parallel_requests"), "per_deployment", "lost"),
    ((LITELLM, "drop_params"), "parameters", "lost"),
    ((LITELLM, "modify_params"), "parameters", "lost"),
    ((LITELLM, "default_internal_user_params"), "users", "lost"),
    ((LITELLM, "default_team_params"), "users", "lost"),
    ((LITELLM, "max_internal_user_budget"), "users", "lost"),
    ((LITELLM, "max_end_user_budget"), "users", "lost"),
    ((LITELLM, "turn_off_message_logging"), "no_contents", "needless"),
    ((ROUTER, "provider_budget_config"), "provider_budget", "lost"),
    ((ROUTER, "enable_pre_call_checks"), "context_checked", "needless"),
    ((ROUTER, "redis_host"), "redis", "needless"),
    ((ROUTER, "redis_port"), "redis", "needless"),
    ((ROUTER, "redis_db"), "redis", "needless"),
    ((ROUTER, "redis_url"), "redis", "needless"),
    ((ROUTER, "redis_password"), "redis", "needless"),
    ((ROUTER, "retry_policy"), "retry_policy", "lost"),
    ((ROUTER, "allowed_fails_policy"), "retry_policy", "lost"),
    (("environment_variables",), "environment", "secret"),
    (("include",), "include", "lost"),
    (("guardrails",), "guardrails", "lost"),
    (("mcp_servers",), "mcp", "lost"),
    (("finetune_settings",), "other_service", "lost"),
    (("files_settings",), "other_service", "lost"),
    (("vector_store_registry",), "other_service", "lost"),
)
"""What is noted as a whole, and why."""


def carry_settings(draft: Draft, known: Set[str]) -> None:
    """Everything that is not about one model.

    Args:
        draft: holds the models already.
        known: names that may be the default model.
    """
    _first(draft, ("serve", "retries"), ((ROUTER, "num_retries"), (LITELLM, "num_retries")), _retries)
    _first(draft, ("serve", "call_timeout_s"), ((ROUTER, "timeout"), (LITELLM, "request_timeout")), _seconds)
    for path in ((ROUTER, "timeout"), (LITELLM, "request_timeout")):
        draft.note(path, "call_timeout", "changed")
    _first(
        draft,
        ("serve", "breaker_failures"),
        ((ROUTER, "allowed_fails"), (LITELLM, "allowed_fails")),
        _failures,
    )
    draft.note((ROUTER, "allowed_fails"), "breaker", "changed")
    draft.note((LITELLM, "allowed_fails"), "breaker", "changed")
    _first(
        draft, ("serve", "breaker_rest_s"), ((ROUTER, "cooldown_time"), (LITELLM, "cooldown_time")), _seconds
    )
    _first(draft, ("serve", "max_in_flight"), ((GENERAL, "global_max_parallel_requests"),), Draft.count)
    draft.note((GENERAL, "global_max_parallel_requests"), "per_worker", "changed")
    _first(draft, ("serve", "max_body_mib"), ((GENERAL, "max_request_size_mb"),), _seconds)
    _first(draft, ("serve", "max_answer_mib"), ((GENERAL, "max_response_size_mb"),), _seconds)
    _default_model(draft, known)
    _cache(draft)
    _logs(draft)
    _budget(draft)
    kept = (GENERAL, "maximum_spend_logs_retention_period")
    if (found := _DAYS.fullmatch(draft.words(kept))) and int(found[1]):
        draft.put(("ledger", "records_days"), int(found[1]), kept)
    for path, reason, weight in NOTED:
        draft.note(path, reason, weight)


def _first(draft: Draft, place: Path, paths: tuple[Path, ...], read: Callable[[Draft, Path], Any]) -> None:
    """The first of `paths` that says something sets `place`; the others are overruled."""
    done: Path = ()
    for path in paths:
        value = read(draft, path)
        if value is None:
            continue
        if done:
            draft.note(path, "stronger", "needless", other=".".join(str(step) for step in done))
        else:
            draft.put(place, value, path)
            done = path


def _seconds(draft: Draft, path: Path) -> float | None:
    return draft.figure(path, most=1e6)


def _retries(draft: Draft, path: Path) -> int | None:
    figure = draft.figure(path, least=-0.5, most=1000)
    if figure is None or figure != int(figure):
        return None
    if figure > 10:
        draft.note(path, "most_retries", "changed")
    return min(int(figure), 10)


def _failures(draft: Draft, path: Path) -> int | None:
    # a deployment rests there when it fails more than allowed_fails times, here at the last of breaker_failures
    figure = draft.figure(path, least=-0.5, most=1e6)
    return None if figure is None or figure != int(figure) else int(figure) + 1


def _default_model(draft: Draft, known: Set[str]) -> None:
    path = (GENERAL, "completion_model")
    if (name := draft.words(path)) in known:
        draft.put(("serve", "default_model"), name, path)
    elif name:
        draft.note(path, "no_such_group", name=name)


def _cache(draft: Draft) -> None:
    path, parameters = (LITELLM, "cache"), (LITELLM, "cache_params")
    asked = draft.words((*parameters, "mode")) == "default_off"
    if isinstance(draft.at(path), bool):
        draft.put(("policy", "cache"), "on" if draft.at(path) and not asked else "off", path)
    if draft.at((*parameters, "mode")) is not None:
        draft.note((*parameters, "mode"), "cache_mode", "changed")
    ttl = (*parameters, "ttl")
    if (seconds := draft.figure(ttl, most=1e9)) is not None:
        draft.put(("policy", "cache_ttl_s"), seconds, ttl)
    if draft.words((*parameters, "type")).endswith("semantic"):
        draft.note((*parameters, "type"), "semantic")
        draft.note((*parameters, "similarity_threshold"), "semantic")
    for name in draft.table(parameters):
        if name not in {"ttl", "mode", "type", "similarity_threshold", "supported_call_types"}:
            draft.note((*parameters, name), "cache_store", "needless")
    draft.note((*parameters, "type"), "cache_store", "needless")


def _logs(draft: Draft) -> None:
    if isinstance(draft.at((LITELLM, "json_logs")), bool):
        form = "json" if draft.at((LITELLM, "json_logs")) else "text"
        draft.put(("observe", "log"), form, (LITELLM, "json_logs"))
    if isinstance(draft.at((LITELLM, "set_verbose")), bool):
        level = "debug" if draft.at((LITELLM, "set_verbose")) else "info"
        draft.put(("observe", "log_level"), level, (LITELLM, "set_verbose"))
    for kind in ("callbacks", "success_callback", "failure_callback", "service_callbacks"):
        path = (LITELLM, kind)
        for number in range(draft.length(path)):
            name = draft.words((*path, number))
            if name == "prometheus":
                draft.note((*path, number), "prometheus", "needless")
            elif name == "otel":
                draft.note((*path, number), "otel")
            elif name:
                draft.note((*path, number), "callback", name=name)


def _budget(draft: Draft) -> None:
    budget = draft.figure((LITELLM, "max_budget"))
    if budget is None:
        return
    window = _WINDOWS.get(draft.words((LITELLM, "budget_duration")), "")
    limit = f"cost={decimal(budget)}/{window}" if window else f"cost={decimal(budget)}"
    draft.note((LITELLM, "max_budget"), "budget", limit=limit)
    draft.note((LITELLM, "budget_duration"), "budget", limit=limit)
