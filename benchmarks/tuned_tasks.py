"""Two public tasks, from nothing to a tuned model: score, minutes and memory of every way that the product offers.

    python benchmarks/tuned_tasks.py FOLDER_OF_DATA [--tasks banking77,ha_intents] [--ways small,full]

FOLDER_OF_DATA holds banking77_{train,test}.jsonl (PolyAI-LDN/task-specific-datasets, CC BY 4.0) and
ha_intents_{train.jsonl.gz,dev.jsonl} with ha_intents_schema_and_homes.json (home-assistant/intents, CC BY 4.0). Each
becomes a task's folder: banking77 with all 77 labels and 500 test questions, ha_intents in six languages, scored as
exact JSON. Ways: the embedded model as it is under a prompt that explains everything, the recipe `prompt`, LoRA by
`--effort small` and `medium`, and all weights. Everything is done by the commands that users have; every way starts in
the same workspace, so that answers are not bought twice. Appends a line per way to results/tuned_tasks.jsonl: score
with its 95 % interval (Wilson), minutes of the job as the job tells them, peak memory, and what the forecast said.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import sqrt
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MODEL = "local/smollm2-135m-instruct"
LANGUAGES = ("en", "zh-cn", "de", "es", "fr", "ja")
TUNE: dict[str, tuple[str, ...]] = {
    "prompt": ("--recipe", "prompt", "--prompt", "explained"),
    "small": ("--effort", "small"),
    "medium": ("--effort", "medium"),
    "full": ("--set", "method=full"),
}
Rows = list[dict[str, Any]]


def lines(path: Path) -> Rows:
    """JSON Lines, gzipped or not."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def banking77(data: Path) -> tuple[str, str, str, Rows, Rows]:
    """The explaining prompt, the short one, the scorer, train and test."""
    parts = [
        [
            {"input": one["text"], "target": one["label"], "metadata": {"label": one["label"]}}
            for one in lines(data / name)
        ]
        for name in ("banking77_train.jsonl", "banking77_test.jsonl")
    ]
    labels = sorted({one["target"] for one in parts[0]})
    explained = (
        "Name the one label that fits the customer's question, and nothing else. Labels: " + ", ".join(labels)
    )
    return explained, "Name the label of the question.", '[[scorers]]\nname = "exact"\n', parts[0], parts[1]


def ha_intents(data: Path) -> tuple[str, str, str, Rows, Rows]:
    """See `banking77`."""

    def rows(name: str) -> Rows:
        return [
            {
                "input": one["sentence"],
                "target": {"intent": one["intent"], "slots": one["slots"]},
                "group": one["group"],
                "metadata": {"language": one["lang"]},
            }
            for one in lines(data / name)
            if one["lang"] in LANGUAGES
        ]

    train, dev = rows("ha_intents_train.jsonl.gz"), rows("ha_intents_dev.jsonl")
    slots: dict[str, set[str]] = defaultdict(set)
    for one in train:
        slots[one["target"]["intent"]].update(one["target"]["slots"])
    known = "; ".join(f"{intent}({', '.join(sorted(names))})" for intent, names in sorted(slots.items()))
    explained = (
        'Turn the request into {"intent": NAME, "slots": {NAME: VALUE}} and nothing else. '
        f"Intents with their slots: {known}"
    )
    return explained, "Reply with intent and slots as JSON.", '[[scorers]]\nname = "json"\n', train, dev


TASKS = {"banking77": banking77, "ha_intents": ha_intents}


def folder_of(name: str, data: Path, at: Path, tests: int, rows: int | None) -> Path:
    """The task as a folder: the test split in equal parts of every language or drawn by chance."""
    explained, short, scorer, train, test = TASKS[name](data)
    dice = random.Random(0)
    for part in (train, test):
        dice.shuffle(part)
    if "language" in test[0]["metadata"]:
        taken: Counter[str] = Counter()
        share = tests // len({one["metadata"]["language"] for one in test})
        kept: Rows = []
        for one in test:
            taken[one["metadata"]["language"]] += 1
            kept += [one] if taken[one["metadata"]["language"]] <= share else []
        test = kept
    folder = at / name
    folder.mkdir(parents=True, exist_ok=True)
    compact = "{{ target if target is string else target|tojson }}"
    (folder / "task.toml").write_text(
        f"name = {json.dumps(name)}\ndata_class = 'public'\n\n[data]\ntest = 'test.jsonl'\ntrain = 'train.jsonl'\n"
        f"\n[[prompts]]\nname = 'explained'\nsystem = {json.dumps(explained)}\nassistant = '''{compact}'''\n"
        f"[prompts.few_shot]\ncount = 6\n"
        f"\n[[prompts]]\nname = 'short'\nsystem = {json.dumps(short)}\nassistant = '''{compact}'''\n"
        f"\n{scorer}\n[sampling]\ntemperature = 0\nmax_tokens = 64\n"
        f"\n[[candidates]]\nname = 'zero-shot'\nmodel = {json.dumps(MODEL)}\nprompt = 'explained'\nfew_shot = 0\n",
        encoding="utf-8",
    )
    for file, part in (("train.jsonl", train[:rows]), ("test.jsonl", test[:tests])):
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in part)
        (folder / file).write_text(text, encoding="utf-8")
    return folder


def told(workspace: Path, *arguments: str) -> Any:
    """What a command of the product answers as JSON."""
    command = [sys.executable, "-m", "baimo", "-w", str(workspace), *arguments, "--json", "--quiet"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}")
    return json.loads(done.stdout)


def wilson(right: float, count: int) -> list[float]:
    """95 % interval of a share (Wilson 1927)."""
    z, p = 1.96, right / count
    middle, half = p + z * z / (2 * count), z * sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return [round((middle + sign * half) / (1 + z * z / count), 4) for sign in (-1, 1)]


def scored(workspace: Path, task: Path, candidate: str) -> Mapping[str, Any]:
    """Score of a candidate on the whole test split."""
    verdict = told(workspace, "compare", str(task), "--only", candidate, "--exhaustive")
    standing = verdict["standings"][0]
    by = {
        one["value"]: round(one["means"][standing["candidate"]]["score"], 4)
        for part in verdict["slices"]
        if part["name"] == "language"
        for one in part["values"]
    }
    score, count = standing["score"], standing["judged"]
    return {
        "score": round(score, 4),
        "interval": wilson(score * count, count),
        "test": count,
        "malformed": standing["malformed"],
        "by_language": by,
        "answer_minutes": round(verdict["minutes"], 2),
    }


def way_of(way: str, workspace: Path, task: Path, extra: Sequence[str]) -> dict[str, Any]:
    """One way of doing the task, from the command to the score."""
    if way == "zero-shot":
        return {"minutes": 0.0, **scored(workspace, task, way)}
    asked = TUNE[way] if way == "prompt" else (*TUNE[way], "--prompt", "short", *extra)
    began = time.monotonic()
    job = told(workspace, "tune", str(task), *asked, "--yes")
    minutes = (time.monotonic() - began) / 60
    facts = {name: job.get(name) for name in ("forecast", "progress", "model")}
    progress, forecast = facts["progress"] or {}, facts["forecast"] or {}
    model, prompt = job["model"], "short"
    if way == "prompt":
        model = MODEL
        prompt = str(next(Path(workspace, "tuning", job["spec"]["id"]).rglob("prompt.toml")))
    with (task / "task.toml").open("a", encoding="utf-8") as file:
        words = {"name": way, "model": model, "prompt": prompt}
        file.write(
            "\n[[candidates]]\n" + "".join(f"{key} = {json.dumps(word)}\n" for key, word in words.items())
        )
    return {
        "minutes": round(minutes, 2),
        "steps": progress.get("step"),
        "examples": progress.get("examples"),
        "loss": progress.get("loss"),
        "peak_mb": progress.get("memory_mb"),
        "forecast_minutes": forecast.get("minutes"),
        "forecast_mb": forecast.get("memory_mb"),
        **scored(workspace, task, way),
    }


def main() -> None:
    """Measure and append."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--tasks", default="banking77,ha_intents")
    parser.add_argument("--ways", default="zero-shot,prompt,small,medium,full")
    parser.add_argument("--tests", type=int, default=500)
    parser.add_argument("--rows", type=int, default=None, help="of the train split; all by default")
    parser.add_argument(
        "--set", action="append", default=[], help="of every tuning job, as `baimo tune --set`"
    )
    arguments = parser.parse_args()
    extra = [word for one in arguments.set for word in ("--set", one)]
    with tempfile.TemporaryDirectory(prefix="baimo-tuned-") as place:
        for name in arguments.tasks.split(","):
            task = folder_of(name, arguments.data, Path(place), arguments.tests, arguments.rows)
            for way in arguments.ways.split(","):
                found = way_of(way, Path(place, "workspace"), task, extra)
                line = {
                    "task": name,
                    "way": way,
                    "rows": arguments.rows,
                    "set": arguments.set,
                    **found,
                    **machine(),
                }
                print(json.dumps(line), flush=True)
                with (HERE / "results" / "tuned_tasks.jsonl").open("a", encoding="utf-8") as out:
                    out.write(json.dumps(line) + "\n")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M"),
    }


if __name__ == "__main__":
    main()
