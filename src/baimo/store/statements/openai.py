"""OpenAI's exports.

- Usage API, `GET /v1/organization/usage/completions` (embeddings, moderations …): pages of buckets of
  `organization.usage.completions.result`. Costs API, `GET /v1/organization/costs`: `organization.costs.result`.
  Fields: https://developers.openai.com/api/docs/api-reference/usage. `input_tokens` includes cached and cache-write
  tokens; `amount.value` is in units of `amount.currency` (lower case); with `group_by=line_item` the item is
  `gpt-4.1-2025-04-14, cached input`, possibly with a tier before a bar and a modality after the model.
- Dashboard exports, https://platform.openai.com/usage → Export: the same names as columns of CSV
  (`start_time … input_tokens, num_model_requests, model, api_key_id …`; costs as `amount_value, amount_currency,
  line_item`). All times are UTC: https://help.openai.com/en/articles/8554956-understanding-your-api-usage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from baimo.store.statements.line import Cells, Line


def usage_pages(pages: Iterable[Cells]) -> Iterator[Line]:
    """Lines of the usage API."""
    for bucket, result in _results(pages):
        begins_ms, ends_ms = bucket.span_ms("start_time", "end_time", Cells.second_ms)
        yield (
            Line(begins_ms=begins_ms, ends_ms=ends_ms)
            if result is None
            else _usage(result, begins_ms, ends_ms)
        )


def costs_pages(pages: Iterable[Cells]) -> Iterator[Line]:
    """Lines of the costs API."""
    for bucket, result in _results(pages):
        begins_ms, ends_ms = bucket.span_ms("start_time", "end_time", Cells.second_ms)
        if result is None:
            yield Line(begins_ms=begins_ms, ends_ms=ends_ms)
            continue
        amount = result.inner("amount")
        model, what = item(result.text("line_item"))
        yield Line(
            begins_ms=begins_ms,
            ends_ms=ends_ms,
            model=model,
            what=what,
            key=result.text("api_key_id"),
            project=result.text("project_id"),
            cost=amount.amount("value"),
            currency=amount.text("currency").upper() or "USD",
        )


def usage_rows(rows: Iterable[Cells]) -> Iterator[Line]:
    """Lines of the dashboard's activity export."""
    for row in rows:
        yield _usage(row, *row.span_ms("start_time", "end_time", Cells.second_ms))


def costs_rows(rows: Iterable[Cells]) -> Iterator[Line]:
    """Lines of the dashboard's cost export."""
    for row in rows:
        begins_ms, ends_ms = row.span_ms("start_time", "end_time", Cells.second_ms)
        model, what = item(row.text("line_item"))
        yield Line(
            begins_ms=begins_ms,
            ends_ms=ends_ms,
            model=model,
            what=what,
            key=row.text("api_key_id"),
            project=row.text("project_id"),
            cost=row.amount("amount_value"),
            currency=row.text("amount_currency").upper() or "USD",
        )


def item(line_item: str) -> tuple[str, str]:
    """The model of a line item, or what else it is: one of the two is empty."""
    head, comma, _ = line_item.rpartition("|")[2].strip().partition(",")
    words = head.split()
    if comma and words:
        return words[0], ""
    return (words[0], "") if len(words) == 1 else ("", line_item)


def _usage(cells: Cells, begins_ms: int, ends_ms: int) -> Line:
    return Line(
        begins_ms=begins_ms,
        ends_ms=ends_ms,
        model=cells.text("model"),
        key=cells.text("api_key_id"),
        project=cells.text("project_id"),
        requests=cells.whole("num_model_requests"),
        tokens_in=cells.whole("input_tokens"),
        tokens_cached=cells.whole("input_cached_tokens"),
        tokens_cache_write=cells.whole("input_cache_write_tokens"),
        tokens_out=cells.whole("output_tokens"),
    )


def _results(pages: Iterable[Cells]) -> Iterator[tuple[Cells, Cells | None]]:
    """Every result with its bucket; a bucket without any comes once, with None."""
    for page in pages:
        for bucket in page.list("data"):
            results = bucket.list("results")
            for result in results:
                yield bucket, result
            if not results:
                yield bucket, None
