"""Every protocol can be built by name, and the catalogue of messages is whole."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from provider_doubles import settings, vendor
from tests.waiting import PATIENCE_S

import baimo
from baimo.core.model import Vendor
from baimo.core.registry import resolve
from baimo.errors import ConfigError
from baimo.models.catalogue import Catalogue
from baimo.providers.factory import PROTOCOLS, provider
from baimo.providers.pool import Providers
from baimo.settings import Settings

LOCALES = Path(baimo.__file__).parent / "locales"


@pytest.mark.parametrize("protocol", ["openai", "anthropic", "fake"])
def test_protocols_are_built_by_name_and_settings_win(protocol: str) -> None:
    address = "" if protocol == "fake" else "http://h/v1"
    assert provider(vendor(protocol), settings(address)).spec.name == protocol
    assert provider(vendor("local"), settings(address, protocol=protocol)).spec.name == protocol


@pytest.mark.parametrize(
    ("protocol", "options"), [("openai", {}), ("anthropic", {}), ("fake", {}), ("vllm", {"model": "m"})]
)
def test_where_the_gateway_decides_when_to_ask_nothing_is_held_back(
    protocol: str, options: dict[str, Any]
) -> None:
    given = settings("http://h/v1" if protocol in ("openai", "anthropic") else "", options=options)
    given = msgspec.structs.replace(given, concurrency=2, requests_per_minute=3, tokens_per_minute=4)
    made: Any = Providers(lambda _: vendor(protocol), {"acme": given}, Path, once=True).provider("acme")
    pace = getattr(made, "_provider", made).pace

    async def all_at_once() -> int:
        async with asyncio.timeout(PATIENCE_S), contextlib.AsyncExitStack() as stack:
            for _ in range(100):
                await stack.enter_async_context(pace.slot(1000))
            return int(pace.in_flight)

    assert asyncio.run(all_at_once()) == 100


def test_an_unknown_protocol_is_named_with_a_near_one() -> None:
    with pytest.raises(ConfigError) as caught:
        provider(vendor("opneai"), settings())
    assert "opneai" in str(caught.value) and "openai" in caught.value.hint


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "local"])
def test_the_table_names_classes_that_exist(name: str) -> None:
    assert callable(resolve(PROTOCOLS[name]))


@pytest.mark.parametrize(
    "listed",
    [row for row in Catalogue.load(Settings()).vendors() if row.protocol in {"openai", "anthropic"}],
    ids=lambda row: row.name,
)
def test_every_server_of_the_catalogue_can_be_built(listed: Vendor) -> None:
    options = dict.fromkeys(re.findall(r"{(\w+)}", listed.base_url or ""), "x")
    built = provider(listed, settings(options=options))
    assert built.spec.name == listed.protocol and "any_model" not in str(built.spec)


def test_messages_exist_in_both_languages_with_the_same_facts_and_all_are_used() -> None:
    english, chinese = (
        tomllib.loads((LOCALES / language / "providers.toml").read_text(encoding="utf-8"))
        for language in ("en", "zh")
    )
    assert english.keys() == chinese.keys()
    for key, message in english.items():
        assert set(re.findall(r"{(\w+)", message)) == set(re.findall(r"{(\w+)", chinese[key])), key
    source = "".join(path.read_text(encoding="utf-8") for path in (LOCALES.parent / "providers").glob("*.py"))
    unused = [key for key in english if f'providers.{key.removesuffix("_hint")}"' not in source]
    assert unused == []
