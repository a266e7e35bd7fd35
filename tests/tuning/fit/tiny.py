"""A tiny random model of each family that is computed fast, made in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import torch

from baimo.tuning.fit.base import LoadedBase
from baimo.tuning.fit.encode import Dialect, Encoded

VOCABULARY = 300

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def dialect() -> Dialect:
    """Bytes as tokens, and ChatML."""
    import tokenizers

    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {letter: at for at, letter in enumerate(sorted(alphabet))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return Dialect(
        tokenizer=tokenizer,
        template=TEMPLATE,
        special={"eos_token": "<|im_end|>"},
        ends=(tokenizer.token_to_id("<|im_end|>"),),
        window=512,
    )


def config(family: str = "llama", **changes: Any) -> Any:
    """Two layers, 64 wide, four heads on two of keys."""
    import transformers

    classes = {
        "llama": transformers.LlamaConfig,
        "qwen2": transformers.Qwen2Config,
        "qwen3": transformers.Qwen3Config,
    }
    return classes[family](**{
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "attn_implementation": "sdpa",
        "use_cache": False,
        **changes,
    })  # fmt: skip


def base(
    family: str = "llama",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    folder: Path = Path(),
    **changes: Any,
) -> LoadedBase:
    """A model with random weights, frozen; norms and biases random too, so that nothing is hidden by a 1 or a 0."""
    import transformers

    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config(family, **changes))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                weight.add_(torch.randn_like(weight) * 0.2)
            else:  # far enough from nothing that a layer does something and an answer can become likely
                weight.mul_(4 if "layers" in name else 10)
    model.to(dtype).eval().requires_grad_(False)
    return LoadedBase(model=model, dialect=dialect(), folder=folder, dtype=dtype, device=torch.device("cpu"))


def rows(seed: int = 0, common: int = 12, count: int = 5, answer: int | None = None) -> list[Encoded]:
    """Rows of different lengths that begin alike; the last third of each is learnt, where wanted always one token."""
    generator = numpy.random.default_rng(seed)
    beginning = generator.integers(3, VOCABULARY, common)
    found = []
    for at in range(count):
        own = generator.integers(3, VOCABULARY, int(generator.integers(6, 30)))
        ids = numpy.concatenate([beginning, own]).astype(numpy.int64)
        trained = numpy.arange(len(ids)) >= common + len(own) * 2 // 3
        if answer is not None:
            ids[trained] = answer
        found.append(Encoded(ids=ids, trained=trained, row=at))
    return found


def hf_folder(path: Path, family: str = "llama", seed: int = 0) -> Path:
    """The same as `base`, as a folder of Hugging Face form, with the byte tokenizer."""
    import json

    from safetensors.torch import save_file

    made = base(family, seed=seed)
    path.mkdir(parents=True)
    weights = {name: weight.contiguous() for name, weight in made.model.named_parameters()}
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    made.model.config.architectures = [type(made.model).__name__]
    (path / "config.json").write_text(json.dumps(made.model.config.to_dict()))
    made.dialect.tokenizer.save(str(path / "tokenizer.json"))
    (path / "chat_template.jinja").write_text(TEMPLATE)
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
    (path / "tokenizer_config.json").write_text(json.dumps(about))
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": made.dialect.ends[0]}))
    return path
