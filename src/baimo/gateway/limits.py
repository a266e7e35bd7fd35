"""Which limits a call falls under, and what it reserves and is charged in each.

Prevents two failures: a limit of a tenant that is checked on one road and forgotten on another (there is one plan per
key, route and model, and everything goes through it), and names of windows put together anew for every call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from baimo.core.money import MICROS
from baimo.core.record import Charge
from baimo.core.tenant import Counted, Key, Limit, Tenant
from baimo.settings import LimitSettings
from baimo.store.buckets import FOREVER_MS, bucket_of, window_end_ms


class Rule(NamedTuple):
    """One limit and whose it is."""

    scope: str
    """key, tenant, model or route."""
    name: str
    """Key.meter, Tenant.id, the model's or the route's name."""
    limit: Limit


class Remaining(Protocol):
    """What is left of a bucket, to the best knowledge of this process: `Books.remaining`."""

    def __call__(self, bucket: str, limit: int) -> int: ...


class Plan:
    """The limits on the calls of one key through one route to one model."""

    __slots__ = (
        "_buckets",
        "_made_ms",
        "_until_ms",
        "counts",
        "has_cost",
        "has_rates",
        "has_tokens",
        "rules",
    )

    def __init__(self, rules: Iterable[Rule]) -> None:
        unique: dict[tuple[str, str, str, str], Rule] = {}
        for rule in rules:
            # the same thing limited twice: the lower limit is the one that counts
            place = (rule.scope, rule.name, rule.limit.counts, rule.limit.window)
            if place not in unique or rule.limit.amount < unique[place].limit.amount:
                unique[place] = rule
        self.rules = tuple(unique.values())
        self.counts: tuple[Counted, ...] = tuple(rule.limit.counts for rule in self.rules)
        """What each rule counts, in the order of the charges."""
        self.has_cost = "cost" in self.counts
        self.has_rates = "requests" in self.counts or "tokens" in self.counts
        self.has_tokens = "tokens" in self.counts
        self._buckets: tuple[tuple[str, int, Counted], ...] = ()
        self._made_ms = 0
        self._until_ms = 0

    def charges(self, now_ms: int, tokens: int, micros: int) -> tuple[Charge, ...]:
        """What a call reserves.

        Args:
            now_ms: wall clock of its admission.
            tokens: the most that it may take.
            micros: the most that it may cost, micro-units of money.currency.
        """
        if not self._made_ms <= now_ms < self._until_ms:
            self._name_buckets(now_ms)
        return tuple(
            [
                Charge(bucket, limit, micros if counts == "cost" else tokens if counts == "tokens" else 1)
                for bucket, limit, counts in self._buckets
            ]
        )

    def charged(self, reserved: Sequence[Charge], tokens: int, micros: int) -> tuple[Charge, ...]:
        """What the reservations turn into.

        Args:
            reserved: as `charges` named them, possibly followed by those of models that were tried before.
            tokens: what it took, or the most that it may have taken.
            micros: likewise, money.
        """
        amounts = {"requests": 1, "tokens": tokens, "cost": micros, "concurrency": 0}
        own = [
            Charge(charge[0], charge[1], amounts[kind])
            for charge, kind in zip(reserved, self.counts, strict=False)
        ]
        # a model that was tried before and given up: its limits count calls whose Record names it
        own += [Charge(charge[0], charge[1], 0) for charge in reserved[len(own) :]]
        return tuple(own)

    def rate_headers(
        self, reserved: Sequence[Charge], remaining: Remaining, now_ms: int
    ) -> list[tuple[bytes, bytes]]:
        """OpenAI's `x-ratelimit-*` for the requests and the tokens limit of which the smallest part is left.

        Source: developers.openai.com/api/docs/guides/rate-limits, "Rate limits in headers".
        """
        nearest: dict[str, tuple[float, int, int, Rule]] = {}
        for charge, rule in zip(reserved, self.rules, strict=False):
            kind = rule.limit.counts
            if kind in ("requests", "tokens"):
                left = max(0, remaining(charge.bucket, charge.limit))
                share = left / charge.limit
                if kind not in nearest or share < nearest[kind][0]:
                    nearest[kind] = (share, charge.limit, left, rule)
        headers: list[tuple[bytes, bytes]] = []
        for kind, (_, limit, left, rule) in nearest.items():
            headers.append((_NAMES[kind][0], b"%d" % limit))
            headers.append((_NAMES[kind][1], b"%d" % left))
            end = window_end_ms(rule.limit.window, now_ms)
            if end < FOREVER_MS:
                headers.append((_NAMES[kind][2], duration(max(0, end - now_ms))))
        return headers

    def _name_buckets(self, now_ms: int) -> None:
        ends = [window_end_ms(rule.limit.window, now_ms) for rule in self.rules]
        self._buckets = tuple(
            (bucket_of(rule.scope, rule.name, rule.limit, now_ms), rule.limit.amount, rule.limit.counts)
            for rule in self.rules
        )
        self._made_ms = now_ms
        self._until_ms = min(ends, default=FOREVER_MS)


_NAMES = {
    kind: tuple(f"x-ratelimit-{part}-{kind}".encode() for part in ("limit", "remaining", "reset"))
    for kind in ("requests", "tokens")
}


def plan(
    key: Key, tenant: Tenant, *, model: tuple[str, Sequence[Limit]], route: tuple[str, Sequence[Limit]] | None
) -> Plan:
    """Every limit that applies: of the key, its tenant, the model, and the route that was asked for.

    Args:
        model: its name and limits.
        route: likewise; None = the model was asked for by its own name.
    """
    rules = [Rule("key", key.meter, limit) for limit in key.limits]
    rules += [Rule("tenant", tenant.id, limit) for limit in tenant.limits]
    rules += [Rule("model", model[0], limit) for limit in model[1]]
    if route is not None:
        rules += [Rule("route", route[0], limit) for limit in route[1]]
    return Plan(rules)


def limit_of(settings: LimitSettings) -> Limit:
    """A limit of baimo.toml in whole units."""
    amount = settings.amount * MICROS if settings.counts == "cost" else settings.amount
    window = "total" if settings.counts == "concurrency" else settings.window
    return Limit(counts=settings.counts, amount=max(1, round(amount)), window=window)


def merged(held: Sequence[Charge], wanted: Sequence[Charge]) -> tuple[tuple[Charge, ...], tuple[Charge, ...]]:
    """What must be reserved on top of `held` for `wanted` to be covered, and what is then held.

    The second list begins with the charges of `wanted` in their order.
    """
    before = {charge.bucket: charge for charge in held}
    extra: list[Charge] = []
    whole: list[Charge] = []
    for charge in wanted:
        old = before.pop(charge.bucket, None)
        have = 0 if old is None else old.amount
        if charge.amount > have:
            extra.append(charge._replace(amount=charge.amount - have))
        whole.append(charge._replace(amount=max(charge.amount, have)))
    return tuple(extra), (*whole, *before.values())


def duration(ms: int) -> bytes:
    """A time as OpenAI writes it: 20ms, 1.5s, 6m0s, 1h2m3s."""
    if ms < 1000:
        return b"%dms" % ms
    seconds, rest = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    last = b"%d" % seconds + (b".%03d" % rest).rstrip(b"0") if rest else b"%d" % seconds
    whole = b"%dh" % hours if hours else b""
    return whole + (b"%dm" % minutes if hours or minutes else b"") + last + b"s"
