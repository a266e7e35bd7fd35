"""A byte-level BPE tokenizer in Hugging Face form as GGUF's tables.

Prevents the failure where a text is cut into other words than in training: llama.cpp knows the ways of cutting by
name (`tokenizer.ggml.pre`), tokenizer.json spells them out, and a way that has no known name is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from baimo.errors import AdapterError
from baimo.providers.hf import CUTS

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_U32, _I32, _BOOL, _TEXT, _ARRAY = 4, 5, 7, 8, 9


def vocabulary_pairs(folder: Path, size: int, end: str) -> list[tuple[str, int, Any]]:
    """Key, type and value of everything that GGUF says about a tokenizer.

    Args:
        folder: tokenizer.json and tokenizer_config.json.
        size: rows of the embedding; places without a token are filled.
        end: text of the token that ends an answer; empty = not said.

    Raises:
        AdapterError: there is no tokenizer.json, or it is of another kind.
    """
    try:
        source: Mapping[str, Any] = json.loads((folder / "tokenizer.json").read_bytes())
        configured: Mapping[str, Any] = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise AdapterError("adapters.no_file", path=folder, file="tokenizer.json") from error
    model = source["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise AdapterError("adapters.tokenizer", path=folder, kind=model.get("type"))
    tokens = [f"[PAD{at}]" for at in range(size)]
    types = [_UNUSED] * size
    for token, at in cast("Mapping[str, int]", model["vocab"]).items():
        tokens[at], types[at] = token, _NORMAL
    for added in source.get("added_tokens") or ():
        at = added["id"]
        tokens[at], types[at] = added["content"], _CONTROL if added["special"] else _USER_DEFINED
    merges: Sequence[Any] = model["merges"]
    pairs: list[tuple[str, int, Any]] = [
        ("tokenizer.ggml.model", _TEXT, "gpt2"),
        ("tokenizer.ggml.pre", _TEXT, _cut(source.get("pre_tokenizer") or {}, folder)),
        ("tokenizer.ggml.tokens", _ARRAY, (_TEXT, tokens)),
        ("tokenizer.ggml.token_type", _ARRAY, (_I32, types)),
        (
            "tokenizer.ggml.merges",
            _ARRAY,
            (_TEXT, [m if isinstance(m, str) else " ".join(m) for m in merges]),
        ),
        ("tokenizer.ggml.add_bos_token", _BOOL, bool(configured.get("add_bos_token", False))),
    ]
    roles = {"bos": "bos_token", "unknown": "unk_token", "padding": "pad_token"}
    named = {role: token_text(configured.get(name)) for role, name in roles.items()} | {"eos": end}
    for role, token in named.items():
        if token in tokens:
            pairs.append((f"tokenizer.ggml.{role}_token_id", _U32, tokens.index(token)))
    return pairs


def _cut(source: Mapping[str, Any], folder: Path) -> str:
    steps: Sequence[Mapping[str, Any]] = source.get("pretokenizers") or [source]
    patterns = tuple(step["pattern"].get("Regex") for step in steps if step.get("type") == "Split")
    known = next((name for name, cuts in CUTS.items() if cuts == patterns), None)
    if known is not None and patterns:
        return known
    whole = any(step.get("type") == "ByteLevel" and step.get("use_regex", True) for step in steps)
    digits = [step for step in steps if step.get("type") == "Digits"]
    if (
        whole
        and not patterns
        and len(steps) == 1 + len(digits)
        and all(d["individual_digits"] for d in digits)
    ):
        return "smollm" if digits else "gpt-2"
    raise AdapterError(
        "adapters.tokenizer", path=folder, kind=", ".join(str(step.get("type")) for step in steps)
    )


def token_text(token: Any) -> str:
    """Text of a special token as tokenizer_config.json has it: a string, or an object; empty = none."""
    return str(cast("Mapping[str, Any]", token)["content"]) if isinstance(token, dict) else str(token or "")
