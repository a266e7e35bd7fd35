"""The figures of a job as a file, in OpenAI's columns.

OpenAI hands these files out base64-coded, and clients decode them; so do ours.
Source: developers.openai.com/api/docs/guides/supervised-fine-tuning.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from baimo.core.tuning import TuneJob
from baimo.store.files import UNFINISHED, Files, Incoming
from baimo.tuning.folder import JobFolder

PURPOSE = "fine-tune-results"
NAME = "step_metrics.csv"
COLUMNS: Mapping[str, str] = {
    "step": "step",
    "train_loss": "loss",
    "train_accuracy": "accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_accuracy",
}
"""Column → field of `TuneProgress`."""


def results(events: Iterable[Mapping[str, Any]]) -> str:
    """Every step once, the last time that it was told: a resumed job tells some again."""
    steps: dict[int, dict[str, Any]] = {}
    for event in events:
        if event.get("kind") == "progress":
            figures = event["progress"]
            told = {name: value for name, value in figures.items() if value is not None}
            step = int(figures["step"])
            steps[step] = {**steps.get(step, {}), **told}
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for step in sorted(steps):
        writer.writerow([_shown(steps[step].get(field)) for field in COLUMNS.values()])
    return out.getvalue()


def results_kept(files: Files, folder: JobFolder, job: TuneJob) -> str:
    """Enter the figures as a file; its id, which follows from the job's.

    Raises:
        StoreError: it cannot be kept.
    """
    data = base64.b64encode(results(line for _, line in folder.events()).encode())
    id = f"file-{job.spec.id.partition('-')[2]}"
    path = files.path(job.spec.tenant, id)
    with suppress(FileNotFoundError):  # of a process that died over it
        path.with_name(path.name + UNFINISHED).unlink()
    incoming = Incoming(path, len(data))
    try:
        incoming.write(data)
        incoming.finish()
    finally:
        incoming.abandon()
    made = files.enter(
        id,
        tenant=job.spec.tenant,
        key=job.key,
        name=NAME,
        purpose=PURPOSE,
        size=incoming.size,
        sha256=incoming.sha256.hexdigest(),
        lives_s=None,
    )
    return made.id


def _shown(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.5f}" if isinstance(value, float) else value
