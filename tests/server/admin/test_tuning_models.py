"""Tuned models in a list: one by one, and by the job that made them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from baimo.core.tuning import Adapter
from baimo.store.adapters import Adapters
from tests.server.served import Served, served

GIVEN = (
    ("first", 10, "ready"), ("first", 20, "blocked"), ("other", None, "ready"), ("first", None, "ready"),
    ("lost", 5, "ready"), ("", None, "retired"), ("lost", 9, "candidate"),
)  # fmt: skip
"""(job, step, status) in the order in which they were made."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("house")) as endpoint:
        kept = Adapters(endpoint.workspace.store.database)
        for at, (job, step, status) in enumerate(GIVEN):
            facts: dict[str, Any] = {
                "base": "small",
                "base_hash": "",
                "folder": "",
                "parity": {"differs": ""},
            }
            facts |= {"status": status, "job": job, "step": step, "created_ms": 1, "tenant": ""}
            end = f":ckpt-step-{step}" if step else ""
            kept.put(Adapter(id=f"ad_{at}", name=f"ft:small:owner:{job}:abcdef{at}{end}", **facts))
        yield endpoint


def listed(house: Served, key: str, **asked: Any) -> Any:
    said = house.call("GET", f"/api/tuning/models?{urlencode(asked)}", key)
    assert said.status == 200, said.body
    return said.data


def grouped(page: Any) -> list[tuple[Any, ...]]:
    """Job, step, and the steps behind it."""
    return [
        (one["job"], one["step"], [each["step"] for each in one["checkpoints"]])
        for one in page["data"]
    ]  # fmt: skip


BY_JOB = [("lost", 9, [5]), (None, None, []), ("first", None, [20, 10]), ("other", None, [])]


def test_a_job_is_one_line_with_the_model_it_ended_with_first(house: Served) -> None:
    key = house.key(role="viewer")
    page = listed(house, key, by="job")
    assert grouped(page) == BY_JOB and page["next"] is None
    promotable = [each["can_promote"] for each in page["data"][2]["checkpoints"]]
    assert promotable == [False, True]


def test_one_by_one_every_model_has_its_line(house: Served) -> None:
    page = listed(house, house.key(role="viewer"))
    assert [one["step"] for one in page["data"]] == [step for _, step, _ in reversed(GIVEN)]
    assert all(one["checkpoints"] == [] for one in page["data"])


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_of_jobs_neither_leave_one_out_nor_show_it_twice(house: Served, limit: int) -> None:
    key, found, cursor = house.key(role="viewer"), list[Any](), ""
    while cursor is not None:
        page = listed(house, key, by="job", limit=limit, **({"cursor": cursor} if cursor else {}))
        found += grouped(page)
        cursor = page["next"]
    assert found == BY_JOB


@pytest.mark.parametrize(
    ("asked", "jobs"),
    [
        ({"text": "ckpt-step-10"}, ["first"]),
        ({"text": "OTHER"}, ["other"]),
        ({"status": "blocked"}, ["first"]),
        ({"status": "retired"}, [None]),
        ({"status": "ready", "text": "step-20"}, []),
    ],
)
def test_a_job_is_found_by_any_of_its_models(house: Served, asked: Any, jobs: list[Any]) -> None:
    page = listed(house, house.key(role="viewer"), by="job", **asked)
    assert [one["job"] for one in page["data"]] == jobs
