"""The Tasks pages: a file is looked at row by row, stored, edited, split and labelled, and everything taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baimo.console.pages.task_forms import change_of, example_form
from baimo.console.upload import sent
from tests.console.browser import Browser
from tests.server.admin.tasked import task
from tests.server.served import Served, served

CSV = """id,question,answer,tone
1,Where is my parcel?,parcel,calm
2,broken
3,Refund <b>now</b>!,refund,angry
4,a,b,c,d
3,x,y,z
5,你好,other,calm
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("house")) as endpoint:
        yield endpoint


def test_a_file_with_three_bad_rows_is_imported_edited_split_labelled_and_taken_back(
    house: Served, people: Any, tmp_path: Path
) -> None:
    (tmp_path / "mail.csv").write_text(CSV, encoding="utf-8")
    page = people(house, "engineer")
    page.goto("/console/tasks")
    page.get_by_role("link", name="New task").first.click()
    page.get_by_label("File", exact=True).set_input_files(tmp_path / "mail.csv")
    page.get_by_role("button", name="Look at it").click()
    # nothing is stored, and each bad row is named
    bad = [row.inner_text().split("\t")[0] for row in page.locator("#left-out + .wide tbody tr").all()]
    assert bad == ["3", "5", "6"]
    assert house.workspace.tasks.tasks.listed() == []
    page.get_by_text("Read it another way").click()
    page.get_by_label("Columns that are labels").fill("tone")
    page.get_by_role("button", name="Read it so").click()
    page.get_by_text("tone: angry").wait_for()
    page.get_by_label("Name", exact=True).fill("mail")
    page.get_by_role("button", name="Store 3 rows").click()
    page.locator("main", has_text="3 left out, lines 3, 5, 6").wait_for()
    # edit
    page.get_by_role("link", name="Examples").click()
    page.get_by_role("link", name="Refund <b>now</b>!").click()
    page.get_by_label("Question").fill("Give it back!")
    page.get_by_label("Labels").fill("tone=calm\nchecked=yes")
    page.get_by_role("button", name="Save").click()
    assert page.get_by_label("Question").input_value() == "Give it back!"
    # split and label
    page.get_by_role("link", name="mail", exact=True).click()
    page.get_by_label("Pick 5").check()
    page.get_by_role("button", name="To train").click()
    page.get_by_label("Pick 1").check()
    page.get_by_role("textbox", name="Label").fill("region=north")
    page.get_by_role("button", name="Label", exact=True).click()
    page.locator("td .badge", has_text="region: north").wait_for()
    kept = house.workspace.tasks.kept("mail").task
    assert ([one.id for one in kept.examples], [one.id for one in kept.train]) == (["1", "3"], ["5"])
    assert kept.examples[1].fields["question"] == "Give it back!"
    # undo
    page.get_by_role("link", name="History").click()
    page.get_by_role("link", name="2", exact=True).click()
    page.locator("ins", has_text="Give it back!").first.wait_for()
    page.get_by_role("link", name="History").click()
    page.get_by_role("button", name="Restore version 1").click()
    page.get_by_role("link", name="Examples").click()
    page.get_by_role("link", name="Refund <b>now</b>!").wait_for()
    kept = house.workspace.tasks.kept("mail").task
    assert ([one.id for one in kept.examples], kept.train) == (["1", "3", "5"], ())


def test_what_a_viewer_sees_cannot_be_changed_and_a_reviewer_may_label(house: Served) -> None:
    task(house, "", "seen")
    viewer, reviewer = Browser(house), Browser(house, "zh-CN")
    viewer.sign_in(house.key(role="viewer"))
    reviewer.sign_in(house.key(role="reviewer"))
    for page in ("", "/about", "/check", "/history", "/examples/1?split=test"):
        html = viewer.get(f"/console/tasks/seen{page}").html
        assert 'name="act"' not in html, page
        assert "任务" in reviewer.get(f"/console/tasks/seen{page}").html
    assert viewer.post("/console/tasks/seen/examples/1", expected="x").status == 403
    saved = reviewer.post("/console/tasks/seen/examples/1", expected="right", labels="ok=yes", act="save")
    assert saved.status == 200 and "right" in saved.html
    assert reviewer.post("/console/tasks/seen/examples/1", act="delete").status == 403
    assert reviewer.post("/console/tasks/seen/new", input="more?", expected="yes").status == 200
    assert len(house.workspace.tasks.kept("seen").task.examples) == 3


def test_what_cannot_be_done_is_said_on_the_page_and_what_was_typed_stays(house: Served) -> None:
    task(house, "", "firm")
    browser = Browser(house)
    browser.sign_in(house.key(role="engineer"))
    shown = browser.post("/console/tasks/firm/about", act="copy", name="../x")
    assert shown.status == 400 and "cannot be the name" in shown.html
    assert browser.post("/console/tasks/firm/new", input="").status == 400
    assert browser.post("/console/tasks/firm/about", act="split", share="99").status in (200, 400)
    assert browser.get("/console/tasks/other").status == 404
    assert browser.get("/console/tasks/firm/history/77").status == 404
    assert browser.get("/console/tasks/+files/up_none").status == 404


def test_only_what_was_changed_in_a_form_is_sent() -> None:
    one = {
        "id": "1",
        "split": "test",
        "fields": {"input": "a\nb", "question": "a\nb", "count": 3},
        "messages": [],
        "expected": {"kind": "x"},
        "labels": {"tone": "calm", "size": 2},
        "group": None,
    }
    form = example_form(one)
    assert (form.input, form.fields, form.is_json) == ("a\nb", [("count", "3")], True)
    same = {"input": "a\r\nb", "expected": form.expected, "labels": form.labels, "split": "test", "group": ""}
    assert change_of(one, same, whole=True) == {}
    changed = {
        "expected": '{"kind": "y"}',
        "labels": "tone=loud\nnew=1",
        "field-count": "4",
        "split": "train",
    }
    assert change_of(one, same | changed, whole=True) == {
        "expected": {"kind": "y"},
        "labels": {"tone": "loud", "new": "1", "size": None},
        "fields": {"input": "a\nb", "question": "a\nb", "count": 4},
        "to": "train",
    }
    assert change_of(one, same | {"expected": "", "input": "other"}, whole=False) == {"clear": ["expected"]}
    talk = {**one, "fields": {"input": "q"}, "messages": [{"role": "user", "content": "q"}]}
    turned = {"role-0": "user", "content-0": "Q?", "split": "test"}
    assert change_of(talk, turned, whole=True) == {"messages": [{"role": "user", "content": "Q?"}]}


def test_the_fields_and_files_of_a_sent_form_are_read_byte_for_byte() -> None:
    import asyncio

    from starlette.requests import Request

    data = bytes(range(256)) + b"\r\n--other\r\n"
    body = b'--b1\r\nContent-Disposition: form-data; name="split"\r\n\r\n train \r\n'
    body += b'--b1\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n'
    body += b"Content-Type: text/csv\r\n\r\n" + data + b"\r\n--b1--\r\n"

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    def asked(kind: str) -> Any:
        headers = [(b"content-type", kind.encode())]
        request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
        return asyncio.run(sent(request))

    found = asked("multipart/form-data; boundary=b1")
    assert found.fields == {"split": "train"} and found.files["file"] == ("a.csv", data)
    assert asked("application/x-www-form-urlencoded") is None
    assert asked("multipart/form-data; boundary=xx") == ({}, {})
