"""Tensors in safetensors files, read one at a time: a model is merged or converted without being loaded.

Prevents the failure where serving needs what only training needs: nothing here imports torch, and memory holds one
tensor, not a model. The format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from baimo.core.registry import require
from baimo.errors import AdapterError

_KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "uint8": "U8"}
_LONGEST_HEAD = 100_000_000  # bytes; the format's own limit
INDEX = "model.safetensors.index.json"


class Placed(NamedTuple):
    """Where a tensor lies."""

    path: Path
    kind: str
    shape: tuple[int, ...]
    start: int
    end: int


class TensorFiles(Mapping[str, Any]):
    """Tensors by name; each is a numpy array, made when it is asked for. BF16 becomes float32.

    Args:
        paths: safetensors files; a name that occurs twice is the last one's.

    Raises:
        AdapterError: a file cannot be read or is no safetensors file.
    """

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self._placed: dict[str, Placed] = {}
        for path in paths:
            self._placed.update(_head(path))

    @classmethod
    def of(cls, folder: Path, name: str = "model.safetensors") -> TensorFiles:
        """The tensors of a folder in Hugging Face form: one file, or the files that its index names.

        Raises:
            AdapterError: there is neither.
        """
        index = folder / INDEX
        if not (folder / name).is_file() and index.is_file():
            shards: Mapping[str, str] = json.loads(index.read_bytes())["weight_map"]
            return cls(*(folder / shard for shard in sorted(set(shards.values()))))
        return cls(folder / name)

    def placed(self, name: str) -> Placed:
        """Where a tensor lies, and its shape."""
        return self._placed[name]

    def __getitem__(self, name: str) -> Any:
        numpy = require("numpy", "local", "local.purpose")
        at = self._placed[name]
        count = (at.end - at.start) // numpy.dtype(_KINDS[at.kind]).itemsize
        raw = numpy.memmap(at.path, mode="r", dtype=_KINDS[at.kind], offset=at.start, shape=(count,))
        if at.kind == "BF16":
            raw = (raw.astype(numpy.uint32) << 16).view(numpy.float32)
        return raw.reshape(at.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._placed)

    def __len__(self) -> int:
        return len(self._placed)


def _head(path: Path) -> Iterator[tuple[str, Placed]]:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_LONGEST_HEAD, size):
                raise ValueError(f"head of {length} bytes")
            head = json.loads(file.read(length))
        data = 8 + length
        for name, facts in head.items():
            if name == "__metadata__":
                continue
            start, end = facts["data_offsets"]
            if facts["dtype"] not in _KINDS or data + end > size:
                raise ValueError(f"{name}: {facts['dtype']}")
            yield name, Placed(path, facts["dtype"], tuple(facts["shape"]), data + start, data + end)
    except OSError as error:
        raise AdapterError("local.unreadable", path=path, problem=error.strerror) from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterError("adapters.not_safetensors", path=path, problem=error) from error


def write_tensors(path: Path, tensors: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write tensors as one safetensors file of float32, in one piece; each is asked for once.

    Args:
        path: the file.
        tensors: numpy arrays by name.
        shapes: of every tensor, so that the head can be written first.
    """
    numpy = require("numpy", "local", "local.purpose")
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        end = at + 4 * int(numpy.prod(shape, dtype=numpy.int64))
        head[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    words = json.dumps(head, separators=(",", ":")).encode()
    words += b" " * (-len(words) % 8)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(struct.pack("<Q", len(words)) + words)
            for name in shapes:
                out.write(memoryview(numpy.ascontiguousarray(tensors[name], dtype="<f4")).cast("B"))
        Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)
