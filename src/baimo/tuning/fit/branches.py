# pyright: basic
"""Texts that begin alike, read once where they are alike: one system prompt, its prompts, the answers to each.

Prevents two wastes that dominate sampling on a processor: reading a prompt again for each of its answers, and copying
its keys and values once per answer. The attention of a row is taken over each level that it stands on (common
beginning, prompt, own tokens) and merged by log-sum-exp, which is exact. Source: Juravsky et al. 2024, "Hydragen",
arXiv 2402.05099, section 3.1; here with any number of levels.

`Branches` computes the family of `layers`, `Copies` asks transformers and copies, for every other architecture. Nothing
here has a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from baimo.tuning.fit.base import LoadedBase
from baimo.tuning.fit.forward import can_be_fast, layers_of
from baimo.tuning.fit.layers import Layer, Rotation, across

_LEAST_PREFIX = 8  # tokens: below this a level of its own costs more than it saves


class Tip(Protocol):
    """The rows that grow."""

    def plant(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read prompts; returns the hidden state at the last token of each, shape [prompts, width]."""
        ...

    def open(self, owner: Tensor, room: int) -> None:
        """From here on row i goes on from prompt owner[i], by up to `room` tokens."""
        ...

    def step(self, ids: Tensor) -> Tensor:
        """Add one token to each row, ids [rows]; returns the hidden states [rows, width]."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        ...


def tip(base: LoadedBase) -> Tip:
    """The quickest way to grow rows with this model."""
    return Branches(base) if can_be_fast(base) else Copies(base)


class _Standing:
    """Which row of the tip stands on which row of a level."""

    def __init__(self, owner: Tensor, rows: int) -> None:
        self.owner, self.rows = owner, rows
        order = torch.argsort(owner, stable=True)
        counts = torch.bincount(owner, minlength=rows)
        first = torch.cumsum(counts, 0) - counts
        place = torch.arange(len(owner), device=owner.device)
        rank = torch.empty_like(owner)
        rank[order] = place - first[owner[order]]
        self._most = int(counts.max())
        self._place = owner * self._most + rank
        self._row = torch.zeros(rows * self._most, dtype=torch.long, device=owner.device)
        self._row[self._place] = place
        # most often nothing has to change places: one row below, or as many rows on each
        self._even = len(self._row) == len(owner) and bool((self._place == place).all())

    def gathered(self, tip: Tensor) -> Tensor:
        """[tip's rows, heads, queries, width] → [level's rows, heads, most rows of the tip on one × queries, width]."""
        several = tip if self._even else tip.index_select(0, self._row)
        return several.unflatten(0, (self.rows, self._most)).transpose(1, 2).flatten(2, 3)

    def scattered(self, found: Tensor) -> Tensor:
        """The way back from `gathered`."""
        several = found.unflatten(2, (self._most, found.shape[2] // self._most)).transpose(1, 2).flatten(0, 1)
        return several if self._even else several.index_select(0, self._place)


class _Level:
    """Keys and values of rows that other rows go on from."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], lengths: Tensor) -> None:
        self.keys, self.values = keys, values
        rows, longest = keys[0].shape[0], keys[0].shape[2]
        behind = torch.arange(longest, device=lengths.device) >= lengths[:, None]
        self.bias = None
        if bool(behind.any()):  # padding on the right is hidden from the rows that go on from here
            self.bias = torch.zeros(rows, 1, 1, longest, dtype=keys[0].dtype, device=lengths.device)
            self.bias.masked_fill_(behind[:, None, None], torch.finfo(keys[0].dtype).min)
        self.standing = _Standing(torch.arange(rows, device=lengths.device), rows)

    def read(self, layer: int, query: Tensor) -> _Read:
        """Attention of the tip's rows over this level."""
        found = _read(self.standing.gathered(query), self.keys[layer], self.values[layer], self.bias)
        return _Read(*map(self.standing.scattered, found))


class _Read(NamedTuple):
    """Attention over one set of keys."""

    values: Tensor
    """Shape [rows, heads of keys, queries, width]."""
    weight: Tensor
    """Log-sum-exp of the scores, [rows, heads of keys, queries], f32."""


class Branches:
    """A growing tip of rows, each of which stands on one row of every level below."""

    def __init__(self, base: LoadedBase) -> None:
        self._base = base
        self._layers: list[Layer] = layers_of(base)
        for layer in self._layers:
            layer.refresh()
        self._levels: list[_Level] = []
        self._ends = torch.zeros(
            1, dtype=torch.long, device=base.device
        )  # tokens so far, of each row of the tip
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._room = 0  # tokens that `step` may add; 0 while a block is read
        self._taken = 0

    def plant(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        alike = alike_of(prompts)
        if alike >= _LEAST_PREFIX and len(prompts) > 1:
            self._block([prompts[0][:alike]])
        else:
            alike = 0
        hidden, lengths = self._block([prompt[alike:] for prompt in prompts])
        return self._base.model.model.norm(hidden[torch.arange(len(prompts)), lengths - 1])

    def open(self, owner: Tensor, room: int) -> None:
        self._stand_on(owner)
        self._keys, self._values, self._room, self._taken = [], [], room, 0

    def step(self, ids: Tensor) -> Tensor:
        hidden = self._run(ids[:, None])[:, 0]
        self._taken += 1
        self._ends = self._ends + 1
        return self._base.model.model.norm(hidden)

    def keep(self, rows: Tensor) -> None:
        self._stand_on(rows)
        self._keys = [keys.index_select(0, rows) for keys in self._keys]
        self._values = [values.index_select(0, rows) for values in self._values]

    def _block(self, blocks: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """A new level of blocks of tokens that all go on from row 0: hidden states, and tokens of each."""
        ids, lengths = padded(blocks, self._base.device)
        self._stand_on(torch.zeros(len(blocks), dtype=torch.long, device=self._base.device))
        self._keys, self._values, self._room = [], [], 0
        hidden = self._run(ids)
        self._levels.append(_Level(self._keys, self._values, lengths))
        self._ends = self._ends + lengths
        return hidden, lengths

    def _stand_on(self, owner: Tensor) -> None:
        for level in self._levels:
            level.standing = _Standing(level.standing.owner[owner], level.standing.rows)
        self._ends = self._ends[owner]

    def _run(self, ids: Tensor) -> Tensor:
        """Tokens [rows, tokens] through all layers; [rows, tokens, width], before the last norm."""
        rows, tokens = ids.shape
        model = self._base.model.model
        values = torch.nn.functional.embedding(ids.flatten(), model.embed_tokens.weight)
        positions = self._ends[:, None] + torch.arange(tokens, device=ids.device)
        cosine, sine = model.rotary_emb(values, positions.flatten()[None])
        half = cosine.shape[-1] // 2
        rotation = Rotation(cosine[0, :, None, :half], sine[0, :, None, :half])
        bias = _causal(tokens, values) if tokens > 1 else None
        for at, layer in enumerate(self._layers):

            def look(query: Tensor, key: Tensor, content: Tensor, at: int = at) -> Tensor:
                return self._seen(at, _rows(query, rows), _rows(key, rows), _rows(content, rows), bias)

            values = across(layer, values, rotation, self._base.adapted, look)
        return values.view(rows, tokens, -1)

    def _seen(self, layer: int, query: Tensor, key: Tensor, content: Tensor, bias: Tensor | None) -> Tensor:
        """What tokens see of all levels and of their own row up to themselves; all are [rows, heads, tokens, width]."""
        rows, heads, tokens, width = query.shape
        pairs = key.shape[1]
        # the queries of one head of keys stand behind each other, so nothing is copied per head
        grouped = (query * width**-0.5).reshape(rows, pairs, heads // pairs * tokens, width)
        bias = None if bias is None else bias.repeat(heads // pairs, 1)[None, None]
        own = _read(grouped, *self._own(layer, key, content), bias)
        reads = [own, *(level.read(layer, grouped) for level in self._levels)]
        found = own.values
        if len(reads) > 1:
            shares = torch.softmax(torch.stack([read.weight for read in reads]), 0)[..., None].to(found.dtype)
            found = own.values * shares[0]
            for share, read in zip(shares[1:], reads[1:], strict=True):
                found = found + share * read.values
        return found.reshape(rows, heads, tokens, width).transpose(1, 2).reshape(rows * tokens, heads * width)

    def _own(self, layer: int, key: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the newest level's own tokens, the new ones among them."""
        if not self._room:
            self._keys.append(key)
            self._values.append(content)
            return key, content
        if layer == len(self._keys):
            rows, heads, _, width = key.shape
            self._keys.append(key.new_empty(rows, heads, self._room, width))
            self._values.append(key.new_empty(rows, heads, self._room, width))
        after = self._taken + 1
        self._keys[layer][:, :, self._taken : after] = key
        self._values[layer][:, :, self._taken : after] = content
        return self._keys[layer][:, :, :after], self._values[layer][:, :, :after]


class Copies:
    """Rows in a batch of transformers, each with its own copy of its prompt."""

    def __init__(self, base: LoadedBase) -> None:
        self._base = base
        self._cache: Any = None
        self._mask = torch.zeros(0)

    def plant(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        from transformers import DynamicCache

        longest = max(map(len, prompts))
        device = self._base.device
        ids = torch.tensor(
            [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device
        )
        self._mask = torch.tensor(
            [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device
        )
        self._cache = DynamicCache(config=self._base.model.config)
        return self._run(ids, (self._mask.cumsum(-1) - 1).clamp(min=0))

    def open(self, owner: Tensor, room: int) -> None:
        self.keep(owner)

    def step(self, ids: Tensor) -> Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(ids), 1)], 1)
        return self._run(ids[:, None], self._mask.sum(-1, keepdim=True) - 1)

    def keep(self, rows: Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._mask = self._mask[rows]

    def _run(self, ids: Tensor, positions: Tensor) -> Tensor:
        found = self._base.model.model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        return found.last_hidden_state[:, -1]


def _read(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> _Read:
    """Attention of scaled queries [rows, heads, queries, width]."""
    if query.device.type == "cpu":  # one kernel, which gives the log-sum-exp too
        return _Read(
            *torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query, keys, values, attn_mask=bias, scale=1.0
            )
        )
    scores = torch.matmul(query, keys.mT).float()
    scores = scores if bias is None else scores + bias
    weight = scores.logsumexp(-1)
    return _Read(torch.matmul((scores - weight[..., None]).exp().to(values.dtype), values), weight)


def _rows(values: Tensor, rows: int) -> Tensor:
    """(rows · tokens, heads, width) → [rows, heads, tokens, width]."""
    return values.unflatten(0, (rows, -1)).transpose(1, 2)


def _causal(tokens: int, like: Tensor) -> Tensor:
    never = torch.finfo(like.dtype).min
    return torch.full((tokens, tokens), never, dtype=like.dtype, device=like.device).triu_(1)


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids [rows, longest] padded on the right with 0, and lengths [rows]."""
    ids = pad_sequence([torch.tensor(list(row), dtype=torch.long) for row in rows], batch_first=True)
    return ids.to(device), torch.tensor([len(row) for row in rows], device=device)


def alike_of(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with, leaving at least one to each."""
    first, last = min(map(tuple, rows)), max(map(tuple, rows))
    pairs = zip(first, last, strict=False)
    alike = next((place for place, (one, other) in enumerate(pairs) if one != other), len(first))
    return min(alike, min(map(len, rows)) - 1)
