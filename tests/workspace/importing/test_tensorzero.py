from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st

from baimo.workspace.importing.tensorzero import carried
from tests.workspace.importing.accounted import CANARY, check
from tests.workspace.importing.test_litellm import FIGURES, FIXTURES, JUNK, table

NAMES = st.sampled_from(["gpt-4o", "own", "openai/gpt-4o", "a.b", "${HOME}", "x y"])
LOCATIONS = st.sampled_from(["env::A_KEY", "path::/etc/key", "none", "dynamic::k", "sdk", CANARY])
COSTS = st.lists(
    st.builds(
        lambda pointer, rate: {"pointer": pointer, "cost_per_million": rate},
        st.sampled_from(["/usage/prompt_tokens", "/usage/completion_tokens", "/usage/searches"]),
        st.sampled_from([2.5, 10, -1.25, 0]),
    ),
    max_size=3,
)
PROVIDERS = st.builds(
    lambda kind, name, rest: {"type": kind, "model_name": name, **rest},
    st.sampled_from(["openai", "anthropic", "azure", "vllm", "tgi", "gcp_vertex_gemini", "aws_bedrock", "new"]),
    st.sampled_from(["gpt-4o", "claude-haiku-4-5", ""]),
    table({
        "api_base": st.sampled_from(["http://10.0.0.4:8000/v1/", "nonsense", "https://api.openai.com/v1/"]),
        "endpoint": st.sampled_from(["https://x.openai.azure.com", "env::ENDPOINT"]),
        "api_key_location": LOCATIONS | st.fixed_dictionaries({"default": LOCATIONS, "fallback": LOCATIONS}),
        "cost": COSTS, "batch_cost": COSTS, "timeouts": JUNK, "extra_headers": JUNK, "region": st.just("us-east-1"),
    }),
)  # fmt: skip
ROUTED = st.dictionaries(st.sampled_from(["p", "q"]), PROVIDERS, max_size=2).flatmap(
    lambda providers: st.fixed_dictionaries(
        {"providers": st.just(providers)},
        optional={"routing": st.permutations([*providers, "r"]), "timeouts": JUNK},
    )
)
VARIANTS = st.dictionaries(
    st.sampled_from(["v", "w"]),
    st.builds(
        lambda model, rest: {"type": "chat_completion", "model": model, **rest},
        st.sampled_from(
            ["gpt-4o", "own", "anthropic::claude-haiku-4-5", "openai::responses::gpt-5", "nobody::x"]
        ),
        table({"weight": FIGURES, "system_template": st.just("a.minijinja"), "temperature": FIGURES}),
    ),
    max_size=2,
)
DOCUMENTS = table({
    "gateway": table({
        "bind_address": st.sampled_from(["0.0.0.0:3000", "[::]:3000", "x:99999"]), "debug": st.booleans(),
        "auth": table({"enabled": st.booleans()}), "global_outbound_http_timeout_ms": FIGURES,
        "observability": table({"enabled": st.booleans()}),
    }),
    "models": st.dictionaries(NAMES, ROUTED, max_size=3),
    "embedding_models": st.dictionaries(NAMES, ROUTED, max_size=1),
    "functions": st.dictionaries(
        NAMES | st.just("draft"),
        st.builds(lambda variants, rest: {"variants": variants, **rest}, VARIANTS, table({
            "type": st.just("chat"), "tools": JUNK,
            "experimentation": table({"candidate_variants": st.just(["v", "z"]) | st.just({"v": 0.5, "w": 0.25})}),
        })),
        max_size=2,
    ),
    "metrics": JUNK,
    "provider_types": table({"openai": table({"defaults": table({"api_key_location": LOCATIONS})})}),
    "rate_limiting": table({
        "rules": st.lists(table({"tokens_per_hour": FIGURES, "cost_per_week": FIGURES}), max_size=2),
    }),
})  # fmt: skip


@tried(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(source=DOCUMENTS)
def test_every_value_is_in_the_settings_or_in_a_note(
    source: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    check(source, carried(source, "tensorzero.toml"), tmp_path_factory.getbasetemp())


def test_a_configuration_as_people_have_it_is_carried_over(tmp_path: Path) -> None:
    source = tomllib.loads((FIXTURES / "tensorzero.toml").read_text(encoding="utf-8"))
    result = carried(source, "tensorzero.toml")
    check(source, result, tmp_path)
    settings = tomllib.loads(result.settings)
    assert settings["serve"] == {"host": "0.0.0.0", "port": 3000}
    assert settings["models"]["openai/gpt-4o"] == {
        "upstream": "gpt-4o",
        "input_per_million": 2.5,
        "output_per_million": 10.0,
        "cached_per_million": 1.25,
        "currency": "USD",
        "batch_discount": 0.5,
    }
    assert settings["providers"]["azure"]["base_url"] == "https://west.openai.azure.com/openai/v1"
    assert settings["routes"]["gpt-4o"]["models"] == ["openai/gpt-4o", "azure/gpt-4o"]
    assert settings["routes"]["draft"]["weights"] == [0.9, 0.1]
    notes = {note.path: note for note in result.notes}
    assert notes["functions.draft.variants.first.system_template"].weight == "lost"
    assert "--limit tokens=1000000/hour" in notes["rate_limiting.rules[0]"].advice


def test_clients_may_go_on_using_the_names_that_they_know() -> None:
    source = {
        "models": {"m": {"routing": ["p"], "providers": {"p": {"type": "openai", "model_name": "gpt-4o"}}}},
        "functions": {"f": {"type": "chat", "variants": {"v": {"type": "chat_completion", "model": "m"}}}},
    }
    routes = tomllib.loads(carried(source, "tensorzero.toml").settings)["routes"]
    assert routes["tensorzero::model_name::m"]["models"] == ["m"]
    assert routes["tensorzero::function_name::f"]["models"] == ["f"]


def test_variants_without_a_weight_are_only_fallbacks() -> None:
    variants = {
        "v": {"type": "chat_completion", "model": "openai::gpt-4o", "weight": 1},
        "w": {"type": "chat_completion", "model": "anthropic::claude-haiku-4-5"},
    }
    routes = tomllib.loads(carried({"functions": {"f": {"variants": variants}}}, "t").settings)["routes"]
    assert routes["f"] == {"models": ["openai/gpt-4o", "anthropic/claude-haiku-4-5"]}


def test_something_billed_besides_tokens_leaves_the_price_unknown() -> None:
    provider = {
        "type": "anthropic",
        "model_name": "own",
        "cost": [{"pointer": "/usage/server_tool_use/web_search_requests", "cost_per_unit": 0.01}],
    }
    result = carried({"models": {"m": {"routing": ["p"], "providers": {"p": provider}}}}, "t")
    assert tomllib.loads(result.settings)["models"]["anthropic/own"] == {"upstream": "own"}
    assert [note.path for note in result.notes if note.weight == "lost"] == ["models.m.providers.p.cost"]


def test_a_server_whose_address_cannot_be_written_down_is_not_taken_for_the_vendors() -> None:
    provider = {"type": "openai", "model_name": "own", "api_base": "llm.corp.internal:8000/v1"}
    result = carried({"models": {"m": {"routing": ["p"], "providers": {"p": provider}}}}, "t")
    assert "providers" not in tomllib.loads(result.settings)
    assert ("models.m.providers.p", "lost") in [(note.path, note.weight) for note in result.notes]
