"""Nearly equal texts among many, by MinHash over character n-grams and then by edit similarity.

Character n-grams need no word boundaries, so Chinese, Japanese and Thai work like English. Sketches only propose
pairs (Broder 1997, "On the resemblance and containment of documents"; banding as in Leskovec, Rajaraman & Ullman,
Mining of Massive Datasets, ch. 3); edit similarity decides, so nothing is reported that is not near. The sketch is 30
lines of NumPy: a library for it would bring SciPy or compiled code, and gain nothing at the sizes of evaluation sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROWS, BANDS = 4, 40
"""Two texts with Jaccard similarity s of their n-grams are proposed with probability 1 - (1 - s^ROWS)^BANDS: 99.8 % at
0.62, which is where texts of edit similarity 0.9 lie when the edits are spread out evenly."""
SKETCH = 256
"""Hashes kept of a long text: the smallest ones, the same for texts that share them."""
LONGEST = 20_000
"""Characters of a text that are looked at."""
CROWD = 64
"""A bucket of more texts than this is not compared pair by pair, but each text with its neighbours in order."""
NEIGHBOURS = 8
_DENSE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
Hashes = NDArray[np.uint64]


class Pair(NamedTuple):
    """Two texts, by their places in the sequence; first < second."""

    first: int
    second: int


def proposed(texts: Sequence[str]) -> Iterator[Pair]:
    """Pairs that are probably similar, each once; equal texts are proposed too. Memory grows with len(texts) × 160."""
    if len(texts) < 2:
        return
    sketches = _sketches(texts)
    size = len(texts)
    seen: set[int] = set()
    for band in range(BANDS):
        keys = _mixed(sketches[:, band * ROWS : (band + 1) * ROWS])
        order = np.argsort(keys, kind="stable")
        borders = np.flatnonzero(np.diff(keys[order])) + 1
        for bucket in np.split(order, borders):
            if len(bucket) < 2:
                continue
            for first, second in _pairs([int(index) for index in bucket], texts):
                if (code := first * size + second) not in seen:
                    seen.add(code)
                    yield Pair(first, second)


def _pairs(bucket: list[int], texts: Sequence[str]) -> Iterator[Pair]:
    reach = len(bucket)
    if reach > CROWD:
        bucket.sort(key=lambda index: texts[index])
        reach = NEIGHBOURS
    for place, index in enumerate(bucket):
        for other in bucket[place + 1 : place + 1 + reach]:
            yield Pair(min(index, other), max(index, other))


def _sketches(texts: Sequence[str]) -> Hashes:
    """MinHash signatures, shape [len(texts), ROWS × BANDS]."""
    grams = [_grams(text) for text in texts]
    starts = np.cumsum([0, *(len(found) for found in grams[:-1])])
    everything = np.concatenate(grams)
    dice = np.random.default_rng(20_231_206)  # fixed: the same file gives the same findings
    factors = dice.integers(1, 2**63, size=ROWS * BANDS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    offsets = dice.integers(0, 2**63, size=ROWS * BANDS, dtype=np.uint64)
    signatures = np.empty((len(texts), ROWS * BANDS), dtype=np.uint64)
    for column, (factor, offset) in enumerate(zip(factors, offsets, strict=True)):
        signatures[:, column] = np.minimum.reduceat((everything * factor + offset) >> np.uint64(32), starts)
    return signatures


def _grams(text: str) -> Hashes:
    """Hashes of the n-grams of one text: pairs of characters where words are not spaced, else triples."""
    letters = np.frombuffer(text[:LONGEST].encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    dense = len(_DENSE.findall(text[:200])) * 2 > len(text[:200])
    size = 2 if dense else 3
    if len(letters) < size:
        return _mixed(np.pad(letters, (0, size - len(letters)))[None, :])
    hashes = _mixed(np.lib.stride_tricks.sliding_window_view(letters, size))
    return np.partition(hashes, SKETCH)[:SKETCH] if len(hashes) > SKETCH else hashes


def _mixed(columns: NDArray[np.uint64]) -> Hashes:
    """One well-spread 64-bit hash per row (the finaliser of MurmurHash3, column by column)."""
    hashes = np.full(columns.shape[0], 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in columns.T:
        hashes = (hashes ^ column) * np.uint64(0xFF51AFD7ED558CCD)
        hashes ^= hashes >> np.uint64(33)
        hashes *= np.uint64(0xC4CEB9FE1A85EC53)
        hashes ^= hashes >> np.uint64(33)
    return hashes
