"""Pictures of every page of the console, in both languages and themes, at a desk and on a phone.

    python scripts/screenshots.py WORKSPACE FOLDER [--guide docs/images/console]
        [--only home,usage] [--looks en-light] [--widths 375]

WORKSPACE is what `make demo` leaves (a real comparison, a real tuning job); it is copied, never changed. Added to the
copy: a month of calls by three departments' keys, as a gateway would have written them, and a chat
held now. FOLDER gets every picture: PAGE.LANGUAGE.THEME.WIDTH.png. --guide gets the handful that the guide shows.
Needs Chromium (Debian: apt install chromium).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.console.conftest import FLAGS, PROGRAMS  # noqa: E402
from tests.console.reading import Reading  # noqa: E402
from tests.console.walk import kind  # noqa: E402

from baimo.core.rights import limit  # noqa: E402
from baimo.core.tenant import Key, Tenant  # noqa: E402
from baimo.store import chain, rollups  # noqa: E402
from baimo.store.entry import Entry  # noqa: E402
from baimo.store.lines import row_of  # noqa: E402
from baimo.workspace.workspace import Workspace  # noqa: E402

CONFIG = """
[workspace]
path = "{workspace}"
[providers.house]
protocol = "fake"
inside = true
[providers.house.options]
latency_ms = 300
constant = "Photosynthesis turns light, water and carbon dioxide into sugar. It happens in the chloroplasts of leaves."
[models."house/qwen3-32b"]
input_per_million = 0.10
output_per_million = 0.40
context_window = 32768
[models."house/glm-4.6"]
input_per_million = 0.45
output_per_million = 1.80
context_window = 131072
[routes.fast]
models = ["house/qwen3-32b", "house/glm-4.6"]
[routes.careful]
strategy = "weighted"
models = ["house/glm-4.6", "house/qwen3-32b"]
weights = [3, 1]
"""
DEPARTMENTS = {"search": "Search", "support": "Customer support", "contracts": "Contracts"}
DAY_MS = 86_400_000
GUIDE: Mapping[str, tuple[str, ...]] = {
    "home": ("/",),
    "chat": ("/chat",),
    "compare": ("/compare/{run}",),
    "tasks": ("/tasks/{task}",),
    "tune": ("/tune/{job}",),
    "usage": ("/usage",),
    "keys": ("/keys",),
}
"""Pictures of the guide → kind of page."""


def peopled(workspace: Workspace) -> str:
    """Departments, their keys, and a month of their calls; gives the credential of an administrator."""
    chance, keys = random.Random(5), list[tuple[str, str, str]]()
    for name, title in DEPARTMENTS.items():
        workspace.accounts.create_tenant(Tenant(id=name, title=title, limits=(limit("cost=300/month"),)))
        for label in ("production", "evaluation"):
            made = workspace.accounts.create_key(
                Key(tenant=name, label=f"{name} {label}", limits=(limit("cost=40/month"),))
            )
            keys.append((name, made.key.public, label))
    now_ms = time.time_ns() // 1_000_000
    lines = []
    models = {"house/qwen3-32b": (100_000, 400_000), "house/glm-4.6": (450_000, 1_800_000)}
    for at_ms in sorted(now_ms - chance.randrange(30 * DAY_MS) for _ in range(9_000)):
        tenant, key, label = chance.choices(keys, weights=(9, 1, 5, 1, 3, 1))[0]
        model = chance.choices(list(models), weights=(3, 1))[0]
        failed = chance.random() < 0.012
        tokens_in, tokens_out = chance.randint(200, 6_000), chance.randint(40, 1_200)
        price_in, price_out = models[model]
        micros, rest = divmod(tokens_in * price_in + tokens_out * price_out, 1_000_000)
        lines.append(
            row_of(
                Entry(
                    id=f"rec_{at_ms:012x}{chance.getrandbits(64):016x}",
                    surface=chance.choice(("chat", "chat", "chat", "messages", "responses")),
                    model=model, model_used=model.partition("/")[2], tenant=tenant, key=key, asked="fast",
                    route="fallback" if model.endswith("4.6") else "direct", began_ms=at_ms - 900, at_ms=at_ms,
                    status="providers.unreachable" if failed else "ok", http_status=502 if failed else 200,
                    tokens_in=None if failed else tokens_in, tokens_out=None if failed else tokens_out,
                    cost_micros=None if failed else micros, cost_rest=None if failed else rest,
                    price_in=price_in, price_out=price_out, charged_micros=0 if failed else micros,
                    charged_tokens=0 if failed else tokens_in + tokens_out, currency="USD", attempts=1,
                    latency_ms=chance.lognormvariate(6.6, 0.5), first_byte_ms=chance.lognormvariate(5.2, 0.4),
                    tags=json.dumps({"scenario": label}), config_hash="c0ffee" * 10 + "beef",
                )
            )
        )  # fmt: skip
    with workspace.store.database.writing() as connection:
        chain.append(connection, lines)
    rollups.count_in(workspace.store.database)
    made = workspace.accounts.create_key(Key(role="admin", label="Lin"))
    return made.credential.written()


@contextmanager
def opened(folder: Path) -> Iterator[str]:
    """A `baimo serve` over the folder; gives its address."""
    command = [sys.executable, "-m", "baimo", "--lang", "en", "serve", "--port", "0"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        seen = ""
        assert process.stderr is not None
        for line in process.stderr:
            seen += line
            if address := re.search(r"listens on (\S+)", seen):
                break
        else:
            raise SystemExit(seen)
        threading.Thread(target=process.stderr.read, daemon=True).start()  # nothing may wait for a full pipe
        yield address[1]
    finally:
        process.terminate()
        process.wait()


def addresses(page: Any) -> dict[str, str]:
    """Kind of page → one address, along the links from the first page."""
    found: dict[str, str] = {}
    waiting = ["/console/"]
    while waiting:
        address = waiting.pop(0)
        reached = kind(address.removeprefix("/console").partition("?")[0])
        if reached is None or reached in found or "export" in reached:
            continue
        answer = page.goto(address)
        if "html" not in answer.headers.get("content-type", "") or answer.status != 200:
            continue
        found[reached] = address
        waiting += [one for one in Reading(page.content()).links if one.startswith("/console/")]
    return found


def talked(page: Any) -> None:
    """A conversation with two models side by side."""
    page.goto("/console/chat?model=house/qwen3-32b&model=house/glm-4.6")
    page.locator("#chat-text").fill("How do plants make sugar? Two sentences.")
    page.locator("#chat-form button.main").click()
    page.get_by_text("Photosynthesis").nth(1).wait_for()
    page.wait_for_timeout(1500)


def taken(browser: Any, origin: str, credential: str, folder: Path, given: argparse.Namespace) -> None:
    """Every picture."""
    context = browser.new_context(
        base_url=origin, reduced_motion="reduce", viewport={"width": 1280, "height": 860}
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto("/console/sign-in")
    page.locator("#key").fill(credential)
    page.locator("main button.main").click()
    page.wait_for_url("**/console/")
    found = addresses(page)
    for look in given.looks.split(","):
        language, theme = look.split("-")
        context.add_cookies(
            [
                {"name": f"baimo_{name}", "value": value, "url": f"{origin}/console"}
                for name, value in (("lang", language), ("theme", theme))
            ]
        )
        for reached, address in found.items():
            name = (
                re.sub(r"[^a-z]+", "-", reached.partition("{")[0] + reached[-9:] * ("{" in reached)).strip(
                    "-"
                )
                or "home"
            )
            if given.only and name not in given.only.split(","):
                continue
            for width in map(int, given.widths.split(",")):
                page.set_viewport_size({"width": width, "height": 860 if width > 600 else 780})
                if reached == "/chat":
                    talked(page)
                else:
                    page.goto(address)
                page.screenshot(path=folder / f"{name}.{language}.{theme}.{width}.png", full_page=True)
                if width == 1280 and given.guide and theme == "light":
                    for picture, kinds in GUIDE.items():
                        if reached in kinds:
                            page.screenshot(path=given.guide / f"{picture}{'-zh' * (language == 'zh')}.png")
    context.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workspace", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--guide", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--widths", default="1280,375")
    parser.add_argument("--looks", default="en-light,en-dark,zh-light,zh-dark")
    given = parser.parse_args(arguments)
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if program is None:
        print(f"no browser found; install one of: {', '.join(PROGRAMS)}", file=sys.stderr)
        return 3
    if not (given.workspace / "baimo.db").is_file():
        print(f"{given.workspace} is no workspace: run make demo first", file=sys.stderr)
        return 2
    from playwright.sync_api import sync_playwright

    for folder in filter(None, (given.folder, given.guide)):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="screenshots-", ignore_cleanup_errors=True) as place:
        copy = Path(place) / "workspace"
        shutil.copytree(given.workspace, copy)
        (Path(place) / "baimo.toml").write_text(CONFIG.format(workspace=copy), encoding="utf-8")
        with closing(Workspace(Path(place))) as workspace:
            credential = peopled(workspace)
        with opened(Path(place)) as origin, sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
            taken(browser, origin, credential, given.folder, given)
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
