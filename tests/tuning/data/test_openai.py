"""Bad training files are refused with OpenAI's codes and in its style of words; good ones are taken.

Words marked (published) were found in errors that users of OpenAI published.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.tuning.data.formats import read
from baimo.tuning.data.openai import MOST_TOLD, Invalid, Method, file_faults, purpose_fault, upload_fault
from tests.tuning.data.rows import file_of

ASKED = {"role": "user", "content": "2 + 2?"}
ANSWERED = {"role": "assistant", "content": "4"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
CALLED = {"role": "assistant", "tool_calls": [CALL]}
BADLY_CALLED = {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "add", "arguments": "{"}}]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "4"}
CHAT = {"messages": [ASKED, ANSWERED]}
PAIR = {"input": {"messages": [ASKED]}, "preferred_output": [ANSWERED], "non_preferred_output": [ANSWERED]}
REWARD = {"messages": [ASKED], "reference": "4"}
GOOD: dict[Method, Any] = {"supervised": CHAT, "dpo": PAIR, "reinforcement": REWARD}
CODE = "invalid_training_file"


def faults(folder: Path, third: Any, method: Method = "supervised", **options: Any) -> list[Invalid]:
    """Of a file whose third example is `third`."""
    rows = [GOOD[method]] * 12
    return file_faults(file_of(folder, *rows[:2], third, *rows[2:]), method, **options)


def chat(*turns: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(turns), **more}


S, D, R = GOOD
BAD: list[tuple[Method, Any, str]] = [
    (S, "{", "cannot be parsed. Error: line contains invalid json: Expecting property name"),  # (published)
    (S, "[1]", "cannot be parsed. Error: line is not a JSON dictionary (line 3)"),
    (S, {"message": []}, "Example 3 is missing key 'messages'."),  # (published)
    (S, {**CHAT, "metadata": {}}, "Example 3 contains an extra key 'metadata'."),
    (S, {"messages": []}, "Example 3, 'messages' must be a list with at least one message."),
    (S, chat(ASKED, "4"), "Example 3, message 2 is not a dictionary."),
    (S, chat(ASKED, {"content": "4"}), "message 2 Discriminator 'role' is missing in value"),  # (published)
    (S, chat(ASKED, {"role": "bot", "content": "4"}), "No match for discriminator 'role' and value 'bot'"),
    (S, chat(ASKED), "Example 3 must have at least one message with role 'assistant'."),
    (S, chat(ASKED, ANSWERED, ASKED), "Example 3, the last message must have role 'assistant'."),
    (S, chat(ASKED, {**ANSWERED, "content": " "}), "Example 3, message 2 has empty content."),
    (S, chat(ASKED, {"role": "assistant"}), "Example 3, message 2 is missing key 'content'."),
    (S, chat(ASKED, {**ANSWERED, "content": 4}), "'content' must be a string or a list of content parts."),
    (S, chat(ASKED, {**ANSWERED, "content": [{"type": "video"}]}), "unknown type 'video'"),
    (S, chat(ASKED, {**ANSWERED, "mood": "good"}), "Example 3, message 2 contains an extra key 'mood'."),
    (S, chat({**ASKED, "weight": 1}, ANSWERED), "Example 3, message 1 contains an extra key 'weight'."),
    (S, chat(ASKED, {**ANSWERED, "weight": 0.5}), "message 2 has weight 0.5, but weight must be 0 or 1."),
    (S, chat(ASKED, {**ANSWERED, "weight": 0}), "must have a non-zero weight"),
    (S, chat(ASKED, CALLED), "message 2 calls function 'add', which is not in 'tools'."),
    (S, chat(ASKED, BADLY_CALLED, tools=[TOOL]), "the arguments of function 'add' are not valid JSON."),
    (
        S,
        chat(ASKED, RESULT, ANSWERED),
        "message 2 has tool_call_id 'c1', which no preceding message asked for.",
    ),
    (S, chat(ASKED, CALLED, ANSWERED, tools=[TOOL]), "tool_call_ids did not have response messages: c1"),
    (D, {key: PAIR[key] for key in ("input", "preferred_output")}, "is missing key 'non_preferred_output'."),
    (
        D,
        {key: PAIR[key] for key in PAIR if key != "input"},
        "Example 3 is missing key 'input'.",
    ),  # (published)
    (
        D,
        {**PAIR, "preferred_output": []},
        "'preferred_output' must hold exactly one message, with role 'assistant'.",
    ),
    (
        D,
        {**PAIR, "preferred_output": [{**ANSWERED, "content": ""}]},
        "preferred_output[0] has empty content.",
    ),
    (D, {**PAIR, "input": CHAT}, "the last message of 'input' must not have role 'assistant'."),
    (R, CHAT, "must not have role 'assistant' when the training method is 'reinforcement'."),
    (R, {"reference": "4"}, "Example 3 is missing key 'messages'."),
]


@pytest.mark.parametrize(("method", "third", "words"), BAD)
def test_a_bad_example_is_refused_in_the_words_of_openai(
    method: Method, third: Any, words: str, tmp_path: Path
) -> None:
    first = faults(tmp_path, third, method)[0]
    assert words in first.message
    assert first.message.startswith("Invalid file format. Example 3")
    assert (first.code, first.param, first.line) == (CODE, "training_file", 3)
    assert first.plain() == {
        "code": CODE,
        "message": f"The job failed due to an invalid training file. {first.message}",  # (published)
        "param": "training_file",
    }


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_refusal_can_be_said_in_both_languages(
    lang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAIMO_LANG", lang)
    for method, third, _ in BAD:
        for fault in faults(tmp_path, third, method):
            assert "3" in fault.message
            assert ("样本" in fault.message) == (lang == "zh")


@pytest.mark.parametrize("method", GOOD)
def test_good_files_are_taken_and_read(method: Method, tmp_path: Path) -> None:
    path = file_of(tmp_path, *[GOOD[method]] * 10, "")
    assert upload_fault(path) is None
    assert file_faults(path, method) == []
    assert len(read(path).rows) == 10


@pytest.mark.parametrize(
    "good",
    [
        chat(ASKED, CALLED, RESULT, ANSWERED, tools=[TOOL], parallel_tool_calls=False),
        chat(ASKED, CALLED, tools=[TOOL]),
        chat({"role": "developer", "content": "x"}, ASKED, {**ANSWERED, "weight": 0}, ASKED, {**ANSWERED, "weight": 1}),
        chat({"role": "user", "content": [{"type": "text", "text": "x"}], "name": "ann"}, ANSWERED),
        chat(ASKED, {"role": "assistant", "content": None, "refusal": "no"}),
        chat(ASKED, {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": "{}"}},
             functions=[TOOL["function"]]),
    ],
)  # fmt: skip
def test_everything_that_the_api_allows_is_taken(good: Any, tmp_path: Path) -> None:
    assert [fault.message for fault in faults(tmp_path, good)] == []


def test_prompts_and_completions_are_taken_for_supervised_tuning(tmp_path: Path) -> None:
    assert file_faults(file_of(tmp_path, *[{"prompt": "a", "completion": "b"}] * 10)) == []
    (fault,) = file_faults(file_of(tmp_path, *[{"prompt": "a", "completion": ""}] * 10))[:1]
    assert "'completion' must not be empty" in fault.message


def test_too_few_examples_have_a_code_of_their_own(tmp_path: Path) -> None:
    (fault,) = file_faults(file_of(tmp_path, *[CHAT] * 3))
    assert fault.plain() == {
        "code": "invalid_n_examples",
        "message": "Training file has 3 example(s), but must have at least 10 examples",  # (published)
        "param": "training_file",
    }
    assert file_faults(file_of(tmp_path, *[CHAT] * 3), param="validation_file") == []
    assert file_faults(file_of(tmp_path, *[CHAT] * 3), fewest=3) == []


def test_a_file_for_another_method_is_told_by_its_first_example(tmp_path: Path) -> None:
    (fault,) = file_faults(file_of(tmp_path, *[CHAT] * 12), "dpo", file="file-1")
    assert fault.message == (  # (published)
        "Invalid file format. Input file file-1 is in the fine-tune-chat format, but the specified fine-tuning job is "
        "not using 'supervised' as the training method (provided method=dpo)."
    )
    (fault,) = file_faults(file_of(tmp_path, *[PAIR] * 12), "supervised", file="file-1")
    assert "fine-tune-preference format" in fault.message
    (fault,) = file_faults(file_of(tmp_path, *[{"a": 1}] * 12))
    assert fault.message == (  # (published)
        "Unexpected file format, expected either prompt/completion pairs or chat messages."
    )


def test_a_validation_file_has_codes_of_its_own(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, chat(ASKED), param="validation_file")
    assert (fault.code, fault.param) == ("invalid_validation_file", "validation_file")
    assert fault.job_message.startswith("The job failed due to an invalid validation file.")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'"prompt"\n', 'Line 1 is not a dictionary (HINT: line starts with: ""prom...").'),  # (published)
        (b'{"a": 1}\n[2]\n', "Line 2 is not a dictionary"),
        (b" \n", "The file is empty."),
        (b'{"a": "\xff"}\n', "The file is not UTF-8 encoded (line 1, byte 8)."),
    ],
)
def test_a_file_that_is_no_json_lines_is_not_even_taken(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    fault = upload_fault(path)
    assert fault is not None
    assert words in fault.message


def test_a_file_that_is_too_large_is_not_taken(tmp_path: Path) -> None:
    fault = upload_fault(file_of(tmp_path, CHAT), most_bytes=10)
    assert fault is not None
    assert fault.code == "file_too_large"
    assert "at most 10 bytes" in fault.message


def test_a_file_with_another_purpose_is_refused(tmp_path: Path) -> None:
    fault = purpose_fault("file-1", "batch")
    assert fault is not None
    assert (
        fault.message == "File file-1 has purpose 'batch', but a file with purpose 'fine-tune' is required."
    )
    assert purpose_fault("file-1", "fine-tune") is None


def test_a_file_full_of_faults_is_not_looked_through_to_the_end(tmp_path: Path) -> None:
    assert len(file_faults(file_of(tmp_path, CHAT, *[chat(ASKED)] * 1000))) == MOST_TOLD


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["user", "assistant", "tool"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [*CHAT, *PAIR, "tools", "role", "content", "tool_calls", "function", "name", "weight", "type"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values, st.sampled_from(list(GOOD)))
def test_no_json_crashes_the_validation(value: Any, method: Method) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = file_of(Path(folder), *[GOOD[method]] * 10, json.dumps(value))
        for fault in file_faults(path, method):
            assert fault.line == 11
            assert "Example 11" in fault.message
