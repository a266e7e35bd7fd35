"""The description of the API, made from the same table that serves it: OpenAPI 3.1, and a page for people.

Source: spec.openapis.org/oas/v3.1.1. Schemas are JSON Schema 2020-12, which is what msgspec makes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

import baimo
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.server.admin.page import POLICY, page
from baimo.server.admin.reading import hints, needed
from baimo.server.admin.refusals import Refusal
from baimo.text import has, language, text

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "tenants_create": {"id": "research", "title": "Research", "limit": ["cost=200/month"]},
    "tenants_change": {"limit": ["cost=300/month", "concurrency=16"], "keep_contents": "on"},
    "keys_create": {
        "tenant": "research",
        "label": "search service",
        "model": ["deepseek/*"],
        "limit": ["cost=20/month", "requests=60/minute"],
        "tag": ["team=search"],
        "expires": "90d",
    },
    "keys_change": {"limit": ["cost=40/month"], "clear": ["expires"]},
    "keys_rotate": {"grace": "7d"},
    "ledger_verify": {"anchor": []},
}
"""Bodies that work, by operation."""
ALWAYS = (400, 401, 403, 405, 413, 500, 503)
"""Statuses with which every operation may refuse."""
_REF = "#/components/schemas/{name}"


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The OpenAPI document, in the reader's language."""
    operations = tuple(operations)
    kinds = list(
        dict.fromkeys([Refusal, *(one.gives for one in operations), *(one.takes for one in operations)])
    )
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        described = _operation(one, schemas[one.takes.__name__])
        paths.setdefault(re.sub(r":path\}", "}", one.path), {})[one.method.lower()] = described
    inputs = {one.takes.__name__ for one in operations}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "baimo",
            "version": baimo.__version__,
            "description": text("admin.about"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(one.tag for one in operations)],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in schemas.items() if name not in inputs},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": text("admin.key_scheme")}
            },
            "responses": {
                "Refused": {
                    "description": text("admin.refused"),
                    "content": {"application/json": {"schema": {"$ref": _REF.format(name="Refusal")}}},
                }
            },
        },
    }


def inputs(operation: Operation, schema: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Field → its schema with a description; without null, which nobody needs to send."""
    found: dict[str, dict[str, Any]] = {}
    for name, described in schema.get("properties", {}).items():
        one = dict(described)
        choices = [choice for choice in one.pop("anyOf", ()) if choice != {"type": "null"}]
        if choices:
            one = {**one, **choices[0]} if len(choices) == 1 else {**one, "anyOf": choices}
        if one.get("default", ...) is None:
            del one["default"]
        if words := _words(operation, name):
            one["description"] = words
        found[name] = one
    return found


def in_path(operation: Operation) -> list[str]:
    """The fields that stand in the path."""
    return re.findall(r"\{(\w+)", operation.path)


def _operation(operation: Operation, schema: Mapping[str, Any]) -> dict[str, Any]:
    fields, path = inputs(operation, schema), in_path(operation)
    body = operation.method in ("POST", "PATCH")
    parameters = [
        {
            "name": name,
            "in": "path" if name in path else "query",
            "required": name in (*path, *needed(operation.takes)),
            "schema": one,
        }
        for name, one in fields.items()
        if name in path or not body
    ]
    made: dict[str, Any] = {
        "operationId": operation.id,
        "summary": text(operation.summary),
        "description": _rights(operation),
        "tags": [operation.tag],
        "parameters": parameters,
        "responses": _responses(operation),
        "x-role": operation.role,
        "x-owners": operation.owners,
    }
    rest = {name: one for name, one in fields.items() if name not in path}
    if body and rest:
        made["requestBody"] = _body(operation, rest)
    return made


def _body(operation: Operation, fields: Mapping[str, Any]) -> dict[str, Any]:
    required = [name for name in needed(operation.takes) if name in fields]
    schema: dict[str, Any] = {"type": "object", "properties": fields, "additionalProperties": False}
    if required:
        schema["required"] = required
    content: dict[str, Any] = {"schema": schema}
    if operation.id in EXAMPLES:
        content["example"] = EXAMPLES[operation.id]
    return {"required": bool(required), "content": {"application/json": content}}


def _responses(operation: Operation) -> dict[str, Any]:
    given: dict[str, Any] = {"$ref": _REF.format(name=operation.gives.__name__)}
    if operation.gives is Nothing:
        given = {"type": "object"}
    content: dict[str, Any] = {}
    for media in operation.media:
        lines = {"schema": {"type": "string"}, "x-line": given}
        content[media] = {"schema": given} if media == "application/json" else lines
    refused = {
        str(status): {"$ref": "#/components/responses/Refused"}
        for status in sorted({*ALWAYS, *operation.errors})
    }
    return {str(operation.status): {"description": text(operation.summary), "content": content}, **refused}


def _rights(operation: Operation) -> str:
    words = text("admin.wants_role", role=operation.role)
    return f"{words} {text('admin.wants_owner')}" if operation.owners else words


def _words(operation: Operation, field: str) -> str:
    """What the command line says of the field, unless it means something else here."""
    own, shared = f"admin.field_{field}", f"options.{operation.tag}_{field}"
    paged = field == "limit" and "cursor" in hints(operation.takes)
    known = [key for key in ((own, shared) if paged or field == "key" else (shared, own)) if has(key)]
    return text(known[0]) if known else ""


@functools.cache
def _encoded(_: str) -> bytes:
    from baimo.server.admin.table import OPERATIONS

    return msgspec.json.encode(document(OPERATIONS))


@functools.cache
def _page(locale: str) -> bytes:
    from baimo.server.admin.table import OPERATIONS

    return page(document(OPERATIONS), locale).encode()


def _openapi(asking: Asking, _: Nothing) -> Response:
    del asking
    return Response(_encoded(language()), media_type="application/json")


def _docs(asking: Asking, _: Nothing) -> Response:
    del asking
    return Response(_page(language()), headers={"content-security-policy": POLICY}, media_type="text/html")


DESCRIBING = (
    Operation(
        method="GET", path="/api/openapi.json", role="app", gives=Nothing, does=_openapi, tag="description",
        summary="admin.openapi", browser=True,
    ),
    Operation(
        method="GET", path="/api/docs", role="app", gives=Nothing, does=_docs, tag="description",
        summary="admin.docs", media=("text/html",), browser=True,
    ),
)  # fmt: skip
