"""Served = trained, path by path: the same prompts through transformers + PEFT in f32 and through every form of export.

    python benchmarks/parity.py MODEL.gguf                          # 200 prompts, an adapter with random weights
    python benchmarks/parity.py MODEL.gguf --adapter FOLDER --prompts 40 --paths openvino-f16-f32 llamacpp-lora

Appends one line per path to results/parity.jsonl: token identity of the template, greatest and mean difference of
log-probabilities, greedy answers that are the same, seconds that the export took.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from baimo.core.call import Request
from baimo.core.message import Message
from baimo.providers import gguf
from baimo.providers.gguf_write import gguf_adapter
from baimo.providers.hf import hf_folder
from baimo.providers.weights import Weights
from baimo.tuning.adapters.export import merged_gguf
from baimo.tuning.parity import TOKENS, Answer, Spoken, ordinary, parity
from baimo.tuning.reference import Reference
from baimo.tuning.serving_side import EngineSide

PATHS = ("openvino-f16-f32", "openvino-f16-bf16", "openvino-q8_0-f32", "llamacpp-f16", "llamacpp-lora")
ROOMS = ("kitchen", "bedroom", "hall", "cellar", "bath", "客厅", "厨房", "Wohnzimmer", "salon", "寝室")
DEEDS = (
    "Turn on the light in the {room} at {hour}:30.",
    "把{room}的灯调到 {hour}0%。",
    "Mach im Raum {room} um {hour} Uhr das Licht aus.",
    "Allume la lumière dans {room} dans {hour} minutes.",
    "What is the temperature in the {room}?  Answer with {hour} words.",
)


def prompts(count: int) -> list[Request]:
    """Conversations: the gate's own, then orders in four languages."""
    made = [
        Request(model="", messages=(Message(role="user", content=deed.format(room=room, hour=hour)),))
        for hour in range(1, 9)
        for deed in DEEDS
        for room in ROOMS
    ]
    return [*ordinary(), *made[:: max(1, len(made) // count)]][:count]


def random_adapter(base: Path, folder: Path) -> Path:
    """A LoRA of rank 16 on every linear layer that changes answers and spoils none."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    made = get_peft_model(model, config)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.01)
    made.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


class Remembered:
    """The trainer's side, asked once for all paths."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self.ends, self.token, self.spoken = reference.ends, reference.token, reference.spoken
        self._answers: dict[int, list[Answer]] = {}
        self._tables: dict[tuple[int, ...], Any] = {}

    def answers(self, asked: Any, count: int) -> list[Answer]:
        if count not in self._answers:
            self._answers[count] = self._reference.answers(asked, count)
        return self._answers[count]

    def logprobs(self, prompt: Any, answer: Any) -> Any:
        return self._reference.logprobs(prompt, answer)


def exported(path: str, adapter: Path, base: Path, like: Path, folder: Path) -> tuple[Weights, float]:
    """The files of a path, and the seconds that they took."""
    began = time.perf_counter()
    if path == "llamacpp-lora":
        bare = gguf.converted(like, "f16", cache=folder)
        began = time.perf_counter()
        lora = gguf_adapter(adapter, like, folder / "lora.gguf")
        return Weights(path=bare, adapter=lora, beside=(lora,)), time.perf_counter() - began
    form = "q8_0" if "q8_0" in path else "f16"
    out = folder / f"{form}.gguf"
    merged_gguf(adapter, base, like, out, form)
    return Weights(path=out), time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--paths", nargs="+", default=list(PATHS), choices=PATHS)
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    base = hf_folder(given.model)
    results = Path(__file__).parent / "results" / "parity.jsonl"
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        adapter = given.adapter or random_adapter(base, folder / "adapter")
        reference = Remembered(Reference(base, adapter, threads=given.threads))
        asked = prompts(given.prompts)
        for path in given.paths:
            weights, seconds = exported(path, adapter, base, given.model, folder)
            engine = "openvino" if path.startswith("openvino") else "llamacpp"
            form = "q8_0" if "q8_0" in path else "f16"
            precision = "bf16" if path.endswith("bf16") else "f32"
            with EngineSide(weights, engine, form=form, threads=given.threads, precision=precision) as side:
                same = sum(reference.spoken(one) == Spoken(*side.spoken(one)) for one in asked)
                began = time.perf_counter()
                found = parity(reference, side, asked)
            row = {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "path": path,
                "model": given.model.name,
                "adapter": "random" if given.adapter is None else given.adapter.name,
                "prompts": len(asked),
                "tokens": TOKENS,
                "template_identical": same,
                "greedy_identical": found.identical,
                "compared": found.compared,
                "mean_difference": round(found.mean_logit_difference, 5),
                "max_difference": round(found.max_logit_difference, 4),
                "strength": None if found.strength is None else round(found.strength, 4),
                "differs": found.differs,
                "export_s": round(seconds, 2),
                "judging_s": round(time.perf_counter() - began, 1),
                "machine": {
                    "processor": platform.machine(),
                    "cores": os.cpu_count(),
                    "load": os.getloadavg()[0],
                },
            }
            print(json.dumps(row))
            with results.open("a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
