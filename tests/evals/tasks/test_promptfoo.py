"""promptfoo configurations are read as they are, and what has no counterpart is listed with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from baimo.core.registry import Spec
from baimo.errors import TaskError
from baimo.evals.tasks.folder import Reading, load_task, read_task
from baimo.evals.tasks.formats.asserts import from_text
from baimo.evals.tasks.prompts import Renderer


def _read(folder: Path, text: str, name: str = "promptfooconfig.yaml", **files: str) -> Reading:
    for file, content in files.items():
        (folder / file.replace("__", ".")).write_text(content, encoding="utf-8")
    (folder / name).write_text(text, encoding="utf-8")
    return read_task(folder / name)


def _left(reading: Reading) -> dict[str, tuple[dict[str, Any], tuple[int, ...]]]:
    assert all(note.detail for note in reading.notes)
    return {note.kind: (dict(note.facts), note.lines) for note in reading.notes}


def test_tests_become_examples_with_their_lines_and_defaults(tmp_path: Path) -> None:
    reading = _read(
        tmp_path,
        """
description: Greets
prompts: ['{{greeting}}, say {{tone}}']
providers: [openai:gpt-5, {id: anthropic:x}]
defaultTest:
  vars: {tone: kindly}
  metadata: {team: a}
  assert: [{type: icontains, value: '{{ greeting }}'}]
tests:
  - vars: {greeting: Hello}
    description: english
  - vars: {greeting: 你好, tone: briefly}
    assert: [{type: not-contains, value: Hello, weight: 2}, {type: latency, threshold: 5}]
""",
    )
    first, second = reading.task.examples
    assert (reading.format, reading.task.name, reading.task.description) == (
        "promptfoo",
        tmp_path.name,
        "Greets",
    )
    assert (first.line, first.fields["tone"], first.metadata["team"]) == (10, "kindly", "a")
    assert first.metadata["asserts"] == [{"type": "icontains", "value": "Hello"}]
    assert second.metadata["asserts"][1] == {"type": "not-contains", "value": "Hello", "weight": 2}
    assert reading.task.scorers == (Spec(name="asserts"),)
    assert Renderer(reading.task.prompts[0]).messages(second)[0].content == "你好, say briefly"
    assert _left(reading) == {
        "left_providers": ({"names": "openai:gpt-5, anthropic:x"}, ()),
        "left_assert_type": ({"type": "latency"}, (12,)),
    }


def test_a_note_is_one_line_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = _read(tmp_path, "tests:\n- vars: {q: a}\n  assert: [{type: javascript, value: x}]")
    place = f"{tmp_path / 'promptfooconfig.yaml'}:2"
    assert str(reading.notes[0]) == f"{place}: not carried over: assertions of the type javascript"
    monkeypatch.setenv("BAIMO_LANG", "zh")
    assert str(reading.notes[0]) == f"{place}：未能带入：类型为 javascript 的断言"


def test_plain_equality_becomes_a_target(tmp_path: Path) -> None:
    one, two = (f"- {{vars: {{q: {q}}}, assert: [{{type: equals, value: {v}}}]}}" for q, v in ("ab", "cd"))
    text = f"tests:\n{one}\n{two}"
    task = _read(tmp_path, text).task
    assert [example.target for example in task.examples] == ["b", "d"]
    assert task.scorers == (Spec(name="exact"),)
    assert all("asserts" not in example.metadata for example in task.examples)
    structured = _read(tmp_path, "tests:\n- {vars: {q: a}, assert: [{type: equals, value: {k: 1}}]}").task
    assert (structured.examples[0].target, structured.scorers) == ({"k": 1}, (Spec(name="json"),))


def test_lists_of_variables_multiply_out_unless_told_otherwise(tmp_path: Path) -> None:
    both = "vars: {a: [1, 2], b: [x, y, z]}"
    assert len(_read(tmp_path, f"tests:\n- {both}").task.examples) == 6
    kept = _read(tmp_path, f"tests:\n- {both}\n  options: {{disableVarExpansion: true}}").task.examples
    assert [example.fields["a"] for example in kept] == [[1, 2]]


def test_file_references_are_followed(tmp_path: Path) -> None:
    reading = _read(
        tmp_path,
        """
prompts: [file://p.txt, {id: file://chat.json, label: chat}]
tests:
  - file://more.csv
  - file://*.jsonl
  - vars: {text: file://long.txt, data: file://d.yaml}
    assert: [{type: is-json, value: file://schema.json}]
""",
        p__txt="One {{text}}\n---\nTwo {{text}}\n",
        chat__json='[{"role": "system", "content": "S {{text}}"}, {"role": "user", "content": "{{ text | dump }}"}]',
        more__csv="text,__expected,__expected2,__metadata:cat,__prefix\n"
        '"a, b","contains-any: x,""y,z""",similar(0.8): q,c,P:\n',
        rows__jsonl='{"vars": {"text": "j"}, "assert": [{"type": "regex", "value": "^j"}]}\n',
        long__txt="long text\n",
        d__yaml="k: [1, 2]\n",
        schema__json='{"type": "object"}',
    )
    csv, jsonl, inline = reading.task.examples
    assert csv.metadata["asserts"] == [
        {"type": "contains-any", "value": ["x", "y,z"]},
        {"type": "similar", "value": "q", "threshold": 0.8},
    ]
    assert (csv.metadata["cat"], csv.fields["prefix"], Path(csv.file).name, csv.line) == (
        "c",
        "P:",
        "more.csv",
        2,
    )
    assert (jsonl.line, Path(jsonl.file).name) == (1, "rows.jsonl")
    assert (inline.fields["text"], inline.fields["data"]) == ("long text", {"k": [1, 2]})
    assert inline.metadata["asserts"] == [{"type": "is-json", "value": {"type": "object"}}]
    prompts = {prompt.name: prompt for prompt in reading.task.prompts}
    assert list(prompts) == ["p-1", "p-2", "chat"]
    assert Renderer(prompts["p-2"]).messages(csv)[0].content == "P:Two a, b"
    assert [turn.content for turn in Renderer(prompts["chat"]).messages(jsonl)] == ["S j", '"j"']


def test_a_prompt_of_several_turns_becomes_each_examples_conversation(tmp_path: Path) -> None:
    said = (("user", "Hi"), ("assistant", "Yes?"), ("user", "{{q}}"))
    turns = json.dumps([{"role": role, "content": content} for role, content in said])
    task = _read(tmp_path, "prompts: [file://c.json]\ntests:\n- vars: {q: why}", c__json=turns).task
    assert [message.content for message in task.examples[0].messages] == ["Hi", "Yes?", "why"]
    beside = _read(tmp_path, "prompts: [file://c.json, '{{q}}']\ntests:\n- vars: {q: why}", c__json=turns)
    assert [prompt.user for prompt in beside.task.prompts] == ["{{q}}"]
    assert "left_conversation_prompt" in _left(beside)


def test_scenarios_multiply_configurations_and_tests(tmp_path: Path) -> None:
    text = """
scenarios:
  - config: [{vars: {lang: de}}, {vars: {lang: fr}}]
    tests: [{vars: {q: one}}, {vars: {q: two}, assert: [{type: contains, value: '{{lang}}'}]}]
"""
    examples = _read(tmp_path, text).task.examples
    assert [(one.fields["lang"], one.fields["q"]) for one in examples] == [
        *(("de", "one"), ("de", "two"), ("fr", "one"), ("fr", "two"))
    ]
    assert examples[3].metadata["asserts"] == [{"type": "contains", "value": "fr"}]


def test_a_set_of_assertions_is_opened_and_its_weight_shared(tmp_path: Path) -> None:
    text = """
tests:
  - vars: {q: a}
    assert:
      - type: assert-set
        weight: 4
        threshold: 0.5
        assert: [{type: contains, value: x}, {type: contains, value: y, weight: 3}]
"""
    reading = _read(tmp_path, text)
    assert [item["weight"] for item in reading.task.examples[0].metadata["asserts"]] == [1.0, 3.0]
    assert _left(reading)["left_set_threshold"] == ({"threshold": 0.5}, (3,))


def test_a_threshold_of_a_test_makes_the_score_a_share(tmp_path: Path) -> None:
    reading = _read(
        tmp_path, "tests:\n- {vars: {q: a}, threshold: 0.5, assert: [{type: contains, value: x}]}"
    )
    assert reading.task.scorers == (Spec(name="asserts", args={"mode": "share"}),)
    assert _left(reading)["left_threshold"] == ({"threshold": 0.5}, (2,))


@pytest.mark.parametrize(
    ("assertion", "kind"),
    [
        ("{type: javascript, value: output.length}", "left_assert_type"),
        ("{type: python, value: file://a.py}", "left_assert_type"),
        ("{type: contains}", "left_assert_empty"),
        ("{type: contains, value: x, weight: 0}", "left_assert_weightless"),
        ("{type: contains, value: file://gen.js}", "left_assert_file"),
        ("{type: contains, value: x, transform: output.trim()}", "left_assert_key"),
        ("{type: contains, value: '{{ nobody }}'}", "left_assert_template"),
        ("{value: x}", "left_assert_form"),
        ("{type: llm-rubric, value: polite}", "left_judge"),
        ("{type: g-eval, value: polite}", "assumed_rubric"),
        ("{type: similar, value: polite}", "assumed_similar"),
    ],
)
def test_what_an_assertion_cannot_carry_over_is_listed(tmp_path: Path, assertion: str, kind: str) -> None:
    reading = _read(tmp_path, f"tests:\n- vars: {{q: a}}\n  assert: [{assertion}]")
    assert _left(reading)[kind][1] == (2,)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ("outputPath: x.json", "left_config"),
        ("prompts: [file://p.py]", "left_generator"),
        ("prompts: ['exec:./x.sh']", "left_prompt"),
        ("prompts: ['langfuse://p:1']", "left_prompt"),
        ("prompts: [{raw: '{{q}}', config: {}}]", "left_prompt_key"),
    ],
)
def test_what_a_configuration_cannot_carry_over_is_listed(tmp_path: Path, config: str, kind: str) -> None:
    reading = _read(
        tmp_path,
        f"{config}\ntests:\n- vars: {{q: a}}\n- file://gen.py:make\n- vars: {{q: b}}\n  provider: x\n",
    )
    left = _left(reading)
    assert kind in left and "left_generator" in left and left["left_test_key"][0] == {"name": "provider"}
    assert len(reading.task.examples) == 2


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("prompts: [x]\ntests: []", "tasks.no_tests"),
        ("tests: [3]", "tasks.bad_test"),
        ("tests: [{vars: 3}]", "tasks.bad_test"),
        ("tests: file://tets.csv", "tasks.missing_reference_near"),
        ("tests: file://nothing-like-it", "tasks.missing_reference"),
        ('tests: [{vars: {a: \'{{\'}}]\nprompts: [\'[{"role": "x", "content": "y"}]\']', "tasks.bad_role"),
        ("- [", "tasks.bad_yaml"),
        ("tests: &a [*a]", "tasks.bad_yaml"),
        ("tests: [{vars: {a: !!python/object:os.system {}}}]", "tasks.bad_yaml"),
        ("tests: [{vars: {a: .nan}}]", "tasks.bad_yaml"),
        ("tests: [{vars: {a: 2001-99-99}}]", "tasks.bad_yaml"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_an_error(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(TaskError) as caught:
        _read(tmp_path, text, tests__csv="a\nb\n")
    assert caught.value.key == key and str(caught.value)


def test_aliases_cannot_fill_the_memory(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(TaskError) as caught:
        _read(tmp_path, "\n".join(levels))
    assert caught.value.key == "tasks.bad_yaml"


def test_an_emoji_that_is_escaped_as_in_json_is_one_letter(tmp_path: Path) -> None:
    text = 'tests: [{vars: {q: "\\ud83d\\ude00"}}]'
    assert _read(tmp_path, text).task.examples[0].fields["q"] == "😀"
    with pytest.raises(TaskError):
        _read(tmp_path, 'tests: [{vars: {q: "\\ud83d"}}]')


def test_a_file_of_tests_that_names_itself_ends(tmp_path: Path) -> None:
    reading = _read(tmp_path, "tests: file://t.yaml", t__yaml="- vars: {q: a}\n- file://t.yaml\n")
    assert (len(reading.task.examples), "left_generator" in _left(reading)) == (1, True)


def test_a_csv_or_json_of_tests_is_recognised_on_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q,__expected\n2+2,4\n")
    assert (load_task(tmp_path / "a.csv").examples[0].target, load_task(tmp_path / "a.csv").name) == (
        "4",
        "a",
    )
    (tmp_path / "a.json").write_text('{"tests": [{"vars": {"q": "a"}}], "prompts": ["{{q}}"]}')
    assert load_task(tmp_path / "a.json").prompts[0].user == "{{q}}"
    (tmp_path / "b.json").write_text('[{"vars": {"q": "a"}}]')
    assert read_task(tmp_path / "b.json").format == "promptfoo"


@pytest.mark.parametrize(
    ("cell", "assertion"),
    [
        ("Paris", {"type": "equals", "value": "Paris"}),
        ("12:30", {"type": "equals", "value": "12:30"}),
        ("note: this is text", {"type": "equals", "value": "note: this is text"}),
        ("not-contains: x", {"type": "not-contains", "value": "x"}),
        ("levenshtein(3): abc", {"type": "levenshtein", "value": "abc", "threshold": 3.0}),
        ("contains-all: a, b", {"type": "contains-all", "value": ["a", "b"]}),
        ("grade: is kind", {"type": "llm-rubric", "value": "is kind"}),
        ("fn: output > 3", {"type": "javascript", "value": "output > 3"}),
    ],
)
def test_short_assertions_of_spreadsheets_are_understood(cell: str, assertion: dict[str, Any]) -> None:
    assert from_text(cell) == assertion
