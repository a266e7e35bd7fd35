"""docs/reference/task-format.md names every key, format, assertion and finding that there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baimo.evals.tasks.formats.asserts import CARRIED
from baimo.evals.tasks.formats.recognise import NAMES
from baimo.evals.tasks.manifest import (
    CandidateTable,
    DataTable,
    FewShotTable,
    PromptTable,
    SamplingTable,
    TaskTable,
)
from baimo.text import room

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "task-format.md"


@pytest.fixture(scope="module")
def words() -> set[str]:
    prose = re.sub(r"```.*?```", "", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"`([^`\n]+)`", prose)
    return {word.strip('"[]') for name in found for word in re.split(r"[\s,=.]+", name)}


@pytest.mark.parametrize(
    "table", [TaskTable, DataTable, PromptTable, FewShotTable, SamplingTable, CandidateTable]
)
def test_every_key_is_described(words: set[str], table: Any) -> None:
    assert {field.encode_name for field in msgspec.structs.fields(table)} - words == set()


def test_every_format_assertion_and_finding_is_described(words: set[str]) -> None:
    findings = {key.removeprefix("check_") for key in room("tasks", "en") if key.startswith("check_")}
    assert ({*NAMES} | CARRIED | findings) - words == set()
