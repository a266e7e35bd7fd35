from __future__ import annotations

import asyncio
import importlib.util
import struct
from pathlib import Path
from types import ModuleType

import pytest

from baimo.evals.report.html import html
from tests.evals.report.reports import full

SCRIPT = Path(__file__).parents[3] / "scripts" / "screenshot.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("screenshot", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_phone_s_picture_is_as_wide_as_the_phone_and_the_page_does_not_overflow(tmp_path: Path) -> None:
    module = script()
    if module.browser() is None:
        pytest.skip("no Chromium on the path: apt-get install chromium")
    page = tmp_path / "page.html"
    page.write_text(html(full()), encoding="utf-8")
    picture = asyncio.run(module.screenshot(page, width=390))
    width, height = struct.unpack(">II", picture[16:24])
    assert width == 2 * 390 and height > 2000


def test_without_a_browser_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt install chromium"):
        asyncio.run(script().screenshot(tmp_path / "a.html"))
