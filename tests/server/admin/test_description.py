from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from baimo.server.admin.describing import EXAMPLES, document
from baimo.server.admin.page import page
from baimo.server.admin.refusals import preferred
from baimo.server.admin.table import OPERATIONS
from baimo.text import speak
from tests.server.served import Served

HAN = re.compile(r"[\u4e00-\u9fff]")


def test_ids_paths_and_methods_are_unique() -> None:
    assert len({one.id for one in OPERATIONS}) == len(OPERATIONS)
    assert len({(one.method, one.path) for one in OPERATIONS}) == len(OPERATIONS)


def test_every_field_that_can_be_sent_is_explained() -> None:
    silent: list[str] = []
    for methods in document(OPERATIONS)["paths"].values():
        for one in methods.values():
            body = one.get("requestBody", {"content": {"application/json": {"schema": {}}}})
            fields = body["content"]["application/json"]["schema"].get("properties", {})
            fields = {**fields, **{field["name"]: field["schema"] for field in one["parameters"]}}
            silent += [
                f"{one['operationId']}.{name}"
                for name, field in fields.items()
                if not field.get("description")
            ]
    assert silent == []


def test_every_reference_leads_somewhere() -> None:
    described = document(OPERATIONS)
    references = set(re.findall(r"'\$ref': '#/components/(\w+)/(\w+)'", str(described)))
    assert references
    for kind, name in references:
        assert name in described["components"][kind]


def test_examples_are_of_operations_that_exist_and_are_taken(house: Served) -> None:
    admin = house.key(role="admin")
    assert EXAMPLES.keys() <= {one.id for one in OPERATIONS}
    house.tenant("audited")
    for id, body in EXAMPLES.items():
        operation = next(one for one in OPERATIONS if one.id == id)
        key = (
            house.key(tenant="research" if id.startswith("keys") else "audited")[3:15]
            if id != "tenants_create"
            else ""
        )
        path = operation.path.replace("{id}", "research").replace("{key}", key)
        said = house.call(operation.method, path, admin, dict(body))
        assert said.status == operation.status, (id, said.body)


def test_the_description_comes_in_the_readers_language(house: Served) -> None:
    key = house.key()
    chinese = house.call(
        "GET", "/api/openapi.json", key, headers={"accept-language": "zh-CN,zh;q=0.9,en;q=0.8"}
    )
    english = house.call(
        "GET", "/api/openapi.json", key, headers={"accept-language": "en-GB,en;q=0.9,zh;q=0.1"}
    )
    for path, methods in chinese.data["paths"].items():
        for method, one in methods.items():
            assert HAN.search(one["summary"])
            assert not HAN.search(english.data["paths"][path][method]["summary"])


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("", ""),
        ("zh", "zh"),
        ("zh-TW,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.5,zh;q=0.4", "en"),
        ("fr, de;q=0.9", ""),
        ("fr, zh;q=0.2", "zh"),
        ("en;q=0, zh;q=0.1", "zh"),
        ("*", ""),
        ("en;q=x, zh;q=;", ""),
        ("en;q=nan, zh;q=0.5", "zh"),
        ("," * 5000 + "zh", ""),
    ],
)
def test_the_language_is_the_one_that_the_reader_likes_best(accepted: str, expected: str) -> None:
    assert preferred(accepted) == expected


class Loads(HTMLParser):
    """What a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found += [
            f"{tag} {name}" for name, _ in attrs if name == "src" or name.startswith("on") or name == "style"
        ]
        self.found += [tag] if tag in ("script", "link", "iframe", "img", "object") else []
        self.links += [value for name, value in attrs if name == "href"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_loads_nothing_and_shows_every_operation(house: Served, language: str) -> None:
    said = house.call("GET", "/api/docs", house.key(), headers={"accept-language": language})
    assert said.headers["content-type"] == "text/html; charset=utf-8"
    assert said.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    text = said.body.decode()
    looked = Loads()
    looked.feed(text)
    assert (looked.found, looked.links) == ([], ["openapi.json"])
    for one in OPERATIONS:
        assert f'<section id="{one.id}">' in text
    assert bool(HAN.search(text)) is (language == "zh")


def test_nothing_in_the_description_is_taken_for_markup() -> None:
    speak("")
    described = document(OPERATIONS)
    described["info"]["description"] = "<script>alert(1)</script>"
    assert "<script>" not in page(described, "en")
