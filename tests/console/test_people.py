"""The fixtures of the browser tests notice what they are for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.console.access import barriers
from tests.console.conftest import People
from tests.server.served import Served, served


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("house")) as endpoint:
        yield endpoint


def test_what_nobody_may_meet_is_noticed(house: Served, people: People) -> None:
    page = people(house, expected=("401",))
    page.goto("/console/models")
    assert people.complaints == [] and barriers(page) == []
    page.evaluate("document.querySelector('main').innerHTML = '<img src=\"/console/static/baimo.svg\">'")
    assert "image-alt" in barriers(page)[0]
    for act, trace in (
        ("document.head.append(Object.assign(document.createElement('script'), {text: '1'}))", "script-src"),
        ("document.body.append(Object.assign(new Image(), {src: 'https://elsewhere.example/'}))", "img-src"),
        ("setTimeout(() => { throw new Error('nobody caught this') })", "nobody caught this"),
        (
            "fetch('/v1/models', {method: 'POST'}).then(() => console.error('after a refusal'))",
            "after a refusal",
        ),
        ("location.href = 'http://127.0.0.1:9/'", "asked elsewhere"),
    ):
        people.complaints.clear()
        page.evaluate(act)
        for _ in range(1000):
            if any(trace in complaint for complaint in people.complaints):
                break
            page.wait_for_timeout(50)
        else:
            pytest.fail(f"{act} was not noticed")
        assert not any("status of 401" in complaint for complaint in people.complaints)
    page.close()
    people.complaints.clear()


def test_other_tests_may_still_run_loops_of_their_own() -> None:
    async def answer() -> int:
        return 1

    assert asyncio.run(answer()) == 1
