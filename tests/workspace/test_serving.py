"""How a running endpoint follows its configuration file."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from baimo.config import settings
from baimo.errors import ConfigError
from baimo.settings import Settings
from baimo.workspace import serving
from baimo.workspace.serving import Service
from baimo.workspace.workspace import Workspace


class Followed(Service):
    """Takes what it reads, and tells it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Workspace(folder), read=self.taken)
        self.file = self._file = folder / "baimo.toml"
        self.adopted: list[Settings] = []
        self.meanwhile: str | None = None
        """What somebody writes while the file is read."""

    def taken(self) -> Settings:
        found = settings(self.file.parent)
        if self.meanwhile is not None:
            self.file.write_text(self.meanwhile)
        return found

    async def follow(self) -> None:
        await self._follow_settings()

    def adopt(self, settings: Settings) -> None:
        self.adopted.append(settings)


def test_a_file_is_read_when_it_has_stood_still_between_two_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "LOOK_S", 0)
    (tmp_path / "baimo.toml").write_text("")
    service = Followed(tmp_path)

    async def scene() -> None:
        following = asyncio.create_task(service.follow())
        await asyncio.sleep(0)
        for half in ("[serve]\n", "[serve]\nport = 80\n"):
            service.file.write_text(half)
            await asyncio.sleep(0)
            assert not service.adopted
        service.file.write_text("[serve]\nport = 8001\n")
        for _ in range(5):
            await asyncio.sleep(0)
        following.cancel()

    asyncio.run(scene())
    assert [one.serve.port for one in service.adopted] == [8001]


def test_another_file_of_the_same_length_and_time_is_noticed(tmp_path: Path) -> None:
    """As in a volume of Kubernetes, where a link is turned to another folder."""
    stamp = 1_700_000_000
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "baimo.toml").write_text("")
        os.utime(tmp_path / name / "baimo.toml", (stamp, stamp))
    link = tmp_path / "now"
    link.symlink_to("old")
    before = serving.state_of(link / "baimo.toml")
    link.unlink()
    link.symlink_to("new")
    assert serving.state_of(link / "baimo.toml") != before


def test_a_file_that_changes_while_it_is_read_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "baimo.toml").write_text("[serve]\n")
    service = Followed(tmp_path)
    service.meanwhile = "[serve]\nport = 1\n"
    with pytest.raises(ConfigError) as caught:
        service.reread()
    assert caught.value.key == "serve.settings_unsettled"
    assert not service.adopted


def test_a_task_that_breaks_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async def broken() -> None:
            raise RuntimeError

        task = asyncio.create_task(broken(), name="baimo-settings")
        task.add_done_callback(serving.told_if_broken)
        await asyncio.wait([task])
        await asyncio.sleep(0)

    asyncio.run(scene())
    assert "baimo-settings has stopped" in caplog.text
