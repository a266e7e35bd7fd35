"""Whatever bytes a file holds: a Task, or a TaskError that can be shown in both languages."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baimo.errors import TaskError
from baimo.evals.tasks.check import check
from baimo.evals.tasks.folder import load_task
from baimo.evals.tasks.formats.recognise import NAMES

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".yaml", ".toml", ".txt", ".parquet", ".jsonl.gz", "")
KEYS = (
    *("input", "target", "id", "group", "metadata", "messages", "tools", "fields", "ideal", "item", "sample"),
    *("conversations", "instruction", "output", "vars", "assert", "role", "content", "from", "value", "type"),
    *(
        "tests",
        "prompts",
        "providers",
        "defaultTest",
        "scenarios",
        "config",
        "options",
        "threshold",
        "weight",
    ),
    *(
        "tool_calls",
        "function",
        "name",
        "arguments",
        "parameters",
        "question",
        "answer",
        "__expected",
        "system",
    ),
)
WORDS = st.sampled_from(
    [
        "user",
        "assistant",
        "human",
        "contains",
        "assert-set",
        "not-regex",
        "is-json",
        "{{ input }}",
        "{{",
        "file://x",
        "[",
        "é",
    ]
)
NAMED = st.sampled_from(KEYS) | st.text(max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMED, inner, max_size=6),
    max_leaves=20,
)
RECORDS = st.lists(
    st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=6), min_size=1, max_size=4
)
QUIET = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=150,
)


def _loads_or_complains(content: bytes, suffix: str, format: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test.jsonl").write_text('{"input": "x", "target": "y"}')
        (Path(folder) / "b.json").write_text('{"type": "string"}')
        path = Path(folder) / f"file{suffix}"
        path.write_bytes(content)
        try:
            task = load_task(path, format=format)
        except TaskError as error:
            assert str(error) and isinstance(error.hint, str)
            return
        assert task.examples and len(task.hash) == 64
        assert len({example.id for example in task.examples}) == len(task.examples)
        assert all(finding.detail for finding in check(task))


@QUIET
@given(content=st.binary(max_size=200), suffix=st.sampled_from(SUFFIXES))
def test_any_bytes_are_a_task_or_a_task_error(content: bytes, suffix: str) -> None:
    _loads_or_complains(content, suffix)


@QUIET
@given(
    text=st.text(alphabet="{}[]\":,\n\r\t -#&*!|>%@`ab1é中\ufeff\0'=", max_size=80),
    suffix=st.sampled_from(SUFFIXES),
)
def test_any_text_is_a_task_or_a_task_error(text: str, suffix: str) -> None:
    _loads_or_complains(text.encode(), suffix)


@settings(QUIET, max_examples=400)
@given(records=RECORDS, format=st.sampled_from(["", *NAMES]), as_array=st.booleans())
def test_any_json_is_a_task_or_a_task_error(
    records: list[dict[str, Any]], format: str, as_array: bool
) -> None:
    if as_array:
        content, suffix = json.dumps(records), ".json"
    else:
        content, suffix = "".join(json.dumps(record) + "\n" for record in records), ".jsonl"
    _loads_or_complains(content.encode(), suffix, format)


@QUIET
@given(config=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6), tests=RECORDS)
def test_any_configuration_is_a_task_or_a_task_error(config: dict[str, Any], tests: list[Any]) -> None:
    _loads_or_complains(json.dumps({**config, "tests": tests}).encode(), ".yaml")


@QUIET
@given(
    tables=st.dictionaries(
        st.sampled_from(["[data]", "[prompt]", "[[prompts]]", "[[scorers]]", "[[candidates]]", "[sampling]"]),
        st.dictionaries(
            st.sampled_from(
                ["name", "test", "few_shot", "json_schema", "model", "stop", "user", "prompt", "schema"]
            ),
            st.sampled_from(
                ['"exact"', "1", "[]", "{}", "{count = 1}", "true", '"b.json"', '""', "1979-05-27", "inf"]
            ),
            max_size=2,
        ),
    )
)
def test_any_task_toml_is_a_task_or_a_task_error(tables: dict[str, dict[str, str]]) -> None:
    lines = [
        [header, *(f"{key} = {value}" for key, value in keys.items())] for header, keys in tables.items()
    ]
    _loads_or_complains("\n".join(line for table in lines for line in table).encode(), ".toml")


@pytest.mark.parametrize("depth", [500, 50_000])
def test_nesting_without_end_is_a_task_error(tmp_path: Path, depth: int) -> None:
    for name, opening, closing in (("a.json", "[", "]"), ("a.yaml", "[", "]"), ("a.toml", "a = " + "[", "]")):
        path = tmp_path / name
        path.write_text(opening + "[" * depth + "]" * depth + closing)
        with pytest.raises(TaskError):
            load_task(path)
