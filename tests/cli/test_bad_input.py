"""Bad input, in both languages: a message that names what, where and what next; never a traceback, never a secret."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.bad_input import ALL, CANARY
from tests.cli.runner import Ended, baimo, has_chinese, process
from tests.cli.tasks import config, task, two_models
from tests.waiting import PATIENCE_S

HINT = "\n  → "


def check(ended: Ended, lang: str, code: int, names: tuple[str, ...], hints: tuple[str, ...] = ()) -> None:
    """What every refusal has in common."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err
    assert CANARY not in ended.err
    assert HINT in ended.err, "no advice"
    message, _, advice = ended.err[ended.err.index("error: " if lang == "en" else "错误") :].partition(HINT)
    for name in names:
        assert name in message
    for hint in hints:
        assert hint in advice
    assert has_chinese(message) == has_chinese(advice) == (lang == "zh"), ended.err


@pytest.mark.parametrize("name", ALL)
def test_bad_input_is_told_with_what_where_and_what_next(name: str, lang: str, folder: Path) -> None:
    bad = ALL[name]
    check(baimo(*bad.arrange(folder)), lang, bad.code, bad.names, bad.hints)


# servers

SERVER = '[providers.acme]\nbase_url = "{url}"\nkey = "env:ACME_KEY"\nretries = 0\n'


@pytest.fixture
def ask(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Ended]:
    """Compares a model of the server at this address, with a key that nobody may see."""
    monkeypatch.setenv("ACME_KEY", CANARY)

    def asked(url: str) -> Ended:
        config(folder, SERVER.format(url=url))
        return baimo("compare", task(folder), "--model", "acme/m", "--model", "acme/n", "--quiet")

    return asked


Serve = Callable[[int, bytes], str]


def test_a_key_that_is_refused_is_named_by_its_variable(
    ask: Callable[[str], Ended], http_server: Serve, lang: str
) -> None:
    # a server that repeats the key in its refusal, as some do
    url = http_server(401, b'{"error": {"message": "Incorrect API key provided: %s"}}' % CANARY.encode())
    check(ask(url), lang, 3, (host(url), "401"), ("ACME_KEY",))


def test_a_server_that_does_not_know_the_model_is_named(
    ask: Callable[[str], Ended], http_server: Serve, lang: str
) -> None:
    url = http_server(404, b'{"error": {"message": "The model `m` does not exist"}}')
    check(ask(url), lang, 3, (host(url), "404"), ("base_url",))


def test_a_web_page_in_place_of_an_api_is_named(
    ask: Callable[[str], Ended], http_server: Serve, lang: str
) -> None:
    url = http_server(200, b"<!doctype html><title>Welcome</title>")
    check(ask(url), lang, 3, (host(url),), ("base_url",))


def test_a_server_that_does_not_run_is_named(
    ask: Callable[[str], Ended], closed_port: str, lang: str
) -> None:
    check(ask(closed_port), lang, 3, (host(closed_port),), ("base_url",))


def test_a_server_that_speaks_no_http_is_named(
    ask: Callable[[str], Ended], other_server: str, lang: str
) -> None:
    check(ask(other_server), lang, 3, (host(other_server),), ("base_url",))


def test_a_probe_of_a_server_that_refuses_the_key_ends_the_same_way(
    folder: Path, http_server: Serve, lang: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", CANARY)
    url = http_server(403, b"{}")
    config(folder, SERVER.format(url=url))
    check(baimo("models", "test", "acme/m"), lang, 3, (host(url), "403"), ("ACME_KEY",))


def host(url: str) -> str:
    return url.removeprefix("http://").removesuffix("/v1")


# workspaces


def test_a_workspace_that_is_a_file_is_named(folder: Path, lang: str) -> None:
    (folder / "ws").write_text("not a folder", encoding="utf-8")
    check(baimo("-w", "ws", "runs", "list"), lang, 4, (str(folder / "ws"),), ("--workspace",))


def test_a_workspace_that_cannot_be_made_is_named(folder: Path, lang: str) -> None:
    # /proc refuses folders to root, too
    check(baimo("-w", "/proc/ws", "runs", "list"), lang, 4, ("/proc/ws",), ("--workspace",))


def test_a_database_that_is_none_is_named(folder: Path, lang: str) -> None:
    (folder / ".baimo").mkdir()
    (folder / ".baimo" / "baimo.db").write_bytes(
        b"these bytes are no database, and there are enough of them" * 40
    )
    check(baimo("runs", "list"), lang, 4, (".baimo/baimo.db",), (".recover",))


def test_a_damaged_database_is_named(folder: Path, lang: str) -> None:
    assert baimo("compare", task(folder), *two_models(folder), "--quiet").code == 0
    path = folder / ".baimo" / "baimo.db"
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\x5a" * (len(data) - 4096)
    path.write_bytes(data)
    check(baimo("runs", "list"), lang, 4, (".baimo/baimo.db",), (".recover",))


def test_a_database_of_a_newer_baimo_is_left_alone(folder: Path, lang: str) -> None:
    assert baimo("runs", "list").code == 0
    connection = sqlite3.connect(folder / ".baimo" / "baimo.db")
    with connection:
        connection.execute("INSERT INTO migrations VALUES ('9999 from the future', 'x', 0)")
    connection.close()
    check(baimo("runs", "list"), lang, 4, ("9999 from the future",), ("--workspace",))


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    disk = folder / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if (
        mount is None
        or os.geteuid() != 0
        or subprocess.run([mount, *options], capture_output=True).returncode
    ):
        pytest.skip("a small disk can be mounted by root only")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_told_and_nothing_is_lost(folder: Path, small_disk: Path, lang: str) -> None:
    rows = [{"id": f"q{n}", "input": f"{n} " + "word " * 2000, "target": "2"} for n in range(60)]
    arguments = ["compare", task(folder, rows=rows), "--exhaustive", "--quiet", *two_models(folder)]
    check(baimo("-w", str(small_disk / "ws"), *arguments), lang, 4, (str(small_disk / "ws"),))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = baimo("-w", str(small_disk / "ws"), *arguments)
    assert again.code == 0, again.err


def test_a_workspace_on_a_disk_that_is_read_only_is_told(folder: Path, small_disk: Path, lang: str) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    check(
        baimo("-w", str(small_disk / "ws"), "runs", "list"),
        lang,
        4,
        (str(small_disk / "ws"),),
        ("--workspace",),
    )
    subprocess.run(["mount", "-o", "remount,rw,size=4m", str(small_disk)], check=True)
    assert baimo("-w", str(small_disk / "ws"), "runs", "list").code == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ended = baimo("-w", str(small_disk / "ws"), "compare", task(folder), *two_models(folder))
    check(ended, lang, 4, ("ws/baimo.db",), ("--workspace",))


# this machine


def test_a_library_that_is_not_installed_is_named_with_its_extra(folder: Path, lang: str) -> None:
    (folder / "data.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    absent = "import sys; sys.modules['pyarrow'] = sys.modules['pyarrow.parquet'] = None"
    ended = process("tasks", "check", "data.parquet", folder=folder, before=[absent])
    check(ended, lang, 2, ("pyarrow",), ("pip install 'baimo[parquet]'",))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk"])
@pytest.mark.parametrize(
    "arguments", [["--help"], ["models", "vendors"], ["compare", "gone"], ["compare", "--help"]], ids=" ".join
)
def test_a_terminal_that_cannot_show_a_character_gets_the_rest(
    encoding: str, arguments: list[str], folder: Path
) -> None:
    program = f"import sys; sys.argv[1:] = {arguments!r}; from baimo.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        env={**os.environ, "BAIMO_LANG": "zh", "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode == (2 if "gone" in arguments else 0)
    # click takes ASCII for a mistake of the environment and writes UTF-8 instead
    shown = (done.stdout + done.stderr).decode("utf-8" if encoding == "ascii" else encoding)
    assert has_chinese(shown) or "\\u" in shown


def test_json_stays_json_on_a_terminal_without_chinese(folder: Path) -> None:
    ended = process("models", "vendors", "--json", folder=folder, environment={"PYTHONIOENCODING": "latin-1"})
    assert ended.out.isascii()
    assert "智谱" in "".join(vendor["title_zh"] for vendor in ended.data)


def test_a_reader_that_has_seen_enough_is_no_error(folder: Path) -> None:
    program = "from baimo.cli.main import main; main()"
    command = [sys.executable, "-W", "error", "-c", program, "models", "list"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        first = running.stdout.readline()
        running.stdout.close()
        complaint = running.stderr.read()
        code = running.wait(PATIENCE_S)
    assert first
    assert (code, complaint) == (0, b"")


def test_an_output_that_is_full_is_told(folder: Path, lang: str) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = process("models", "list", folder=folder, stdout=full)
    check(ended, lang, 1, ("No space left",))


def test_an_output_that_is_closed_stops_nothing(folder: Path) -> None:
    program = "import os; os.close(1); os.execv(sys.executable, [sys.executable, '-m', 'baimo', 'models', 'vendors'])"
    command = [sys.executable, "-c", f"import sys; {program}"]
    done = subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, check=False, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, b"")
