"""GGUF files: what they hold, and a copy of the weights that every engine reads alike.

Prevents the failure where an engine mis-reads a quantisation without an error: OpenVINO takes Q4_1 weights for
something else (logits off by up to 14.7) and answers fluently. Only F32, F16 and Q8_0 leave this file; the copy is
cached under the hash of its source and appears in one piece, also when two processes write it at once.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import functools
import hashlib
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from baimo.core.registry import require
from baimo.errors import ProviderError

WeightsFormat = Literal["f16", "q8_0"]

CONVERTER = 1
"""Version of the conversion, part of a copy's name: a change here makes every cached copy again."""

_MAGIC = b"GGUF"
_ARRAY, _STRING = 9, 8
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_F32, _F16, _Q8_0 = 0, 1, 8
FILE_TYPES = {"f16": 1, "q8_0": 7}
_Q8_BLOCK = 32
_CHUNK = 16 << 20  # bytes of weights that are dequantised at once, however large the tensor
_NORMAL, _CONTROL, _USER_DEFINED, _BYTE = 1, 3, 4, 6

READ_ALIKE = frozenset({_F32, _F16, _Q8_0})
"""ggml types that every engine was seen to read alike."""


class Tensor(NamedTuple):
    """One tensor as the file lists it."""

    name: str
    """As in llama.cpp: `blk.0.attn_q.weight` …"""
    shape: tuple[int, ...]
    """Fastest axis first, the reverse of numpy's order."""
    kind: int
    """ggml type: 0 = F32, 1 = F16, 3 = Q4_1, 8 = Q8_0 …"""
    offset: int
    """First byte of its data, from the start of the data section."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """The head of a GGUF file; the weights stay on disk."""

    path: Path
    """The file."""
    metadata: Mapping[str, Any]
    """Every key; arrays are lists."""
    spans: Mapping[str, tuple[int, int]]
    """First byte and end of every key-value pair, key included."""
    tensors: tuple[Tensor, ...]
    """In file order."""
    data_start: int
    """Where the data section begins, in bytes."""
    alignment: int
    """Every tensor begins at a multiple of this."""

    @property
    def architecture(self) -> str:
        """llama, qwen2, qwen3 …"""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def context_window(self) -> int:
        """Tokens of prompt and answer together that the model was made for; 0 = not stated."""
        return int(self.metadata.get(f"{self.architecture}.context_length", 0))

    @property
    def chat_template(self) -> str:
        """Jinja2 source of the chat template; empty = none."""
        return str(self.metadata.get("tokenizer.chat_template", ""))

    def token(self, name: str) -> str:
        """Text of a special token by its role (bos, eos …); empty = the model has none."""
        number = self.metadata.get(f"tokenizer.ggml.{name}_token_id")
        return "" if number is None else str(self.metadata["tokenizer.ggml.tokens"][number])

    def token_ids(self, *names: str) -> set[int]:
        """Ids of the special tokens among `names` that the model has."""
        found = (self.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in names)
        return {int(number) for number in found if number is not None}

    def spelling(self) -> list[bytes]:
        """UTF-8 of every token, by id; control tokens are empty.

        Raises:
            ProviderError: a tokenizer that is neither byte-level BPE (`gpt2`) nor SentencePiece (`llama`).
        """
        kind = self.metadata.get("tokenizer.ggml.model")
        if kind not in ("gpt2", "llama"):
            raise ProviderError("local.unknown_tokenizer", path=self.path, kind=kind)
        tokens: list[str] = self.metadata["tokenizer.ggml.tokens"]
        types = self.metadata.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
        spell = _byte_level if kind == "gpt2" else _sentence_piece
        return [spell(token, what) for token, what in zip(tokens, types, strict=True)]


@functools.cache
def _bytes_of_letters() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for the letters from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + at): byte for at, byte in enumerate(others)}


def _byte_level(token: str, what: int) -> bytes:
    if what == _CONTROL:
        return b""
    letters = _bytes_of_letters()
    if what == _USER_DEFINED or any(letter not in letters for letter in token):
        return token.encode("utf-8", errors="surrogateescape")
    return bytes(letters[letter] for letter in token)


def _sentence_piece(token: str, what: int) -> bytes:
    if what == _CONTROL:
        return b""
    if what == _BYTE:
        return bytes([int(token[3:5], 16)])  # <0x0A>
    return token.replace("\u2581", " ").encode("utf-8", errors="surrogateescape")


class _Cursor:
    """Reads little-endian values from a buffer, in order."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def unpack(self, layout: str) -> Any:
        form = struct.Struct("<" + layout)
        (value,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value

    def text(self) -> str:
        length = self.unpack("Q")
        end = self.at + length
        if end > len(self.data):
            raise struct.error("string beyond the end of the file")
        value = self.data[self.at : end].decode("utf-8", errors="surrogateescape")
        self.at = end
        return value

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            item, count = self.unpack("I"), self.unpack("Q")
            if item in (_STRING, _ARRAY):
                return [self.value(item) for _ in range(count)]
            form = struct.Struct(f"<{count}{_SCALARS[item]}")
            values = list(form.unpack_from(self.data, self.at))
            self.at += form.size
            return values
        return self.unpack(_SCALARS[kind])


def read(path: Path) -> GgufFile:
    """The head of a GGUF file, version 2 or 3, little-endian.

    Raises:
        ProviderError: it cannot be read, is no GGUF file, or ends too early.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:4] != _MAGIC:
                raise ProviderError("local.not_gguf", path=path)
            return _head(path, _Cursor(data))
    except OSError as error:
        raise ProviderError("local.unreadable", path=path, problem=error.strerror) from error
    except (struct.error, KeyError, ValueError) as error:
        raise ProviderError("local.truncated", path=path, problem=error) from error


def _head(path: Path, cursor: _Cursor) -> GgufFile:
    cursor.at = 4
    version, tensor_count, pairs = cursor.unpack("I"), cursor.unpack("Q"), cursor.unpack("Q")
    if version not in (2, 3):
        raise ValueError(f"version {version}")
    metadata: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    for _ in range(pairs):
        start = cursor.at
        key = cursor.text()
        metadata[key] = cursor.value(cursor.unpack("I"))
        spans[key] = (start, cursor.at)
    tensors = tuple(_tensor(cursor) for _ in range(tensor_count))
    alignment = int(metadata.get("general.alignment", 32))
    start = -(-cursor.at // alignment) * alignment
    return GgufFile(
        path=path, metadata=metadata, spans=spans, tensors=tensors, data_start=start, alignment=alignment
    )


def _tensor(cursor: _Cursor) -> Tensor:
    name = cursor.text()
    shape = tuple(cursor.unpack("Q") for _ in range(cursor.unpack("I")))
    return Tensor(name, shape, cursor.unpack("I"), cursor.unpack("Q"))


def arrays(file: GgufFile) -> Iterator[tuple[Tensor, Any]]:
    """Every tensor with its raw data, a numpy view of the mapped file; quantised types as uint8.

    Raises:
        ProviderError: the file ends before its tensors do, or holds a type that is not known.
    """
    numpy = require("numpy", "local", "local.purpose")
    gguf = require("gguf", "local", "local.purpose")
    data = numpy.memmap(file.path, mode="r", dtype=numpy.uint8)
    for tensor in file.tensors:
        try:
            block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(tensor.kind)]
        except ValueError as error:
            raise ProviderError("local.unknown_type", path=file.path, name=tensor.name) from error
        rows = tensor.shape[::-1]
        width = rows[-1] // block * size
        count = int(numpy.prod(rows[:-1], dtype=numpy.int64)) * width
        start = file.data_start + tensor.offset
        if start + count > len(data):
            raise ProviderError("local.truncated", path=file.path, problem=tensor.name)
        yield tensor, data[start : start + count].reshape(*rows[:-1], width)


def file_hash(path: Path) -> str:
    """SHA-256 of a file; read once per process and state of the file."""
    state = path.stat()
    return _file_hash(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _file_hash(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def converted(source: Path, form: WeightsFormat, *, cache: Path | None = None) -> Path:
    """A copy of `source` with all matrices in `form`, made once and found again under the source's hash.

    Args:
        source: GGUF file in any quantisation that llama.cpp knows.
        form: f16 keeps dequantised values to 11 bits; q8_0 takes half the memory.
        cache: where copies are kept; None = `.converted` beside the source, or the user's cache when that
            folder cannot be written.

    Returns:
        The copy, or `source` itself when it already is in that form.

    Raises:
        ProviderError: not a GGUF file, a value beyond the range of F16, or no place to write.
    """
    file = read(source)
    if file.metadata.get("split.count", 1) > 1:
        raise ProviderError("local.split", path=source, count=file.metadata["split.count"])
    if all(tensor.kind == target_kind(tensor, form) for tensor in file.tensors):
        return source
    name = f"{file_hash(source)[:32]}-{form}-{CONVERTER}.gguf"
    folders = [cache] if cache else [source.parent / ".converted", user_cache() / "converted"]
    for folder in folders:
        if _complete(folder / name):
            return folder / name
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return _published(file, form, folder / name)
        except PermissionError:
            continue
        except OSError as error:
            raise ProviderError("local.cannot_write", path=folder, problem=error.strerror) from error
    raise ProviderError("local.cannot_write", path=folders[-1], problem="")


def user_cache() -> Path:
    """`$BAIMO_CACHE`, else `$XDG_CACHE_HOME/baimo`, else `~/.cache/baimo`."""
    if named := os.environ.get("BAIMO_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "baimo"


def _complete(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _published(file: GgufFile, form: WeightsFormat, target: Path) -> Path:
    """Write beside `target`, then rename: a reader sees the whole copy or none."""
    handle, draft = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as out:
            write(file, form, out)
            out.flush()
            os.fsync(out.fileno())
        try:
            Path(draft).replace(target)
        except PermissionError:  # Windows: another process has already published and mapped the same bytes
            if not _complete(target):
                raise
    finally:
        Path(draft).unlink(missing_ok=True)
    return target


def write(file: GgufFile, form: WeightsFormat, out: Any) -> None:
    """Write `file` with its matrices in `form` to a binary stream; metadata is carried over byte for byte.

    Raises:
        ProviderError: see `converted`.
    """
    kinds = [target_kind(tensor, form) for tensor in file.tensors]
    sizes = [size_of(tensor, kind) for tensor, kind in zip(file.tensors, kinds, strict=True)]
    head = _pairs(file, form) + infos(file.tensors, kinds, sizes, file.alignment)
    out.write(head + b"\0" * (-len(head) % file.alignment))
    for (tensor, data), kind, size in zip(arrays(file), kinds, sizes, strict=True):
        written = 0
        rows = data.reshape(-1, data.shape[-1])
        step = max(1, _CHUNK // rows.shape[1])
        for start in range(0, len(rows), step):
            written += out.write(_encoded(file, tensor, rows[start : start + step], kind))
        if written != size:
            raise ProviderError("local.truncated", path=file.path, problem=tensor.name)
        out.write(b"\0" * (-size % file.alignment))


def _pairs(file: GgufFile, form: WeightsFormat) -> bytes:
    key = "general.file_type"
    kept = [span for name, span in file.spans.items() if name != key]
    with file.path.open("rb") as source:
        data = source.read(file.data_start)
    file_type = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<II", 4, FILE_TYPES[form])
    head = _MAGIC + struct.pack("<IQQ", 3, len(file.tensors), len(kept) + 1)
    return head + b"".join(data[start:end] for start, end in kept) + file_type


def infos(tensors: Sequence[Tensor], kinds: Sequence[int], sizes: Sequence[int], alignment: int) -> bytes:
    """The part of a head that lists the tensors, in the types and sizes that they have behind it."""
    listed = bytearray()
    offset = 0
    for tensor, kind, size in zip(tensors, kinds, sizes, strict=True):
        name = tensor.name.encode()
        listed += struct.pack("<Q", len(name)) + name + struct.pack("<I", len(tensor.shape))
        listed += struct.pack(f"<{len(tensor.shape)}QIQ", *tensor.shape, kind, offset)
        offset += -(-size // alignment) * alignment
    return bytes(listed)


def target_kind(tensor: Tensor, form: WeightsFormat) -> int:
    """The ggml type that a tensor has in files of this form."""
    if len(tensor.shape) < 2:  # norms and biases: a few kilobytes that decide much
        return _F32
    whole_blocks = tensor.shape[0] % _Q8_BLOCK == 0
    return _Q8_0 if form == "q8_0" and whole_blocks else _F16


def size_of(tensor: Tensor, kind: int) -> int:
    """Bytes of a tensor's data in a ggml type."""
    values = 1
    for length in tensor.shape:
        values *= length
    return {_F32: 4 * values, _F16: 2 * values, _Q8_0: values // _Q8_BLOCK * (_Q8_BLOCK + 2)}[kind]


def _encoded(file: GgufFile, tensor: Tensor, data: Any, kind: int) -> Any:
    numpy = require("numpy", "local", "local.purpose")
    gguf = require("gguf", "local", "local.purpose")
    if tensor.kind == kind:
        return memoryview(data.reshape(-1))
    try:
        values = gguf.quants.dequantize(data, gguf.GGMLQuantizationType(tensor.kind))
    except NotImplementedError as error:
        raise ProviderError("local.unknown_type", path=file.path, name=tensor.name) from error
    if kind == _F16 and float(numpy.abs(values).max(initial=0)) > float(numpy.finfo(numpy.float16).max):
        raise ProviderError("local.beyond_f16", path=file.path, name=tensor.name)
    return gguf.quants.quantize(values, gguf.GGMLQuantizationType(kind)).tobytes()
