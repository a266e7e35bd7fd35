"""Prompts: what an example asks, and the solved examples before it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.message import Message, Part
from baimo.core.task import Example, FewShot, Prompt
from baimo.errors import TemplateError
from baimo.evals.tasks.prompts import Renderer, variables_of

TRAIN = tuple(
    Example(
        id=f"{language}{number}",
        fields={"input": f"{language} question {number}"},
        target=f"answer {number % 3}",
        metadata={"language": language},
        group=f"g{number}",
    )
    for language in ("de", "zh")
    for number in range(8)
)


def _asks(text: str, language: str = "de", **more: object) -> Example:
    return Example(id=text, fields={"input": text}, metadata={"language": language}, **more)  # pyright: ignore


def _contents(
    prompt: Prompt, example: Example, train: tuple[Example, ...] = TRAIN, seed: int = 0
) -> list[object]:
    return [message.content for message in Renderer(prompt, train, seed=seed).messages(example)]


def test_system_and_user_are_filled_in() -> None:
    example = Example(id="1", fields={"input": "猫", "data": {"a": "<ü>"}})
    prompt = Prompt(system="Be {{ input }}.\n", user="{{ data | tojson }}{% if input == '猫' %}!{% endif %}")
    assert Renderer(prompt).messages(example) == (
        Message(role="system", content="Be 猫.\n"),
        Message(role="user", content='{"a": "<ü>"}!'),
    )


def test_a_missing_variable_is_named_with_the_nearest() -> None:
    example = Example(id="1", fields={"input": "x"}, file="a.jsonl", line=7)
    with pytest.raises(TemplateError) as caught:
        Renderer(Prompt(name="p", user="{{ inptu }}")).messages(example)
    assert "p.user (a.jsonl:7)" in str(caught.value) and "inptu" in str(caught.value)
    assert "input" in caught.value.hint
    with pytest.raises(TemplateError, match="there is no variable zzz; there are: input"):
        Renderer(Prompt(user="{{ zzz }}")).messages(example)
    with pytest.raises(TemplateError, match="no variable key"):
        Renderer(Prompt(user="{{ input.key.x }}")).messages(example)


def test_the_answer_is_no_variable_of_the_question() -> None:
    with pytest.raises(TemplateError, match="no variable target"):
        Renderer(Prompt(user="{{ target }}")).messages(Example(id="1", fields={"input": "x"}, target="y"))


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ input.__globals__ }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(template: str) -> None:
    with pytest.raises(TemplateError):
        Renderer(Prompt(user=template)).messages(_asks("x"))


def test_a_slip_of_syntax_names_template_and_line() -> None:
    with pytest.raises(TemplateError, match=r"prompt p\.system, line 2"):
        Renderer(Prompt(name="p", system="a\n{{ b "))
    with pytest.raises(TemplateError, match="No filter named 'shuot'"):
        Renderer(Prompt(user="{{ input | shuot }}"))


def test_a_fixed_block_is_the_same_for_every_question_of_a_slice() -> None:
    renderer = Renderer(Prompt(few_shot=FewShot(count=4, by="language")), TRAIN, seed=3)
    one, two = renderer.messages(_asks("a")), renderer.messages(_asks("b"))
    assert one[:-1] == two[:-1] and len(one) == 9
    assert {str(message.content)[:2] for message in one[:-1:2]} == {"de"}
    assert {str(message.content)[:2] for message in renderer.messages(_asks("c", "zh"))[:-1:2]} == {"zh"}
    again = Renderer(Prompt(few_shot=FewShot(count=4, by="language")), TRAIN[::-1], seed=3)
    assert again.messages(_asks("a")) == one  # the order of the file does not matter
    other = Renderer(Prompt(few_shot=FewShot(count=4, by="language")), TRAIN, seed=4)
    assert other.messages(_asks("a")) != one


def test_a_block_shows_different_answers_before_it_repeats_one() -> None:
    contents = _contents(Prompt(few_shot=FewShot(count=3)), _asks("a"))
    assert {str(answer) for answer in contents[1:-1:2]} == {"answer 0", "answer 1", "answer 2"}


def test_a_slice_without_enough_examples_is_filled_up_from_others() -> None:
    prompt = Prompt(few_shot=FewShot(count=10, by="language"))
    questions = _contents(prompt, _asks("a"))[:-1:2]
    assert [str(question)[:2] for question in questions] == ["de"] * 8 + ["zh"] * 2
    assert len(_contents(prompt, _asks("a", "fr"))) == 21
    assert len(_contents(Prompt(few_shot=FewShot(count=99)), _asks("a"))) == 33


@given(count=st.integers(0, 20), seed=st.integers(0, 5), language=st.sampled_from(["de", "zh", "fr"]))
def test_a_block_never_repeats_an_example(count: int, seed: int, language: str) -> None:
    contents = _contents(
        Prompt(few_shot=FewShot(count=count, by="language")), _asks("x", language), seed=seed
    )
    questions = contents[:-1:2]
    assert len(questions) == len(set(map(str, questions))) == min(count, len(TRAIN))


def test_similar_examples_come_nearest_last_and_never_from_the_same_group() -> None:
    train = (
        Example(id="1", fields={"input": "turn on the kitchen light"}, target="a", group="g1"),
        Example(id="2", fields={"input": "what is the weather"}, target="b"),
        Example(id="3", fields={"input": "turn on the light please"}, target="c", group="g2"),
        Example(id="4", fields={"input": "Turn on  the light"}, target="d"),
    )
    prompt = Prompt(few_shot=FewShot(count=2, select="similar"))
    example = Example(id="x", fields={"input": "turn on the light"}, group="g2")
    assert _contents(prompt, example, train) == [
        *("what is the weather", "b", "turn on the kitchen light", "a", "turn on the light")
    ]


def test_similar_works_without_spaces_between_words() -> None:
    train = tuple(
        Example(id=text, fields={"input": text}, target="x")
        for text in ("打开客厅的灯", "今天天气怎么样", "关闭卧室空调")
    )
    prompt = Prompt(few_shot=FewShot(count=1, select="similar"))
    assert (
        _contents(prompt, Example(id="q", fields={"input": "今天上海天气怎么样"}), train)[0]
        == "今天天气怎么样"
    )


def test_an_answer_that_is_no_text_is_shown_as_json() -> None:
    train = (Example(id="1", fields={"input": "x"}, target={"城市": None}),)
    assert _contents(Prompt(few_shot=FewShot(count=1)), _asks("y"), train)[1] == '{"城市": null}'


def test_a_conversation_keeps_its_own_system_message_and_gets_the_block_after_it() -> None:
    prompt = Prompt(system="prompt's", few_shot=FewShot(count=1))
    train = (
        Example(id="1", fields={"input": "q"}, target="a", messages=(Message(role="user", content="q"),)),
    )
    user = Message(role="user", content="hi")
    own = Example(id="x", fields={}, messages=(Message(role="system", content="own"), user))
    assert _contents(prompt, own, train) == ["own", "q", "a", "hi"]
    assert _contents(prompt, Example(id="x", fields={}, messages=(user,)), train) == [
        "prompt's",
        "q",
        "a",
        "hi",
    ]
    parts = Message(role="user", content=(Part(kind="text", data="hi"),))
    assert _contents(prompt, Example(id="x", fields={}, messages=(parts,)), train)[-1] == parts.content


def test_named_examples_are_shown_in_their_order_those_of_the_slice_first() -> None:
    block = FewShot(count=2, by="language", ids=("zh3", "de5", "zh1", "de2"))
    shown = _contents(Prompt(few_shot=block), _asks("x", "de"))
    assert shown[0::2] == ["de question 5", "de question 2", "x"]
    assert _contents(Prompt(few_shot=block), _asks("x", "fr"))[0::2] == [
        "zh question 3",
        "de question 5",
        "x",
    ]
    nearest = Prompt(few_shot=FewShot(count=1, select="similar", ids=("zh3", "de5")))
    assert _contents(nearest, _asks("de question 4"))[0] == "de question 5"


def test_a_named_example_that_is_gone_is_an_error_with_the_nearest() -> None:
    with pytest.raises(TemplateError, match="wants the solved example de77") as caught:
        Renderer(Prompt(few_shot=FewShot(count=1, ids=("de77",))), TRAIN)
    assert "de7" in caught.value.hint


def test_a_block_needs_solved_examples() -> None:
    with pytest.raises(TemplateError, match="wants 2 solved examples"):
        Renderer(Prompt(few_shot=FewShot(count=2)), (_asks("x"),))
    assert len(Renderer(Prompt(few_shot=FewShot(count=0))).messages(_asks("x"))) == 1


def test_the_variables_of_a_template_are_known() -> None:
    assert variables_of("{{ a }}{% for b in c %}{{ b.d }}{% endfor %}") == {"a", "c"}
    assert variables_of("{{ a ") == frozenset()
