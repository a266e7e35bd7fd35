# pyright: basic
"""Hidden states at the positions that predict learnt tokens.

`plain` asks transformers, with padding: for every architecture, and what the fast way is held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy
import torch

from baimo.tuning.fit.base import LoadedBase
from baimo.tuning.fit.encode import Encoded


class Answers(NamedTuple):
    """The positions that predict a learnt token, rows one after the other."""

    hidden: torch.Tensor
    """(answers, width), behind the last norm."""
    targets: torch.Tensor
    """(answers,) int64: the tokens to predict."""
    row: torch.Tensor
    """(answers,) int64: place in the rows given."""


def answers(base: LoadedBase, rows: Sequence[Encoded]) -> Answers:
    """Hidden states of some rows, with gradient where something is learnt."""
    return plain(base, rows)


def plain(base: LoadedBase, rows: Sequence[Encoded]) -> Answers:
    """The model of transformers. Rows are padded on the right, which causal attention never looks at."""
    longest = max(map(len, rows)) - 1
    ids = numpy.zeros((len(rows), longest), dtype=numpy.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row) - 1] = row.ids[:-1]
    hidden = base.model.model(input_ids=torch.from_numpy(ids).to(base.device)).last_hidden_state
    row_of, place = _places(rows)
    picked = hidden[row_of.to(base.device), place.to(base.device)]
    return Answers(picked, targets(rows).to(base.device), row_of.to(base.device))


def targets(rows: Sequence[Encoded]) -> torch.Tensor:
    """(answers,) the learnt tokens, rows one after the other."""
    return torch.from_numpy(numpy.concatenate([row.ids[row.trained] for row in rows]))


def _places(rows: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and position that predicts, for every learnt token."""
    places = [numpy.flatnonzero(row.trained) - 1 for row in rows]
    row_of = numpy.repeat(numpy.arange(len(rows)), [len(place) for place in places])
    return torch.from_numpy(row_of), torch.from_numpy(numpy.concatenate(places))
