"""What dpo and grpo add to a small supervised model, on sentences that it has not seen.

    python benchmarks/preference.py MODEL.gguf              # both, from the same start; minutes on two cores
    python benchmarks/preference.py MODEL.gguf --only grpo --steps 40 --folder /tmp/jobs

Data: examples/smart-home, the languages in --languages, with a system prompt of one line. The start is a short `sft` of
all weights of the upper half of SmolLM2-135M. `dpo` then learns from pairs of the right action written without spaces
and the same as the start was taught to write it: a preference of style, which must not cost right answers. `grpo`
learns from a reward: half for the share of the four fields that are right, half for all of them, nothing where the
answer is no JSON object. Measured on the test rows, whose sentence patterns are not in the train rows, greedily,
before and after: share of exactly right actions, of right fields, of JSON objects, of those without spaces, and the
mean reward of four answers drawn at temperature 1; for dpo also the share of held-out pairs whose chosen answer is
the likelier one. The interval of a gain is 95 % of a paired bootstrap over the rows' groups (10,000 resamples).
Appends one line per recipe to results/preference.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch

from baimo.core.message import Message
from baimo.core.registry import Spec
from baimo.core.tuning import Row, TuneSpec
from baimo.providers.hf import hf_folder
from baimo.tuning.bench import Bench
from baimo.tuning.fit import base as bases
from baimo.tuning.fit.base import LoadedBase
from baimo.tuning.fit.rollout import Sampling, rollouts
from baimo.tuning.folder import JobFolder
from baimo.tuning.recipes import dpo, grpo, sft

ROOT = Path(__file__).parent
DATA = ROOT.parent / "examples" / "smart-home"
RESULTS = ROOT / "results" / "preference.jsonl"
SYSTEM = "Answer with one JSON object: device, action, room, value."
FIELDS = ("device", "action", "room", "value")
LONGEST = 48


class Scores(NamedTuple):
    """What the model said to the test rows, one figure a row."""

    exact: np.ndarray
    fields: np.ndarray
    json: np.ndarray
    compact: np.ndarray
    sampled: np.ndarray
    """Mean reward of four answers drawn at temperature 1: what grpo makes larger."""
    seconds: float


def rows_of(name: str, languages: Sequence[str]) -> list[Row]:
    """Rows of examples/smart-home, each with the right answer as its last turn."""
    lines = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        Row(
            messages=(
                Message(role="system", content=SYSTEM),
                Message(role="user", content=line["input"]),
                Message(role="assistant", content=json.dumps(line["target"])),
            ),
            item={"target": line["target"]},
            group=line["group"],
        )
        for line in lines
        if line["metadata"]["language"] in languages
    ]


def parsed(said: str) -> Mapping[str, Any] | None:
    """The JSON object that an answer is."""
    try:
        found = json.loads(said)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def right(row: Row, said: str) -> tuple[float, float, float, float]:
    """Exactly right, share of right fields, JSON at all, JSON without spaces."""
    found, target = parsed(said), row.item["target"]
    if found is None:
        return 0.0, 0.0, 0.0, 0.0
    fields = sum(field in found and found[field] == target[field] for field in FIELDS) / len(FIELDS)
    style = json.dumps(found, separators=(",", ":"), ensure_ascii=False) == said.strip()
    return float(found == target), fields, 1.0, float(style)


def reward(row: Row, said: str) -> float:
    """What grpo learns from."""
    exact, fields, *_ = right(row, said)
    return (exact + fields) / 2


def prompt_of(base: LoadedBase, row: Row) -> list[int]:
    return base.dialect.prompt_ids(replace(row, messages=row.messages[:-1]))


def said_by(base: LoadedBase, rows: Sequence[Row], group: int, temperature: float) -> list[list[str]]:
    """`group` answers to each row."""
    sampling = Sampling(stops=frozenset(base.dialect.ends), longest=LONGEST, temperature=temperature)
    found = rollouts(base, [prompt_of(base, row) for row in rows], group, sampling, seed=11)
    texts = [base.dialect.decoded(each.ids) for each in found]
    return [texts[start : start + group] for start in range(0, len(texts), group)]


def scores(base: LoadedBase, rows: Sequence[Row]) -> Scores:
    """Greedy answers to the rows, judged."""
    began = time.monotonic()
    said = said_by(base, rows, 1, 0.0)
    judged = np.array([right(row, each[0]) for row, each in zip(rows, said, strict=True)])
    drawn = said_by(base, rows, 4, 1.0)
    sampled = np.array(
        [np.mean([reward(row, each) for each in four]) for row, four in zip(rows, drawn, strict=True)]
    )
    return Scores(*judged.T, sampled, time.monotonic() - began)


def interval(
    before: np.ndarray, after: np.ndarray, groups: Sequence[str | None], seed: int = 3
) -> list[float]:
    """95 % of the mean difference, by bootstrap over groups: sentences of one pattern are not independent."""
    names = sorted({str(group) for group in groups})
    of = np.array([names.index(str(group)) for group in groups])
    sums = np.bincount(of, after - before, len(names))
    counts = np.bincount(of, minlength=len(names))
    drawn = np.random.default_rng(seed).integers(0, len(names), (10_000, len(names)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return [round(float(each), 4) for each in np.quantile(means, [0.025, 0.975])]


def job(folder: Path, recipe: str, base: Path, rows: Sequence[Row], options: argparse.Namespace) -> Bench:
    """A job's folder on the bench."""
    place = JobFolder(folder)
    spec = TuneSpec(id=f"ftjob-{recipe}", recipe=Spec(name=recipe), base=str(base), seed=options.seed)
    place.write(spec, rows)
    return Bench(
        folder=place, base=base, rewards={"task": reward}, device=options.device, threads=options.threads
    )


def opened(folder: Path, adapter: Path | None, options: argparse.Namespace) -> LoadedBase:
    """A model to be asked, with an adapter or without."""
    place = bases.device(options.device)
    base = bases.opened(folder, place, bases.precision(options.precision) or bases.best_dtype(place))
    if adapter is not None:
        import peft

        warnings.filterwarnings(
            "ignore", category=FutureWarning
        )  # peft reads a name that transformers renames
        base.peft = peft.PeftModel.from_pretrained(base.model, adapter)
    return base


def started(folder: Path, options: argparse.Namespace, rows: Sequence[Row]) -> Path:
    """The supervised start, made once for a folder."""
    if not (folder / "sft" / "adapter").is_dir():
        bench = job(folder / "sft", "sft", hf_folder(Path(options.model)), rows, options)
        settings = sft.Settings(
            method="full",
            upper=0.5,
            learning_rate=2e-4,
            batch_size=16,
            n_epochs=options.start_steps * 16 / len(rows),
            precision=options.precision,
        )
        sft.run(bench, settings)
    return folder / "sft" / "adapter"


def compact(row: Row) -> str:
    """The right action without the spaces that the start was taught."""
    return json.dumps(row.item["target"], separators=(",", ":"))


def style_pairs(rows: Sequence[Row]) -> list[Row]:
    """The right action without spaces against the same with spaces: what differs is style alone."""
    return [
        replace(
            row,
            messages=(*row.messages[:-1], Message(role="assistant", content=compact(row))),
            rejected=row.messages[-1:],
        )
        for row in rows
    ]


def preferred(base: LoadedBase, pairs: Sequence[Row]) -> np.ndarray:
    """Whether the right answer of each pair is the likelier one."""
    rows = [dpo.compared(base.dialect, row, at) for at, row in enumerate(pairs)]
    found = np.zeros(len(rows))
    with torch.no_grad():
        for part in dpo.cut(rows, 2048):
            both = dpo.said(base, part).reshape(-1, 2)
            found[[pair.chosen.row for pair in part]] = (both[:, 0] > both[:, 1]).cpu().numpy()
    return found


def learn_dpo(
    folder: Path, start: Path, train: Sequence[Row], test: Sequence[Row], options: argparse.Namespace
) -> dict[str, Any]:
    base = opened(start, None, options)
    pairs, held_out = style_pairs(train[: options.steps * 8]), style_pairs(test)
    before, likelier = scores(base, test), preferred(base, held_out)
    bench = job(folder / "dpo", "dpo", start, pairs, options)
    settings = dpo.Settings(
        beta=0.1, likelihood=0.2, batch_size=8, n_epochs=1, learning_rate=5e-4, precision=options.precision
    )
    began = time.monotonic()
    dpo.run(bench, settings)
    seconds = time.monotonic() - began
    base = opened(start, bench.folder.adapter, options)
    found = summary("dpo", before, scores(base, test), test, settings, bench.folder, seconds)
    after = preferred(base, held_out)
    found["pairs"] = {"train": len(pairs), "held_out": len(held_out)}
    found["measures"]["preferred"] = measure(likelier, after, [row.group for row in held_out])
    return found


def learn_grpo(
    folder: Path, start: Path, train: Sequence[Row], test: Sequence[Row], options: argparse.Namespace
) -> dict[str, Any]:
    before = scores(opened(start, None, options), test)
    bench = job(folder / "grpo", "grpo", start, train, options)
    settings = grpo.Settings(
        answers=8,
        batch_size=options.batch,
        longest_answer=LONGEST,
        learning_rate=options.rate,
        max_steps=options.steps,
        upper=0.5,
        precision=options.precision,
    )
    began = time.monotonic()
    grpo.run(bench, settings)
    seconds = time.monotonic() - began
    base = opened(start, bench.folder.adapter, options)
    found = summary("grpo", before, scores(base, test), test, settings, bench.folder, seconds)
    events = [event for _, event in bench.folder.events() if event["kind"] == "answers"]
    tenth = max(1, len(events) // 5)
    for name, some in (("first", events[:tenth]), ("last", events[-tenth:])):
        found[f"reward_{name}_fifth"] = round(sum(event["reward"] for event in some) / tenth, 4)
    return found


def measure(before: np.ndarray, after: np.ndarray, groups: Sequence[str | None]) -> dict[str, Any]:
    return {
        "before": round(float(before.mean()), 4),
        "after": round(float(after.mean()), 4),
        "gain_95": interval(before, after, groups),
    }


def summary(
    recipe: str,
    before: Scores,
    after: Scores,
    test: Sequence[Row],
    settings: Any,
    folder: JobFolder,
    seconds: float,
) -> dict[str, Any]:
    """What is recorded of one recipe."""
    progress = [event["progress"] for _, event in folder.events() if event["kind"] == "progress"]
    groups = [row.group for row in test]
    names = ("exact", "fields", "json", "compact", "sampled")
    return {
        "benchmark": "preference",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": recipe,
        "measures": {name: measure(getattr(before, name), getattr(after, name), groups) for name in names},
        "rows": len(test),
        "minutes": round(seconds / 60, 2),
        "steps": len(progress),
        "memory_mb": progress[-1]["memory_mb"],
        "settings": msgspec.to_builtins(settings),
    }


def machine() -> dict[str, Any]:
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "commit": git.stdout.strip(),
        "cores": os.cpu_count(),
        "load": [round(each, 1) for each in os.getloadavg()],
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Learn, measure, print, record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="SmolLM2-135M-Instruct as GGUF, or a folder in Hugging Face form")
    parser.add_argument("--only", default="dpo,grpo")
    parser.add_argument("--languages", default="en,de,es,fr")
    parser.add_argument("--start-steps", type=int, default=60)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument(
        "--batch", type=int, default=8, help="prompts of a step of grpo, each answered 8 times"
    )
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate of grpo")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--folder", type=Path, help="keep the jobs here, and take the start from here")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or os.cpu_count() or 1)
    languages = options.languages.split(",")
    train, test = rows_of("train", languages), rows_of("test", languages)
    random.Random(options.seed).shuffle(train)
    with tempfile.TemporaryDirectory() as kept:
        folder = options.folder or Path(kept)
        began = time.monotonic()
        start = started(folder, options, train)
        print(f"start: {time.monotonic() - began:.0f} s")
        recipes = {"dpo": learn_dpo, "grpo": learn_grpo}
        for name in options.only.split(","):
            found = recipes[name](folder, start, train, test, options)
            found |= {"languages": languages, "start_steps": options.start_steps, "machine": machine()}
            print(f"{name}: {found['steps']} steps, {found['minutes']} minutes, {found['rows']} test rows")
            for measured, each in found["measures"].items():
                low, high = (f"{100 * side:+.1f}" for side in each["gain_95"])
                shares = f"{100 * each['before']:5.1f} → {100 * each['after']:5.1f} %"
                print(f"  {measured:10} {shares}   gain {low} … {high} points (95 %)")
            if not options.no_record:
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
