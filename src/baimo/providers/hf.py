"""A GGUF file in Hugging Face form, the form in which models are tuned and exchanged.

Prevents two failures: a tokenizer that is almost the model's own (transformers' reader of GGUF files cuts digits
after a space differently from llama.cpp, so a tuned model would be served other tokens than it was trained on), and
query and key rows left in llama.cpp's order, which gives a model that runs and answers nonsense.

Everything comes from the file's own tables. The folder is cached under the hash of its source and appears in one
piece. Formats: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md,
https://huggingface.co/docs/tokenizers, https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baimo.core.registry import require
from baimo.errors import ProviderError
from baimo.providers import gguf
from baimo.providers.gguf import GgufFile, Tensor

FORM = 1
"""Version of the conversion, part of a folder's name."""

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
"""What can be converted, with the class that computes it."""

_WHOLE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_OF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_F32, _F16, _BF16 = 0, 1, 30

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CUTS = {
    "smollm": (r"\p{N}", _GPT2),
    "gpt-2": (_GPT2,),
    "gpt2": (_GPT2,),
    "default": (_GPT2,),
    "llama-bpe": (_LLAMA3,),
    "llama3": (_LLAMA3,),
    "qwen2": (_QWEN2,),
}
"""How llama.cpp cuts a text into words before merging, by `tokenizer.ggml.pre`."""


def hf_folder(source: Path, cache: Path | None = None) -> Path:
    """The Hugging Face form of a GGUF file, made once; a folder that already has that form is returned as it is.

    Args:
        source: GGUF file of a llama, qwen2 or qwen3 model with a byte-level BPE tokenizer, or a folder with
            config.json, tokenizer.json and safetensors.
        cache: where folders are kept; None = `hf` in the user's cache.

    Returns:
        A folder with config.json, model.safetensors, tokenizer.json, tokenizer_config.json, chat_template.jinja and
        generation_config.json. Quantised weights are F16, as the serving engines get them.

    Raises:
        ProviderError: the file cannot be read, or has no such form.
    """
    if source.is_dir():
        missing = [name for name in ("config.json", "tokenizer.json") if not (source / name).is_file()]
        if missing:
            raise ProviderError("hf.incomplete", path=source, missing=", ".join(missing))
        return source
    file = gguf.read(source)
    if file.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ProviderError("hf.architecture", path=source, architecture=file.architecture, known=known)
    folder = (cache or gguf.user_cache() / "hf") / f"{gguf.file_hash(source)[:32]}-{FORM}"
    if not (folder / "config.json").is_file():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _published(file, folder)
        except OSError as error:
            raise ProviderError("local.cannot_write", path=folder, problem=error.strerror) from error
    return folder


def _published(file: GgufFile, folder: Path) -> None:
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        _weights(file, draft / "model.safetensors")
        documents = {
            "config.json": config(file),
            "tokenizer.json": tokenizer(file),
            "tokenizer_config.json": _tokenizer_config(file),
            "generation_config.json": _generation_config(file),
        }
        for name, document in documents.items():
            (draft / name).write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
        if file.chat_template:
            (draft / "chat_template.jinja").write_text(file.chat_template, encoding="utf-8", newline="")
        try:
            draft.rename(folder)
        except OSError:  # another process was faster; its folder holds the same
            if not (folder / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def config(file: GgufFile) -> dict[str, Any]:
    """config.json of a GGUF file.

    Raises:
        ProviderError: a way of scaling positions that is not known here.
    """

    def fact(name: str, default: Any = None) -> Any:
        return file.metadata.get(f"{file.architecture}.{name}", default)

    names = {tensor.name for tensor in file.tensors}
    embedding = next(tensor for tensor in file.tensors if tensor.name == "token_embd.weight")
    heads = int(fact("attention.head_count"))
    width = int(fact("embedding_length"))
    if fact("rope.scaling.type", "none") != "none" or "rope_freqs.weight" in names:
        raise ProviderError("hf.rope", path=file.path)
    found: dict[str, Any] = {
        "architectures": [ARCHITECTURES[file.architecture]],
        "model_type": file.architecture,
        "vocab_size": embedding.shape[1],
        "hidden_size": width,
        "intermediate_size": int(fact("feed_forward_length")),
        "num_hidden_layers": int(fact("block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(fact("attention.head_count_kv", heads)),
        "head_dim": int(fact("attention.key_length", width // heads)),
        "max_position_embeddings": int(fact("context_length", 0)) or 2048,
        "rms_norm_eps": round(float(fact("attention.layer_norm_rms_epsilon", 1e-6)), 9),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(fact("rope.freq_base", 10000.0))},
        "hidden_act": "silu",
        "attention_bias": "blk.0.attn_q.bias" in names,
        "tie_word_embeddings": "output.weight" not in names,
        "dtype": "float16",
        "use_cache": True,
        **_special_ids(file),
    }
    found["rope_theta"] = found["rope_parameters"][
        "rope_theta"
    ]  # where readers older than transformers 5 look
    return found


def _special_ids(file: GgufFile) -> dict[str, Any]:
    ids = {
        f"{role}_token_id": file.metadata.get(f"tokenizer.ggml.{role}_token_id") for role in ("bos", "eos")
    }
    ids["pad_token_id"] = file.metadata.get("tokenizer.ggml.padding_token_id", ids["eos_token_id"])
    return {name: int(number) for name, number in ids.items() if number is not None}


def _generation_config(file: GgufFile) -> dict[str, Any]:
    """With every token that ends an answer when served."""
    ends = sorted(file.token_ids("eos", "eot", "eom"))
    return {**_special_ids(file), "eos_token_id": ends if len(ends) != 1 else ends[0]}


# the tokenizer


def tokenizer(file: GgufFile) -> dict[str, Any]:
    """tokenizer.json of a GGUF file: byte-level BPE from its own tables, nothing added to a text.

    Raises:
        ProviderError: another kind of tokenizer, or a way of cutting words that is not known here.
    """
    kind, cut = file.metadata.get("tokenizer.ggml.model"), file.metadata.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or cut not in CUTS:
        raise ProviderError("hf.tokenizer", path=file.path, kind=kind, cut=cut)
    tokens: list[str] = file.metadata["tokenizer.ggml.tokens"]
    types: list[int] = file.metadata.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    added = [at for at, what in enumerate(types) if what in (3, 4)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": at,
                "content": tokens[at],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": types[at] == 3,
            }
            for at in added
        ],
        "normalizer": None,  # llama.cpp does not normalise, whatever the original does
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                *(
                    {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": False}
                    for cut in CUTS[cut]
                ),
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
            ],
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": False,
            "use_regex": False,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": cut in ("llama-bpe", "llama3"),
            "vocab": {token: at for at, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in file.metadata["tokenizer.ggml.merges"]],
        },
    }


def _tokenizer_config(file: GgufFile) -> dict[str, Any]:
    roles = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    found: dict[str, Any] = {name: token for name, role in roles.items() if (token := file.token(role))}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": file.context_window or 2048,
        **found,
        **({"chat_template": file.chat_template} if file.chat_template else {}),
    }


# the weights


def hf_name(name: str) -> str | None:
    """What Hugging Face calls a tensor of llama.cpp; None = there is no such tensor in these architectures."""
    stem, _, kind = name.rpartition(".")
    if stem in _WHOLE:
        return f"{_WHOLE[stem]}.{kind}"
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
    if layer is None or layer[2] not in _OF_LAYER:
        return None
    return f"model.layers.{layer[1]}.{_OF_LAYER[layer[2]]}.{kind}"


def _weights(file: GgufFile, path: Path) -> None:
    """model.safetensors, one tensor in memory at a time."""
    plan = [(tensor, name, _form(tensor)) for tensor in file.tensors if (name := hf_name(tensor.name))]
    strangers = sorted({tensor.name for tensor in file.tensors} - {tensor.name for tensor, _, _ in plan})
    if strangers:
        raise ProviderError("hf.tensor", path=file.path, name=strangers[0])
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensor, name, form in plan:
        size = (4 if form == "F32" else 2) * _count(tensor)
        head[name] = {"dtype": form, "shape": list(tensor.shape[::-1]), "data_offsets": [at, at + size]}
        at += size
    encoded = json.dumps(head).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as out:
        out.write(len(encoded).to_bytes(8, "little") + encoded)
        for values in _values(file, {tensor.name: form for tensor, _, form in plan}):
            out.write(values)
        out.flush()
        os.fsync(out.fileno())


def _form(tensor: Tensor) -> str:
    """Norms and biases decide much and weigh nothing; matrices as the serving engines get them."""
    if len(tensor.shape) < 2 or tensor.kind == _F32:
        return "F32"
    return "BF16" if tensor.kind == _BF16 else "F16"


def _values(file: GgufFile, forms: dict[str, str]) -> Iterator[memoryview]:
    numpy = require("numpy", "tune", "hf.purpose")
    library = require("gguf", "local", "local.purpose")
    for tensor, data in gguf.arrays(file):
        kind = library.GGMLQuantizationType(tensor.kind)
        form = forms[tensor.name]
        shape = tensor.shape[::-1]
        if form == "BF16":
            values = data.reshape(-1).view(numpy.uint16).reshape(shape)
        else:
            values = library.quants.dequantize(_as_stored(data, tensor, numpy), kind).reshape(shape)
        values = _order(file, tensor, values)
        if form == "F16":
            if float(numpy.abs(values).max(initial=0)) > float(numpy.finfo(numpy.float16).max):
                raise ProviderError("local.beyond_f16", path=file.path, name=tensor.name)
            values = values.astype(numpy.float16)
        elif form == "F32":
            values = values.astype(numpy.float32)
        yield memoryview(numpy.ascontiguousarray(values).reshape(-1).view(numpy.uint8))


def _as_stored(data: Any, tensor: Tensor, numpy: Any) -> Any:
    plain = {_F32: numpy.float32, _F16: numpy.float16}.get(tensor.kind)
    return data if plain is None else data.reshape(-1).view(plain)


def _order(file: GgufFile, tensor: Tensor, values: Any) -> Any:
    """Rows of query and key in the order of the original: llama.cpp keeps the two halves of a rotation side by side."""
    role = tensor.name.split(".")[-2]
    if file.architecture != "llama" or role not in ("attn_q", "attn_k"):
        return values
    heads = int(file.metadata["llama.attention.head_count"])
    if role == "attn_k":
        heads = int(file.metadata.get("llama.attention.head_count_kv", heads))
    rows = values.shape[0]
    return (
        values.reshape(heads, rows // heads // 2, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    )


def _count(tensor: Tensor) -> int:
    values = 1
    for length in tensor.shape:
        values *= length
    return values
