"""The console's routes, for the server to mount under /console."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from baimo.console import door
from baimo.console.page import Page
from baimo.console.pages.chat import CHAT
from baimo.console.pages.compare import COMPARE
from baimo.console.pages.home import HOME
from baimo.console.pages.keys import KEYS
from baimo.console.pages.models import MODELS
from baimo.console.pages.review import REVIEW
from baimo.console.pages.settings import SETTINGS
from baimo.console.pages.tasks import TASKS
from baimo.console.pages.tune import TUNE
from baimo.console.pages.usage import USAGE
from baimo.console.visit import environment

PAGES: Sequence[Page] = (HOME, CHAT, COMPARE, TASKS, REVIEW, TUNE, MODELS, USAGE, KEYS, SETTINGS)
"""The menu, in its order."""


def console() -> BaseRoute:
    """Everything under /console."""
    environment().globals.update(pages=PAGES)  # pyright: ignore[reportArgumentType]
    return Mount(
        "/console",
        routes=[
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
            Route("/sign-in", door.sign_in, methods=["GET", "POST"]),
            Route("/enter/{link}", door.enter, methods=["GET", "POST"]),
            Route("/sign-out", door.inside(door.sign_out), methods=["POST"]),
            Route("/prefer", door.prefer, methods=["POST"]),
            *(route for page in PAGES for route in page.routes()),
            Route("/{rest:path}", door.inside(door.nowhere)),
        ],
    )
