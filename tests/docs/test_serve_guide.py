"""The guide to `serve` is followed: its settings are accepted, its statuses and headers are the server's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from baimo import config, errors
from baimo.server.surfaces.openai_errors import KINDS

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
PAGES = ["serve.md", "serve.zh.md"]


def snippets(page: str, language: str) -> list[str]:
    text = (GUIDES / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_all_settings_of_the_guide_together_are_a_configuration(page: str, tmp_path: Path) -> None:
    from baimo.gateway.routing import Router
    from baimo.gateway.strategies import Latencies, Signals
    from baimo.models.catalogue import Catalogue

    # the newcomer of its canary is a model that only the guide has
    written = "\n".join(['[models."house/qwen3-next"]', *snippets(page, "toml")])
    (tmp_path / "baimo.toml").write_text(written, encoding="utf-8")
    settings = config.settings(tmp_path, environment={})
    signals = Signals(Latencies(lambda: 0.0), {}, "USD", lambda name: True)
    assert set(Router(settings, Catalogue.load(settings), signals).routes) == set(
        tomllib.loads(written)["routes"]
    )


@pytest.mark.parametrize("page", PAGES)
def test_the_cost_of_every_model_under_a_limit_on_money_is_known(page: str, tmp_path: Path) -> None:
    from baimo.models.catalogue import Catalogue

    (tmp_path / "baimo.toml").write_text("\n".join(snippets(page, "toml")), encoding="utf-8")
    settings = config.settings(tmp_path, environment={})
    catalogue = Catalogue.load(settings)
    limited = [
        route for route in settings.routes.values() if any(limit.counts == "cost" for limit in route.limits)
    ]
    assert limited
    for model in [catalogue.model(name) for route in limited for name in route.models]:
        assert model.price is not None, model.name
        assert model.price.currency in {settings.money.currency, *settings.money.rates}, model.name


@pytest.mark.parametrize("page", PAGES)
def test_both_languages_say_the_same_in_code(page: str) -> None:
    def bare(text: str) -> str:
        return re.sub(r"#.*|\"[^\"]*[!！][^\"]*\"", "", text)

    for language in ("toml", "sh", "python"):
        assert [bare(one).split() for one in snippets(page, language)] == [
            bare(one).split() for one in snippets("serve.md", language)
        ]


@pytest.mark.parametrize("page", PAGES)
def test_every_status_that_a_refusal_can_have_is_explained(page: str) -> None:
    text = (GUIDES / page).read_text(encoding="utf-8")
    statuses = {kind.http_status for kind in KINDS} - {errors.BaimoError.http_status, 409}
    for status in statuses | {504}:
        assert re.search(rf"^\|[^|]*\b{status}\b[^|]*\|", text, re.MULTILINE), status


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_the_guide_names_exists(page: str) -> None:
    text = (GUIDES / page).read_text(encoding="utf-8")
    known = (GUIDES.parent / "reference" / "config.md").read_text(encoding="utf-8")
    for section, key in re.findall(r"`(serve|policy|ledger|workspace)\.(\w+)", text):
        part = known.partition(f"## [{section}]")[2].partition("\n## ")[0]
        assert f"| `{key}` |" in part, f"{section}.{key}"
