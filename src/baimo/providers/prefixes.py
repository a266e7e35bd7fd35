"""When a prompt may join the batch of an engine that shares cached prompt blocks.

Prevents two failures of OpenVINO GenAI 2026.4, both silent. First, it looks for cached blocks only at the moment a
request is added: two hundred prompts added at once compute their common beginning two hundred times. Second, it
also hands out *partly filled* blocks, and two running requests that got the same one write into the same memory
and spoil each other's answers (log-probabilities off by up to 2.5). docs/findings/local-engines.md has the
measurements.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

BLOCK = 32
"""Tokens per cached block on CPU."""
_REMEMBERED = 65_536  # more than an engine has blocks: what is forgotten here must be gone there too
_ROOT = 0

_Tail = tuple[int, ...]  # the tokens of a partly filled block that nobody writes into any more


@dataclass(slots=True)
class _Running:
    tokens: list[int]
    """Prompt and what was generated so far."""
    chain: list[int]
    """`chained` of the prompt."""
    computing: list[int]
    """Blocks that this request is the first to compute."""
    taken: tuple[int, _Tail] | None
    """The partly filled block that it continues."""
    in_cache: bool = False
    """Whether a step was made since it was added: before that, the engine cannot find its blocks."""
    generated: int = 0
    """How many of the tokens are not prompt."""


class Prefixes:
    """Which prompts share their beginning with which, as far as the engine's cache is concerned.

    Every request goes through `admit` (again and again until it may), `progressed` and `finished`; `stepped` is
    called after every step of the engine.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[int, None] = OrderedDict()
        self._tails: OrderedDict[int, list[_Tail]] = OrderedDict()
        self._computing: set[int] = set()
        self._running: dict[Hashable, _Running] = {}

    def admit(self, key: Hashable, prompt: Sequence[int], chain: list[int]) -> bool:
        """Whether the request may be added now; if so, it counts as running.

        Args:
            key: names the request.
            prompt: its token ids.
            chain: `chained(prompt)`, computed once.
        """
        if any(link in self._computing for link in chain):
            return False
        if any(_continues(prompt, running.tokens) for running in self._running.values() if running.in_cache):
            return False
        taken = self._tail_of(prompt, chain)
        if taken is not None and any(running.taken == taken for running in self._running.values()):
            return False
        computing = [link for link in chain if link not in self._known]
        self._computing.update(computing)
        self._running[key] = _Running(list(prompt), chain, computing, taken)
        return True

    def stepped(self) -> None:
        """The engine has made a step."""
        for running in self._running.values():
            running.in_cache = True

    def progressed(self, key: Hashable, generated: Sequence[int]) -> None:
        """New tokens have come: the prompt has been computed, and others may build on its full blocks."""
        running = self._running[key]
        running.tokens += generated
        running.generated += len(generated)
        if running.generated == len(generated):  # the first of them: the prompt has been computed
            self._computing.difference_update(running.computing)
            running.computing = []
            for link in running.chain:
                self._known[link] = None
                self._known.move_to_end(link)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        if running.taken is not None and running.generated > 1:
            # the second step is the first that renames the block: until then the engine finds it under its old name
            start, tail = running.taken
            self._tails[start] = [other for other in self._tails.get(start, []) if other != tail]
            running.taken = None

    def finished(self, key: Hashable) -> None:
        """It is over, however it ended; what it leaves in the cache can be continued."""
        running = self._running.pop(key)
        self._computing.difference_update(running.computing)
        start = [_ROOT, *chained(running.tokens)][(len(running.tokens) - 1) // BLOCK]
        tail = tuple(running.tokens[(len(running.tokens) - 1) // BLOCK * BLOCK :])
        tails = self._tails.setdefault(start, [])
        self._tails.move_to_end(start)
        if tail not in tails:
            tails.append(tail)
        while len(self._tails) > _REMEMBERED:
            self._tails.popitem(last=False)

    def clear(self) -> None:
        """The engine has lost its cache."""
        self._known.clear()
        self._tails.clear()
        self._computing.clear()
        self._running.clear()

    def _tail_of(self, prompt: Sequence[int], chain: list[int]) -> tuple[int, _Tail] | None:
        """A partly filled block that the engine may restore for this prompt."""
        for index, start in enumerate([_ROOT, *chain]):
            block = prompt[BLOCK * index : BLOCK * (index + 1)]
            for tail in self._tails.get(start, ()):
                if _continues(block, tail):
                    return start, tail
        return None


def _continues(prompt: Sequence[int], cached: Sequence[int]) -> bool:
    """Whether the prompt begins with all that is cached, and that ends within a block.

    The last generated token may or may not have been written to the cache: both lengths count.
    """
    for length in (len(cached) - 1, len(cached)):
        if length % BLOCK == 0 or length > len(prompt) or prompt[length - 1] != cached[length - 1]:
            continue
        if list(prompt[:length]) == list(cached[:length]):
            return True
    return False


def chained(tokens: Sequence[int]) -> list[int]:
    """One hash per full block, each standing for everything up to the block's end."""
    links: list[int] = []
    previous = _ROOT
    for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
        previous = hash((previous, tuple(tokens[start : start + BLOCK])))
        links.append(previous)
    return links
