"""Some rows apart for validation, so that they say something about rows that were not learnt.

Prevents the failure where validation rows are paraphrases of training rows and every figure is too good: declared
groups, rows that ask the same and near duplicates stay on one side. Which side a cluster falls on is decided by a
hash of its content and the seed, not by its place: the same rows in another order split alike, and a file that grows
keeps most of its split.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from baimo.core.tuning import Row
from baimo.errors import DataError
from baimo.tuning.data.asked import identity
from baimo.tuning.data.finding import Near
from baimo.tuning.data.languages import language_of
from baimo.tuning.data.repeats import split_clusters


class Parts(NamedTuple):
    """Rows on two sides, each in their order."""

    train: list[Row]
    """To learn from."""
    valid: list[Row]
    """To be measured only."""


class _Cluster(NamedTuple):
    """Rows that stay together."""

    order: bytes
    """Where the seed puts it."""
    stratum: str
    places: Sequence[int]


def split(
    rows: Sequence[Row],
    valid_share: float = 0.1,
    *,
    seed: int = 0,
    stratify_by: Callable[[Row], str] = language_of,
    near: Near | None = None,
) -> Parts:
    """Split rows in two.

    Valid gets `valid_share` of the rows, rounded, at least one and never all; less where clusters are too big to fit.
    Each stratum gives its share, as far as clusters allow.

    Args:
        rows: at least two.
        valid_share: between 0 and 1.
        seed: another one gives another split.
        stratify_by: name of the stratum of a row; a cluster is in that of most of its rows.
        near: proposes similar texts; None = only declared groups and equal questions stay together.

    Raises:
        DataError: all rows belong together, or there are fewer than two, so no split is possible.
    """
    clusters = [_cluster(rows, group, seed, stratify_by) for group in split_clusters(rows, near)]
    if len(clusters) < 2:
        raise DataError("data.no_split", rows=len(rows))
    clusters.sort(key=lambda cluster: cluster.order)
    target = min(max(1, round(valid_share * len(rows))), len(rows) - 1)
    chosen = _chosen(clusters, _shares(clusters, target), target)
    if not chosen:  # every cluster is bigger than what valid should be
        chosen = {min(range(len(clusters)), key=lambda place: (len(clusters[place].places), place))}
    valid = {place for number in chosen for place in clusters[number].places}
    return Parts(
        [row for place, row in enumerate(rows) if place not in valid],
        [row for place, row in enumerate(rows) if place in valid],
    )


def _cluster(
    rows: Sequence[Row], group: Sequence[int], seed: int, stratify_by: Callable[[Row], str]
) -> _Cluster:
    strata = Counter(stratify_by(rows[place]) for place in group)
    stratum = min(strata, key=lambda name: (-strata[name], name))
    content = min(identity(rows[place]) for place in group)
    return _Cluster(hashlib.blake2b(b"%d:" % seed + content).digest(), stratum, group)


def _shares(clusters: Sequence[_Cluster], target: int) -> dict[str, int]:
    """Rows that each stratum should give, by largest remainder, `target` in all."""
    sizes: Counter[str] = Counter()
    for cluster in clusters:
        sizes[cluster.stratum] += len(cluster.places)
    total = sum(sizes.values())
    exact = {name: size * target / total for name, size in sizes.items()}
    shares = {name: int(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda name: (shares[name] - exact[name], name))[
        : target - sum(shares.values())
    ]:
        shares[name] += 1
    return shares


def _chosen(clusters: Sequence[_Cluster], shares: dict[str, int], target: int) -> set[int]:
    """Places of the clusters that go to valid: by stratum first, then whatever still fits."""
    chosen: set[int] = set()
    for bound_by_stratum in (True, False):
        for number, cluster in enumerate(clusters):
            size = len(cluster.places)
            room = min(shares[cluster.stratum], target) if bound_by_stratum else target
            if number not in chosen and size <= room:
                chosen.add(number)
                shares[cluster.stratum] -= size
                target -= size
    return chosen
