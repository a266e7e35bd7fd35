"""Where a page of a list begins."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.served import Served, served


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("house")) as endpoint:
        yield endpoint


@pytest.mark.parametrize(
    ("path", "field", "start"),
    [
        ("/v1/files", "after", "file-"),
        ("/v1/batches", "after", "batch_"),
        ("/v1/messages/batches", "after_id", "msgbatch_"),
        ("/v1/messages/batches", "before_id", "msgbatch_"),
        ("/v1/fine_tuning/jobs", "after", "ftjob-"),
        ("/v1/evals", "after", "eval_"),
    ],
)
def test_a_page_begins_behind_an_id_of_the_kind_even_of_what_is_gone(
    house: Served, path: str, field: str, start: str
) -> None:
    key = house.key()
    for wrong in ("nope", "other_01jd3k", start[:-1]):
        said = house.call("GET", f"{path}?{field}={wrong}", key)
        assert (
            said.status == 400 and f"{field} is {wrong}; it must be {start}" in said.data["error"]["message"]
        )
    for fine in (f"{start}01jd3kgone", ""):
        said = house.call("GET", f"{path}?{field}={fine}", key)
        assert (said.status, said.data["data"]) == (200, [])
