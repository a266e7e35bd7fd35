# pyright: basic
"""What the layers below the lowest one that learns give for a row: always the same, so computed once.

With the upper half learning, later epochs need half of the forward pass and, as in the first, half of the backward
pass. A row takes two bytes per token and unit of width (1,152 bytes a token for a model 576 wide, in bf16).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from baimo.tuning.fit.attention import Layout
from baimo.tuning.fit.encode import Encoded, shared


class Lower:
    """Hidden states in front of the lowest layer that learns, of rows that come again.

    Args:
        rows: that come again.
        most_mb: memory that may be taken; rows that find no room are computed again.
    """

    def __init__(self, rows: Sequence[Encoded], most_mb: float) -> None:
        self._again = {id(row): row for row in rows}  # held, so that no other row gets the id of one of them
        self._beginning = shared(rows)
        self._common: torch.Tensor | None = None
        self._own: dict[int, torch.Tensor] = {}
        self._left = most_mb * 2**20

    def recalled(self, rows: Sequence[Encoded], where: Layout) -> torch.Tensor | None:
        """(tokens of the layout, width), or None where a row is not known."""
        if self._common is None or any(id(row) not in self._own for row in rows):
            return None
        rest = where.common - self._beginning
        owns = [self._own[id(row)] for row in rows]
        return torch.cat([self._common, owns[0][:rest], *(own[rest:] for own in owns)])

    def keep(self, rows: Sequence[Encoded], where: Layout, values: torch.Tensor) -> None:
        """Take what was computed for rows that come again, as long as there is room."""
        if any(id(row) not in self._again for row in rows):
            return
        if self._common is None:
            self._common = values[: self._beginning].clone()
        between = values[self._beginning : where.common]
        at = where.common
        for row in rows:
            end = at + len(row) - 1 - where.common
            size = (len(row) - 1 - self._beginning) * values.shape[1] * values.element_size()
            if id(row) not in self._own and size <= self._left:
                self._left -= size
                self._own[id(row)] = torch.cat([between, values[at:end]])
            at = end
