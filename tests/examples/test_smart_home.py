"""The smart-home task: its labels are valid, its splits are apart, its train split is what the generator writes."""

from __future__ import annotations

import re
import runpy
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from rapidfuzz import fuzz, process

FOLDER = Path(__file__).parents[2] / "examples" / "smart-home"
LANGUAGES = {"en", "zh", "de", "es", "fr", "ja"}
TRAPS = {
    "plain", "number_word", "two_rooms", "polite", "correction", "out_of_scope", "indirect",
    "relative", "unit", "no_room", "negation", "code_mixed", "word_value",
}  # fmt: skip
VALUES_OF = {"light": {"warm", "cold", "max", "min"}}  # every other device: max and min only

Row = dict[str, Any]


def read(name: str) -> list[Row]:
    return [msgspec.json.decode(line) for line in (FOLDER / name).read_bytes().splitlines()]


TEST, TRAIN = read("test.jsonl"), read("train.jsonl")
GENERATOR = runpy.run_path(str(FOLDER / "make_train.py"))
normalised: Callable[[str], str] = GENERATOR["normalised"]


def of_language(rows: list[Row], language: str) -> list[Row]:
    return [row for row in rows if row["metadata"]["language"] == language]


def test_every_target_is_valid_against_the_schema() -> None:
    schema = msgspec.json.decode((FOLDER / "schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert [row["id"] for row in TEST + TRAIN if not validator.is_valid(row["target"])] == []


def test_every_target_keeps_the_rules_of_the_label_guide() -> None:
    def breaks_a_rule(target: Row) -> bool:
        device, action, room, value = (target[key] for key in ("device", "action", "room", "value"))
        if "none" in (device, action):
            return (device, action, room, value) != ("none", "none", None, None)
        allowed = {"blind": {"open", "close", "set"}, "vacuum": {"on", "off"}}
        if action not in allowed.get(device, {"on", "off", "set", "up", "down"}):
            return True
        if action == "set":
            words = VALUES_OF.get(device, {"max", "min"})
            return value not in words if isinstance(value, str) else not isinstance(value, int)
        return value is not None and not (action in ("up", "down") and isinstance(value, int))

    assert [row["id"] for row in TEST + TRAIN if breaks_a_rule(row["target"])] == []


def test_ids_are_unique_and_every_row_has_the_same_fields() -> None:
    rows = TEST + TRAIN
    assert max(Counter(row["id"] for row in rows).values()) == 1
    assert {frozenset(row) for row in rows} == {frozenset({"id", "input", "target", "group", "metadata"})}
    assert {frozenset(row["metadata"]) for row in rows} == {frozenset({"language", "trap"})}


def test_the_splits_are_balanced_over_the_languages() -> None:
    for rows, low, high in ((TEST, 55, 65), (TRAIN, 500, 600)):
        sizes = Counter(row["metadata"]["language"] for row in rows)
        assert set(sizes) == LANGUAGES
        assert all(low <= size <= high for size in sizes.values()), sizes


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_each_language_of_both_splits_has_every_trap(language: str) -> None:
    for rows in (TEST, TRAIN):
        assert {row["metadata"]["trap"] for row in of_language(rows, language)} == TRAPS


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_each_language_of_the_test_split_uses_every_device_action_and_room(language: str) -> None:
    schema = msgspec.json.decode((FOLDER / "schema.json").read_bytes())
    for field in ("device", "action", "room"):
        used = {row["target"][field] for row in of_language(TEST, language)}
        assert used == set(schema["properties"][field]["enum"]), field


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_no_train_sentence_comes_near_a_test_sentence(language: str) -> None:
    train = {row["id"]: normalised(row["input"]) for row in of_language(TRAIN, language)}
    near = {
        row["id"]: process.extractOne(normalised(row["input"]), train, scorer=fuzz.ratio, score_cutoff=90)
        for row in of_language(TEST, language)
    }
    assert {id_: match for id_, match in near.items() if match} == {}


def test_the_same_sentence_is_written_once() -> None:
    counts = Counter((row["metadata"]["language"], normalised(row["input"])) for row in TEST + TRAIN)
    assert [sentence for sentence, count in counts.items() if count > 1] == []


def test_a_sentence_that_two_languages_share_has_one_label() -> None:
    labels: defaultdict[str, list[Row]] = defaultdict(list)
    for row in TEST + TRAIN:
        labels[normalised(row["input"])].append(row["target"])
    assert [said for said, targets in labels.items() if any(t != targets[0] for t in targets)] == []


def test_groups_never_straddle_the_splits_and_a_test_group_has_one_label() -> None:
    assert {row["group"] for row in TEST}.isdisjoint(row["group"] for row in TRAIN)
    labels: defaultdict[str, list[Row]] = defaultdict(list)
    for row in TEST:
        labels[row["group"]].append(row["target"])
    assert [group for group, targets in labels.items() if any(t != targets[0] for t in targets)] == []
    assert sum(len(targets) == len(LANGUAGES) for targets in labels.values()) >= 20


def test_a_number_said_in_digits_is_the_value_of_the_label() -> None:
    for row in TEST + TRAIN:
        value, said = row["target"]["value"], re.findall(r"\d+", row["input"])
        if isinstance(value, int) and said:
            assert int(said[-1]) == value, row["id"]


def test_the_generator_writes_the_committed_train_split() -> None:
    assert GENERATOR["train_text"]() == (FOLDER / "train.jsonl").read_text(encoding="utf-8")


def test_the_system_prompt_names_every_word_of_the_schema() -> None:
    task = tomllib.loads((FOLDER / "task.toml").read_text(encoding="utf-8"))
    schema = msgspec.json.decode((FOLDER / "schema.json").read_bytes())
    words = [word for field in ("device", "action", "room") for word in schema["properties"][field]["enum"]]
    words += schema["properties"]["value"]["anyOf"][1]["enum"]
    assert [word for word in words if (word or "null") not in task["prompts"][0]["system"]] == []
    assert schema["required"] == ["device", "action", "room", "value"]


def test_the_guide_states_the_true_counts() -> None:
    guide = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"{len(TEST)} test rows" in guide
    assert f"{len(TRAIN):,} train rows" in guide
    for trap, count in Counter(row["metadata"]["trap"] for row in TEST).items():
        trained = sum(row["metadata"]["trap"] == trap for row in TRAIN)
        assert f"| `{trap}` | {count} | {trained} |" in guide
