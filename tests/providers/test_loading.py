from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

numpy = pytest.importorskip("numpy")
pytest.importorskip("gguf")
pytest.importorskip("openvino_genai")

from tests.providers.test_gguf import KINDS, small_model  # noqa: E402

from baimo.errors import ProviderError  # noqa: E402
from baimo.providers import gguf, loading, openvino  # noqa: E402
from baimo.providers.agreement import Agreement  # noqa: E402
from baimo.providers.local_options import LocalOptions  # noqa: E402


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> gguf.GgufFile:
    """A file that no engine has loaded yet; the engine itself is of no interest."""
    monkeypatch.setattr(openvino, "OpenVinoEngine", lambda copy, options: copy)
    return gguf.read(small_model(tmp_path / "m.gguf", numpy.ones((2, 32), dtype=numpy.float32), KINDS.Q4_1))


def test_those_who_load_a_new_file_at_once_prepare_it_once(
    file: gguf.GgufFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Path] = []

    def slowly(source: Path, copy: Path, options: Any) -> Agreement:
        measured.append(copy)
        time.sleep(0.3)
        return Agreement(0.0, 0.0, 1)

    monkeypatch.setattr(loading, "_measured", slowly)
    with ThreadPoolExecutor(3) as pool:
        made = [pool.submit(loading.engine_of, file, "openvino", LocalOptions()) for _ in range(3)]
    assert {one.result() for one in made} == set(measured) and len(measured) == 1


def test_a_file_that_cannot_be_prepared_keeps_nobody_waiting(
    file: gguf.GgufFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_measured", lambda *_: Agreement(9.0, 9.0, 1))
    for _ in range(2):
        with pytest.raises(ProviderError, match=r"9\.0"):
            loading.engine_of(file, "openvino", LocalOptions())
