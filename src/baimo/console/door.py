"""Signing in and out: from a key, or from the one-time link that `baimo serve` prints, to a cookie.

Prevents four failures: a key in a browser (the cookie holds a session), a session that a script can read or another
site can use (HttpOnly, SameSite=Strict, and every form must come from this origin), a link that works twice, and a
link that is used up by whoever only looks at it (looking shows a button).
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from baimo.console.api import Api, Refused, named
from baimo.console.visit import STANDING, THEMES, Visit, words
from baimo.core.credential import presented
from baimo.text import LANGUAGES, language, speak

COOKIE = "baimo_session"
MINUTES = 60
"""A session ends after so long without a visit."""
RENEW_MINUTES = 45
"""It is renewed when less is left."""
YEAR_S = 365 * 86_400

View = Callable[[Visit], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def inside(view: View) -> Endpoint:
    """A page for those who have signed in; others are asked to, and come back."""

    @functools.wraps(view)
    async def endpoint(request: Request) -> Response:
        _speak(request)
        if not _from_here(request):
            return Response("cross-origin request", 403, STANDING)
        credential = request.cookies.get(COOKIE, "")
        api = Api(request.app, request.scope, credential, language())
        try:
            me: Any = await api.get("/api/me") if credential else {}
        except Refused:
            me = {}
        if not me:
            there = request.url.path if request.method == "GET" else "/console/"
            return outside(request).gone_to(f"/sign-in?next={there}")
        visit = Visit(request, api, me)
        try:
            response = await view(visit)
        except Refused as refused:
            response = visit.shown("refused.html", refused.status, refused=refused)
        await _renewed(request, response, api, credential)
        return response

    return endpoint


def outside(request: Request) -> Visit:
    """A visit of nobody in particular."""
    _speak(request)
    return Visit(request, Api(request.app, request.scope, "", language()), {})


async def sign_in(request: Request) -> Response:
    """GET shows the form; POST takes a key."""
    visit = outside(request)
    there = _path(request.query_params.get("next", ""))
    if request.method == "GET":
        return visit.shown("sign_in.html", there=there, refused=None)
    if not _from_here(request):
        return Response("cross-origin request", 403, STANDING)
    form = await visit.form()
    try:
        return await _entered(visit, form.get("key", ""), _path(form.get("next", "")))
    except Refused as refused:
        return visit.shown("sign_in.html", refused.status, there=_path(form.get("next", "")), refused=refused)


async def enter(request: Request) -> Response:
    """The one-time link: GET shows a button, POST uses it up."""
    visit, link = outside(request), str(request.path_params["link"])
    if request.method == "GET":
        return visit.shown("enter.html", refused=None)
    if not _from_here(request):
        return Response("cross-origin request", 403, STANDING)
    given = presented(link)
    api = Api(request.app, request.scope, link, language())
    try:
        response = await _entered(visit, link, "/")
        # two who use it at once have both begun a session: only one can end the link's
        await api.delete(named("/api/sessions/{session}", session=given.public if given else "-"))
    except Refused as refused:
        return visit.shown("enter.html", refused.status, refused=refused)
    return response


async def sign_out(visit: Visit) -> Response:
    """End the session."""
    given = presented(visit.request.cookies.get(COOKIE, ""))
    if given is not None:
        await visit.api.delete(named("/api/sessions/{session}", session=given.public))
    response = visit.gone_to("/sign-in")
    response.delete_cookie(COOKIE, path="/console")
    return response


async def nowhere(visit: Visit) -> Response:
    """Any address that no page has."""
    refused = Refused(404, {"message": words("no_page"), "hint": words("no_page_what")})
    return visit.shown("refused.html", 404, refused=refused)


async def prefer(request: Request) -> Response:
    """Language and theme, for this browser."""
    if not _from_here(request):
        return Response("cross-origin request", 403, STANDING)
    visit = outside(request)
    form = await visit.form()
    response = visit.gone_to(_path(form.get("next", "")))
    for name, known in (("lang", LANGUAGES), ("theme", THEMES)):
        if form.get(name) in known:
            response.set_cookie(f"baimo_{name}", form[name], YEAR_S, path="/console", samesite="lax")
    return response


async def _entered(visit: Visit, credential: str, there: str) -> Response:
    """A session instead of a key or link.

    Raises:
        Refused: it opens nothing.
    """
    request = visit.request
    made = await Api(request.app, request.scope, credential, language()).post(
        "/api/sessions", {"minutes": MINUTES}
    )
    response = visit.gone_to(there)
    _set(request, response, str(made["credential"]))
    return response


async def _renewed(request: Request, response: Response, api: Api, credential: str) -> None:
    """A visit is a sign of life; not every one is written down."""
    given = presented(credential)
    ends = request.cookies.get(f"{COOKIE}_ends", "")
    now = datetime.now(UTC).timestamp()
    if given is None or (ends.isdigit() and int(ends) - now > RENEW_MINUTES * 60):
        return
    try:
        shown = await api.patch(named("/api/sessions/{session}", session=given.public), {"minutes": MINUTES})
    except Refused:  # it ended meanwhile, perhaps by what this very request did
        return
    _note_end(request, response, str(shown["expires"]))


def _set(request: Request, response: Response, credential: str) -> None:
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, credential, path="/console", httponly=True, samesite="strict", secure=secure)


def _note_end(request: Request, response: Response, expires: str) -> None:
    ends = str(int(datetime.fromisoformat(expires).timestamp()))
    secure = request.url.scheme == "https"
    response.set_cookie(
        f"{COOKIE}_ends", ends, path="/console", httponly=True, samesite="strict", secure=secure
    )


def _speak(request: Request) -> None:
    """The reader's language: as chosen, else as the browser prefers, else the server's."""
    chosen = request.cookies.get("baimo_lang", "")
    if chosen not in LANGUAGES:
        accepted = [
            one.partition(";")[0].strip()[:2] for one in request.headers.get("accept-language", "").split(",")
        ]
        chosen = next((one for one in accepted if one in LANGUAGES), "")
    speak(chosen)


def _from_here(request: Request) -> bool:
    """Whether a form was sent by one of our own pages (OWASP, Cross-Site Request Forgery: verifying origin)."""
    if request.method in ("GET", "HEAD"):
        return True
    origin = request.headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc == request.headers.get("host", "")


def _path(wish: str) -> str:
    """A path of the console, whatever was asked for: nobody is sent elsewhere."""
    path = wish.removeprefix("/console")
    safe = path.startswith("/") and not path.startswith("//") and "\\" not in path
    return path if safe else "/"
