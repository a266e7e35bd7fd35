"""The list of models as the official SDK reads it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from openai.types import Model as WireModel

from baimo.core.model import Model
from baimo.core.money import Price, Tier
from baimo.models.catalogue import Catalogue
from baimo.server.surfaces.models import model_row, models_body, route_row
from baimo.settings import Settings

PRICE = Price(
    currency="CNY",
    input_per_million=Decimal("0.000001"),
    output_per_million=Decimal("1E+1"),
    tiers=(Tier(above_tokens=128_000, input_per_million=Decimal("2.50")),),
    as_of="2026-11-01",
)
BIG = Model(
    name="vendor/big",
    vendor="vendor",
    upstream="big",
    price=PRICE,
    context_window=200_000,
    max_output=8_192,
    abilities=("tools", "vision", "json_schema"),
    released="2026-03-05",
    shutdown="2027-01-31",
)
SMALL = Model(
    name="other/small", vendor="other", upstream="s", context_window=32_000, abilities=("vision", "tools")
)


def test_a_model_says_what_is_known_and_null_where_nothing_is() -> None:
    row = model_row(BIG)
    WireModel.model_validate(row, strict=True)
    assert row["created"] == datetime(2026, 3, 5, tzinfo=UTC).timestamp()
    assert (row["owned_by"], row["shutdown_date"]) == ("vendor", "2027-01-31")
    assert (row["context_window"], row["max_output_tokens"]) == (200_000, 8_192)
    assert row["price"]["input_per_million"] == "0.000001"
    assert row["price"]["output_per_million"] == "10"
    assert row["price"]["cached_per_million"] is None
    assert row["price"]["tiers"][0]["input_per_million"] == "2.50"
    unknown = model_row(SMALL)
    assert (unknown["created"], unknown["price"], unknown["shutdown_date"]) == (0, None, None)


def test_a_model_says_whether_it_runs_inside() -> None:
    assert [model_row(one, {"other"})["inside"] for one in (BIG, SMALL)] == [False, True]
    routes = [route_row("r", behind, {"other"})["inside"] for behind in ([SMALL], [SMALL, BIG])]
    assert routes == [True, False]


@pytest.mark.parametrize(("released", "day"), [("2024-05", (2024, 5, 1)), ("2024", (2024, 1, 1))])
def test_a_release_may_be_known_to_the_month_only(released: str, day: tuple[int, int, int]) -> None:
    row = model_row(Model(name="a/b", vendor="a", upstream="b", released=released))
    assert row["created"] == datetime(*day, tzinfo=UTC).timestamp()


def test_a_route_promises_what_all_its_models_can_do() -> None:
    row = route_row("smart", [BIG, SMALL])
    WireModel.model_validate(row, strict=True)
    assert (row["abilities"], row["context_window"], row["max_output_tokens"]) == (
        ["tools", "vision"],
        32_000,
        None,
    )
    assert (row["price"], row["shutdown_date"], row["models"]) == (None, None, ["vendor/big", "other/small"])
    alias = route_row("alias", [BIG])
    assert (alias["price"], alias["shutdown_date"]) == (model_row(BIG)["price"], "2027-01-31")


def test_the_whole_catalogue_can_be_listed() -> None:
    models = Catalogue.load(Settings()).models()
    data = json.loads(models_body(models, {"smart": [BIG, SMALL]}))
    assert data["object"] == "list"
    assert [row["id"] for row in data["data"]] == ["smart", *(model.name for model in models)]
    for row in data["data"]:
        WireModel.model_validate(row, strict=True)
