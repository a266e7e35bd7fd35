"""How amounts are written for people, per language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup, escape

from baimo.core.tuned_name import brief
from baimo.text import language

_SIGNS = {"USD": "$", "EUR": "€", "CNY": "¥", "GBP": "£", "JPY": "JP¥"}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def number(value: float | str | None) -> str:
    """1,234,567; – for what is not known."""
    return "–" if value is None else f"{Decimal(str(value)):,}"


def short(value: float | None) -> str:
    """1.2 M, 3.4 k in English; 123.4 万, 1.2 亿 in Chinese; for cards and axes."""
    if value is None:
        return "–"
    steps = ((1e8, " 亿"), (1e4, " 万")) if language() == "zh" else ((1e9, " G"), (1e6, " M"), (1e3, " k"))
    for size, unit in steps:
        if abs(value) >= size:
            scaled = value / size
            return f"{scaled:,.0f}{unit}" if abs(scaled) >= 100 else f"{scaled:.3g}{unit}"
    return f"{value:g}"


def money(value: str | Decimal | float | None, currency: str = "USD") -> str:
    """$12.34; more digits where two would hide what there is; – for what is not known."""
    if value is None:
        return "–"
    amount = Decimal(str(value))
    digits = 2 if not amount or abs(amount) >= 1 else 4 if abs(amount) >= Decimal("0.01") else 6
    return f"{_SIGNS.get(currency, currency + ' ')}{amount:,.{digits}f}"


def moment(value: str | None) -> str:
    """A time in the reader's way of writing, UTC; a script shows it in the browser's zone. Markup."""
    if not value:
        return "–"
    at = datetime.fromisoformat(value)
    clock = f"{at:%H:%M}"
    if language() == "zh":
        written = f"{at.year}年{at.month}月{at.day}日 {clock}"
    else:
        written = f"{at.day} {_MONTHS[at.month - 1]} {at.year}, {clock}"
    return Markup('<time datetime="{}">{} UTC</time>').format(escape(value), written)


def span_ms(value: float | None) -> str:
    """850 ms, 2.4 s, 3 min."""
    if value is None:
        return "–"
    if value < 1000:
        return f"{value:.0f} ms"
    return f"{value / 1000:.1f} s" if value < 120_000 else f"{value / 60_000:.0f} min"


def share(value: float | None) -> str:
    """42.0 %."""
    return "–" if value is None else f"{100 * value:.1f} %"


def query(asked: Mapping[str, Any], /, **changes: Any) -> str:
    """A question as the part of an address behind `?`, with some of it changed; None and empty values are left out."""
    said = {**dict(asked), **changes}
    return urlencode({name: value for name, value in said.items() if value not in (None, "")})


def model_name(name: str | None) -> str:
    """A model's name as it is read; of a tuned one what people chose, with the whole name behind it. Markup."""
    if not name:
        return "–"
    short = brief(name)
    return Markup('<span title="{}">{}</span>').format(name, short) if short != name else name


FILTERS: Mapping[str, Callable[..., Any]] = {
    "number": number,
    "short": short,
    "money": money,
    "moment": moment,
    "span_ms": span_ms,
    "share": share,
    "query": query,
    "model_name": model_name,
    "brief": brief,
}
"""For templates."""
