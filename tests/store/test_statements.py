"""Providers' exports: recognised by content, read to the token and the cent, refused by place."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.errors import UsageError
from baimo.store.statements.line import Line
from baimo.store.statements.openai import item
from baimo.store.statements.statement import statement
from tests.store import exports
from tests.store.exports import FIRST, Call, written

DAY_MS = 86_400_000
CALLS = [
    Call(model="m-1", fresh=10, cached=3, written=2, out=5, cost=Decimal("0.25")),
    Call(model="m-1", fresh=1, out=1, cost=Decimal("0.013")),
    Call(model="m-2", day=1, fresh=7, out=70, cost=Decimal("1.5"), key="key_2"),
]
ALL = {
    "openai-usage-json": exports.openai_usage,
    "openai-costs-json": exports.openai_costs,
    "openai-usage-csv": exports.openai_usage_csv,
    "openai-costs-csv": exports.openai_costs_csv,
    "anthropic-usage-json": exports.anthropic_usage,
    "anthropic-cost-json": exports.anthropic_cost,
    "anthropic-usage-csv": exports.anthropic_usage_csv,
    "anthropic-cost-csv": exports.anthropic_cost_csv,
}


def lines(path: Path) -> list[Line]:
    return [line for line in statement(path).lines if not line.empty]


@pytest.mark.parametrize("form", ALL)
def test_an_export_is_recognised_and_its_sums_are_those_of_the_calls(form: str, tmp_path: Path) -> None:
    path = written(tmp_path, ALL[form](CALLS))
    found = statement(path)
    assert (found.form.name, found.form.provider) == (form, form.partition("-")[0])
    said = [line for line in found.lines if not line.empty]
    assert min(line.begins_ms for line in said) == FIRST * 1000
    if "cost" in form:
        exact = Decimal("1.763") if form != "anthropic-cost-csv" else Decimal("1.76")
        assert sum(line.cost or 0 for line in said) == exact
        assert {line.currency for line in said} == {"USD"}
        assert {line.tokens_in for line in said} == {None}
    else:
        assert [sum(getattr(line, name) or 0 for line in said) for name in ("tokens_in", "tokens_out")] == [
            23,
            76,
        ]
        assert sum(line.tokens_cached or 0 for line in said) == 3
        # OpenAI's table has no column for cache writes
        assert sum(line.tokens_cache_write or 0 for line in said) == (0 if form == "openai-usage-csv" else 2)
        assert {line.cost for line in said} == {None}


@pytest.mark.parametrize("form", [form for form in ALL if form.endswith("json")])
def test_an_empty_bucket_says_that_its_time_is_covered(form: str, tmp_path: Path) -> None:
    found = statement(written(tmp_path, ALL[form]([], 2)))
    covered = list(found.lines)
    assert all(line.empty for line in covered)
    assert {(line.begins_ms, line.ends_ms - line.begins_ms) for line in covered} == {
        (FIRST * 1000 + day * DAY_MS, DAY_MS) for day in range(2)
    }


def test_a_money_amount_keeps_every_digit(tmp_path: Path) -> None:
    cost = Decimal("0.003835980000000123")
    path = written(tmp_path, exports.openai_costs([Call(model="m", cost=cost)]))
    assert sum(line.cost or 0 for line in lines(path)) == cost


def test_anthropic_s_amounts_are_in_cents(tmp_path: Path) -> None:
    page = json.loads(exports.anthropic_cost(CALLS[:1]))
    page["data"][0]["results"][0]["amount"] = "123.78912"
    assert lines(written(tmp_path, json.dumps(page)))[0].cost == Decimal("1.2378912")


@pytest.mark.parametrize(
    ("line_item", "model", "what"),
    [
        ("gpt-5.5-2026-04-23, cached input", "gpt-5.5-2026-04-23", ""),
        ("priority | gpt-5.6-sol, output, long context", "gpt-5.6-sol", ""),
        ("gpt-audio-mini-2025-12-15 audio, input", "gpt-audio-mini-2025-12-15", ""),
        ("gpt-4o", "gpt-4o", ""),
        ("web search tool calls", "", "web search tool calls"),
        ("", "", ""),
    ],
)
def test_a_line_item_is_a_model_or_something_else(line_item: str, model: str, what: str) -> None:
    assert item(line_item) == (model, what)


def test_several_pages_in_one_file_are_read_one_after_the_other(tmp_path: Path) -> None:
    one, two = exports.openai_usage(CALLS[:2], has_more=True), exports.openai_usage(CALLS[2:])
    for text in (one + "\n" + two, f"[{one}, {two}]", one + two):
        found = statement(written(tmp_path, text))
        assert not found.cut
        assert sum(line.tokens_out or 0 for line in found.lines) == 76
    assert statement(written(tmp_path, one)).cut


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    for make in ALL.values():
        plain = written(tmp_path, make(CALLS), "plain")
        marked = tmp_path / "marked"
        marked.write_bytes(b"\xef\xbb\xbf" + make(CALLS).replace("\n", "\r\n").encode())
        assert lines(marked) == lines(plain)


def usage_csv(cell: str, value: str) -> str:
    return exports.anthropic_usage_csv(CALLS).replace(cell, value, 1)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ("export",)),
        (" \n\n", ("export",)),
        ("foo,bar\n1,2\n", ("export:1", "foo, bar")),
        ("just some words", ("export:1", "just some words")),
        ('{"data": []}', ("export:1",)),
        ('{"object": "list", "data": [{"id": "x"}]}', ("export:1",)),
        ('{"error": {"message": "no"}}', ("export:1",)),
        ("[]", ("export:1",)),
        ('{"data": [\n{"start_time": 1,\n', ("export:3",)),
        ("[" * 100_000, ("export",)),
        (
            exports.openai_usage(CALLS).replace('"input_tokens": 16', '"input_tokens": "many"'),
            ("data[0].results[0]", "many"),
        ),
        (
            exports.openai_usage(CALLS).replace('"input_tokens": 16', '"input_tokens": -4'),
            ("data[0].results[0]", "-4"),
        ),
        (
            exports.openai_usage(CALLS).replace('"input_tokens": 16', '"input_tokens": NaN'),
            ("export",),
        ),
        (
            exports.openai_usage(CALLS).replace(f'"start_time": {FIRST},', '"start_time": "yesterday",'),
            ("data[0]", "start_time", "yesterday"),
        ),
        (exports.openai_usage(CALLS).replace(f'"start_time": {FIRST},', ""), ("export",)),
        (
            exports.anthropic_cost(CALLS).replace('"amount": "26.300"', '"amount": "lots"'),
            ("data[0].results[0]", "lots"),
        ),
        (exports.anthropic_usage_csv(CALLS).replace("2026-11-06", "November", 1), ("export:2", "November")),
        (exports.anthropic_usage_csv(CALLS) + "2026-11-06,too,short\n", ("export:5", "3", "14")),
        (exports.anthropic_usage_csv(CALLS) + '"2026-11-06,open\n', ("export:5",)),
        (exports.anthropic_usage_csv(CALLS).replace("2026-11-06", "9999-12-31", 1), ("export:2", "9999")),
        (
            exports.anthropic_usage_csv(CALLS).replace("2026-11-06", "9999-12-31T23:00:00-14:00", 1),
            ("export:2", "9999"),
        ),
        ("usage_date_utc,model,cost_usd,cost_usd\n2026-11-06,x,1,2\n", ("export:1", "cost_usd")),
        (
            "start_time,end_time,amount_value,amount_currency,line_item\n1794000000,1793900000,1,usd,x\n",
            ("export:2", "end_time", "1793900000"),
        ),
        (
            exports.openai_usage(CALLS).replace(f'"start_time": {FIRST},', '"start_time": 99999999999,'),
            ("data[0]", "end_time"),
        ),
        (
            exports.anthropic_cost_csv(CALLS).replace(",0.26,", ",1/4,", 1),
            ("export:2", "cost_usd", "1/4"),
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_place(
    text: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        list(statement(written(tmp_path, text)).lines)
    for name in names:
        assert name in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("make", [exports.openai_usage_csv, exports.openai_usage])
def test_text_in_another_encoding_is_refused_by_line(make: object, tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_bytes(make(CALLS).encode() + "\n研究\n".encode("gbk"))  # type: ignore[operator]
    line = path.read_bytes().count(b"\n")
    with pytest.raises(UsageError, match=rf"export:{line} is no UTF-8"):
        list(statement(path).lines)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone"):
        statement(tmp_path / "gone")
    with pytest.raises(UsageError):
        statement(tmp_path)


@given(st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    source = data.draw(st.sampled_from([make(CALLS) for make in ALL.values()]))
    place = data.draw(st.integers(0, len(source) - 1))
    damage = data.draw(st.text(max_size=3))
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export"
        text = source[:place] + damage + source[place + data.draw(st.integers(0, 40)) :]
        path.write_bytes(text.encode("utf-8", "replace"))
        try:
            for line in statement(path).lines:
                assert line.cost is None or line.cost.is_finite()
                assert line.tokens_in is None or line.tokens_in >= 0
        except UsageError as error:
            assert str(path) in str(error)
