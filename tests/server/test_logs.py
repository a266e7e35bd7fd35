from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.tenant import Tenant
from baimo.errors import BaimoError
from baimo.server.logs import MOST_FAILURES, Form, Lines, Repeats, configure, shown
from baimo.settings import ObserveSettings
from tests.gateway.doubles import House, Script, answer, asking, key

SECRET = "bm-abcdef123456-" + "s" * 48


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Logging as it was: other tests have a log, too."""
    root = logging.getLogger()
    level = root.level
    yield
    for handler in [one for one in root.handlers if isinstance(one.formatter, Form)]:
        root.removeHandler(handler)
    root.setLevel(level)


def written(form: Any = "json", **settings: Any) -> io.StringIO:
    stream = io.StringIO()
    configure(ObserveSettings(log=form, **settings), stream)
    return stream


def rows(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_call_that_went_well_has_a_line_only_where_that_is_wanted() -> None:
    stream = written()
    House(Script(body=answer()), observer=Lines(access=False)).ask()
    assert rows(stream) == []
    House(Script(body=answer("the answer")), observer=Lines(access=True)).ask(asking(text="the question"))
    (row,) = rows(stream)
    assert (row["request"], row["key"], row["tenant"]) == ("req-1", "abcdef123456", "t")
    assert (row["model"], row["status"], row["http"]) == ("acme/one", "ok", 200)
    assert (row["tokens_in"], row["tokens_out"], row["cost"], row["currency"]) == (10, 5, "0.00002", "USD")
    assert row["ms"] >= 0 and row["record"]
    assert "the question" not in stream.getvalue() and "the answer" not in stream.getvalue()


def test_a_call_that_failed_has_one_line_without_the_vendors_words() -> None:
    stream = written()
    body = b'{"error": {"message": "your prompt was: the question"}}'
    House(Script(status=500, body=body), observer=Lines(access=False)).ask(asking(text="the question"))
    failed = [row for row in rows(stream) if row["message"] == "call failed"]
    assert [(row["status"], row["http"], row["level"]) for row in failed] == [
        ("providers.server_error", 502, "warning")
    ]
    attempts = [row for row in rows(stream) if row["message"] == "attempt failed"]
    assert [(row["model"], row["reason"], row["kind"]) for row in attempts] == [
        ("acme/one", "providers.server_error", "error")
    ]
    assert "the question" not in stream.getvalue()


def test_a_refused_call_has_a_line() -> None:
    stream = written()
    House(Script(body=answer()), observer=Lines(access=False)).ask(asking("nobody/nothing"))
    (row,) = rows(stream)
    assert (row["message"], row["reason"], row["http"]) == ("call refused", "gateway.unknown", 404)


def test_an_unknown_price_is_said_once_in_a_while_with_how_often_it_was_not_said() -> None:
    stream, now = written(), [0.0]
    handler = next(one for one in logging.getLogger().handlers if isinstance(one.formatter, Form))
    handler.filters[:] = [Repeats(lambda: now[0], again_s=60.0)]
    house = House(Script(body=answer()), observer=Lines(access=False))
    for _ in range(5):
        house.ask(asking("acme/unpriced"))
    now[0] = 61.0
    house.ask(asking("acme/unpriced"))
    first, second = rows(stream)
    assert "price of acme/unpriced is not known" in first["message"]
    assert "left_out" not in first
    assert second["left_out"] == 4


def test_a_missing_usage_is_said() -> None:
    stream = written()
    House(Script(body=answer(usage=None)), observer=Lines(access=False)).ask()
    assert ["reports no usage" in row["message"] for row in rows(stream)] == [True]


def test_many_failures_in_a_second_are_counted_and_not_written() -> None:
    stream, now = written(), [0.0]
    lines, house = Lines(access=False, now=lambda: now[0]), House()
    call = house.call()
    from baimo.store.entry import Entry

    failed = Entry(id="r", surface="chat", status="providers.server_error")
    grant: Any = None
    for _ in range(MOST_FAILURES + 7):
        lines.settled(call, grant, failed, 0.0)
    now[0] = 1.0
    lines.settled(call, grant, failed, 0.0)
    found = rows(stream)
    assert [row["left_out"] for row in found if row["message"] == "more calls failed"] == [7]
    assert len([row for row in found if row["message"] == "call failed"]) == MOST_FAILURES + 1


@given(st.text())
def test_whatever_a_client_sends_stays_within_its_line_and_its_field(words: str) -> None:
    record = logging.LogRecord("baimo.x", logging.INFO, "", 0, "said: %s", (words,), None)
    record.facts = {"asked": words}
    line = Form("text").format(record)
    assert line.splitlines() == [line]
    assert line.isprintable() or not any(ord(one) < 32 or 127 <= ord(one) < 160 for one in line)
    whole = Form("json").format(record)
    assert whole.splitlines() == [whole]
    assert json.loads(whole)["asked"] == shown(words)


def test_a_forged_line_is_shown_as_what_it_is() -> None:
    stream = written("text", access_log=True)
    forged = "x\n2026-11-22T00:00:00.000Z warning baimo.calls: call failed key=\u202eadmin\x1b[31m"
    House(Script(body=answer()), observer=Lines(access=True)).ask(asking("acme/one"), key=key(tags=()))
    logging.getLogger("baimo.calls").warning("call", extra={"facts": {"asked": forged}})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "asked=acme/one" in lines[0]
    assert r"x\x0a2026" in lines[1] and "\x1b" not in lines[1] and "\u202e" not in lines[1]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (f"key {SECRET} is wrong", "key bm-abcdef123456-*** is wrong"),
        ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer ***"),
        ("used sk-proj1234567890abcdef", "used sk-pro***"),
        ("postgresql://baimo:hunter22@db/x", "postgresql://***@db/x"),
        ("the key abcdef123456 is revoked", "the key abcdef123456 is revoked"),
    ],
)
def test_what_looks_like_a_secret_is_not_written(said: str, kept: str) -> None:
    stream = written()
    logging.getLogger("uvicorn.error").warning(said)
    assert rows(stream)[0]["message"] == kept


def test_a_fault_is_told_by_kind_and_place_and_not_by_its_message() -> None:
    stream = written()
    try:
        try:
            raise ValueError("the prompt")
        except ValueError as error:
            raise KeyError("the answer") from error
    except KeyError:
        logging.getLogger("baimo.x").exception("it broke")
    (row,) = rows(stream)
    assert (
        "KeyError at " in row["fault"]
        and "from ValueError at " in row["fault"]
        and "test_logs.py:" in row["fault"]
    )
    assert "the prompt" not in stream.getvalue() and "the answer" not in stream.getvalue()


def test_uvicorn_speaks_in_the_same_form_and_repeats_of_libraries_are_held_back() -> None:
    stream = written("text")
    logging.getLogger("uvicorn.error").info("Started server process")
    for _ in range(3):
        logging.getLogger("some.library").error("Failed to export %s", "spans")
    first, second = stream.getvalue().splitlines()
    assert first.endswith("info    uvicorn.error: Started server process")
    assert second.endswith("error   some.library: Failed to export spans")


def test_the_level_and_off_are_heeded_and_configuring_twice_writes_once() -> None:
    stream = written(log_level="warning")
    configure(ObserveSettings(log="json", log_level="warning"), stream)
    logging.getLogger("baimo.x").info("not this")
    logging.getLogger("baimo.x").warning("this")
    assert [row["message"] for row in rows(stream)] == ["this"]
    silent = written("off")
    logging.getLogger("baimo.x").error("nothing")
    assert silent.getvalue() == ""


def test_breakers_are_told_in_words() -> None:
    stream = written()
    lines = Lines(access=False)
    for state in ("open", "half_open", "closed"):
        lines.breaker("acme/one", state)  # type: ignore[arg-type]
    assert [row["level"] for row in rows(stream)] == ["warning", "info", "info"]
    assert rows(stream)[0]["message"].startswith("acme/one")


def test_refusals_of_one_key_for_one_reason_are_held_back_unless_every_request_is_wanted() -> None:
    for access, lines in ((False, 2), (True, 4)):
        stream = written()
        writes = Lines(access=access)
        for public in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
            for _ in range(2):
                one = key()
                who: Any = type(one)(public=public)
                asked = House(Script()).call()
                writes.refused(BaimoError("gateway.unknown", name="x"), "chat", who, Tenant(id="t"), asked)
        assert len(rows(stream)) == lines
        assert {row["request"] for row in rows(stream)} == {"req-1"}


def test_the_text_form_is_one_line_of_words_and_pairs() -> None:
    stream = written("text")
    logging.getLogger("baimo.x").warning(
        "plain", extra={"facts": {"a": 1, "b": None, "c": "two words", "d": ""}}
    )
    assert stream.getvalue().rstrip().endswith('plain a=1 c="two words" d=""')
