"""What can be said about models that run in this process."""

from __future__ import annotations

import dataclasses
import difflib
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from baimo.errors import ConfigError

ENGINES = ("openvino", "llamacpp")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """[providers.NAME.options] of protocol `local`."""

    engine: str = "auto"
    """openvino, llamacpp, or auto: openvino where it runs, llamacpp for the rest."""
    precision: str = "bf16"
    """Of OpenVINO's computation: bf16, f16 or f32 (half the speed, for comparisons with training)."""
    weights_format: str = "f16"
    """What OpenVINO's copy of the weights is kept in: f16 or q8_0 (half the memory, slightly other answers)."""
    threads: int = 0
    """0 = all cores."""
    max_batch: int = 0
    """Requests computed together; 0 = 64 on openvino, 4 on llamacpp."""
    max_waiting: int = 4096
    """Requests that may wait for a slot; more are turned away with RateLimited."""
    context: int = 8192
    """Tokens of prompt and answer together, at most what the model was made for."""
    cache_gib: int = 0
    """OpenVINO's KV cache; 0 = by model and context, 1 to 8."""
    adapters: str = "merged"
    """How tuned models answer: merged (weights of their own, fastest) or lora (llama.cpp puts what was learnt on the
    base, which all of them share)."""
    most_tuned: int = 8
    """Tuned models in memory at once; the one unused for longest makes room."""
    cache: str = ""
    """Folder of converted weights; empty = `.converted` beside the model, or the user's cache."""

    def __post_init__(self) -> None:
        allowed = {
            "engine": ("auto", *ENGINES),
            "precision": ("bf16", "f16", "f32"),
            "weights_format": ("f16", "q8_0"),
            "adapters": ("merged", "lora"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ConfigError(
                    "local.bad_value", option=name, value=getattr(self, name), allowed=", ".join(values)
                )

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> LocalOptions:
        """Options as configured.

        Raises:
            ConfigError: an unknown name or an ill-typed value.
        """
        known: dict[str, type[Any]] = {entry.name: type(entry.default) for entry in dataclasses.fields(cls)}
        for name, value in options.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise ConfigError("local.unknown_option", option=name, near=", ".join(near or known))
            if type(value) is not known[name] or (isinstance(value, int) and value < 0):
                raise ConfigError("local.bad_value", option=name, value=value, allowed=known[name].__name__)
        return cls(**options)

    @property
    def tuned_form(self) -> str:
        """merged or lora.

        Raises:
            ConfigError: openvino is wanted, which takes no adapter per request.
        """
        if self.adapters == "lora" and self.engine == "openvino":
            raise ConfigError("local.lora_engine")
        return self.adapters

    @property
    def preferred(self) -> str:
        """The engine for ordinary requests on this machine."""
        if self.engine != "auto":
            return self.engine
        x86 = platform.machine().lower() in ("x86_64", "amd64")
        return "openvino" if x86 and sys.platform in ("linux", "win32") else "llamacpp"
