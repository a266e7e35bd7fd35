from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st

from baimo.workspace.importing.litellm import carried
from tests.workspace.importing.accounted import CANARY, check

FIXTURES = Path(__file__).parent / "fixtures"
GROUPS = st.sampled_from(
    ["gpt-4o", "claude", "openai/gpt-4o", "lokal", "模型", "a.deployments", "a", "${HOME}", "x y"]
)
MODELS = st.sampled_from(
    ["openai/gpt-4o", "gpt-4o", "azure/eu-gpt", "anthropic/claude-sonnet-4-5", "ollama/llama3.1", "hosted_vllm/qwen3",
     "vertex_ai/gemini-pro", "bedrock/converse/anthropic.claude",
     "openai/*", "*", "unheard-of/model", "openai/", "/", ""]
)  # fmt: skip
ADDRESSES = st.sampled_from(
    ["https://eu.openai.azure.com/", "http://10.0.0.4:8000/v1", "os.environ/BASE", "http://u:p@h/v1", "nonsense",
     "https://api.openai.com/v1", "http://[::1", "https://a.example/v1/messages", "http://{x}.example"]
)  # fmt: skip
KEYS = st.sampled_from(
    ["os.environ/A_KEY", "os.environ/B_KEY", CANARY, f"{CANARY}-2", "none", "os.environ/not a name"]
)
SCALARS = st.one_of(
    st.booleans(), st.integers(-5, 2000), st.floats(allow_nan=True), st.text(max_size=12), st.none()
)
JUNK = st.recursive(
    SCALARS,
    lambda one: st.lists(one, max_size=2) | st.dictionaries(st.text(max_size=6), one, max_size=2),
    max_leaves=4,
)
FIGURES = st.one_of(st.integers(0, 1000), st.floats(0, 1000), st.just("1e-06"), JUNK)
PRICES = st.sampled_from([0, 2.5e-06, 1e-05, "0.000001", 3, -1.0])


def table(known: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """A table with some of the known names, each rightly or wrongly filled, and sometimes others."""
    filled = st.fixed_dictionaries({}, optional={name: one | JUNK for name, one in known.items()})
    return st.builds(
        lambda one, other: {**other, **one}, filled, st.dictionaries(st.text(max_size=5), JUNK, max_size=1)
    )


PARAMETERS = st.builds(
    lambda model, rest: {"model": model, **rest},
    MODELS,
    table({
        "api_base": ADDRESSES, "api_key": KEYS, "rpm": FIGURES, "tpm": FIGURES, "weight": FIGURES, "order": FIGURES,
        "timeout": FIGURES, "max_retries": FIGURES, "input_cost_per_token": PRICES, "output_cost_per_token": PRICES,
        "api_version": st.just("2024-10-21"), "temperature": FIGURES,
        "custom_llm_provider": st.sampled_from(["openai"]),
        "extra_headers": st.dictionaries(st.sampled_from(["x-team",
        "Authorization"]), KEYS | st.just("red"), max_size=2),
        "aws_region_name": st.just("us-east-1"), "organization": st.just("org-1"),
    }),
)  # fmt: skip
DEPLOYMENTS = st.builds(
    lambda name, parameters, info: {"model_name": name, "litellm_params": parameters, "model_info": info},
    GROUPS,
    PARAMETERS,
    table({
        "mode": st.just("chat"), "base_model": st.just("azure/gpt-4o"), "max_tokens": FIGURES, "id": st.just("d-1"),
        "max_input_tokens": FIGURES, "input_cost_per_token": PRICES, "rpm": FIGURES,
    }),
)  # fmt: skip
CHAINS = st.lists(st.dictionaries(GROUPS, st.lists(GROUPS, max_size=3), max_size=2), max_size=3)
LISTS = dict.fromkeys(("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"), CHAINS)
DOCUMENTS = st.builds(
    lambda models, rest: {"model_list": models, **rest},
    st.lists(DEPLOYMENTS, max_size=4),
    table({
        "router_settings": table({
            **LISTS, "routing_strategy": st.sampled_from(["simple-shuffle", "latency-based-routing",
            "least-busy", "new"]),
            "model_group_alias": st.dictionaries(GROUPS, GROUPS, max_size=2), "num_retries": FIGURES,
            "timeout": FIGURES,
            "allowed_fails": FIGURES, "cooldown_time": FIGURES, "redis_password": st.just(CANARY),
        }),
        "litellm_settings": table({
            **LISTS, "default_fallbacks": st.lists(GROUPS, max_size=2), "cache": st.booleans(), "num_retries": FIGURES,
            "cache_params": table({"ttl": FIGURES, "type": st.just("redis"), "password": st.just(CANARY)}),
            "success_callback": st.lists(st.sampled_from(["prometheus", "otel", "langfuse"])), "max_budget": FIGURES,
            "budget_duration": st.sampled_from(["30d", "7d"]), "json_logs": st.booleans(), "request_timeout": FIGURES,
        }),
        "general_settings": table({
            "master_key": st.just(CANARY), "database_url": st.just(f"postgresql://u:{CANARY}@h/d"),
            "completion_model": GROUPS, "max_request_size_mb": FIGURES, "global_max_parallel_requests": FIGURES,
            "maximum_spend_logs_retention_period": st.sampled_from(["30d", "0d", "x"]),
        }),
        "environment_variables": st.dictionaries(st.sampled_from(["A", "B"]), st.just(CANARY), max_size=2),
    }),
)  # fmt: skip


@tried(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(source=DOCUMENTS)
def test_every_value_is_in_the_settings_or_in_a_note(
    source: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    check(source, carried(source, "config.yaml"), tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("name", ["litellm-company.yaml", "litellm-small.yaml"])
def test_a_configuration_as_people_have_it_is_carried_over(name: str, tmp_path: Path) -> None:
    source = yaml.safe_load((FIXTURES / name).read_text(encoding="utf-8"))
    check(source, carried(source, name), tmp_path)


def made(source: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of a configuration, and the weight of each note by its path."""
    result = carried(yaml.safe_load(source), "config.yaml")
    return tomllib.loads(result.settings), {note.path: note.weight for note in result.notes}


TWO = """
model_list:
  - {model_name: big, litellm_params: {model: openai/gpt-4o, weight: 3}}
  - {model_name: big, litellm_params: {model: anthropic/claude-sonnet-4-5, weight: 1}}
"""


def test_deployments_of_one_name_share_the_calls_by_weight() -> None:
    settings, _ = made(TWO)
    assert settings["routes"]["big"] == {
        "models": ["openai/gpt-4o", "anthropic/claude-sonnet-4-5"],
        "strategy": "weighted",
        "weights": [3.0, 1.0],
    }


def test_requests_per_minute_are_limits_and_shares() -> None:
    settings, _ = made(TWO.replace("weight", "rpm"))
    assert settings["routes"]["big"]["weights"] == [3.0, 1.0]
    assert settings["models"]["openai/gpt-4o"]["limits"] == [
        {"counts": "requests", "amount": 3, "window": "minute"}
    ]


@pytest.mark.parametrize("strategy", ["least-busy", "usage-based-routing-v2"])
def test_a_deployment_without_a_figure_gets_its_calls_where_all_of_them_did(strategy: str) -> None:
    source = TWO.replace("weight: 3", "rpm: 480").replace(", weight: 1", "")
    settings, _ = made(source + f"router_settings: {{routing_strategy: {strategy}}}")
    assert settings["routes"]["big"]["weights"] == [1.0, 1.0]
    settings, _ = made(source)  # simple-shuffle gives it none
    assert settings["routes"]["big"]["weights"] == [480.0, 0.0]


@pytest.mark.parametrize(
    ("source", "path"),
    [
        (TWO.replace(", weight: 3", ""), "model_list[1].litellm_params.weight"),
        (TWO.replace("weight", "order").replace("3", "1"), "model_list[0].litellm_params.order"),
    ],
)
def test_a_figure_that_changes_nothing_is_not_blamed_on_a_lonely_deployment(source: str, path: str) -> None:
    notes = {note.path: note for note in carried(yaml.safe_load(source), "config.yaml").notes}
    assert notes[path].why.startswith("makes no difference between the deployments")


def test_deployments_of_lower_order_come_first() -> None:
    settings, _ = made(TWO.replace("weight: 3", "order: 2").replace("weight: 1", "order: 1"))
    assert settings["routes"]["big"] == {"models": ["anthropic/claude-sonnet-4-5", "openai/gpt-4o"]}


def test_names_that_fall_back_to_each_other_make_no_circle() -> None:
    settings, _ = made("""
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o}}
  - {model_name: b, litellm_params: {model: anthropic/claude-sonnet-4-5}}
router_settings: {fallbacks: [{a: [b]}, {b: [a]}]}
""")
    assert settings["routes"]["a"]["models"] == ["openai/gpt-4o", "anthropic/claude-sonnet-4-5"]
    assert settings["routes"]["b"]["models"] == ["anthropic/claude-sonnet-4-5", "openai/gpt-4o"]


def test_fallbacks_for_long_prompts_are_asked_for_nothing_else() -> None:
    settings, _ = made("""
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o}}
  - {model_name: b, litellm_params: {model: anthropic/claude-sonnet-4-5}}
litellm_settings: {context_window_fallbacks: [{a: [b]}]}
""")
    assert settings["routes"]["a"]["fallback_on"] == ["context_length"]


def test_a_second_account_is_a_provider_of_its_own_and_keeps_the_price() -> None:
    settings, notes = made("""
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o, api_key: os.environ/ONE}}
  - {model_name: a, litellm_params: {model: openai/gpt-4o, api_key: os.environ/TWO}}
""")
    assert settings["providers"]["openai"] == {"key": "env:ONE"}
    assert settings["providers"]["openai-2"]["key"] == "env:TWO"
    assert settings["providers"]["openai-2"]["base_url"] == "https://api.openai.com/v1"
    assert settings["models"]["openai-2/gpt-4o"]["input_per_million"] > 0
    assert settings["routes"]["a"]["weights"] == [1.0, 1.0]
    assert notes == {}


def test_a_key_in_the_file_is_named_and_never_copied() -> None:
    source = {"model_list": [{"model_name": "a", "litellm_params": {"model": "openai/x", "api_key": CANARY}}]}
    result = carried(source, "config.yaml")
    assert CANARY not in str(result)
    assert tomllib.loads(result.settings)["providers"]["openai"]["key"] == "env:OPENAI_API_KEY"
    note = next(note for note in result.notes if note.path == "model_list[0].litellm_params.api_key")
    assert (note.weight, note.value) == ("secret", "…")
    assert "OPENAI_API_KEY" in note.advice


def test_two_keys_in_the_file_get_two_variables() -> None:
    settings, _ = made("""
model_list:
  - {model_name: a, litellm_params: {model: openai/x, api_key: first-key}}
  - {model_name: a, litellm_params: {model: openai/x, api_key: second-key}}
""")
    assert [one["key"] for one in settings["providers"].values()] == [
        "env:OPENAI_API_KEY",
        "env:OPENAI_API_KEY_2",
    ]


def test_the_variable_for_a_key_is_one_that_a_shell_takes() -> None:
    settings, _ = made("""
model_list:
  - model_name: a
    litellm_params:
      {model: openai/x, api_base: "http://10.0.0.9/v1", api_key: first-key, extra_headers: {x-secret: red}}
""")
    provider = settings["providers"]["10-0-0-9"]
    assert provider["key"] == "env:KEY_10_0_0_9_API_KEY"
    assert provider["headers"] == {"x-secret": "env:KEY_10_0_0_9_X_SECRET"}


@pytest.mark.parametrize(
    ("model", "vendor"),
    [
        ("gpt-4", "openai"), ("gpt-3.5-turbo", "openai"), ("o1-mini", "openai"), ("text-embedding-ada-002", "openai"),
        ("claude-3-5-sonnet-20240620", "anthropic"),
    ],
)  # fmt: skip
def test_a_model_that_has_gone_is_still_its_vendors(model: str, vendor: str) -> None:
    settings, notes = made(f"model_list: [{{model_name: a, litellm_params: {{model: {model}}}}}]")
    assert settings["routes"]["a"]["models"] == [f"{vendor}/{model}"]
    assert notes == {}


def test_prices_per_token_become_prices_per_million_without_dust() -> None:
    settings, _ = made("""
model_list:
  - model_name: a
    litellm_params: {model: openai/own, input_cost_per_token: 1.5e-07, output_cost_per_token: 0.0000006}
    model_info: {cache_creation_input_token_cost: 3e-07, cache_creation_input_token_cost_above_1hr: 6e-07}
""")
    assert settings["models"]["openai/own"] == {
        "upstream": "own", "input_per_million": 0.15, "output_per_million": 0.6, "currency": "USD",
        "cache_write_per_million": 0.3, "cache_write_1h_per_million": 0.6,
    }  # fmt: skip


def test_a_server_of_its_own_is_no_openai() -> None:
    settings, _ = made("""
model_list:
  - {model_name: a, litellm_params: {model: openai/qwen3, api_base: "http://llm.example:8000/v1", api_key: none}}
""")
    assert settings["providers"] == {
        "llm-example": {"protocol": "openai", "base_url": "http://llm.example:8000/v1"}
    }
    assert settings["routes"]["a"]["models"] == ["llm-example/qwen3"]


def test_a_budget_on_everything_is_told_as_a_command() -> None:
    result = carried({"litellm_settings": {"max_budget": 1_000_000, "budget_duration": "30d"}}, "config.yaml")
    assert {note.advice for note in result.notes} == {
        "run `baimo tenants change owner --limit cost=1000000/month`"
    }


def test_text_of_the_source_cannot_break_out_of_a_comment_or_a_string() -> None:
    evil = 'a"]\n[serve]\nport = 1 #\x7f\u2028\r'
    source = {
        "model_list": [{"model_name": evil, "litellm_params": {"model": "openai/x", evil: evil}}],
        evil: evil,
    }
    settings = tomllib.loads(carried(source, evil).settings)
    assert set(settings) == {"providers", "models", "routes"}
    assert list(settings["routes"]) == [evil.strip()]


def test_a_deployment_costs_what_the_model_costs_that_it_is_of() -> None:
    settings, notes = made("""
model_list:
  - model_name: a
    litellm_params: {model: azure/ours, api_base: "https://x.openai.azure.com/openai/v1"}
    model_info: {base_model: openai/gpt-4o}
""")
    assert settings["models"]["azure/ours"]["input_per_million"] > 0
    assert notes == {}


@pytest.mark.parametrize(
    "address",
    [
        "llm.corp.internal:8000/v1",
        "https://me:pw@llm.corp.internal/v1",
        "https://h/v1?api-version=1",
        "http://{x}/v1",
    ],
)
@pytest.mark.parametrize("model", ["openai/llama-70b", "anthropic/mine", "hosted_vllm/qwen3"])
def test_a_server_whose_address_cannot_be_written_down_is_not_taken_for_the_vendors(
    model: str, address: str
) -> None:
    source = {"model_name": "a", "litellm_params": {"model": model, "api_base": address, "api_key": "none"}}
    settings, notes = made(yaml.safe_dump({"model_list": [source]}))
    assert "providers" not in settings and "models" not in settings
    assert notes["model_list[0]"] == "lost"


def test_a_second_account_of_a_model_that_is_dearer_for_long_prompts_says_what_it_loses() -> None:
    _, notes = made("""
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-5.4, api_key: os.environ/ONE}}
  - {model_name: a, litellm_params: {model: openai/gpt-5.4, api_key: os.environ/TWO}}
""")
    assert notes == {"model_list[1].litellm_params.model": "changed"}


def test_a_deployment_without_an_order_comes_after_those_with_one() -> None:
    settings, _ = made(TWO.replace(", weight: 3", "").replace("weight: 1", "order: 2"))
    assert settings["routes"]["big"]["models"] == ["anthropic/claude-sonnet-4-5", "openai/gpt-4o"]


def test_default_fallbacks_hold_beside_those_for_long_prompts() -> None:
    settings, notes = made("""
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o}}
  - {model_name: b, litellm_params: {model: openai/gpt-4.1}}
  - {model_name: c, litellm_params: {model: anthropic/claude-sonnet-4-5}}
litellm_settings: {context_window_fallbacks: [{a: [b]}], default_fallbacks: [c]}
""")
    assert settings["routes"]["a"]["models"] == ["openai/gpt-4o", "c"]
    assert "error" in settings["routes"]["a"]["fallback_on"]
    assert notes["litellm_settings.context_window_fallbacks[0].a[0]"] == "lost"


@pytest.mark.parametrize(
    ("router", "weight"),
    [
        ("{routing_strategy: simple-shuffle}", "changed"),
        ("{routing_strategy: usage-based-routing-v2}", None),
        ("{optional_pre_call_checks: [enforce_model_rate_limits]}", None),
    ],
)
def test_rates_that_were_only_shares_are_said_to_be_limits_now(router: str, weight: str | None) -> None:
    _, notes = made(TWO.replace("weight", "rpm") + f"router_settings: {router}\n")
    assert notes.get("model_list[0].litellm_params.rpm") == weight


def test_an_address_in_a_variable_gets_the_ending_that_the_server_wants() -> None:
    settings, notes = made("""
model_list:
  - {model_name: a, litellm_params: {model: ollama/llama3.1, api_base: os.environ/OLLAMA}}
""")
    assert settings["providers"]["ollama"]["base_url"] == "${OLLAMA}/v1"
    assert notes["model_list[0].litellm_params.api_base"] == "changed"


def test_a_name_beyond_the_basic_plane_can_be_read_back() -> None:
    settings, _ = made('model_list: [{model_name: "🚀 fast", litellm_params: {model: openai/gpt-4o}}]')
    assert settings["routes"]["🚀 fast"]["models"] == ["openai/gpt-4o"]
