"""The unit, the image and what goes into it, judged by the tools that will read them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.chart import ROOT, tool
from tests.waiting import PATIENCE_S

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "baimo.service"
DOCKERFILE = DEPLOY / "Dockerfile"


def systemd(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "baimo"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    unit = tmp_path / "baimo.service"
    unit.write_text(
        UNIT.read_text(encoding="utf-8").replace("/opt/baimo/bin/baimo", str(program)), encoding="utf-8"
    )
    done = systemd("verify", "--man=no", str(unit))
    about_us = [line for line in done.stderr.splitlines() if "baimo" in line]
    assert about_us == [], done.stderr


def test_the_unit_is_exposed_to_little(tmp_path: Path) -> None:
    done = systemd("security", "--offline=true", "--threshold=20", str(UNIT))
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a file")
    assert done.returncode == 0, done.stdout[-200:]


def test_the_unit_waits_longer_than_calls_have_to_end() -> None:
    from baimo.settings import ServeSettings

    found = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    assert int(found[1]) > ServeSettings().drain_s


def test_the_linter_has_nothing_to_say_of_the_image() -> None:
    done = subprocess.run(
        [tool("hadolint"), str(DOCKERFILE)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_what_the_image_copies_is_sent_to_the_builder() -> None:
    kept = {
        line[1:].rstrip("/")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE):
        for source in line.split()[:-1]:
            assert source.rstrip("/") in kept
            assert (ROOT / source).exists()


def test_the_image_installs_by_hash_and_runs_as_nobody() -> None:
    words = DOCKERFILE.read_text(encoding="utf-8")
    installs = re.findall(r"pip install (.+?)(?: \\)?$", words, re.MULTILINE)
    assert [one for one in installs if "--require-hashes" not in one] == ["--no-deps --no-build-isolation ."]
    assert words.rindex("USER 10001") > words.rindex("RUN ")
    pinned = (ROOT / "requirements" / "serve.txt").read_text(encoding="utf-8")
    assert {"psycopg", "hatchling", "uvicorn"} <= set(re.findall(r"^([a-z0-9-]+)==", pinned, re.MULTILINE))
