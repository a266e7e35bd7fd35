"""Which rows make a step, and how a step is cut so that it fits into memory.

Steps are drawn at random and do not depend on memory; micro-batches depend on memory and do not change the gradient
(the loss is a mean over the learnt tokens of the step). Both follow from (seed, epoch) alone, so a resumed job sees
the same rows in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from baimo.tuning.fit.encode import Encoded, shared


def order(seed: int, epoch: int, count: int) -> list[int]:
    """Places of all rows in the order of an epoch (from 0)."""
    return numpy.random.default_rng([seed, epoch]).permutation(count).tolist()


def steps(places: Sequence[int], batch_size: int) -> list[list[int]]:
    """The rows of every step of an epoch; the last step may have fewer."""
    return [list(places[start : start + batch_size]) for start in range(0, len(places), batch_size)]


def computed(rows: Sequence[Encoded]) -> int:
    """Tokens that go through the model for these rows together: what they begin with alike counts once."""
    common = shared(rows)
    return common + sum(len(row) - 1 - common for row in rows)


def micro_batches(rows: Sequence[Encoded], budget: int) -> list[list[Encoded]]:
    """Rows in groups of at most `budget` computed tokens; a row above it is alone.

    Neighbours in the order of their ids share most, so groups are cut from that order, and also where a group
    would lose more of its common beginning than one more group costs.
    """
    groups: list[list[Encoded]] = []
    group: list[Encoded] = []
    common = own = 0  # of the group: tokens that it shares, sum of its rows' lengths
    for row in sorted(rows, key=_by_ids):
        joined = _joined(common, group, row)
        together = own + len(row) - 1 - len(group) * joined
        lost = (len(group) - 1) * common > len(group) * joined + _GROUP_COST
        if group and (together > budget or lost):
            groups.append(group)
            group, own = [], 0
            joined = _joined(0, group, row)
        group.append(row)
        common, own = joined, own + len(row) - 1
    return [*groups, group] if group else groups


_GROUP_COST = 64  # tokens; what one more pass through the layers costs beside its own tokens


def _by_ids(row: Encoded) -> tuple[bytes, int]:
    return row.ids.astype(">u4").tobytes(), row.row  # bytes compare like the numbers


def _joined(common: int, group: Sequence[Encoded], row: Encoded) -> int:
    """What the group and one more row begin with alike."""
    if not group:
        return max(int(row.trained.argmax()) - 1, 0)
    length = min(common, int(row.trained.argmax()) - 1)
    if length <= 0:
        return 0
    differs = numpy.flatnonzero(group[0].ids[:length] != row.ids[:length])
    return int(differs[0]) if len(differs) else length


def by_length(rows: Sequence[Encoded], budget: int) -> list[list[Encoded]]:
    """Rows of like length in groups of at most `budget` tokens with padding: for models computed row by row."""
    groups: list[list[Encoded]] = []
    for row in sorted(rows, key=len):
        if groups and len(row) * (len(groups[-1]) + 1) <= budget:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
