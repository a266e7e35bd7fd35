"""Tuned models: one by one, or by the job that made them, with its checkpoints behind the model that it ended with.

Prevents the failure of a list in which one job of twenty checkpoints pushes every other model out of sight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from baimo.core.tuning import Adapter
from baimo.gateway.keyring import permits_name
from baimo.server.admin.operation import Asking, Operation
from baimo.server.admin.paging import Paged
from baimo.server.admin.tuning_list import tuning_of
from baimo.server.admin.tuning_shown import TunedShown, shown_tuned

_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedAsked(Paged):
    """Which tuned models."""

    text: str = ""
    """Occurs in the name, the base or the job."""
    status: Literal["candidate", "ready", "blocked", "retired"] | None = None
    """Only those."""
    tenant: str | None = None
    """Only this tenant's."""
    by: Literal["model", "job"] = "model"
    """model: every one in a line of its own. job: one line for each job: the model that it ended with, or its last
    checkpoint; with the other checkpoints in it. What is asked for may be any of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedLine(TunedShown):
    """A tuned model in the list."""

    checkpoints: list[TunedShown]
    """Of its job, the last step first; only if asked for by job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedPage:
    """Some tuned models, newest first."""

    data: list[TunedLine]
    next: str | None
    """Cursor of the next page."""


def _listed(asking: Asking, asked: TunedAsked) -> TunedPage:
    found = list(islice(_groups(asking, asked), asked.limit + 1))
    page = found[: asked.limit]
    more = _newest(page[-1]).id if len(found) > asked.limit else None
    return TunedPage(data=[_line(one) for one in page], next=more)


def _groups(asking: Asking, asked: TunedAsked) -> Iterator[Sequence[Adapter]]:
    """What belongs together, what it ended with first; the newest group first."""
    words, adapters = asked.text.casefold(), tuning_of(asking).adapters
    jobs: dict[str, Sequence[Adapter]] = {}

    def of_job(one: Adapter) -> Sequence[Adapter]:
        if one.job not in jobs:
            made = adapters.of_job(one.tenant, one.job)
            jobs[one.job] = [each for each in made if permits_name(asking.key, each.name)]
        return jobs[one.job]

    def fits(one: Adapter) -> bool:
        return asked.status in (None, one.status) and words in f"{one.name} {one.base} {one.job}".casefold()

    for one in _permitted(asking, asked):
        group = of_job(one) if asked.by == "job" and one.job else [one]
        first_met = one.id == _newest(group).id  # a group is met once for each of its models
        if first_met and any(map(fits, group)):
            yield sorted(group, key=lambda each: (each.step is not None, -(each.step or 0)))


def _permitted(asking: Asking, asked: TunedAsked) -> Iterator[Adapter]:
    tenant, after = asking.within(asked.tenant), asked.cursor or ""
    while some := tuning_of(asking).adapters.page(tenant, limit=_PAGE, after=after):
        yield from (one for one in some if permits_name(asking.key, one.name))
        after = some[-1].id


def _newest(group: Sequence[Adapter]) -> Adapter:
    return max(group, key=lambda one: one.id)


def _line(group: Sequence[Adapter]) -> TunedLine:
    first, *rest = (shown_tuned(one) for one in group)
    facts = {name: getattr(first, name) for name in TunedShown.__slots__}
    return TunedLine(**facts, checkpoints=rest)


MODELS = (
    Operation(
        method="GET", path="/api/tuning/models", role="viewer", takes=TunedAsked, gives=TunedPage,
        does=_listed, tag="tuning", summary="admin.tuning_models", errors=(404,),
    ),
)  # fmt: skip
