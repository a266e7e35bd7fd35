"""Nearly equal texts among many, by MinHash over character n-grams and then by edit similarity.

Character n-grams need no word boundaries, so Chinese, Japanese and Thai work like English. Sketches only propose
pairs (Broder 1997, "On the resemblance and containment of documents"; banding as in Leskovec, Rajaraman & Ullman,
Mining of Massive Datasets, ch. 3); edit similarity decides, so nothing is reported that is not near. The sketch is 30
lines of NumPy: a library for it would bring SciPy or compiled code, and gain nothing at the sizes of evaluation sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROWS, BANDS = 4, 40
"""Two texts with Jaccard similarity s of their n-grams share a bucket with probability 1 - (1 - s^ROWS)^BANDS: 97 % at
0.54, which is where texts of edit similarity 0.9 lie at worst, when the edits are spread out evenly."""
LEAST = 0.4
"""Share of equal minima below which a pair is dropped: 0.54 less three standard errors of 160 draws."""
GRAM = 3
"""Characters of an n-gram."""
SKETCH = 256
"""Hashes kept of a long text: the smallest ones, the same for texts that share them."""
LONGEST = 20_000
"""Characters of a text that are looked at."""
CROWD, NEIGHBOURS = 32, 8
"""A bucket of more texts than CROWD is not compared pair by pair, but each text with its next NEIGHBOURS in order."""
_CHUNK = 1 << 17
Hashes = NDArray[np.uint64]
Sketches = NDArray[np.uint32]
Places = NDArray[np.int64]


class Pair(NamedTuple):
    """Two texts, by their places in the sequence; first < second."""

    first: int
    second: int


def proposed(texts: Sequence[str]) -> Iterator[Pair]:
    """Pairs that are probably similar, each once, in order; equal texts are proposed too."""
    size = len(texts)
    if size < 2:
        return
    sketches = _sketches(texts)
    rank = np.empty(size, dtype=np.int64)
    rank[sorted(range(size), key=texts.__getitem__)] = np.arange(size)
    bands = (sketches[:, start : start + ROWS].astype(np.uint64) for start in range(0, ROWS * BANDS, ROWS))
    codes = np.sort(np.concatenate([_bucketed(_mixed(band), rank) for band in bands]))
    codes = codes[np.diff(codes, prepend=-1) > 0]
    for code in codes[_agreeing(sketches, codes)].tolist():
        yield Pair(*divmod(code, size))


def _bucketed(keys: Hashes, rank: Places) -> Places:
    """Pairs of places with the same key, as first × size + second."""
    size = len(keys)
    order = np.lexsort((rank, keys))
    keys = keys[order]
    borders = np.flatnonzero(np.diff(keys)) + 1
    counts = np.diff(borders, prepend=0, append=size)
    crowded = np.repeat(counts, counts) > CROWD
    found: list[Places] = []
    for step in range(1, CROWD):
        same = keys[step:] == keys[:-step]
        if step > NEIGHBOURS:
            same &= ~crowded[:-step]
        if not same.any():
            break
        one, other = order[:-step][same], order[step:][same]
        found.append(np.minimum(one, other) * size + np.maximum(one, other))
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _agreeing(sketches: Sketches, codes: Places) -> NDArray[np.bool_]:
    """Which pairs have enough minima in common."""
    chunks = [codes[start : start + _CHUNK] for start in range(0, len(codes), _CHUNK)]
    pairs = (np.divmod(chunk, len(sketches)) for chunk in chunks)
    kept = [(sketches[first] == sketches[second]).mean(axis=1) >= LEAST for first, second in pairs]
    return np.concatenate(kept) if kept else np.empty(0, dtype=np.bool_)


def _sketches(texts: Sequence[str]) -> Sketches:
    """MinHash signatures, shape [len(texts), ROWS × BANDS]."""
    grams = [_grams(text) for text in texts]
    starts = np.cumsum([0, *(len(found) for found in grams[:-1])])
    everything = np.concatenate(grams)
    dice = np.random.default_rng(20_231_206)  # fixed: the same file gives the same findings
    factors = dice.integers(1, 2**63, size=ROWS * BANDS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    offsets = dice.integers(0, 2**63, size=ROWS * BANDS, dtype=np.uint64)
    signatures = np.empty((len(texts), ROWS * BANDS), dtype=np.uint32)
    for column, (factor, offset) in enumerate(zip(factors, offsets, strict=True)):
        drawn = ((everything * factor + offset) >> np.uint64(32)).astype(np.uint32)
        signatures[:, column] = np.minimum.reduceat(drawn, starts)
    return signatures


def _grams(text: str) -> Hashes:
    """Hashes of the n-grams of one text."""
    letters = np.frombuffer(text[:LONGEST].encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    if len(letters) < GRAM:
        letters = np.pad(letters, (0, GRAM - len(letters)))
    hashes = _mixed(
        np.stack([letters[place : len(letters) - GRAM + 1 + place] for place in range(GRAM)], axis=1)
    )
    # a copy: a slice of the partitioned array would keep all of it alive
    return np.partition(hashes, SKETCH)[:SKETCH].copy() if len(hashes) > SKETCH else hashes


def _mixed(columns: Hashes) -> Hashes:
    """One well-spread 64-bit hash per row (the finaliser of MurmurHash3, column by column)."""
    hashes = np.full(columns.shape[0], 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in columns.T:
        hashes = (hashes ^ column) * np.uint64(0xFF51AFD7ED558CCD)
        hashes ^= hashes >> np.uint64(33)
        hashes *= np.uint64(0xC4CEB9FE1A85EC53)
        hashes ^= hashes >> np.uint64(33)
    return hashes
