"""What each kind of grader makes of a sample, and how it says that something went wrong."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from baimo.core.call import Completion, Usage
from baimo.core.message import Part, ToolCall
from baimo.errors import BudgetExceeded, Unreachable
from baimo.evals.graders.code import isolated
from baimo.evals.graders.grading import Embedded, Helpers, sample_of
from baimo.evals.scorers.base import Ask
from tests.evals.graders import graded
from tests.evals.graders.test_kinds import CHECK, CODE, LABEL, LIKE, MULTI, SCORE
from tests.evals.scorers import ScriptedJudge

linux = pytest.mark.skipif(sys.platform == "win32", reason="the sandbox is for Linux and macOS")


def judge(*replies: str | Exception) -> tuple[Ask, ScriptedJudge]:
    scripted = ScriptedJudge(*replies)
    return scripted, scripted


@pytest.mark.parametrize(
    ("operation", "said", "reference", "score"),
    [
        ("eq", "Paris", "Paris", 1), ("eq", "paris", "Paris", 0), ("ne", "paris", "Paris", 1),
        ("ne", "Paris", "Paris", 0), ("like", "It is Paris.", "Paris", 1), ("like", "It is paris.", "Paris", 0),
        ("like", "Par", "Paris", 0), ("ilike", "It is PARIS.", "paris", 1), ("ilike", "Rome", "paris", 0),
        ("ilike", "STRASSE", "straße", 1),
    ],
)  # fmt: skip
def test_string_check_compares_as_its_operation_says(
    operation: str, said: str, reference: str, score: int
) -> None:
    grade = graded({**CHECK, "operation": operation, "reference": "{{item.a}}"}, said, {"a": reference})
    assert (grade.score, grade.passed, grade.error) == (score, bool(score), "")
    assert (grade.name, grade.type) == ("c", "string_check")


def test_the_called_functions_can_be_graded() -> None:
    sample = sample_of("", (ToolCall(id="1", name="lights", arguments='{"on": true}'),))
    row = {**CHECK, "input": "{{sample.output_tools[0].function.name}}", "reference": "lights"}
    assert graded(row, sample).passed
    row = {
        **CHECK,
        "input": "{{sample.choices[0].message.tool_calls[0].function.arguments}}",
        "operation": "like",
    }
    assert graded({**row, "reference": "true"}, sample).passed
    assert graded({**row, "reference": "true"}, "nothing called").error == "graders.no_variable"


def test_text_similarity_gives_a_share_and_passes_from_its_threshold() -> None:
    row = {
        **LIKE,
        "input": "{{sample.output_text}}",
        "reference": "the cat sat",
        "evaluation_metric": "rouge_1",
    }
    grade = graded({**row, "pass_threshold": 0.7}, "the cat ran")
    assert grade.score == pytest.approx(2 / 3) and not grade.passed
    assert graded({**row, "pass_threshold": 0.6}, "the cat ran").passed


def test_cosine_asks_for_the_vectors_of_both_texts() -> None:
    asked: list[Sequence[str]] = []

    async def embed(texts: Sequence[str]) -> Embedded:
        asked.append(texts)
        return Embedded([[1.0, 0.0], [1.0, 1.0]], "v/embedder", Usage(tokens_in=7))

    row = {**LIKE, "evaluation_metric": "cosine"}
    grade = graded(row, "", helpers=Helpers(embed=embed))
    assert grade.score == pytest.approx(0.5**0.5) and list(asked[0]) == ["a", "b"]
    assert grade.usage == {"v/embedder": Usage(tokens_in=7)}
    alone = graded(row, "")
    assert alone.failed and alone.flags()["other_error"] and alone.score == 0


# model graders


def test_score_model_asks_for_result_and_steps_and_cuts_to_the_range() -> None:
    ask, judged = judge(
        '{"result": 7.5, "steps": [{"description": "d", "conclusion": "c"}]}', '{"result": 99, "steps": []}'
    )
    row = {
        **SCORE,
        "range": [0, 10],
        "sampling_params": {"temperature": 0, "max_completions_tokens": 50, "seed": 1},
    }
    grade = graded(row, "x", {"q": "how good?"}, Helpers(ask))
    assert (grade.score, grade.passed, grade.details["steps"][0]["conclusion"]) == (7.5, True, "c")
    request = judged.requests[0]
    assert (request.model, request.messages[0].content) == ("v/m", "how good?")
    assert (request.sampling.temperature, request.sampling.max_tokens, request.sampling.seed) == (0, 50, 1)
    assert request.response_format is not None and request.response_format.schema is not None
    assert set(request.response_format.schema["properties"]) == {"result", "steps"}
    assert graded(row, "x", {"q": "?"}, Helpers(ask)).score == 10


@pytest.mark.parametrize(
    "said", ["no idea", '{"result": "high"}', '{"result": null}', '{"result": true}', "", "[]"]
)
def test_a_judge_that_gives_no_number_leaves_no_judgement(said: str) -> None:
    grade = graded(SCORE, "x", {"q": "?"}, Helpers(judge(said)[0]))
    assert (grade.score, grade.passed, grade.failed) == (0, False, True)
    assert [name for name, is_set in grade.flags().items() if is_set] == ["model_grader_parse_error"]
    assert list(grade.usage) == ["v/m"]


def test_a_number_in_quotes_or_in_a_fence_is_a_number() -> None:
    for said in ('{"result": "0.5", "steps": []}', '```json\n{"result": 0.5}\n```'):
        assert graded(SCORE, "x", {"q": "?"}, Helpers(judge(said)[0])).score == 0.5


def test_a_judge_that_fails_or_refuses_is_told_apart() -> None:
    fault = Unreachable("graders.model_failed", model="v/m", problem="no route")
    failed = graded(SCORE, "x", {"q": "?"}, Helpers(judge(fault)[0]))
    assert failed.flags()["model_grader_server_error"] and "v/m" in failed.problem

    async def refuses(_: object) -> Completion:
        return Completion(text="", finish_reason="content_filter")

    refused = graded(SCORE, "x", {"q": "?"}, Helpers(refuses))
    assert refused.flags()["model_grader_refusal_error"] and refused.failed


def test_an_empty_purse_is_not_a_grade() -> None:
    purse = BudgetExceeded("graders.no_embed")
    with pytest.raises(BudgetExceeded):
        graded(SCORE, "x", {"q": "?"}, Helpers(judge(purse)[0]))


def test_label_model_passes_with_a_passing_label() -> None:
    ask, judged = judge(
        '{"result": "good", "steps": []}', '{"result": "bad", "steps": []}', "good", '{"result": "ugly"}'
    )
    helpers = Helpers(ask)
    grades = [graded(LABEL, "x", {"q": "?"}, helpers) for _ in range(4)]
    assert [(grade.score, grade.passed) for grade in grades[:3]] == [(1, True), (0, False), (1, True)]
    assert grades[3].error == "graders.model_unreadable"
    schema = json.dumps(judged.requests[0].response_format.schema)  # type: ignore[union-attr]
    assert '"enum": ["good", "bad"]' in schema


def test_messages_may_hold_blocks_pictures_and_sound() -> None:
    ask, judged = judge('{"result": 1}')
    blocks = [
        "look: ",
        {"type": "input_text", "text": "{{item.q}}"},
        {"type": "input_image", "image_url": "{{item.url}}", "detail": "low"},
        {"type": "input_audio", "input_audio": {"data": "UklG", "format": "mp3"}},
    ]
    row = {**SCORE, "input": [{"role": "developer", "content": {"type": "output_text", "text": "Be fair"}},
                              {"type": "message", "role": "user", "content": blocks}]}  # fmt: skip
    assert graded(row, "x", {"q": "this", "url": "https://example.com/a.png"}, Helpers(ask)).score == 1
    system, user = judged.requests[0].messages
    assert (system.role, system.content) == ("system", "Be fair")
    assert user.content == (
        Part(kind="text", data="look: "),
        Part(kind="text", data="this"),
        Part(kind="image_url", data="https://example.com/a.png", detail="low"),
        Part(kind="input_audio", data="UklG", media_type="audio/mp3"),
    )


# code


@linux
def test_code_sees_sample_and_item_and_gives_its_number() -> None:
    source = (
        "from rapidfuzz import fuzz\n"
        "def grade(sample, item):\n"
        "    print('noise')\n"
        "    assert sample['output_json'] == {'a': '\"é巴'} and sample['output_tools'] == []\n"
        "    return fuzz.ratio(sample['output_json']['a'], item['want']) / 100 + item['more'][0]\n"
    )
    grade = graded({**CODE, "source": source}, '{"a": "\\"é巴"}', {"want": '"é巴', "more": [0.25]})
    assert (grade.score, grade.error) == (1.25, ""), grade.problem


@linux
@pytest.mark.parametrize(
    ("body", "flag", "words"),
    [
        ("return sample['nothing']", "python_grader_runtime_error", "KeyError"),
        ("return 'high'", "python_grader_runtime_error", "not a number"),
        ("return None", "python_grader_runtime_error", "not a number"),
        ("return float('nan')", "python_grader_runtime_error", "nan"),
        ("raise SystemExit(0)", "python_grader_runtime_error", "SystemExit"),
        (
            "import socket\n    socket.create_connection(('127.0.0.1', 9), 1)",
            "python_grader_runtime_error",
            "",
        ),
        ("import os\n    os.abort()", "python_grader_server_error", "crash"),
    ],
)
def test_code_that_fails_is_an_error_with_its_words_and_never_a_score(
    body: str, flag: str, words: str
) -> None:
    grade = graded({**CODE, "source": f"def grade(sample, item):\n    {body}\n"}, "x")
    assert grade.failed and grade.score == 0 and not grade.passed
    assert grade.flags()[flag] and words in grade.problem


@linux
def test_code_cannot_print_its_own_score() -> None:
    source = "def grade(sample, item):\n    print('0' * 32 + '1.0')\n    raise ValueError('no')\n"
    assert graded({**CODE, "source": source}, "x").score == 0


@linux
def test_isolation_is_known_before_foreign_code_is_run() -> None:
    assert asyncio.run(isolated()) in (True, False)


# several


@linux
def test_multi_puts_its_parts_into_the_formula() -> None:
    row = {**MULTI, "calculate_output": "0.25 * one + 0.75 * two"}
    grade = graded(row, "y")
    assert grade.score == 0.75 and grade.passed
    assert {name: (part.name, part.score) for name, part in grade.parts.items()} == {
        "one": ("c", 0),
        "two": ("p", 1),
    }


def test_multi_adds_up_what_its_judges_took_and_says_which_part_broke() -> None:
    async def ask(_: object) -> Completion:
        return Completion(text='{"result": 0.5}', usage=Usage(tokens_in=3, tokens_out=2))

    parts: dict[str, Any] = {"a": SCORE, "b": {**SCORE, "input": [{"role": "user", "content": "again"}]}}
    row = {"type": "multi", "name": "m", "graders": parts, "calculate_output": "a + b"}
    grade = graded(row, "x", {"q": "?"}, Helpers(ask))
    assert grade.score == 1 and grade.usage == {"v/m": Usage(tokens_in=6, tokens_out=4)}
    broken = graded(row, "x", {}, Helpers(ask))
    assert broken.failed and broken.score == 0.5 and broken.flags()["invalid_variable_error"]
    nothing = graded({**row, "calculate_output": "a / (b - 0.5)"}, "x", {"q": "?"}, Helpers(ask))
    assert nothing.flags()["formula_parse_error"] and nothing.usage["v/m"].tokens_in == 6


def test_an_answer_that_is_no_json_is_wrong_and_the_grader_is_not_to_blame() -> None:
    row = {**CHECK, "input": "{{sample.output_json.city}}", "reference": "Paris"}
    grade = graded(row, "Paris")
    assert grade.blames_sample and not grade.failed and grade.flags()["sample_parse_error"]
    assert graded(row, '{"town": "Paris"}').flags()["invalid_variable_error"]
    assert graded(row, '{"city": "Paris"}').passed
    ne = graded({**row, "operation": "ne"}, "Paris")
    assert (ne.score, ne.passed) == (0, False)
    half = {
        "type": "multi",
        "graders": {"a": row, "b": {**CHECK, "reference": "Paris"}},
        "calculate_output": "(a + b) / 2",
    }
    both = graded(half, "Paris")
    assert (both.score, both.passed, both.failed) == (0.5, True, False) and both.flags()["sample_parse_error"]
