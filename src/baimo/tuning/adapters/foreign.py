"""Adapters that were trained elsewhere (LLaMA-Factory, Unsloth, TRL …): checked before anything is copied.

Prevents the failure where a folder is taken for what it is called: the base is what the user says it is, and the
adapter must fit it matrix by matrix; what its config calls its base is only shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from baimo.errors import AdapterError
from baimo.providers.peft_folder import PeftFolder
from baimo.providers.tensor_files import TensorFiles
from baimo.tuning.adapters.card import kind_of
from baimo.tuning.adapters.merge import Merged

_NAMES = {
    "unsloth": ("unsloth", "unsloth_version"),
    "llama-factory": ("llamaboard_config.yaml", "trainer_log.jsonl", "training_args.yaml"),
    "trl": ("trl",),
}


class Foreign(NamedTuple):
    """What a folder turned out to be."""

    kind: str
    """lora, full or prompt."""
    base_said: str
    """What its config calls its base."""
    lineage: dict[str, Any]
    """What is known about it."""


def imported(folder: Path, base: Path) -> Foreign:
    """Check a folder against a base.

    Args:
        folder: of PEFT, or whole weights.
        base: in Hugging Face form.

    Raises:
        AdapterError: it is no adapter, cannot be served, or belongs to another base.
    """
    kind = kind_of(folder)
    if kind is None:
        raise AdapterError("adapters.no_config", path=folder)
    if kind == "prompt":
        return Foreign(kind, "", {})
    if kind == "full":
        found = TensorFiles.of(folder)
        strangers = sorted(set(TensorFiles.of(base)) - set(found) - {"lm_head.weight"})
        if strangers:
            raise AdapterError("adapters.not_in_base", path=folder, name=strangers[0])
        return Foreign(kind, "", {"tensors": len(found)})
    adapter, tensors = PeftFolder(folder), Merged(base, folder)
    for module in adapter.updates:  # every one is computed once: sizes that do not fit are told now
        tensors[f"{module}.weight"]
    config = adapter.config
    facts = {name: config.get(name) for name in ("r", "lora_alpha", "use_rslora", "use_dora", "lora_dropout")}
    lineage = {"trained_with": _tool(folder), "base_said": adapter.base, "lora": facts}
    return Foreign(kind, adapter.base, lineage)


def _tool(folder: Path) -> str:
    """Which tool left this folder, by what it leaves beside; empty = cannot be told."""
    names = {one.name for one in folder.iterdir()}
    card = folder / "README.md"
    words = card.read_text(encoding="utf-8", errors="replace").lower() if card.is_file() else ""
    for tool, signs in _NAMES.items():
        if any(sign in names for sign in signs) or tool in words:
            return tool
    return ""
