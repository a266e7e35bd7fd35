# pyright: basic
"""Hidden states at the positions that predict learnt tokens.

`fast` computes the llama family by `layers`. `plain` asks transformers, with padding: for every other architecture,
and what the fast way is held against in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy
import torch
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from baimo.tuning.fit.attention import Layout, layout
from baimo.tuning.fit.base import LoadedBase
from baimo.tuning.fit.batches import by_length, micro_batches
from baimo.tuning.fit.encode import Encoded
from baimo.tuning.fit.layers import FAMILY, Layer, Rotation, through
from baimo.tuning.fit.lower import Lower


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
    return fast(base, rows) if can_be_fast(base) else plain(base, rows)


def can_be_fast(base: LoadedBase) -> bool:
    """Whether `layers` computes this model, with this adapter, exactly."""
    if base.kept.get("sharded"):
        return False
    config = base.model.config
    if config.model_type not in FAMILY or config.hidden_act != "silu":
        return False
    if getattr(config, "use_sliding_window", False) or (
        config.model_type == "mistral" and config.sliding_window
    ):
        return False
    if base.peft is None:
        return True
    adapter = base.peft.peft_config["default"]
    strange = adapter.lora_dropout or adapter.use_dora or adapter.bias != "none" or adapter.modules_to_save
    return str(getattr(adapter.peft_type, "value", "")) == "LORA" and not strange


def pieces(base: LoadedBase) -> Callable[[Sequence[Encoded], int], Sequence[Sequence[Encoded]]]:
    """How a step of this model is cut so that it fits: by what is computed, or by what is padded."""
    return micro_batches if can_be_fast(base) else by_length


def fast(base: LoadedBase, rows: Sequence[Encoded]) -> Answers:
    """Without padding, and what rows begin with alike is computed once."""
    where = layout(rows, base.dtype, base.device)
    model = base.model.model
    rotation = _rotation(base, where)
    layers = layers_of(base)
    lowest = next((at for at, layer in enumerate(layers) if layer.learnt), len(layers))
    lower: Lower | None = base.kept.get("lower")
    values = lower.recalled(rows, where) if lower else None
    if values is None:
        values = torch.nn.functional.embedding(where.ids, model.embed_tokens.weight)
        for layer in layers[:lowest]:
            values = through(layer, values, where, rotation, base.adapted)
        if lower:
            lower.keep(rows, where, values)
    for layer in layers[lowest:]:
        if base.frugal and torch.is_grad_enabled():
            values = checkpoint(through, layer, values, where, rotation, base.adapted, use_reentrant=False)
        else:
            values = through(layer, values, where, rotation, base.adapted)
    hidden = model.norm(values[where.predicts])
    return Answers(hidden, where.targets, where.row)


def remember(base: LoadedBase, rows: Sequence[Encoded], most_mb: float) -> None:
    """Compute the layers below the lowest one that learns once only for rows that come again."""
    layers = layers_of(base) if can_be_fast(base) else []
    if layers and not layers[0].learnt:
        base.kept["lower"] = Lower(rows, most_mb)


def layers_of(base: LoadedBase) -> list[Layer]:
    """The layers of a base that can be fast; made once, and again when an adapter was put in."""
    kept = base.kept.get("layers")
    if kept is None or kept[0] is not base.peft:
        config = base.model.config
        heads, pairs = config.num_attention_heads, config.num_key_value_heads
        kept = (base.peft, [Layer(module, heads, pairs, base.dtype) for module in base.layers])
        base.kept["layers"] = kept
    return kept[1]


def _rotation(base: LoadedBase, where: Layout) -> Rotation:
    cosine, sine = base.model.model.rotary_emb(where.mask, where.positions[None])
    half = cosine.shape[-1] // 2
    return Rotation(cosine[0, :, None, :half], sine[0, :, None, :half])


def plain(base: LoadedBase, rows: Sequence[Encoded]) -> Answers:
    """The model of transformers. Rows are padded on the right, which causal attention never looks at.

    Whole weights that are learnt are f32; what is computed with is their copy in the precision of the computation.
    """
    longest = max(map(len, rows)) - 1
    ids = numpy.zeros((len(rows), longest), dtype=numpy.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row) - 1] = row.ids[:-1]
    model, given = base.model.model, {"input_ids": torch.from_numpy(ids).to(base.device)}
    masters = {} if base.peft is not None else dict(model.named_parameters())
    copies = {name: weight.to(base.dtype) for name, weight in masters.items() if weight.dtype != base.dtype}
    hidden = functional_call(model, copies, kwargs=given).last_hidden_state
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
