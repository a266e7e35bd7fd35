"""Models and LoRA adapters in Hugging Face form as GGUF: what the serving engines read.

Prevents three silent errors: query and key matrices in the wrong layout (llama.cpp wants the rotary halves of llama
models interleaved), an adapter that is scaled otherwise than it was trained (llama.cpp divides alpha by the rank,
whatever PEFT did), and a tokenizer that is built anew where the base's own is at hand.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; adapters: general.type = "adapter",
adapter.lora.alpha, tensors `<matrix>.lora_a` and `.lora_b`, as in llama.cpp's convert_lora_to_gguf.py.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from baimo.core.registry import require
from baimo.errors import AdapterError
from baimo.providers import gguf
from baimo.providers.gguf import FILE_TYPES, Tensor, size_of, target_kind
from baimo.providers.gguf_layout import Shape, gguf_name, shape_of_config, shape_of_gguf
from baimo.providers.hf_files import chat_template_of, end_token, read_json
from baimo.providers.peft_folder import PeftFolder, Update
from baimo.providers.tensor_files import TensorFiles
from baimo.providers.vocabulary import vocabulary_pairs

GgufForm = Literal["f16", "q8_0"]
WRITER = 1
"""Version of what is written, part of the names of cached files."""

Pair = tuple[str, int, Any]
"""Key, GGUF's number of the value's type, value."""
U32, F32, BOOL, TEXT, ARRAY = 4, 6, 7, 8, 9


def gguf_of(
    folder: Path, out: Path, form: GgufForm, like: Path | None, *, tensors: Mapping[str, Any] | None = None
) -> Path:
    """A model in Hugging Face form as GGUF; appears in one piece.

    Args:
        folder: config.json, tokenizer, chat template, model.safetensors.
        out: the file.
        form: of the matrices; vectors are F32.
        like: GGUF of the base, whose metadata and tokenizer are taken over byte for byte, but for the chat template
            and the token that ends an answer, which are the folder's where it has them; None = from the folder.
        tensors: instead of those of the folder: numpy arrays by name.

    Returns:
        `out`.

    Raises:
        AdapterError: an architecture, a tensor or a tokenizer that is not known here, or not the base's.
    """
    shape = shape_of_config(folder)
    found = TensorFiles.of(folder) if tensors is None else tensors
    base = None if like is None else gguf.read(like)
    named = {ours: name for name in found if (ours := _known(name, folder)) is not None}
    if "output.weight" in named and _tied(folder, base) and tensors is None:
        named.pop("output.weight")
    pairs = _changes(folder, base) if base is not None else _pairs_of(folder, shape)
    listed = [
        Tensor(name, tuple(reversed(_size(found, named[name]))), 0, 0) for name in _ordered(named, base)
    ]
    if base is not None:
        _refuse_strangers(base, listed)

    def value(tensor: Tensor) -> Any:
        return shape.laid_out(tensor.name, found[named[tensor.name]])

    published(out, lambda file: _write(file, base, [*pairs, _file_type(form)], listed, form, value))
    return out


def gguf_adapter(peft: Path, base: Path, out: Path) -> Path:
    """A LoRA adapter as llama.cpp puts it on a base; appears in one piece.

    Args:
        peft: folder of a PEFT adapter.
        base: GGUF of the base; says layout and sizes.
        out: the file.

    Raises:
        AdapterError: it holds what this form cannot: whole matrices, DoRA, a matrix that the base has not.
    """
    adapter, file = PeftFolder(peft), gguf.read(base)
    if adapter.dora or adapter.saved:
        what = "DoRA" if adapter.dora else ", ".join(adapter.saved)
        raise AdapterError("adapters.not_as_lora", path=peft, what=what)
    shape = shape_of_gguf(file)
    sizes = {tensor.name: tensor.shape for tensor in file.tensors}
    alpha = float(adapter.config["lora_alpha"])
    arrays: dict[str, Any] = {}
    for update in adapter.updates.values():
        name = _target(update, sizes, peft)
        arrays |= _lora(adapter, update, name, sizes[name], shape, alpha)
    listed = [Tensor(name, tuple(reversed(array.shape)), 0, 0) for name, array in arrays.items()]
    pairs: list[Pair] = [
        ("general.architecture", TEXT, file.architecture),
        ("general.type", TEXT, "adapter"),
        ("adapter.type", TEXT, "lora"),
        ("adapter.lora.alpha", F32, alpha),
    ]
    published(out, lambda target: _write(target, None, pairs, listed, None, lambda one: arrays[one.name]))
    return out


def _lora(
    adapter: PeftFolder, update: Update, name: str, size: tuple[int, ...], shape: Shape, alpha: float
) -> dict[str, Any]:
    """A and B of one matrix. llama.cpp multiplies by alpha / rank; what PEFT does beyond that goes into B."""
    parts = adapter.arrays(update)
    a, b = parts["A"], parts["B"]
    inputs, outputs = size[0], size[1]
    wanted = (
        ((update.rank, outputs), (inputs, update.rank))
        if update.embedding
        else (
            (update.rank, inputs),
            (outputs, update.rank),
        )
    )
    if (a.shape, b.shape) != wanted:
        raise AdapterError("adapters.size", path=adapter.path, name=update.module, found=b.shape, base=size)
    factor = update.scale / (alpha / update.rank) if alpha else 0.0
    if update.embedding:
        return {f"{name}.lora_a": a.T, f"{name}.lora_b": (b * factor).T}
    return {f"{name}.lora_a": a, f"{name}.lora_b": shape.laid_out(name, b * factor)}


def _target(update: Update, sizes: Mapping[str, Any], peft: Path) -> str:
    name = gguf_name(f"{update.module}.weight")
    if name not in sizes:
        raise AdapterError("adapters.not_in_base", path=peft, name=update.module)
    return str(name)


def _known(name: str, folder: Path) -> str | None:
    ours = gguf_name(name)
    if ours is None and not name.endswith("rotary_emb.inv_freq"):
        raise AdapterError("adapters.unknown_part", path=folder, name=name)
    return ours


def _tied(folder: Path, base: gguf.GgufFile | None) -> bool:
    """Whether the output matrix is the embedding's: then it is not kept twice."""
    if base is not None and any(tensor.name == "output.weight" for tensor in base.tensors):
        return False
    return bool(read_json(folder / "config.json").get("tie_word_embeddings"))


def _ordered(named: Mapping[str, str], base: gguf.GgufFile | None) -> list[str]:
    if base is None:
        return list(named)
    order = [tensor.name for tensor in base.tensors if tensor.name in named]
    return [*order, *(name for name in named if name not in set(order))]


def _size(tensors: Mapping[str, Any], name: str) -> tuple[int, ...]:
    if isinstance(tensors, TensorFiles):
        return tensors.placed(name).shape
    shapes: Callable[[str], tuple[int, ...]] | None = getattr(tensors, "shape", None)
    return tuple(tensors[name].shape) if shapes is None else shapes(name)


def _refuse_strangers(base: gguf.GgufFile, listed: Sequence[Tensor]) -> None:
    """Every tensor of the base is there in the base's size."""
    found = {tensor.name: tensor.shape for tensor in listed}
    for tensor in base.tensors:
        if tensor.name == "rope_freqs.weight":
            continue
        if found.get(tensor.name) != tensor.shape:
            size = found.get(tensor.name, ())
            raise AdapterError(
                "adapters.size", path=base.path, name=tensor.name, found=size, base=tensor.shape
            )


def _file_type(form: GgufForm) -> Pair:
    return ("general.file_type", U32, FILE_TYPES[form])


def _changes(folder: Path, base: gguf.GgufFile) -> list[Pair]:
    """What the folder says otherwise than the base: its template, and the token that ends an answer."""
    changed: list[Pair] = []
    template = chat_template_of(folder)
    if template and template != base.chat_template:
        changed.append(("tokenizer.chat_template", TEXT, template))
    end = end_token(folder)
    if end and end != base.token("eos"):
        tokens: list[str] = base.metadata["tokenizer.ggml.tokens"]
        if end not in tokens:
            raise AdapterError("adapters.unknown_token", path=folder, token=end)
        changed.append(("tokenizer.ggml.eos_token_id", U32, tokens.index(end)))
    return changed


def _pairs_of(folder: Path, shape: Shape) -> list[Pair]:
    """Metadata of a model whose base has no GGUF."""
    config, name = read_json(folder / "config.json"), shape.architecture
    rope: Mapping[str, Any] = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if str(rope.get("rope_type", "default")) != "default":
        raise AdapterError("adapters.rope", path=folder, kind=rope["rope_type"])
    width = int(config.get("head_dim") or int(config["hidden_size"]) // shape.heads)
    figures: list[Pair] = [
        ("general.architecture", TEXT, name),
        ("general.type", TEXT, "model"),
        ("general.name", TEXT, folder.name),
        (f"{name}.block_count", U32, config["num_hidden_layers"]),
        (f"{name}.context_length", U32, config["max_position_embeddings"]),
        (f"{name}.embedding_length", U32, config["hidden_size"]),
        (f"{name}.feed_forward_length", U32, config["intermediate_size"]),
        (f"{name}.attention.head_count", U32, shape.heads),
        (f"{name}.attention.head_count_kv", U32, shape.pairs),
        (f"{name}.attention.key_length", U32, width),
        (f"{name}.attention.value_length", U32, width),
        (f"{name}.rope.dimension_count", U32, width),
        (f"{name}.rope.freq_base", F32, rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        (f"{name}.attention.layer_norm_rms_epsilon", F32, config["rms_norm_eps"]),
        (f"{name}.vocab_size", U32, config["vocab_size"]),
    ]
    template = chat_template_of(folder)
    figures += vocabulary_pairs(folder, int(config["vocab_size"]), end_token(folder))
    return [*figures, *([("tokenizer.chat_template", TEXT, template)] if template else [])]


# bytes


def _encoded(pair: Pair) -> bytes:
    key, kind, value = pair
    return struct.pack("<Q", len(key.encode())) + key.encode() + struct.pack("<I", kind) + _value(kind, value)


def _value(kind: int, value: Any) -> bytes:
    if kind == TEXT:
        data = str(value).encode("utf-8", errors="surrogateescape")
        return struct.pack("<Q", len(data)) + data
    if kind == ARRAY:
        item, values = value
        return struct.pack("<IQ", item, len(values)) + b"".join(_value(item, one) for one in values)
    return struct.pack({U32: "<I", 5: "<i", F32: "<f", BOOL: "<?"}[kind], value)


def _write(
    out: Any,
    base: gguf.GgufFile | None,
    pairs: Sequence[Pair],
    tensors: Sequence[Tensor],
    form: GgufForm | None,
    value: Callable[[Tensor], Any],
) -> None:
    """Head, then every tensor in the form's type; without a form all are F32."""
    kept: list[bytes] = []
    if base is not None:
        new = {key for key, _, _ in pairs}
        with base.path.open("rb") as source:
            data = source.read(base.data_start)
        kept = [data[start:end] for key, (start, end) in base.spans.items() if key not in new]
    alignment = 32 if base is None else base.alignment
    kinds = [0 if form is None else target_kind(tensor, form) for tensor in tensors]
    sizes = [size_of(tensor, kind) for tensor, kind in zip(tensors, kinds, strict=True)]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(kept) + len(pairs))
    head += b"".join(kept) + b"".join(_encoded(pair) for pair in pairs)
    head += gguf.infos(tensors, kinds, sizes, alignment)
    out.write(head + b"\0" * (-len(head) % alignment))
    for tensor, kind, size in zip(tensors, kinds, sizes, strict=True):
        written = 0
        for piece in _pieces(value(tensor), kind, tensor.name):
            written += out.write(piece)
        assert written == size, tensor.name
        out.write(b"\0" * (-size % alignment))


def _pieces(data: Any, kind: int, name: str) -> Iterator[bytes]:
    """The data of a tensor as bytes of a ggml type, a few megabytes at a time."""
    numpy = require("numpy", "local", "local.purpose")
    rows = data.reshape(-1, data.shape[-1])
    step = max(1, (4 << 20) // rows.shape[1])
    for start in range(0, len(rows), step):
        part = numpy.ascontiguousarray(rows[start : start + step], dtype=numpy.float32)
        if kind == 1:
            if float(numpy.abs(part).max(initial=0)) > float(numpy.finfo(numpy.float16).max):
                raise AdapterError("adapters.beyond_f16", name=name)
            part = part.astype(numpy.float16)
        elif kind != 0:
            library = require("gguf", "local", "local.purpose")
            part = library.quants.quantize(part, library.GGMLQuantizationType(kind))
        yield part.tobytes()


def published(out: Path, fill: Callable[[Any], None]) -> None:
    """Write a file beside `out`, then rename: a reader sees the whole file or none."""
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=out.parent, prefix=out.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
        Path(draft).replace(out)
    finally:
        Path(draft).unlink(missing_ok=True)
