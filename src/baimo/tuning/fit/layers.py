# pyright: basic
"""Decoder layers of the llama family (llama, qwen2, qwen3, mistral), with gradients written out.

A layer computes exactly what transformers' and PEFT's modules do, on their own parameters, but without padding, with
query, key and value in one product (gate and up likewise), and with the adapter inside it: the input gets `rank` more
columns x·Aᵀ and the weight matrix gets the columns of B, so that y = [x, x·Aᵀ]·[W, B]ᵀ is one product, and its
backward gives the gradients of x and of x·Aᵀ at once. PEFT takes three products and two conversions for the same.
On two cores this is most of the distance to TRL (benchmarks/tuning.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from baimo.tuning.fit.attention import Layout, attend, attend_backward

FAMILY = frozenset({"llama", "qwen2", "qwen3", "mistral"})
"""model_type of what can be computed here."""


class Adapter(NamedTuple):
    """What PEFT put into a linear layer."""

    down: torch.nn.Parameter
    """A, (rank, in)."""
    up: torch.nn.Parameter
    """B, (out, rank)."""
    scale: float
    """What the product counts."""


class Member(NamedTuple):
    """One linear layer inside a stack."""

    weight: torch.nn.Parameter
    bias: torch.nn.Parameter | None
    adapter: Adapter | None
    rows: slice
    """Of the stack's output."""
    columns: slice
    """Of the adapter's inner dimension."""


class Stack:
    """Linear layers with the same input, as one."""

    def __init__(self, modules: Sequence[Any], dtype: torch.dtype) -> None:
        self.members: list[Member] = []
        row = column = 0
        for module in modules:
            plain = getattr(module, "base_layer", module)
            adapter = None if plain is module else _adapter(module)
            rank = 0 if adapter is None else adapter.down.shape[0]
            rows, columns = slice(row, row + plain.out_features), slice(column, column + rank)
            self.members.append(Member(plain.weight, plain.bias, adapter, rows, columns))
            row, column = rows.stop, columns.stop
        self.inner, self.rank = self.members[0].weight.shape[1], column
        place = self.members[0].weight.device
        self.matrix = torch.zeros(row, self.inner + column, dtype=dtype, device=place)
        self.down = torch.zeros(column, self.inner, dtype=dtype, device=place)
        self.biases: list[torch.Tensor] = [member.bias for member in self.members if member.bias is not None]
        self.bias = torch.cat(self.biases).detach().to(dtype) if self.biases else None
        self.learnt = [one for member in self.members for one in _learnt(member)]
        self._seen = -1
        with torch.no_grad():
            for member in self.members:
                own = self.matrix[member.rows, : self.inner]
                own.copy_(member.weight)
                if not member.weight.requires_grad:  # one copy is enough of what does not change
                    member.weight.data = own

    def refresh(self) -> None:
        """Take over what the optimizer has changed."""
        seen = sum(weight._version for weight in self.learnt)
        if seen == self._seen:
            return
        self._seen = seen
        with torch.no_grad():
            for member in self.members:
                if member.weight.requires_grad:
                    self.matrix[member.rows, : self.inner] = member.weight
                if member.adapter is not None:
                    columns = self._beside(member)
                    self.down[member.columns] = member.adapter.down
                    self.matrix[member.rows, columns] = member.adapter.up * member.adapter.scale
            if self.bias is not None and self.biases[0].requires_grad:
                self.bias = torch.cat(self.biases).to(self.bias.dtype)

    def _beside(self, member: Member) -> slice:
        """Columns of a member's adapter behind those of the input."""
        return slice(self.inner + member.columns.start, self.inner + member.columns.stop)

    def room(self, tokens: int, adapted: bool) -> torch.Tensor:
        """Where an input is to be written, (tokens, inner + rank)."""
        width = self.inner + (self.rank if adapted else 0)
        return torch.empty(tokens, width, dtype=self.matrix.dtype, device=self.matrix.device)

    def forward(self, entry: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        """Product of an input in its room, added to `onto` if given; fills the room's last columns."""
        matrix = self.matrix
        if entry.shape[1] > self.inner:
            entry[:, self.inner :] = entry[:, : self.inner] @ self.down.T
        elif self.rank:
            matrix = matrix[:, : self.inner]
        if onto is not None and self.bias is not None:
            onto = onto + self.bias
        elif onto is None:
            onto = self.bias
        return entry @ matrix.T if onto is None else torch.addmm(onto, entry, matrix.T)

    def backward(
        self, slope: torch.Tensor, entry: torch.Tensor, further: bool
    ) -> tuple[torch.Tensor | None, list[torch.Tensor | None]]:
        """Gradients of the input (if it is wanted) and of what is learnt, in the order of `learnt`."""
        values, inner = entry[:, : self.inner], None
        if entry.shape[1] > self.inner:
            if further:
                both = slope @ self.matrix
                inner, onward = both[:, self.inner :], both[:, : self.inner]
                onward = onward.addmm_(inner, self.down)
            else:
                inner, onward = slope @ self.matrix[:, self.inner :], None
        else:
            onward = slope @ self.matrix[:, : self.inner] if further else None
        return onward, self._gradients(slope, values, entry, inner)

    def _gradients(
        self, slope: torch.Tensor, values: torch.Tensor, entry: torch.Tensor, inner: torch.Tensor | None
    ) -> list[torch.Tensor | None]:
        found: list[torch.Tensor | None] = []
        downs = None if inner is None else (inner.T @ values).float()
        for member in self.members:
            if member.weight.requires_grad:
                found.append((slope[:, member.rows].T @ values).float())
            if member.bias is not None and member.bias.requires_grad:
                found.append(slope[:, member.rows].float().sum(0))
            if member.adapter is None:
                continue
            if downs is None:
                found += [None, None]
                continue
            ups = slope[:, member.rows].T @ entry[:, self._beside(member)]
            found += [downs[member.columns], ups.float().mul_(member.adapter.scale)]
        return found


def _adapter(module: Any) -> Adapter:
    down, up = module.lora_A["default"].weight, module.lora_B["default"].weight
    return Adapter(down, up, float(module.scaling["default"]))


def _learnt(member: Member) -> list[torch.nn.Parameter]:
    own = [one for one in (member.weight, member.bias) if one is not None and one.requires_grad]
    return own if member.adapter is None else [*own, member.adapter.down, member.adapter.up]


@dataclass(slots=True)
class Norm:
    """Root mean square normalisation (arXiv:1910.07467)."""

    weight: torch.nn.Parameter
    epsilon: float
    copy: torch.Tensor
    seen: int = -1

    def refresh(self) -> None:
        if self.seen != self.weight._version:
            self.seen = self.weight._version
            self.copy = self.weight.detach().to(self.copy.dtype)

    def forward(self, values: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Writes the normalised values into `out`; gives 1 / root mean square, (…, 1) f32."""
        size = torch.linalg.vector_norm(values, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = size.square_().div_(values.shape[-1]).add_(self.epsilon).rsqrt_()
        torch.mul(values, inverse.to(values.dtype) if values.dtype == torch.float32 else inverse, out=out)
        out.mul_(self.copy)
        return inverse

    def backward(
        self, slope: torch.Tensor, values: torch.Tensor, inverse: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Gradients of the values, f32, and of the weight if it is learnt."""
        whole = values.float().mul_(inverse)
        slope = slope.float()
        own = None
        if self.weight.requires_grad:
            own = (slope * whole).flatten(0, -2).sum(0)
        scaled = slope * self.copy.float()
        along = (scaled * whole).mean(-1, keepdim=True)
        return scaled.addcmul_(whole, along, value=-1.0).mul_(inverse), own


class Rotation(NamedTuple):
    """Cosines and sines of rotary positions (arXiv:2104.09864), (tokens, 1, half a head)."""

    cosine: torch.Tensor
    sine: torch.Tensor

    def turned(self, values: torch.Tensor, back: bool = False) -> torch.Tensor:
        """Values (tokens, heads, head) turned by their positions, or turned back."""
        first, second = values.chunk(2, dim=-1)
        out = torch.empty_like(values, memory_format=torch.contiguous_format)
        left, right = out.chunk(2, dim=-1)
        sign = -1.0 if back else 1.0
        torch.mul(first, self.cosine, out=left).addcmul_(second, self.sine, value=-sign)
        torch.mul(second, self.cosine, out=right).addcmul_(first, self.sine, value=sign)
        return out


class Layer:
    """One decoder layer over the modules of transformers and PEFT.

    Args:
        module: of the model.
        heads: of queries.
        pairs: of keys and values.
        dtype: of the computation.
    """

    def __init__(self, module: Any, heads: int, pairs: int, dtype: torch.dtype) -> None:
        mind, net = module.self_attn, module.mlp
        self.heads, self.pairs = heads, pairs
        self.width = int(mind.head_dim)
        self.entry = Stack([mind.q_proj, mind.k_proj, mind.v_proj], dtype)
        self.out = Stack([mind.o_proj], dtype)
        self.gates = Stack([net.gate_proj, net.up_proj], dtype)
        self.end = Stack([net.down_proj], dtype)
        self.norms = [_norm(module.input_layernorm, dtype), _norm(module.post_attention_layernorm, dtype)]
        self.turns = [_norm(mind.q_norm, dtype), _norm(mind.k_norm, dtype)] if hasattr(mind, "q_norm") else []
        self.stacks = [self.entry, self.out, self.gates, self.end]
        norms = [norm.weight for norm in [*self.norms, *self.turns] if norm.weight.requires_grad]
        self.learnt = [*norms, *(weight for stack in self.stacks for weight in stack.learnt)]

    def refresh(self) -> None:
        """Take over what the optimizer has changed."""
        for part in [*self.norms, *self.turns, *self.stacks]:
            part.refresh()

    def split(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(tokens, out of `entry`) as queries with keys, (tokens, heads + pairs, width), and values."""
        shaped = values.view(len(values), self.heads + 2 * self.pairs, self.width)
        return shaped[:, : self.heads + self.pairs], shaped[:, self.heads + self.pairs :]


def _norm(module: Any, dtype: torch.dtype) -> Norm:
    return Norm(module.weight, float(module.variance_epsilon), module.weight.detach().to(dtype))


def through(
    layer: Layer, values: torch.Tensor, layout: Layout, rotation: Rotation, adapted: bool
) -> torch.Tensor:
    """(tokens, width) through a layer, with gradient where something is learnt."""
    layer.refresh()
    return _Through.apply(values, layer, layout, rotation, adapted, *layer.learnt)


Look = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Attention: queries (tokens, heads, width), keys and values (tokens, key heads, width) → (tokens, heads · width)."""


def across(layer: Layer, values: torch.Tensor, rotation: Rotation, adapted: bool, look: Look) -> torch.Tensor:
    """(tokens, width) through a layer as `through` computes it, without gradient, with attention of another kind."""
    tokens = len(values)
    entry = layer.entry.room(tokens, adapted)
    layer.norms[0].forward(values, entry[:, : layer.entry.inner])
    pairs, content = layer.split(layer.entry.forward(entry))
    turned = rotation.turned(_normed_heads(layer, pairs)[0])
    spoken = layer.out.room(tokens, adapted)
    spoken[:, : layer.out.inner] = look(turned[:, : layer.heads], turned[:, layer.heads :], content)
    middle = layer.out.forward(spoken, onto=values)
    gated = layer.gates.room(tokens, adapted)
    layer.norms[1].forward(middle, gated[:, : layer.gates.inner])
    end = layer.end.room(tokens, adapted)
    _swish(layer.gates.forward(gated), end[:, : layer.end.inner])
    return layer.end.forward(end, onto=middle)


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(context, values, layer: Layer, layout: Layout, rotation: Rotation, adapted: bool, *_):
        tokens = len(values)
        entry = layer.entry.room(tokens, adapted)
        first = layer.norms[0].forward(values, entry[:, : layer.entry.inner])
        pairs, content = layer.split(layer.entry.forward(entry))
        turned, sizes = _normed_heads(layer, pairs)
        turned = rotation.turned(turned)
        spoken = layer.out.room(tokens, adapted)
        seen = attend(turned, content, layout, layer.heads, spoken[:, : layer.out.inner])
        middle = layer.out.forward(spoken, onto=values)
        gated = layer.gates.room(tokens, adapted)
        second = layer.norms[1].forward(middle, gated[:, : layer.gates.inner])
        both = layer.gates.forward(gated)
        end = layer.end.room(tokens, adapted)
        _swish(both, end[:, : layer.end.inner])
        result = layer.end.forward(end, onto=middle)
        context.save_for_backward(
            values, first, entry, pairs if layer.turns else None, *sizes, *seen,
            spoken, middle, second, gated, both, end,
        )  # fmt: skip
        context.parts = (layer, layout, rotation, len(sizes), len(seen))
        return result

    @staticmethod
    def backward(context, slope):
        layer, layout, rotation, counted, kept = context.parts
        values, first, entry, pairs, *rest = context.saved_tensors
        sizes, rest = rest[:counted], rest[counted:]
        seen, (spoken, middle, second, gated, both, end) = rest[:kept], rest[kept:]
        onward, ends = layer.end.backward(slope, end, True)
        onward, gates = layer.gates.backward(_swish_backward(onward, both), gated, True)
        onward, norm_second = layer.norms[1].backward(onward, middle, second)
        slope = onward.add_(slope).to(slope.dtype)
        onward, outs = layer.out.backward(slope, spoken, True)
        into = torch.empty(
            len(values), layer.heads + 2 * layer.pairs, layer.width, dtype=slope.dtype, device=slope.device
        )
        turns, contents = attend_backward(onward, spoken[:, : layer.out.inner], seen, layout, layer.heads)
        turns = rotation.turned(turns, back=True)
        into[:, : layer.heads + layer.pairs], norms_turned = _normed_heads_backward(
            layer, turns, pairs, sizes
        )
        into[:, layer.heads + layer.pairs :] = contents
        further = context.needs_input_grad[0] or layer.norms[0].weight.requires_grad
        onward, entries = layer.entry.backward(into.view(len(values), -1), entry, further)
        norm_first = None
        if further:
            onward, norm_first = layer.norms[0].backward(onward, values, first)
            onward = onward.add_(slope).to(slope.dtype)
        norms = [one for one in (norm_first, norm_second, *norms_turned) if one is not None]
        return onward, None, None, None, None, *norms, *entries, *outs, *gates, *ends


def _swish(both: torch.Tensor, out: torch.Tensor) -> None:
    gate, up = both.chunk(2, dim=1)
    torch.mul(torch.nn.functional.silu(gate), up, out=out)


def _swish_backward(slope: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
    gate, up = both.chunk(2, dim=1)
    found = torch.empty_like(both)
    left, right = found.chunk(2, dim=1)
    torch.mul(torch.nn.functional.silu(gate), slope, out=right)
    left.copy_(torch.ops.aten.silu_backward(slope * up, gate))
    return found


def _normed_heads(layer: Layer, pairs: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Qwen3 normalises every head of queries and keys; the others do not."""
    if not layer.turns:
        return pairs, []
    out = torch.empty_like(pairs, memory_format=torch.contiguous_format)
    query, key = layer.turns
    sizes = [
        query.forward(pairs[:, : layer.heads], out[:, : layer.heads]),
        key.forward(pairs[:, layer.heads :], out[:, layer.heads :]),
    ]
    return out, sizes


def _normed_heads_backward(
    layer: Layer, slope: torch.Tensor, pairs: torch.Tensor | None, sizes: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    if pairs is None:
        return slope, []
    query, key = layer.turns
    first, own = query.backward(slope[:, : layer.heads], pairs[:, : layer.heads], sizes[0])
    second, other = key.backward(slope[:, layer.heads :], pairs[:, layer.heads :], sizes[1])
    return torch.cat([first, second], dim=1).to(slope.dtype), [own, other]
