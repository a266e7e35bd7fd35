"""Which limits a call falls under, and what it reserves and is charged in each.

Prevents two failures: a limit of a tenant that is checked on one road and forgotten on another (there is one plan per
key, route and model, and everything goes through it), and names of windows put together anew for every call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from baimo.core.money import MICROS
from baimo.core.tenant import Counted, Key, Limit, Tenant
from baimo.settings import LimitSettings
from baimo.store.buckets import FOREVER_MS, bucket_of, window_end_ms
from baimo.store.entry import Charge


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
        *(
            "_fixed",
            "_made_ms",
            "_moving",
            "_reset_s",
            "_resets",
            "_said",
            "_settling",
            "_shown",
            "_until_ms",
        ),
        *("counts", "has_cost", "has_rates", "has_tokens", "rules"),
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
        self.has_tokens = "tokens" in self.counts
        self.has_rates = "requests" in self.counts or self.has_tokens
        self._fixed: list[Charge] = []
        self._moving = tuple(place for place, kind in enumerate(self.counts) if kind in ("cost", "tokens"))
        self._settling = tuple(place for place, kind in enumerate(self.counts) if kind != "requests")
        self._made_ms = 0
        self._until_ms = 0
        # of each kind, the rules among which the tightest is shown
        self._shown = tuple(
            tuple(place for place, one in enumerate(self.counts) if one == kind)
            for kind in ("requests", "tokens")
            if kind in self.counts
        )
        self._said = [
            f"x-ratelimit-limit-{kind}: {rule.limit.amount}\r\nx-ratelimit-remaining-{kind}: "
            for kind, rule in zip(self.counts, self.rules, strict=True)
        ]
        self._reset_s = -1
        self._resets: list[str] = []

    def charges(self, now_ms: int, tokens: int, micros: int) -> tuple[Charge, ...]:
        """What a call reserves.

        Args:
            now_ms: wall clock of its admission.
            tokens: the most that it may take.
            micros: the most that it may cost, micro-units of money.currency.
        """
        if not self._made_ms <= now_ms < self._until_ms:
            self._name_buckets(now_ms)
        filled, counts = self._fixed.copy(), self.counts
        for place in self._moving:
            fixed = filled[place]
            filled[place] = Charge(fixed.bucket, fixed.limit, micros if counts[place] == "cost" else tokens)
        return tuple(filled)

    def charged(self, reserved: Sequence[Charge], tokens: int, micros: int) -> tuple[Charge, ...]:
        """What the reservations turn into.

        Args:
            reserved: as `charges` named them, possibly followed by those of models that were tried before.
            tokens: what it took, or the most that it may have taken.
            micros: likewise, money.
        """
        amounts = {"cost": micros, "tokens": tokens, "concurrency": 0}
        filled, counts = list(reserved), self.counts
        for place in self._settling:
            most = filled[place]
            filled[place] = Charge(most.bucket, most.limit, amounts[counts[place]])
        # a model that was tried before and given up: its limits count calls whose Record names it
        for place in range(len(counts), len(filled)):
            filled[place] = replace(filled[place], amount=0)
        return tuple(filled)

    def rate_lines(self, reserved: Sequence[Charge], remaining: Remaining, now_ms: int) -> str:
        """OpenAI's `x-ratelimit-*` lines for the requests and the tokens limit of which the smallest part is left.

        Source: developers.openai.com/api/docs/guides/rate-limits, "Rate limits in headers".
        """
        if now_ms // 1000 != self._reset_s:
            self._reset_s = now_ms // 1000
            ends = (window_end_ms(rule.limit.window, now_ms) for rule in self.rules)
            # whole seconds, so that they need not be written anew for every answer
            self._resets = [
                ""
                if end >= FOREVER_MS
                else f"x-ratelimit-reset-{kind}: {duration((end // 1000 - self._reset_s) * 1000)}\r\n"
                for kind, end in zip(self.counts, ends, strict=True)
            ]
        said = ""
        for places in self._shown:
            place = places[0]
            limit = reserved[place].limit
            left = remaining(reserved[place].bucket, limit)
            for other in places[1:]:
                also = remaining(reserved[other].bucket, reserved[other].limit)
                if also * limit < left * reserved[other].limit:
                    place, left, limit = other, also, reserved[other].limit
            said += f"{self._said[place]}{left if left > 0 else 0}\r\n{self._resets[place]}"
        return said

    def _name_buckets(self, now_ms: int) -> None:
        self._fixed = [
            Charge(bucket_of(rule.scope, rule.name, rule.limit, now_ms), rule.limit.amount, 1)
            for rule in self.rules
        ]
        self._made_ms = now_ms
        self._until_ms = min(
            (window_end_ms(rule.limit.window, now_ms) for rule in self.rules), default=FOREVER_MS
        )


def plan(
    key: Key,
    tenant: Tenant,
    *,
    model: tuple[str, Sequence[Limit]],
    routes: Sequence[tuple[str, Sequence[Limit]]] = (),
) -> Plan:
    """Every limit that applies: of the key, its tenant, the model, and the routes that lead to it.

    Args:
        model: its name and limits.
        routes: likewise, the one that was asked for first; () = the model was asked for by its own name.
    """
    rules = [Rule("key", key.meter, limit) for limit in key.limits]
    rules += [Rule("tenant", tenant.id, limit) for limit in tenant.limits]
    rules += [Rule("model", model[0], limit) for limit in model[1]]
    rules += [Rule("route", name, limit) for name, limits in routes for limit in limits]
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
            extra.append(replace(charge, amount=charge.amount - have))
        whole.append(replace(charge, amount=max(charge.amount, have)))
    return tuple(extra), (*whole, *before.values())


def duration(ms: int) -> str:
    """A time as OpenAI writes it: 20ms, 1.5s, 6m0s, 1h2m3s."""
    if ms < 1000:
        return f"{ms}ms"
    seconds, rest = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    last = f"{seconds}" + f".{rest:03d}".rstrip("0") if rest else f"{seconds}"
    whole = f"{hours}h" if hours else ""
    return whole + (f"{minutes}m" if hours or minutes else "") + last + "s"
