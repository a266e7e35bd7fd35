"""A LoRA adapter as PEFT keeps it, understood: which matrices it changes, and by how much.

Prevents the failure that no engine reports: an adapter that is read wrongly (its scale taken as alpha / r where it
was trained with alpha / √r, a part that is left out because its name is unusual) answers fluently, and differently
from what was trained. What cannot be understood completely is refused by name.

The form: https://huggingface.co/docs/peft/developer_guides/checkpoint
LoRA: arXiv 2106.09685; rank-stabilised scale: arXiv 2312.03732; DoRA: arXiv 2402.09353.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from baimo.errors import AdapterError
from baimo.providers.tensor_files import TensorFiles

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_PREFIX = "base_model.model."
_PART = re.compile(
    r"(?P<module>.+)\.(?:(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(?:\.default)?(?:\.weight)?)"
)
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin that also change the base's weights: the adapter alone does not say to what."""
_UNKNOWN_PARTS = (
    "layer_replication",
    "target_parameters",
    "alora_invocation_tokens",
    "trainable_token_indices",
)


@dataclass(slots=True, kw_only=True)
class Update:
    """What one matrix of the base gets: W + scale · B · A, and with DoRA the length of its rows set."""

    module: str
    """As the base names it: model.layers.0.self_attn.q_proj"""
    embedding: bool = False
    """A is [rank, vocabulary], not [rank, inputs]."""
    alpha: float = 0.0
    """What the scale is made of."""
    rank_stabilised: bool = False
    """scale = alpha / √rank."""
    parts: dict[str, str] = field(default_factory=dict[str, str])
    """A, B, magnitude → name of the tensor in the file."""
    rank: int = 0
    """Rows of A."""

    @property
    def scale(self) -> float:
        """Factor of B · A."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilised else self.rank)


class PeftFolder:
    """A folder with adapter_config.json and adapter_model.safetensors.

    Raises:
        AdapterError: something of it is missing, is not LoRA, or means what cannot be followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.config: Mapping[str, Any] = json.loads((path / CONFIG).read_bytes())
        except FileNotFoundError:
            raise AdapterError("adapters.no_config", path=path) from None
        except ValueError as error:
            raise AdapterError("adapters.bad_config", path=path / CONFIG, problem=error) from error
        self._refuse_unknown()
        if not (path / WEIGHTS).is_file():
            key = "adapters.pickled" if (path / PICKLED).is_file() else "adapters.no_weights"
            raise AdapterError(key, path=path, file=WEIGHTS)
        self.tensors = TensorFiles(path / WEIGHTS)

    @property
    def base(self) -> str:
        """What the config calls its base: a hub's name, or a path of the machine that trained it."""
        return str(self.config.get("base_model_name_or_path") or "")

    @property
    def dora(self) -> bool:
        """Whether rows have lengths of their own."""
        return bool(self.config.get("use_dora"))

    @cached_property
    def updates(self) -> dict[str, Update]:
        """What changes, by module."""
        return self._sorted[0]

    @cached_property
    def saved(self) -> dict[str, str]:
        """Tensors that take the place of the base's (modules_to_save): name in the base → name in the file."""
        return self._sorted[1]

    def arrays(self, update: Update) -> dict[str, Any]:
        """A, B and magnitude of an update, float32."""
        return {part: self.tensors[name].astype("float32") for part, name in update.parts.items()}

    @cached_property
    def _sorted(self) -> tuple[dict[str, Update], dict[str, str]]:
        updates: dict[str, Update] = {}
        saved: dict[str, str] = {}
        for name in self.tensors:
            plain = name.removeprefix(_PREFIX)
            match = _PART.fullmatch(plain)
            if match is None:
                if ".lora_" in plain or plain.endswith(".bias"):
                    raise AdapterError("adapters.unknown_part", path=self.path, name=name)
                saved[re.sub(r"\.(?:modules_to_save(?:\.default)?|original_module)\.", ".", plain)] = name
                continue
            module, part = match["module"], match["part"]
            update = updates.setdefault(module, self._update(module))
            update.embedding = update.embedding or "embedding" in part
            if part.endswith("_A"):
                update.rank = self.tensors.placed(name).shape[0]
            role = "magnitude" if part == "lora_magnitude_vector" else part[-1]
            update.parts[role] = name
        for update in updates.values():
            wanted = {"A", "B", "magnitude"} if self.dora else {"A", "B"}
            if set(update.parts) != wanted:
                raise AdapterError("adapters.half_part", path=self.path, name=update.module)
        if not updates and not saved:
            raise AdapterError("adapters.no_weights", path=self.path, file=WEIGHTS)
        return updates, saved

    def _update(self, module: str) -> Update:
        patterns: Mapping[str, float] = self.config.get("alpha_pattern") or {}
        # as PEFT's get_pattern_key: a pattern fits the end of the name
        found = (key for key in patterns if re.match(rf"(.*\.)?({key})$", module))
        key = next(found, None)
        alpha = float(self.config["lora_alpha"] if key is None else patterns[key])
        return Update(module=module, alpha=alpha, rank_stabilised=bool(self.config.get("use_rslora")))

    def _refuse_unknown(self) -> None:
        kind = self.config.get("peft_type")
        if kind != "LORA":
            raise AdapterError("adapters.not_lora", path=self.path, kind=kind)
        begun = str(self.config.get("init_lora_weights", "")).lower()
        if begun.startswith(_CHANGES_BASE):
            raise AdapterError("adapters.changes_base", path=self.path, init=begun)
        bias = str(self.config.get("bias") or "none")
        if bias != "none" or self.config.get("lora_bias"):
            raise AdapterError("adapters.has_bias", path=self.path, bias=bias)
        unknown = [name for name in _UNKNOWN_PARTS if self.config.get(name)]
        if unknown:
            raise AdapterError("adapters.unknown_option", path=self.path, option=", ".join(unknown))
        if "lora_alpha" not in self.config:
            raise AdapterError("adapters.bad_config", path=self.path / CONFIG, problem="lora_alpha")
