"""Public data sets of different shapes load with a mapping, or without one."""

from __future__ import annotations

from pathlib import Path

from baimo.evals.tasks.check import check
from baimo.evals.tasks.folder import load_task
from baimo.evals.tasks.formats.columns import Columns


def test_classification_needs_no_mapping(shared_data: Path) -> None:
    task = load_task(shared_data / "banking77_test.jsonl")
    assert (len(task.examples), task.scorers[0].name, len(task.scorers[0].args["labels"])) == (
        3080,
        "choice",
        77,
    )


def test_word_problems_are_numeric(shared_data: Path) -> None:
    task = load_task(shared_data / "gsm8k_test.jsonl")
    assert (len(task.examples), task.examples[0].target, task.scorers[0].name) == (1319, "18", "numeric")
    assert [finding.kind for finding in check(task) if finding.severity == "error"] == []


def test_reading_comprehension_is_unpacked_and_keeps_its_passage(shared_data: Path) -> None:
    task = load_task(shared_data / "cmrc2018_dev.jsonl.gz", columns=Columns(group="title"))
    assert (len(task.examples), task.examples[0].target[0]) == (3219, "光荣和ω-force")
    assert "战国无双" in task.examples[0].fields["context"] and task.examples[0].group == "战国无双3"


def test_function_calls_bring_their_tools(shared_data: Path) -> None:
    columns = Columns(tools="functions", target="expected", metadata=("category",))
    task = load_task(shared_data / "bfcl_v4_live.jsonl.gz", columns=columns)
    assert (len(task.examples), task.scorers[0].name) == (2251, "tool_calls")
    assert all(example.messages for example in task.examples)
    assert sum(not example.tools for example in task.examples) < 10
    assert all(
        (tool.parameters or {}).get("type") != "dict" for example in task.examples for tool in example.tools
    )
    missing = [finding for finding in check(task) if finding.kind == "no_reference"]
    assert len(missing[0].places) == 900


def test_intents_make_one_reference_of_two_columns(shared_data: Path) -> None:
    columns = Columns(input="sentence", target=("intent", "slots"), group="group", metadata=("lang",))
    task = load_task(shared_data / "ha_intents_dev.jsonl", columns=columns)
    assert len(task.examples) == 3972 and task.examples[0].target.keys() == {"intent", "slots"}
    assert len({example.metadata["lang"] for example in task.examples}) > 40


def test_a_csv_of_traffic_loads_as_well(shared_data: Path) -> None:
    columns = Columns(input="ContextTokens", target="GeneratedTokens")
    assert len(load_task(shared_data / "azure_llm_2023_conv.csv", columns=columns).examples) == 19366
