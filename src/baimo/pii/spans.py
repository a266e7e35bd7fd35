"""From overlapping hits to findings that do not overlap, without letting go of a character that any rule marked."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping

from baimo.pii.context import places
from baimo.pii.finding import Hit

_CERTAIN = 0.9
_LONGEST = 256
_FEW = 64  # beginnings up to which looking for each is faster than looking at every place


def settled(plain: str, hits: Iterable[Hit]) -> list[Hit]:
    """Hits in order, none overlapping: the certain before the likely, then the longer, then the surer.

    What a loser covers beyond the winner stays marked under the loser's kind: a gap would leave unmasked.
    """
    kept: list[Hit] = []
    heap: list[Hit] = []
    reach = 0
    for hit in sorted(hits, key=lambda hit: hit.start):
        if heap and hit.start >= reach:
            kept += _without_overlaps(plain, heap)
            heap = []
        heap.append(hit)
        reach = max(reach, hit.end)
    return kept + _without_overlaps(plain, heap)


def _without_overlaps(plain: str, hits: list[Hit]) -> list[Hit]:
    """The same for hits that hang together: few, so that their number squared is no matter."""
    taken: list[Hit] = []
    for hit in sorted(
        hits, key=lambda hit: (hit.confidence < _CERTAIN, hit.start - hit.end, -hit.confidence, hit.start)
    ):
        for start, end in _free(taken, hit):
            start, end = _trimmed(plain, start, end)
            if start < end and (
                end - start == hit.end - hit.start or any(map(str.isalnum, plain[start:end]))
            ):
                bisect.insort(taken, hit._replace(start=start, end=end), key=lambda other: other.start)
    return taken


def _free(taken: list[Hit], hit: Hit) -> list[tuple[int, int]]:
    """The parts of `hit` that nothing taken covers."""
    at, parts = hit.start, list[tuple[int, int]]()
    first = bisect.bisect(taken, hit.start, key=lambda other: other.start)
    for place in range(max(0, first - 1), len(taken)):
        other = taken[place]
        if other.start >= hit.end:
            break
        if other.end > at:
            if other.start > at:
                parts.append((at, other.start))
            at = max(at, other.end)
    if at < hit.end:
        parts.append((at, hit.end))
    return parts


def _trimmed(plain: str, start: int, end: int) -> tuple[int, int]:
    """Without white space around, and never ending inside a JSON escape: `\\"` must not lose its backslash."""
    while start < end and plain[start].isspace():
        start += 1
    while start < end and plain[end - 1].isspace():
        end -= 1
    slashes = 0
    while start < end - slashes and plain[end - 1 - slashes] == "\\":
        slashes += 1
    return start, end - slashes % 2


def again(plain: str, values: Mapping[str, str]) -> Iterator[Hit]:
    """Every further occurrence of values that are known already: text → kind.

    A name that was introduced once, or a password that was labelled once, is the same person or door later on. One
    pass whatever the number of values: they are looked up by their first two characters.
    """
    sizes: dict[str, set[int]] = {}
    for value in values:
        if 2 <= len(value) <= _LONGEST:
            sizes.setdefault(value[:2], set()).add(len(value))
    if not sizes:
        return
    ordered = {head: sorted(lengths, reverse=True) for head, lengths in sizes.items()}
    for start in places(plain, ordered) if len(ordered) <= _FEW else range(len(plain) - 1):
        for size in ordered.get(plain[start : start + 2], ()):
            value = plain[start : start + size]
            if len(value) == size and value in values and _stands_alone(plain, start, start + size):
                yield Hit(values[value], start, start + size, 0.6)
                break


def _stands_alone(plain: str, start: int, end: int) -> bool:
    """Whether it is not the inside of a longer word or number of ASCII characters."""
    first, last, before, after = plain[start], plain[end - 1], plain[start - 1 : start], plain[end : end + 1]
    glued_before = first.isascii() and first.isalnum() and before.isascii() and before.isalnum()
    glued_after = last.isascii() and last.isalnum() and after.isascii() and after.isalnum()
    return not (glued_before or glued_after)
