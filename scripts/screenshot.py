"""A picture of a page, as a browser shows it.

    python scripts/screenshot.py PAGE.html OUT.png [--width 1280] [--height 900] [--dark] [--print]

Without --height the whole page is taken. Needs Chromium or Chrome; it runs headless, in a profile of its
own that is thrown away, and loads nothing but the page. Drives the browser by the DevTools protocol
(https://chromedevtools.github.io/devtools-protocol/), because a window cannot be as narrow as a phone."""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp

BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome", "msedge")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)


def browser() -> str | None:
    """The first browser on the path that can do it; None when there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


async def screenshot(
    page: Path, *, width: int = 1280, height: int | None = None, dark: bool = False, printed: bool = False
) -> bytes:
    """The picture of a page as PNG.

    Args:
        page: an HTML file.
        width: of the window, in CSS pixels; below 600 a phone's density is used.
        height: in CSS pixels; None = as long as the page.
        dark: whether the page is told that its reader likes it dark.
        printed: whether it is shown as it would be printed.

    Raises:
        RuntimeError: there is no browser, or it does not start.
    """
    target = await asyncio.to_thread(lambda: page.absolute().as_uri())
    program = browser()
    if program is None:
        raise RuntimeError(
            f"no browser found; install one of: {', '.join(BROWSERS)} (Debian: apt install chromium)"
        )
    with tempfile.TemporaryDirectory(prefix="screenshot-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            program,
            *FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            port = await _port(Path(profile) / "DevToolsActivePort", process)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
                    tabs: list[dict[str, Any]] = await response.json()
                address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    picture = await _taken(socket, target, width, height, dark, printed)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
    return picture


async def _port(file: Path, process: asyncio.subprocess.Process) -> int:
    for _ in range(300):
        lines = await asyncio.to_thread(_lines, file)
        if lines:
            return int(lines[0])
        if process.returncode is not None:
            break
        await asyncio.sleep(0.1)
    raise RuntimeError(f"the browser did not start (exit code {process.returncode})")


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


async def _taken(
    socket: aiohttp.ClientWebSocketResponse,
    address: str,
    width: int,
    height: int | None,
    dark: bool,
    printed: bool,
) -> bytes:
    numbers = itertools.count(1)

    async def call(method: str, **parameters: Any) -> dict[str, Any]:
        number = next(numbers)
        await socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await socket.receive_json()
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]

    async def size(tall: int) -> None:
        phone = width < 600
        await call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=tall,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    await size(height or 900)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    await call("Emulation.setEmulatedMedia", media="print" if printed else "", features=[scheme])
    await call("Page.enable")
    await call("Page.navigate", url=address)
    ready = "document.readyState + location.protocol"  # not yet that of about:blank
    for _ in range(600):
        if (await call("Runtime.evaluate", expression=ready))["result"].get("value") == "completefile:":
            break
        await asyncio.sleep(0.05)
    if height is None:
        await size(int((await call("Page.getLayoutMetrics"))["cssContentSize"]["height"]))
    return base64.b64decode((await call("Page.captureScreenshot", format="png"))["data"])


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="A picture of a page, as a browser shows it.")
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=None)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--print", dest="printed", action="store_true")
    options = parser.parse_args()
    if not options.page.is_file():
        print(f"{options.page} does not exist", file=sys.stderr)
        return 2
    try:
        given = {key: value for key, value in vars(options).items() if key != "out"}
        picture = asyncio.run(screenshot(**given))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 3
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
