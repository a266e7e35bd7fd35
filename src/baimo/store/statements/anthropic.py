"""Anthropic's exports.

- `GET /v1/organizations/usage_report/messages`: https://platform.claude.com/docs/en/api/admin/usage_report. Prompt
  tokens are told apart: uncached, read from the cache, written into it for five minutes or an hour.
- `GET /v1/organizations/cost_report`: https://platform.claude.com/docs/en/api/admin/cost_report. `amount` is a decimal
  string in the currency's lowest unit: "123.45" in USD are 1.2345 dollars.
- The Console's CSV of usage (`usage_date_utc, model_version, api_key, …, usage_input_tokens_no_cache, …`) and of cost
  (`usage_date_utc, model, …, token_type, cost_usd`), https://support.anthropic.com/en/articles/9534590: days are UTC,
  costs are rounded to the cent, and the cost table has models by their titles ("Claude Haiku 4.5").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from baimo.store.statements.line import Cells, Line, day_of, total

_LOWEST_UNITS = Decimal(100)


def usage_pages(pages: Iterable[Cells]) -> Iterator[Line]:
    """Lines of the usage report."""
    for begins_ms, ends_ms, result in _results(pages):
        if result is None:
            yield Line(begins_ms=begins_ms, ends_ms=ends_ms)
            continue
        written = result.inner("cache_creation")
        cache_write = total(
            written.whole("ephemeral_5m_input_tokens"), written.whole("ephemeral_1h_input_tokens")
        )
        cached = result.whole("cache_read_input_tokens")
        yield Line(
            begins_ms=begins_ms,
            ends_ms=ends_ms,
            model=result.text("model"),
            key=result.text("api_key_id"),
            project=result.text("workspace_id"),
            tokens_in=total(result.whole("uncached_input_tokens"), cached, cache_write),
            tokens_cached=cached,
            tokens_cache_write=cache_write,
            tokens_out=result.whole("output_tokens"),
        )


def cost_pages(pages: Iterable[Cells]) -> Iterator[Line]:
    """Lines of the cost report."""
    for begins_ms, ends_ms, result in _results(pages):
        if result is None:
            yield Line(begins_ms=begins_ms, ends_ms=ends_ms)
            continue
        amount, model = result.amount("amount"), result.text("model")
        yield Line(
            begins_ms=begins_ms,
            ends_ms=ends_ms,
            model=model,
            what="" if model else result.text("description"),
            project=result.text("workspace_id"),
            cost=None if amount is None else amount / _LOWEST_UNITS,
            currency=result.text("currency").upper() or "USD",
        )


def usage_rows(rows: Iterable[Cells]) -> Iterator[Line]:
    """Lines of the Console's usage export."""
    for row in rows:
        begins_ms, ends_ms = day_of(row, "usage_date_utc")
        cached = row.whole("usage_input_tokens_cache_read")
        cache_write = total(
            # the one column of exports before there were two lifetimes
            row.whole("usage_input_tokens_cache_write"),
            row.whole("usage_input_tokens_cache_write_5m"),
            row.whole("usage_input_tokens_cache_write_1h"),
        )
        yield Line(
            begins_ms=begins_ms,
            ends_ms=ends_ms,
            model=row.text("model_version"),
            key=row.text("api_key"),
            project=row.text("workspace"),
            tokens_in=total(row.whole("usage_input_tokens_no_cache"), cached, cache_write),
            tokens_cached=cached,
            tokens_cache_write=cache_write,
            tokens_out=row.whole("usage_output_tokens"),
        )


def cost_rows(rows: Iterable[Cells]) -> Iterator[Line]:
    """Lines of the Console's cost export."""
    for row in rows:
        begins_ms, ends_ms = day_of(row, "usage_date_utc")
        model = row.text("model")
        yield Line(
            begins_ms=begins_ms,
            ends_ms=ends_ms,
            model=model,
            what="" if model else row.text("cost_type") or row.text("usage_type"),
            key=row.text("api_key"),
            project=row.text("workspace"),
            cost=row.amount("cost_usd"),
            rounded=True,
        )


def _results(pages: Iterable[Cells]) -> Iterator[tuple[int, int, Cells | None]]:
    """Every result with the beginning and end of its bucket; a bucket without any comes once, with None."""
    for page in pages:
        for bucket in page.list("data"):
            begins_ms, ends_ms = bucket.span_ms("starting_at", "ending_at", Cells.instant_ms)
            results = bucket.list("results")
            for result in results:
                yield begins_ms, ends_ms, result
            if not results:
                yield begins_ms, ends_ms, None
