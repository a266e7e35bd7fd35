"""Small task folders and settings for the command line's tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROWS = [{"id": f"q{n}", "input": f"{n} + {n}", "target": str(2 * n)} for n in range(1, 7)]
TASK = 'name = "sums"\n[data]\ntest = "test.jsonl"\n[[scorers]]\nname = "exact"\n'


def task(
    folder: Path,
    *,
    rows: Sequence[dict[str, Any]] = ROWS,
    manifest: str = TASK,
    lines: str | bytes | None = None,
) -> str:
    """Write a task into `folder`/sums; `lines` replaces the file of examples."""
    place = folder / "sums"
    place.mkdir()
    (place / "task.toml").write_text(manifest, encoding="utf-8")
    source = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows) if lines is None else lines
    data = source.encode() if isinstance(source, str) else source
    (place / "test.jsonl").write_bytes(data)
    return "sums"


def config(folder: Path, source: str) -> None:
    """Write `folder`/baimo.toml."""
    (folder / "baimo.toml").write_text(source, encoding="utf-8")


def two_models(folder: Path) -> list[str]:
    """A provider that knows every answer and one that always says 2; gives the options that compare them."""
    table = json.dumps({row["input"]: row["target"] for row in ROWS}).replace('":', '" =')
    config(
        folder,
        f'[providers.knows]\nprotocol = "fake"\ninside = true\noptions.table = {table}\n'
        '[providers.guesses]\nprotocol = "fake"\ninside = true\noptions.constant = "2"\n'
        '[models."knows/m"]\ninput_per_million = 1\noutput_per_million = 2\n'
        '[models."guesses/m"]\ninput_per_million = 1\noutput_per_million = 2\n',
    )
    return ["--model", "knows/m", "--model", "guesses/m"]
