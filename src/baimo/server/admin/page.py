"""/api/docs: the OpenAPI document as one page that loads nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from baimo.text import text

STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:0 auto;padding:1rem}
section{border-top:1px solid #8886;padding:.5rem 0}
h2{margin-top:2.5rem;text-transform:capitalize}
h3{font-size:1rem;margin:.5rem 0;overflow-wrap:anywhere}
code,pre{font-family:ui-monospace,monospace;font-size:.9em}
pre{overflow-x:auto;padding:.75rem;border:1px solid #8886;border-radius:.4rem}
.method{display:inline-block;min-width:4rem;font-weight:700}
.note{opacity:.8}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.2rem .75rem .2rem 0;border-bottom:1px solid #8883}
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Content-Security-Policy of the page."""


def page(document: Mapping[str, Any], locale: str) -> str:
    """The page.

    Args:
        document: OpenAPI.
        locale: language of its texts.
    """
    info = document["info"]
    parts = [
        f'<!doctype html><html lang="{escape(locale)}"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(info['title'])} API</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{escape(info['title'])} API {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])}</p>",
        '<p><a href="openapi.json">openapi.json</a></p>',
    ]
    for tag in document["tags"]:
        parts.append(f"<h2>{escape(tag['name'])}</h2>")
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag["name"]]:
                    parts.extend(_operation(method, path, operation))
    return "".join([*parts, "</main></body></html>"])


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    name = escape(operation["operationId"])
    yield f'<section id="{name}"><h3><span class="method">{method.upper()}</span> <code>{escape(path)}</code></h3>'
    yield f'<p>{escape(operation["summary"])}</p><p class="note">{escape(operation["description"])}</p>'
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = body.get("schema", {})
    rows = [(one["name"], one["schema"], one["required"]) for one in operation["parameters"]] + [
        (field, one, field in schema.get("required", ()))
        for field, one in schema.get("properties", {}).items()
    ]
    if rows:
        heads = (text("admin.head_field"), text("admin.head_type"), text("admin.head_meaning"))
        yield (
            "<table><thead><tr>"
            + "".join(f"<th>{escape(head)}</th>" for head in heads)
            + "</tr></thead><tbody>"
        )
        for field, one, required in rows:
            mark = " *" if required else ""
            words = escape(one.get("description", ""))
            yield f"<tr><td><code>{escape(field)}</code>{mark}</td><td>{escape(_type(one))}</td><td>{words}</td></tr>"
        yield "</tbody></table>"
    if "example" in body:
        yield f"<pre>{escape(json.dumps(body['example'], ensure_ascii=False, indent=2))}</pre>"
    yield "</section>"


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(str(one) for one in schema["enum"])
    if schema.get("type") == "array":
        return f"[{_type(schema['items'])}]"
    return str(schema.get("type", ""))
