"""What an adapter's folder says about itself: lineage.json for programs, README.md for people.

Prevents the failure of every folder called `final_v2`: nobody knows any more what it learnt from, from which weights,
and whether it answers where it is served as it did where it was trained.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from baimo.core.ids import plain
from baimo.core.tuning import Adapter, TuneJob
from baimo.providers.peft_folder import CONFIG
from baimo.text import text
from baimo.tuning.adapters.merge import is_whole
from baimo.tuning.search.served import FILE

LINEAGE = "lineage.json"
LIBRARIES = ("baimo", "torch", "transformers", "peft", "safetensors", "tokenizers", "trl")


def kind_of(folder: Path) -> Literal["lora", "full", "prompt"] | None:
    """What a folder holds; None = none of them."""
    if (folder / FILE).is_file():
        return "prompt"
    if (folder / CONFIG).is_file():
        return "lora"
    return "full" if is_whole(folder) else None


def lineage_of(job: TuneJob) -> dict[str, Any]:
    """Everything that is known about where a job's result comes from."""
    spec, progress = job.spec, job.progress
    return {
        "base": {"name": spec.base, "sha256": spec.base_hash},
        "data": {"sha256": spec.data_hash, "cleaned": plain(spec.cleaned), "task": spec.task},
        "recipe": plain(spec.recipe),
        "effort": spec.effort,
        "seed": spec.seed,
        "job": spec.id,
        "spec_hash": spec.hash,
        "figures": {} if progress is None else plain(progress),
        "machine": machine(),
        "libraries": libraries(),
    }


def machine() -> dict[str, Any]:
    """This machine, without its name."""
    return {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count() or 0}


def libraries() -> dict[str, str]:
    """Versions of what a model is computed with, as far as it is installed."""
    found: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_card(folder: Path, adapter: Adapter) -> None:
    """lineage.json and README.md, anew after every judgement."""
    (folder / LINEAGE).write_text(
        json.dumps(plain(adapter), ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    (folder / "README.md").write_text(card(adapter), encoding="utf-8", newline="\n")


def card(adapter: Adapter) -> str:
    """The model card; its head is what hubs read."""
    lineage = adapter.lineage
    base: Mapping[str, Any] = lineage.get("base") or {}
    data: Mapping[str, Any] = lineage.get("data") or {}
    library = {"lora": "peft", "full": "transformers", "prompt": "baimo"}[adapter.kind]
    head = [
        "---",
        f"base_model: {json.dumps(adapter.base)}",
        f"library_name: {library}",
        "tags: [baimo]",
        "---",
    ]
    rows = [
        ("kind", adapter.kind),
        ("status", adapter.status),
        ("base", f"{adapter.base} · sha256 {adapter.base_hash or base.get('sha256') or '–'}"),
        ("data", f"sha256 {data.get('sha256') or '–'}"),
        ("recipe", json.dumps(lineage.get("recipe") or {}, ensure_ascii=False, sort_keys=True)),
        ("seed", lineage.get("seed", "–")),
        ("job", adapter.job or "–"),
        ("machine", _listed(lineage.get("machine"))),
        ("libraries", _listed(lineage.get("libraries"))),
    ]
    lines = [*head, "", f"# {adapter.name}", "", text("adapters.card_intro"), ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {text(f'adapters.card_{name}')} | {_cell(value)} |" for name, value in rows]
    cleaned = data.get("cleaned") or ()
    lines += _section("adapters.card_cleaned", cleaned) + _section("adapters.card_figures", _pairs(lineage))
    return "\n".join([*lines, "", f"## {text('adapters.card_parity')}", "", parity_line(adapter.parity), ""])


def parity_line(parity: Mapping[str, Any] | None) -> str:
    """The gate's judgement in one sentence."""
    if not parity or "prompts" not in parity:
        return text("adapters.parity_none")
    if parity.get("differs"):
        return text("adapters.parity_differs", differs=parity["differs"], how=parity.get("how", ""))
    facts = {name: parity.get(name, 0) for name in ("prompts", "identical")}
    worst = f"{parity.get('max_logit_difference') or 0:.3f}"
    return text("adapters.parity_good", **facts, worst=worst)


def _pairs(lineage: Mapping[str, Any]) -> list[Any]:
    figures: Mapping[str, Any] = lineage.get("figures") or {}
    return [{name: value} for name, value in figures.items() if value is not None]


def _section(key: str, rows: Any) -> list[str]:
    shown = [f"- {json.dumps(row, ensure_ascii=False)}" for row in rows]
    return ["", f"## {text(key)}", "", *shown] if shown else []


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ") or "–"


def _listed(facts: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (facts or {}).items())
