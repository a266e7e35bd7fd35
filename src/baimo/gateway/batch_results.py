"""The answers of a batch so far: an output file and an error file that grow line by line.

Prevents the failure of paying twice for an answer: a line is written to its file in the same step of the event loop in
which its Record is closed, and what is in the files is not asked again, whatever happened to the process meanwhile. A
line that was torn when the machine stopped is cut off.
Format: developers.openai.com/api/docs/guides/batch, "Retrieve the results".
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from baimo.core.call import Usage
from baimo.errors import BaimoError
from baimo.gateway.surface import Counts
from baimo.store.files import unwritable
from baimo.text import text
from baimo.typed import json_decoder

UNEXECUTED = ("batch_cancelled", "batch_expired")
"""Codes of lines that were never begun."""
_PIECE = 1024 * 1024


class _Response(msgspec.Struct):
    body: msgspec.Raw = msgspec.Raw(b"{}")


class _Failure(msgspec.Struct):
    code: str = ""


class _Result(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: _Failure | None = None


_result = json_decoder(_Result)
_any_json = msgspec.json.Decoder(msgspec.Raw).decode


class Written(NamedTuple):
    """A file of results that is complete."""

    size: int
    sha256: str


class Results:
    """The results of one batch. Opening, `sync` and `finish` block on the disk, the rest only on its cache."""

    def __init__(self, output: Path, error: Path, usage: Callable[[bytes], Usage | Counts | None]) -> None:
        """Take up what is there already.

        Args:
            output: file of answered lines.
            error: file of all others.
            usage: tokens of an answer's body, as far as it says.

        Raises:
            StoreError: a file cannot be read or written.
        """
        self.paths = (error, output)
        self.done: set[str] = set()
        """custom_ids of lines that have a result."""
        self.completed = self.failed = self.unexecuted = 0
        self.tokens = [0, 0, 0, 0]
        """Prompt, answer, cached and reasoning tokens of the answered lines, as far as they say."""
        self._usage = usage
        self._files: list[int] = []
        try:
            for path in self.paths:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._files.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600))
                self._take_up(path, self._files[-1], ok=path == output)
        except OSError as problem:
            self.close()
            raise unwritable(output, problem) from problem

    def answered(self, custom_id: str, request_id: str, status: int, body: bytes) -> None:
        """Keep an answer, or the refusal, of a line.

        Raises:
            StoreError: the disk does not take it; nothing of it stays.
        """
        try:
            _any_json(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            status = 502 if status == 200 else status
            body = msgspec.json.encode(
                {"error": {"message": text("batches.bad_answer"), "code": "bad_answer"}}
            )
        # line feeds between the tokens of JSON mean nothing, and within a string there are none
        flat = body.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in body or b"\r" in body else body
        name, request = msgspec.json.encode(custom_id), msgspec.json.encode(request_id)
        line = (
            b'{"id":%b,"custom_id":%b,"response":{"status_code":%d,"request_id":%b,"body":%b},"error":null}\n'
            % (request, name, status, request, flat)
        )
        ok = status == 200
        self._append(line, ok=ok)
        self._count(custom_id, ok=ok, body=flat)

    def left(self, custom_id: str, request_id: str, code: str, message: str) -> None:
        """Keep why a line was never executed.

        Raises:
            StoreError: the disk does not take it; nothing of it stays.
        """
        row = {
            "id": request_id,
            "custom_id": custom_id,
            "response": None,
            "error": {"code": code, "message": message},
        }
        self._append(msgspec.json.encode(row) + b"\n", ok=False)
        self._count(custom_id, ok=False, body=b"")
        self.unexecuted += code in UNEXECUTED

    def sync(self) -> None:
        """What was kept so far survives a power failure."""
        for file in self._files:
            try:
                os.fdatasync(file)
            except OSError as problem:
                raise unwritable(self.paths[0], problem) from problem

    def finish(self) -> list[Written | None]:
        """Close both files.

        Returns:
            Output and error file; None for one that would be empty, which is deleted.
        """
        self.sync()
        self.close()
        found: list[Written | None] = []
        for path in reversed(self.paths):
            hashed, size = hashlib.sha256(), 0
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    hashed.update(piece)
                    size += len(piece)
            found.append(Written(size, hashed.hexdigest()) if size else None)
            if not size:
                path.unlink()
        return found

    def close(self) -> None:
        """Leave the files as they are."""
        files, self._files = self._files, []
        for file in files:
            with contextlib.suppress(OSError):
                os.close(file)

    def _take_up(self, path: Path, file: int, *, ok: bool) -> None:
        whole = 0
        with path.open("rb") as reading:
            for line in reading:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                row = _result(line)
                self._count(row.custom_id, ok=ok, body=bytes(row.response.body) if row.response else b"")
                self.unexecuted += row.error is not None and row.error.code in UNEXECUTED
        if os.fstat(file).st_size != whole:
            os.ftruncate(file, whole)

    def _append(self, line: bytes, *, ok: bool) -> None:
        file = self._files[ok]
        size = os.fstat(file).st_size
        try:
            written = os.write(file, line)
            while written < len(line):
                written += os.write(file, line[written:])
        except OSError as problem:
            with contextlib.suppress(OSError):
                os.ftruncate(file, size)
            raise unwritable(self.paths[ok], problem) from problem

    def _count(self, custom_id: str, *, ok: bool, body: bytes) -> None:
        self.done.add(custom_id)
        if not ok:
            self.failed += 1
            return
        self.completed += 1
        usage: Usage | Counts | None = None
        with contextlib.suppress(BaimoError):
            usage = self._usage(body)
        if usage is not None:
            more = (usage.tokens_in, usage.tokens_out, usage.tokens_cached, usage.tokens_reasoning)
            self.tokens = [had + (new or 0) for had, new in zip(self.tokens, more, strict=True)]
