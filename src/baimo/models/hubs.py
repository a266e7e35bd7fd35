"""Which files of a hub's repository are wanted, and what they must hash to: Hugging Face and ModelScope.

Endpoints: `GET /api/models/{repo}/revision/{revision}?blobs=true` and `/{repo}/resolve/{revision}/{file}` with
`X-Linked-Etag` (https://huggingface.co/docs/hub/api), `GET /api/v1/models/{repo}/repo/files` and `/repo?FilePath=`
(https://modelscope.cn/docs). HF_ENDPOINT and MODELSCOPE_ENDPOINT name mirrors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote

from baimo.errors import PullError
from baimo.models.download import Remote, ask

if TYPE_CHECKING:
    import aiohttp

_SHA256 = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)
_GIT_SHA1 = re.compile(r"[0-9a-f]{40}", re.IGNORECASE)
_BESIDE_SAFETENSORS = re.compile(
    r"[^/]+\.(safetensors|json|jinja|model|tiktoken|txt|py)$"
)  # what a Transformers model needs; other formats of the same weights lie beside it


class Repository(NamedTuple):
    """`hf:org/name[/file][@revision]` or `modelscope:…`, taken apart."""

    hub: str
    """hf or modelscope."""
    name: str
    """org/name."""
    file: str
    """Path within it; empty = whatever it holds."""
    revision: str
    """Branch, tag or commit."""


def repository(source: str) -> Repository:
    """The parts of a hub source.

    Raises:
        PullError: it does not name organisation and repository, or its path leaves the folder.
    """
    hub, _, rest = source.partition(":")
    path, _, revision = rest.partition("@")
    parts = path.split("/")
    if len(parts) < 2 or not all(
        _plain(part) for part in (*parts, *revision.split("/"))[: None if revision else -1]
    ):
        raise PullError("models.bad_source", source=source)
    default = "main" if hub == "hf" else "master"
    return Repository(hub, "/".join(parts[:2]), "/".join(parts[2:]), revision or default)


def _plain(part: str) -> bool:
    return bool(part) and part not in {".", ".."} and "\\" not in part


async def wanted(
    session: aiohttp.ClientSession, repo: Repository, source: str, environment: Mapping[str, str]
) -> dict[str, Remote]:
    """The files to fetch, by path within the repository: the named one, the only GGUF, or a whole Transformers model.

    Raises:
        PullError: nothing there that could be used, or several files to choose from.
    """
    if repo.hub == "hf":
        return await _hugging_face(session, repo, source, environment)
    return await _model_scope(session, repo, source, environment)


async def _hugging_face(
    session: aiohttp.ClientSession, repo: Repository, source: str, environment: Mapping[str, str]
) -> dict[str, Remote]:
    endpoint = environment.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    revision = quote(repo.revision, safe="")

    def remote(path: str, **known: Any) -> Remote:
        url = f"{endpoint}/{repo.name}/resolve/{revision}/{quote(path)}"
        return _remote(url, source, environment, "HF_TOKEN", **known)

    if repo.file:
        headers = await _resolved(session, remote(repo.file))
        tag = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").removeprefix("W/").strip('"')
        size = headers.get("X-Linked-Size", "")
        known = remote(
            repo.file,
            sha256=tag if _SHA256.fullmatch(tag) else None,
            git_sha1=tag if _GIT_SHA1.fullmatch(tag) else None,
            size=int(size) if size.isdigit() else None,
        )
        return {repo.file: known}
    url = f"{endpoint}/api/models/{repo.name}/revision/{revision}?blobs=true"
    listing = await _json(session, _remote(url, source, environment, "HF_TOKEN"))
    files: dict[str, Remote] = {}
    for entry in cast("list[dict[str, Any]]", listing.get("siblings") or []):
        large = cast("dict[str, Any]", entry.get("lfs") or {})
        files[str(entry["rfilename"])] = remote(
            str(entry["rfilename"]),
            sha256=large.get("sha256"),
            git_sha1=None if large else entry.get("blobId"),
            size=entry.get("size"),
        )
    return _chosen(files, source)


async def _resolved(session: aiohttp.ClientSession, remote: Remote) -> Mapping[str, str]:
    """The hub's own headers of a file. A renamed repository redirects within the hub; the file's store is elsewhere."""
    from yarl import URL

    headers: Mapping[str, str] = {}
    for _ in range(5):
        _, headers = await ask(session, remote, method="HEAD")
        onward = URL(remote.url).join(URL(headers.get("Location", remote.url)))
        if (
            "X-Linked-Etag" in headers
            or "Location" not in headers
            or onward.origin() != URL(remote.url).origin()
        ):
            break
        remote = replace(remote, url=str(onward))
    return headers


async def _model_scope(
    session: aiohttp.ClientSession, repo: Repository, source: str, environment: Mapping[str, str]
) -> dict[str, Remote]:
    endpoint = environment.get("MODELSCOPE_ENDPOINT", "").rstrip("/") or "https://modelscope.cn"
    root = f"{endpoint}/api/v1/models/{repo.name}/repo"
    revision = quote(repo.revision, safe="")

    def remote(url: str, **known: Any) -> Remote:
        return _remote(url, source, environment, "MODELSCOPE_API_TOKEN", **known)

    listing = await _json(session, remote(f"{root}/files?Revision={revision}&Recursive=true"))
    data = cast("dict[str, Any]", listing.get("Data") or {})
    files = {
        str(entry["Path"]): remote(
            f"{root}?Revision={revision}&FilePath={quote(str(entry['Path']), safe='')}",
            sha256=entry.get("Sha256") or None,
            size=entry.get("Size"),
        )
        for entry in cast("list[dict[str, Any]]", data.get("Files") or [])
        if entry.get("Type") != "tree"
    }
    if repo.file:
        if repo.file not in files:
            raise PullError("models.not_found", source=source, host=endpoint, variable="MODELSCOPE_API_TOKEN")
        return {repo.file: files[repo.file]}
    return _chosen(files, source)


def _remote(url: str, source: str, environment: Mapping[str, str], variable: str, **known: Any) -> Remote:
    token = environment.get(variable, "").strip()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Remote(url=url, source=source, headers=headers, token_variable=variable, **known)


async def _json(session: aiohttp.ClientSession, remote: Remote) -> dict[str, Any]:
    body, _ = await ask(session, remote)
    try:
        return cast("dict[str, Any]", json.loads(body))
    except ValueError as error:
        raise PullError(
            "models.server_error", source=remote.source, host=remote.url, status="no JSON"
        ) from error


def _chosen(files: dict[str, Remote], source: str) -> dict[str, Remote]:
    for path in files:
        if not all(_plain(part) for part in PurePosixPath(path).parts) or path.startswith("/"):
            raise PullError("models.bad_source", source=f"{source}/{path}")
    weights = sorted(path for path in files if path.endswith(".gguf"))
    if any(path.endswith(".safetensors") for path in files):
        return {path: file for path, file in files.items() if _BESIDE_SAFETENSORS.fullmatch(path)}
    if not weights:
        raise PullError("models.no_file", source=source)
    if len(weights) > 1:
        raise PullError("models.choose_file", source=source, files=", ".join(weights))
    return {weights[0]: files[weights[0]]}
