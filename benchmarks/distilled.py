"""A teacher that reads a long prompt, a student that has learnt from its answers: score and money of both.

    python benchmarks/distilled.py [--hourly 0.05] [--effort small] [--no-record]

examples/smart-home, six languages. The teacher is SmolLM2-135M tuned under the prompt that explains everything, on
one half of the train rows. Of the other half only the questions are used: the teacher answers them, answers that are
no JSON are left out, and the student, the same base under the short prompt, learns from the rest. Both then answer
the held-out sentences. Everything is done by the commands that users have. Money is minutes of this machine at
`--hourly` USD. Appends a line to results/distilled.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from http_board import save  # noqa: E402
from tuned_tasks import MODEL, scored, told  # noqa: E402

EXAMPLE = HERE.parent / "examples" / "smart-home"


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hourly", type=float, default=0.05, help="USD for an hour of this machine")
    parser.add_argument("--effort", default="small", help="of both")
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="baimo-distilled-") as place:
        row = measured(Path(place), given.effort, given.hourly)
    if given.no_record:
        print(json.dumps(row, ensure_ascii=False))
    else:
        save("distilled", row)


def measured(place: Path, effort: str, hourly: float) -> dict[str, Any]:
    """Teacher, questions, student, and what the held-out sentences say of both."""
    workspace, task = place / "workspace", place / "smart-home"
    shutil.copytree(EXAMPLE, task)
    rows = [json.loads(line) for line in (task / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    groups = sorted({one["group"] for one in rows})
    taught = set(groups[::2])
    labelled = [one for one in rows if one["group"] in taught]
    asked = [one for one in rows if one["group"] not in taught]
    manifest = (task / "task.toml").read_text(encoding="utf-8")
    manifest = manifest[: manifest.index("[[candidates]]")]
    few_shot = manifest.index("[prompts.few_shot]")
    manifest = manifest[:few_shot] + manifest[manifest.index("[[prompts]]", few_shot) :]
    (task / "task.toml").write_text(manifest, encoding="utf-8")
    (task / "train.jsonl").write_text(written(labelled), encoding="utf-8")
    teacher = told(workspace, "tune", str(task), "--prompt", "explained", "--effort", effort, "--yes")

    explained = manifest.split('"""')[1].strip()
    messages = [
        {
            "messages": [
                {"role": "system", "content": "Reply with the action as JSON."},
                {"role": "user", "content": one["input"]},
            ]
        }
        for one in asked
    ]
    questions = place / "questions.jsonl"
    questions.write_text(written(messages), encoding="utf-8")
    settings = {
        "teacher": teacher["model"],
        "instruction": explained,
        "form": "json",
        "max_tokens": 48,
        "accept_terms": "true",
    }
    ordered = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    student = told(
        workspace, "tune", str(questions), "--recipe", "distill", "--effort", effort, *ordered, "--yes"
    )
    folder = Path(workspace, "tuning", student["spec"]["id"])
    figures = json.loads((folder / "distilled.json").read_text(encoding="utf-8"))

    with (task / "task.toml").open("a", encoding="utf-8") as file:
        for name, model, prompt in (
            ("base", MODEL, "explained"),
            ("teacher", teacher["model"], "explained"),
            ("student", student["model"], "short"),
        ):
            file.write(
                f"\n[[candidates]]\nname = '{name}'\nmodel = {json.dumps(model)}\nprompt = '{prompt}'\n"
            )
    found = {name: scored(workspace, task, name) for name in ("base", "teacher", "student")}
    tuning = {
        name: job["progress"]["elapsed_s"] / 60 for name, job in (("teacher", teacher), ("student", student))
    }
    return {
        "effort": effort,
        "hourly_usd": hourly,
        "labelled": len(labelled),
        "asked": figures["calls"],
        "kept": figures["kept"],
        "teacher_tokens": [figures["tokens_in"], figures["tokens_out"]],
        "asking_minutes": round(figures["asking_s"] / 60, 2),
        "tuning_minutes": {name: round(value, 2) for name, value in tuning.items()},
        **found,
        "usd_per_1000": {
            name: round(one["answer_minutes"] / 60 * hourly / one["test"] * 1000, 5)
            for name, one in found.items()
        },
        "usd_to_make": {
            "teacher": round(tuning["teacher"] / 60 * hourly, 4),
            "student": round((tuning["student"] + figures["asking_s"] / 60) / 60 * hourly, 4),
        },
        "load": round(os.getloadavg()[0], 2),
    }


def written(rows: list[dict[str, Any]]) -> str:
    """As JSON Lines."""
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows)


if __name__ == "__main__":
    main()
