"""What can be known of a job before it starts: sizes of data, base and machine."""

from __future__ import annotations

import itertools
import json
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from baimo.core.tuning import Row
from baimo.tuning.bench import Facts
from baimo.tuning.fit.encode import Dialect, dialect, encoded, shared

MIB = 2**20


def facts(
    base: Path | None, rows: Sequence[Row], *, device: str = "cpu", cores: int = 0, memory_mb: float = 0.0
) -> Facts:
    """Facts of a job.

    Args:
        base: in Hugging Face form; None = it is not here (a model behind an API), and tokens are not counted.
        rows: to learn from.
        device: cpu, cuda, cuda:1 …
        cores: threads that the job may use; 0 = all.
        memory_mb: that it may use; 0 = what is free.
    """
    machine: dict[str, Any] = {
        "cores": cores or os.cpu_count() or 1,
        "memory_mb": memory_mb or free_memory_mb(),
        "device": device,
    }
    if base is None:
        return Facts(rows=len(rows), tokens=0, longest=0, **machine)
    words = dialect(base)
    read = [_lengths(words, row) for row in rows]
    lengths = [tokens for tokens, _ in read]
    about = json.loads((base / "config.json").read_bytes())
    return Facts(
        rows=len(rows),
        tokens=sum(lengths),
        longest=max(lengths, default=0),
        trained_tokens=sum(trained for _, trained in read),
        shared=_shared(words, rows),
        parameters=parameters(base),
        layers=int(about.get("num_hidden_layers") or 0),
        window=words.window,
        **machine,
    )


def parameters(base: Path) -> int:
    """Weights of a model in Hugging Face form, read from the heads of its files.

    Source: huggingface.co/docs/safetensors, "Format": 8 bytes of length, then JSON with each tensor's shape.
    """
    total = 0
    for path in base.glob("*.safetensors"):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            head = json.loads(file.read(length))
        for name, tensor in head.items():
            if name != "__metadata__":
                count = 1
                for size in tensor["shape"]:
                    count *= int(size)
                total += count
    return total


def free_memory_mb() -> float:
    """Memory that a process may still take here, MiB; 0 = the system does not say."""
    found: list[float] = []
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) / 1024)
    with suppress(OSError, ValueError):  # a container's limit
        most = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        found.append(max(0, most - used) / MIB)
    return min(found, default=0.0)


def _lengths(words: Dialect, row: Row) -> tuple[int, int]:
    """Tokens of a row, and how many of them are learnt; 0 = nothing can be (the recipe says so)."""
    if row.text:
        length = len(words.ids(row.text))
        return length, length
    if not row.messages or row.messages[-1].role != "assistant":
        return len(words.prompt_ids(row)) if row.messages else 0, 0
    with suppress(Exception):
        one = encoded(words, row)
        return len(one), one.answers
    return 0, 0


def _shared(words: Dialect, rows: Sequence[Row]) -> int:
    """Tokens with which all rows begin, judged by some of them."""
    some = [
        row for row in itertools.islice(rows, 64) if row.messages and row.messages[-1].role == "assistant"
    ]
    with suppress(Exception):
        return shared([encoded(words, row) for row in some])
    return 0
