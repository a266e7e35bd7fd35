"""CPU time of a step of dpo and of grpo, ours beside TRL's trainers: same start, rows, adapter, answers and rewards.

    python benchmarks/preference_trl.py START --engine baimo --recipe grpo
    python benchmarks/preference_trl.py START --engine trl --recipe grpo     # where trl and datasets are installed

START is a model in Hugging Face form, e.g. the start that `preference.py --folder` leaves in sft/adapter. One thread,
and time of the processor, not of the clock: a machine that others use too changes it little. The first step is not
counted. TRL gets what makes it fastest here: bf16 weights, no checkpointing of gradients, the reference computed before
(dpo), no divergence (grpo), the loss of Dr. GRPO as ours. Appends a line to results/preference.jsonl.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from preference import LONGEST, RESULTS, job, machine, reward, rows_of

from baimo.core.message import Message
from baimo.core.tuning import Row
from baimo.tuning.folder import JobFolder

RANK, ALPHA, RATE = 16, 32, 3e-4


class Clock:
    """Time of the processor at the end of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def step(self) -> None:
        self.ends.append(time.process_time())

    @property
    def a_step(self) -> float:
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


class Timed(JobFolder):
    """A job's folder that looks at the clock when a step is told."""

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(path)
        self.clock = clock

    def tell(self, kind: str, **facts: Any) -> None:
        super().tell(kind, **facts)
        if kind == "progress":
            self.clock.step()


def pairs_of(rows: Sequence[Row]) -> list[Row]:
    """Each row's action against another row's."""
    turned = [*rows[1:], rows[0]]
    return [
        replace(row, rejected=other.messages[-1:])
        for row, other in zip(rows, turned, strict=True)
        if row.messages[-1] != other.messages[-1]
    ]


def ours(recipe: str, rows: Sequence[Row], options: argparse.Namespace, folder: Path) -> Clock:
    from baimo.tuning.recipes import dpo, grpo

    clock = Clock()
    common = {"batch_size": options.batch, "rank": RANK, "alpha": ALPHA, "max_steps": options.steps}
    bench = replace(
        job(folder, recipe, Path(options.start), rows, options), folder=Timed(folder, clock), threads=1
    )
    if recipe == "grpo":
        grpo.run(bench, grpo.Settings(answers=8, longest_answer=LONGEST, learning_rate=RATE, **common))
    else:
        dpo.run(bench, dpo.Settings(learning_rate=RATE, **common))
    return clock


def spoken(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def theirs(recipe: str, rows: Sequence[Row], options: argparse.Namespace, folder: Path) -> Clock:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer

    torch.set_num_threads(1)
    clock = Clock()

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step()

    common = {
        "output_dir": str(folder),
        "max_steps": options.steps,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "bf16": False,  # the weights are bf16 already: casting again is slower
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    given: dict[str, Any] = {
        "model": AutoModelForCausalLM.from_pretrained(options.start, dtype=torch.bfloat16),
        "processing_class": AutoTokenizer.from_pretrained(options.start),
        "peft_config": LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        "callbacks": [Watch()],
    }
    if recipe == "grpo":
        data = [
            {"prompt": spoken(row.messages[:-1]), "target": json.dumps(row.item["target"])} for row in rows
        ]

        def judged(completions: list[Any], target: list[str], **_: Any) -> list[float]:
            return [
                reward(Row(item={"target": json.loads(wanted)}), said[0]["content"])
                for said, wanted in zip(completions, target, strict=True)
            ]

        config = GRPOConfig(
            per_device_train_batch_size=options.batch * 8,
            num_generations=8,
            max_completion_length=LONGEST,
            beta=0.0,
            loss_type="dr_grpo",
            scale_rewards="none",
            **common,
        )
        GRPOTrainer(args=config, reward_funcs=judged, train_dataset=Dataset.from_list(data), **given).train()
    else:
        data = [
            {
                "prompt": spoken(row.messages[:-1]),
                "chosen": spoken(row.messages[-1:]),
                "rejected": spoken(row.rejected),
            }
            for row in rows
        ]
        config = DPOConfig(
            per_device_train_batch_size=options.batch, precompute_ref_log_probs=True, beta=0.1, **common
        )
        DPOTrainer(args=config, train_dataset=Dataset.from_list(data), **given).train()
    return clock


def main() -> None:
    """Learn a few steps, print, record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("start")
    parser.add_argument("--engine", choices=("baimo", "trl"), required=True)
    parser.add_argument("--recipe", choices=("dpo", "grpo"), required=True)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4, help="prompts, or pairs, of a step")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    rows = rows_of("train", ["en", "de", "es", "fr"])
    random.Random(options.seed).shuffle(rows)
    rows = rows[: options.rows]
    rows = pairs_of(rows) if options.recipe == "dpo" else rows
    with tempfile.TemporaryDirectory() as kept:
        run = ours if options.engine == "baimo" else theirs
        clock = run(options.recipe, rows, options, Path(kept))
    found = {
        "benchmark": "preference_trl",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "engine": options.engine,
        "recipe": options.recipe,
        "cpu_s_a_step": round(clock.a_step, 3),
        "steps": len(clock.ends) - 1,
        "batch": options.batch,
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
        "machine": machine(),
    }
    print(json.dumps(found))
    if not options.no_record:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
