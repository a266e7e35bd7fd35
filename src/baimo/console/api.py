"""The admin API as one signed-in person sees it: every page gets what it shows, and does what it does, through here.

Prevents the failure of admin pages that read the database by themselves: a check that the API has and the page forgot.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Refused(Exception):
    """The API says no, in the reader's words."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(str(error.get("message", status)))
        self.status = status
        self.code = str(error.get("code", ""))
        """The same in every language."""
        self.message = str(error.get("message", status))
        self.hint = error.get("hint")
        """What to do next."""
        self.field = str(error.get("field") or "").lstrip("/")
        """Field of the form that it is about."""


class Answer(NamedTuple):
    """What the API answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Api:
    """Calls the application in this process as a client would."""

    def __init__(self, app: ASGIApp, scope: Scope, credential: str, language: str) -> None:
        """
        Args:
            app: what answers.
            scope: of the browser's request: addresses, and the state of the application.
            credential: of a session or key; empty = nobody has signed in.
            language: of messages.
        """
        self._app = app
        self._scope = scope
        self._credential = credential
        self._language = language

    async def get(self, path: str, /, **query: Any) -> Any:
        """What is there; see `send`."""
        return await self.send("GET", path, query=query)

    async def post(self, path: str, body: Mapping[str, Any] | None = None, /) -> Any:
        """Make or do something; see `send`."""
        return await self.send("POST", path, body=body or {})

    async def patch(self, path: str, body: Mapping[str, Any], /) -> Any:
        """Change something; see `send`."""
        return await self.send("PATCH", path, body=body)

    async def delete(self, path: str, /, **query: Any) -> Any:
        """Take something away; see `send`."""
        return await self.send("DELETE", path, query=query)

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """One call; its answer's JSON.

        Args:
            method: upper case.
            path: with its names already in it (`named`).
            query: None and empty values are not sent; a sequence is repeated.
            body: sent as JSON.

        Raises:
            Refused: the API says no.
        """
        return _read(await self.raw(method, path, query=query, body=body))

    async def raw(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """One call, whatever it answers; arguments as of `send`."""
        sent = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        return await _answered(
            self._app, self._asking(method, path, query, body is not None, len(sent)), sent
        )

    async def upload(self, path: str, fields: Mapping[str, str], name: str, data: bytes) -> Any:
        """Send a form with a file in it, as `file` (RFC 7578); the answer's JSON.

        Args:
            path: of the operation.
            fields: the other fields.
            name: of the file; what a form cannot hold is replaced.
            data: the file.

        Raises:
            Refused: the API says no.
        """
        mark = secrets.token_hex(16)
        safe = re.sub(r'["\\\x00-\x1f\x7f]', "_", name) or "file"
        parts = [
            f'--{mark}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
            for field, value in fields.items()
        ]
        head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{safe}"\r\n\r\n'
        body = b"".join((*parts, head.encode(), data, f"\r\n--{mark}--\r\n".encode()))
        asking = self._asking("POST", path, None, False, 0)
        asking["headers"] += [
            (b"content-type", b"multipart/form-data; boundary=" + mark.encode()),
            (b"content-length", b"%d" % len(body)),
        ]
        return _read(await _answered(self._app, asking, body))

    def forwarded(self, path: str, *, query: Mapping[str, Any], accept: str = "") -> Response:
        """The answer to a GET as it comes, however long it is.

        Args:
            path, query: as of `send`.
            accept: the form that is wanted, where there are several.
        """
        asking = self._asking("GET", path, query, False, 0)
        asking["headers"].append((b"accept", accept.encode("latin-1", "replace")))
        return _Forwarded(self._app, asking)

    def _asking(
        self, method: str, path: str, query: Mapping[str, Any] | None, has_body: bool, length: int
    ) -> Scope:
        said = {name: value for name, value in (query or {}).items() if value not in (None, "", ())}
        headers = [(b"host", b"console"), (b"accept-language", self._language.encode())]
        if self._credential:
            headers.append((b"authorization", f"Bearer {self._credential}".encode("latin-1", "replace")))
        if has_body:
            headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
        keys = ("type", "asgi", "http_version", "scheme", "client", "server", "state")
        return {name: self._scope[name] for name in keys if name in self._scope} | {
            "method": method,
            "path": path,
            "raw_path": quote(path).encode(),
            "root_path": "",
            "query_string": urlencode(said, doseq=True).encode(),
            "headers": headers,
        }


def named(path: str, **names: str) -> str:
    """A path with names of things in it, which may hold anything: `named("/api/keys/{key}", key=…)`."""
    return path.format_map({name: quote(value, safe="/") for name, value in names.items()})


class _Forwarded(Response):
    """Lets the application answer the browser itself, to another question."""

    def __init__(self, app: ASGIApp, asking: Scope) -> None:
        super().__init__()
        self._app = app
        self._asking = asking

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extra = [pair for pair in self.raw_headers if pair[0] == b"set-cookie"]

        async def passed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self._app(self._asking, receive, passed)


def _read(answer: Answer) -> Any:
    data: Any = json.loads(answer.body or b"{}")
    if answer.status >= 400:
        raise Refused(answer.status, data["error"])
    return data


async def _answered(app: ASGIApp, scope: Scope, body: bytes) -> Answer:
    status, headers, pieces = 500, dict[str, str](), list[bytes]()
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = int(message["status"])
            headers.update({name.decode().lower(): value.decode() for name, value in message["headers"]})
        elif message["type"] == "http.response.body":
            pieces.append(message.get("body", b""))

    await app(scope, receive, send)
    return Answer(status, headers, b"".join(pieces))
