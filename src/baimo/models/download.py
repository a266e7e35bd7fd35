"""One file over HTTP: continued where it broke off, hashed, and under its final name only when it is right.

Prevents the failure where half a file, an error page or an altered file is loaded as weights. What arrives goes to
`NAME.part`; the rename comes last. One process downloads at a time, the others wait and find the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from baimo.errors import PullError

if TYPE_CHECKING:
    import aiohttp

Progress = Callable[[int, int | None], None]
"""Called with bytes done and bytes in all, None while that is unknown."""

_CHUNK = 1 << 20
_ATTEMPTS = 5  # in a row without a new byte; a slow link that keeps moving is never given up
_PAUSE_S = 0.2  # doubles with each of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A file on a server, and what is known of it."""

    url: str
    """Address; redirects are followed, and credentials stay with the first host."""
    source: str
    """What the user asked for, for messages."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Request headers; may hold a token."""
    token_variable: str = ""
    """Variable that would hold a token, for messages."""
    sha256: str | None = None
    """Expected, hexadecimal."""
    git_sha1: str | None = None
    """Expected git blob id, for small files of a hub that carry no SHA-256."""
    size: int | None = None
    """Bytes, when known."""


async def download(session: aiohttp.ClientSession, remote: Remote, target: Path, progress: Progress) -> None:
    """Bring `remote` to `target`, continuing what an earlier attempt left.

    Raises:
        PullError: no network, no such file, no access, the disk is full, or the content is not what was expected.
    """
    part = target.with_name(target.name + ".part")
    resumed = part.exists()
    await _fetch(session, remote, part, progress)
    if resumed and not is_right(part, remote):
        _emptied(part)  # the beginning may be of another version of the file: once more, from the start
        await _fetch(session, remote, part, progress)
    if not is_right(part, remote):
        found = sha256_of(part)
        _emptied(part)
        expected = remote.sha256 or f"git:{remote.git_sha1}"
        raise PullError("models.wrong_hash", source=remote.source, found=found, expected=expected)
    part.replace(target)


async def _fetch(session: aiohttp.ClientSession, remote: Remote, part: Path, progress: Progress) -> None:
    import aiohttp
    from yarl import URL

    idle = 0
    while True:
        before = _size(part)
        try:
            await _attempt(session, remote, part, progress)
            return
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = str(error) or type(error).__name__
        except _Busy as busy:
            problem = f"HTTP {busy.status}"
        except OSError as error:
            if isinstance(error, ConnectionError):
                problem = str(error)
            else:
                raise disk_error(error, part, remote.size) from error
        idle = 0 if _size(part) > before else idle + 1
        if idle >= _ATTEMPTS:
            raise PullError("models.no_network", host=URL(remote.url).host, problem=problem)
        await asyncio.sleep(_PAUSE_S * 2 ** max(idle - 1, 0))


async def _attempt(session: aiohttp.ClientSession, remote: Remote, part: Path, progress: Progress) -> None:
    start = _size(part)
    headers = {**remote.headers, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    async with session.get(remote.url, headers=headers) as answer:
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if start != remote.size:
                _emptied(part)
                raise _Busy(answer.status)
            return
        refuse(answer.status, remote)
        if answer.status != HTTPStatus.PARTIAL_CONTENT:
            start = 0  # the server ignores ranges and sends everything
        total = remote.size if answer.content_length is None else start + answer.content_length
        require_space(part.parent, None if total is None else total - start)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            done = start
            async for chunk in answer.content.iter_chunked(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
    if total is not None and done != total:
        raise _Busy(HTTPStatus.PARTIAL_CONTENT)


def _emptied(path: Path) -> None:
    path.unlink()


class _Busy(Exception):
    """The server may do better in a moment."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def refuse(status: int, remote: Remote) -> None:
    """Raise what an HTTP status other than success means.

    Raises:
        PullError: the file is not there, access is denied, or the server does not want to.
        _Busy: 429 or 5xx, worth another attempt.
    """
    from yarl import URL

    host = URL(remote.url).host
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        key = "models.denied"
    elif status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        key = "models.not_found"
    elif status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _Busy(status)
    elif status >= HTTPStatus.BAD_REQUEST:
        key = "models.server_error"
    else:
        return
    variable = remote.token_variable or "–"
    raise PullError(key, source=remote.source, host=host, status=status, variable=variable)


async def ask(
    session: aiohttp.ClientSession, remote: Remote, *, method: str = "GET"
) -> tuple[bytes, Mapping[str, str]]:
    """Body and headers of a small answer. HEAD does not follow redirects: the hub's own headers are wanted.

    Raises:
        PullError: as `download`.
    """
    import aiohttp
    from yarl import URL

    problem = ""
    for attempt in range(_ATTEMPTS):
        await asyncio.sleep(_PAUSE_S * 2 ** (attempt - 1) if attempt else 0)
        try:
            options = {"headers": dict(remote.headers), "allow_redirects": method != "HEAD"}
            async with session.request(method, remote.url, **options) as answer:  # type: ignore[arg-type]
                refuse(answer.status, remote)
                return await answer.read(), answer.headers
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            problem = str(error) or type(error).__name__
        except _Busy as busy:
            problem = f"HTTP {busy.status}"
    raise PullError("models.no_network", host=URL(remote.url).host, problem=problem)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_right(path: Path, remote: Remote) -> bool:
    """Whether a file holds what its server promised; true when the server promised nothing."""
    if remote.sha256 is not None:
        return sha256_of(path) == remote.sha256.lower()
    if remote.git_sha1 is not None:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest() == remote.git_sha1.lower()
    return True


def require_space(folder: Path, needed: int | None) -> None:
    """Refuse to begin what cannot end.

    Raises:
        PullError: the disk holds less than `needed` bytes.
    """
    free = shutil.disk_usage(folder).free
    if needed is not None and needed > free:
        raise PullError("models.disk_full", path=folder, needed=needed, free=free)


def disk_error(error: OSError, path: Path, needed: int | None) -> PullError:
    """What to tell when `path` cannot be written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        free = shutil.disk_usage(path.parent).free
        return PullError("models.disk_full", path=path.parent, needed=needed or "–", free=free)
    return PullError("models.unwritable", path=path, problem=error.strerror or str(error))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Generator[None]:
    """Hold the lock of a folder, which is made if need be; waits for whoever holds it. Released with the process.

    Raises:
        PullError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise disk_error(error, folder, None) from error
    try:
        if os.name == "nt":  # pragma: no cover - exercised on Windows only
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
