"""Continued pretraining: what reading does to a model's surprise at text of the same kind.

    python benchmarks/continued.py [--effort small] [--no-record]

The text is the language reference that every Python carries (`pydoc_data.topics`, PSF licence): a tenth of its topics,
drawn by chance, is never read and measured before and after. Everything is done by the command that users have.
Appends a line to results/continued.jsonl: perplexity of the unread topics before and after, tokens, minutes, memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from pydoc_data import topics
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from http_board import save  # noqa: E402
from tuned_tasks import told  # noqa: E402


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--effort", default="small")
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    texts = sorted(topics.topics.values())
    random.Random(0).shuffle(texts)
    unread = len(texts) // 10
    with tempfile.TemporaryDirectory(prefix="baimo-continued-") as place:
        read, held_out = Path(place, "read.jsonl"), Path(place, "held_out.jsonl")
        for path, part in ((read, texts[unread:]), (held_out, texts[:unread])):
            path.write_text("".join(json.dumps({"text": one}) + "\n" for one in part), encoding="utf-8")
        workspace = Path(place, "workspace")
        ordered = ("tune", str(read), "--valid", str(held_out), "--recipe", "cpt", "--effort", given.effort)
        job = told(workspace, *ordered, "--yes")
        events = Path(workspace, "tuning", job["spec"]["id"], "events.jsonl").read_text(encoding="utf-8")
        told_of = [json.loads(line) for line in events.splitlines()]
        perplexity = {one["when"]: round(one["value"], 3) for one in told_of if one["kind"] == "measured"}
        progress = job["progress"]
        row: dict[str, Any] = {
            "effort": given.effort,
            "topics": len(texts) - unread,
            "held_out": unread,
            **perplexity,
            "ratio": round(perplexity["after"] / perplexity["before"], 4),
            "tokens": progress["tokens"],
            "minutes": round(progress["elapsed_s"] / 60, 2),
            "peak_mb": progress["memory_mb"],
            "load": round(os.getloadavg()[0], 2),
        }
    if given.no_record:
        print(json.dumps(row))
    else:
        save("continued", row)


if __name__ == "__main__":
    main()
