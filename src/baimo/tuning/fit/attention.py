# pyright: basic
"""Causal attention over rows that stand one behind the other, without padding outside of it.

Rows of a group begin alike (a system prompt, a question with several answers). That beginning is computed once: its
keys and values are seen by every row, and its gradient is the sum over the rows; nothing is approximated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy
import torch

from baimo.tuning.fit.encode import Encoded, shared

WIDE = (
    1 << 24
)  # scores that may be held at once for a layer; above, they are computed again in the backward pass


class Layout(NamedTuple):
    """Where the tokens of some rows stand: the common beginning first, then the rest of every row."""

    ids: torch.Tensor
    """(tokens,) int64."""
    positions: torch.Tensor
    """(tokens,) int64, of the rotary embedding."""
    common: int
    """Tokens of the beginning."""
    padded: torch.Tensor
    """(rows, longest) int64: which token stands there, counted from the end of the beginning; padding repeats 0."""
    place: torch.Tensor
    """(tokens behind the beginning,) int64: where a token stands in `padded`, flat."""
    predicts: torch.Tensor
    """(answers,) int64: the tokens whose hidden state predicts a learnt one."""
    row: torch.Tensor
    """(answers,) int64: place in the rows given."""
    targets: torch.Tensor
    """(answers,) int64: what is to be predicted."""
    mask: torch.Tensor
    """(longest, common + longest) of the computation's type: 0, or -inf where a token does not look."""
    first: torch.Tensor
    """(common, common) likewise, of the beginning itself."""


def layout(rows: Sequence[Encoded], dtype: torch.dtype, device: torch.device) -> Layout:
    """Lay out rows; the last token of a row only is a target, so it is not computed."""
    common = shared(rows)
    lengths = numpy.array([len(row) - 1 - common for row in rows])
    starts = numpy.concatenate([[0], numpy.cumsum(lengths)])
    longest = int(lengths.max())
    steps = numpy.arange(longest)
    padded = numpy.where(steps < lengths[:, None], starts[:-1, None] + steps, 0)
    row_of = numpy.repeat(numpy.arange(len(rows)), lengths)
    within = numpy.arange(starts[-1]) - starts[row_of]
    answers = [numpy.flatnonzero(row.trained) for row in rows]
    predicts = [common + starts[at] + places - 1 - common for at, places in enumerate(answers)]
    arrays = {
        "ids": [rows[0].ids[:common], *(row.ids[common:-1] for row in rows)],
        "positions": [numpy.arange(common), common + within],
        "padded": [padded],
        "place": [row_of * longest + within],
        "predicts": predicts,
        "row": [numpy.repeat(numpy.arange(len(rows)), [len(one) for one in answers])],
        "targets": [row.ids[row.trained] for row in rows],
    }
    tensors = {name: torch.from_numpy(numpy.concatenate(parts)).to(device) for name, parts in arrays.items()}
    mask = torch.full((longest, common + longest), -math.inf, dtype=dtype, device=device).triu_(common + 1)
    first = torch.full((common, common), -math.inf, dtype=dtype, device=device).triu_(1)
    return Layout(common=common, mask=mask, first=first, **tensors)


def attend(
    pairs: torch.Tensor, content: torch.Tensor, where: Layout, heads: int, out: torch.Tensor
) -> list[torch.Tensor]:
    """Attention of queries to keys and values.

    Args:
        pairs: (tokens, heads + key heads, width), queries and keys, turned by their positions.
        content: (tokens, key heads, width), values.
        where: the tokens stand.
        heads: of queries.
        out: (tokens, heads · width), is filled.

    Returns:
        What the backward pass needs: for the rows, and for their beginning if there is one, queries, keys, values,
        and shares of attention, which are empty where they are computed again.
    """
    out = out.unflatten(1, (heads, pairs.shape[2]))
    kept: list[torch.Tensor] = []
    for part in _parts(where):
        key, value = part.seen(pairs[:, heads:]), part.seen(content)
        query = _grouped(part.query(pairs[:, :heads]), key)
        if _wide(query, key):
            shares, found = query.new_empty(0), _flash(query, key, value, part.mask)
        else:
            shares = _shares(query, key, part.mask)
            found = torch.bmm(shares, value)
        part.put(out, found)
        kept += [query, key, value, shares]
    return kept


def attend_backward(
    slope: torch.Tensor, out: torch.Tensor, kept: Sequence[torch.Tensor], where: Layout, heads: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of `pairs` and `content`, given that of `out`, and what `attend` gave back."""
    tokens, width = len(slope), slope.shape[1] // heads
    several = len(kept[1]) // max(1, len(where.padded))
    turns = slope.new_empty(tokens, heads + several, width)
    contents = slope.new_empty(tokens, several, width)
    slope, out = slope.view(tokens, heads, width), out.unflatten(1, (heads, width))
    along = (slope * out).sum(-1, keepdim=True)
    for at, part in enumerate(_parts(where)):
        query, key, value, shares = kept[4 * at : 4 * at + 4]
        above = _grouped(part.sloped(slope), key)
        if not shares.numel():
            queries, keys, values = _flash_backward(above, query, key, value, part.mask)
        else:
            slopes = torch.bmm(above, value.mT).sub_(_grouped(part.sloped(along), key)).mul_(shares)
            queries = torch.bmm(slopes, key).mul_(1 / math.sqrt(width))
            keys = torch.bmm(slopes.mT, query).mul_(1 / math.sqrt(width))
            values = torch.bmm(shares.mT, above)
        part.put(turns[:, :heads], queries)
        part.credit(turns[:, heads:], keys)
        part.credit(contents, values)
    return turns, contents


def _grouped(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Queries that look at the same keys, one behind the other: (rows · key heads, group · longest, width)."""
    return query.reshape(len(key), -1, query.shape[-1])


def _wide(query: torch.Tensor, key: torch.Tensor) -> bool:
    return query.shape[0] * query.shape[1] * key.shape[1] > WIDE


def _shares(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    mask = mask.repeat(query.shape[1] // len(mask), 1)
    scores = torch.baddbmm(mask, query, key.mT, alpha=1 / math.sqrt(query.shape[-1]))
    return torch.softmax(scores, dim=-1)


def _flash(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Without holding the scores: slower on CPU, for rows that are too long for it."""
    groups, longest = query.shape[1] // len(mask), len(mask)
    query = query.unflatten(1, (groups, longest))
    key, value = (one.unsqueeze(1).expand(-1, groups, -1, -1) for one in (key, value))
    found = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return found.flatten(1, 2)


def _flash_backward(
    above: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    with torch.enable_grad():
        query, key, value = (one.detach().requires_grad_() for one in (query, key, value))
        return torch.autograd.grad(_flash(query, key, value, mask), (query, key, value), above)


class _Beginning(NamedTuple):
    """The tokens that all rows share, looking at each other."""

    common: int
    mask: torch.Tensor

    def query(self, values: torch.Tensor) -> torch.Tensor:
        """(tokens, heads, width) → (heads, common, width)."""
        return values[: self.common].transpose(0, 1)

    def seen(self, values: torch.Tensor) -> torch.Tensor:
        """Likewise, of keys or values."""
        return values[: self.common].transpose(0, 1)

    def sloped(self, slope: torch.Tensor) -> torch.Tensor:
        """Likewise, of a gradient."""
        return slope[: self.common].transpose(0, 1)

    def put(self, out: torch.Tensor, values: torch.Tensor) -> None:
        """The reverse of `query`."""
        out[: self.common] = values.reshape(-1, self.common, values.shape[-1]).transpose(0, 1)

    def credit(self, out: torch.Tensor, values: torch.Tensor) -> None:
        """The reverse of `seen`; the rows, which come before it, have already left their part."""
        out[: self.common] += values.transpose(0, 1)


class _Rows(NamedTuple):
    """What is behind the beginning, looking at the beginning and at its own row."""

    common: int
    mask: torch.Tensor
    padded: torch.Tensor
    place: torch.Tensor

    def query(self, values: torch.Tensor) -> torch.Tensor:
        """(tokens, heads, width) → (rows · heads, longest, width)."""
        return self._stood(values[self.common :].index_select(0, self.padded.view(-1)))

    def seen(self, values: torch.Tensor) -> torch.Tensor:
        """(rows · heads, common + longest, width), of keys or values."""
        rows, longest = self.padded.shape
        own = values[self.common :].index_select(0, self.padded.view(-1))
        shape = (rows, longest, *values.shape[1:])
        if not self.common:
            return self._stood(own)
        both = torch.empty(
            rows, values.shape[1], self.common + longest, values.shape[2], dtype=own.dtype, device=own.device
        )
        both[:, :, : self.common] = values[: self.common].transpose(0, 1)
        both[:, :, self.common :] = own.view(shape).transpose(1, 2)
        return both.flatten(0, 1)

    def sloped(self, slope: torch.Tensor) -> torch.Tensor:
        """Like `query`, with nothing where there is padding: what nobody reads has no gradient."""
        stood = slope.new_zeros(self.padded.numel(), *slope.shape[1:])
        stood.index_copy_(0, self.place, slope[self.common :])
        return self._stood(stood)

    def put(self, out: torch.Tensor, values: torch.Tensor) -> None:
        """The reverse of `query`."""
        out[self.common :] = self._lying(values).index_select(0, self.place)

    def credit(self, out: torch.Tensor, values: torch.Tensor) -> None:
        """The reverse of `seen`; the beginning gets the sum over the rows."""
        rows = len(self.padded)
        if self.common:
            out[: self.common] = values[:, : self.common].unflatten(0, (rows, -1)).sum(0).transpose(0, 1)
        out[self.common :] = self._lying(values[:, self.common :]).index_select(0, self.place)

    def _stood(self, values: torch.Tensor) -> torch.Tensor:
        rows, longest = self.padded.shape
        return values.view(rows, longest, *values.shape[1:]).transpose(1, 2).flatten(0, 1)

    def _lying(self, values: torch.Tensor) -> torch.Tensor:
        rows, longest = self.padded.shape
        values = values.reshape(rows, -1, longest, values.shape[-1])
        return values.transpose(1, 2).flatten(0, 1)


def _parts(where: Layout) -> list[_Beginning | _Rows]:
    """The rows come first, because the beginning adds its own gradient to theirs."""
    rows = _Rows(where.common, where.mask, where.padded, where.place)
    return [rows, _Beginning(where.common, where.first)] if where.common else [rows]
