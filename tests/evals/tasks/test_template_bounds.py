"""A template may go on for so long and become so long; what honest templates do stays as it was."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from baimo.errors import TemplateError
from baimo.evals.tasks.prompts import Template

DOUBLED = (
    "{%% set n = namespace(x='ab') %%}{%% for i in range(60) %%}{%% set n.x = n.x %s n.x %%}{%% endfor %%}"
)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% for a in words recursive %}{{ loop(words) if loop.depth < 40 }}{% endfor %}",
        "{% for a in words * 99999 %}{{ a|upper }}{% endfor %}",
    ],
)
def test_what_goes_on_for_too_long_is_cut_off_with_what_to_do(source: str) -> None:
    before = sys.gettrace()
    with pytest.raises(TemplateError) as refused:
        Template(source, "default.user").render({"words": ["a", "b", "c"] * 3}, "t.jsonl:1")
    assert "default.user (t.jsonl:1) would take too long" in str(refused.value)
    assert "loop over fewer things" in str(refused.value.hint)
    assert sys.gettrace() is before


def test_slow_steps_are_cut_off_by_the_time_that_they_take() -> None:
    with pytest.raises(TemplateError, match="too long"):  # few steps, which would take minutes
        Template("{{ ([numbers] * 99999)|map('sum')|list|length }}", "p").render({"numbers": [1] * 99_999})


@pytest.mark.parametrize(
    "source",
    [
        DOUBLED % "~",
        DOUBLED % "+",
        "{{ 'x' * 10 ** 9 }}",
        "{{ 9 ** 99999 }}",
        "{{ 'x'|center(10 ** 9) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%999999999d'|format(1) }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ 'x'.ljust(10 ** 9) }}",
        "{% for a in range(60) %}{{ word * 99999 }}{% endfor %}",
    ],
)
def test_what_would_become_too_long_is_refused_before_it_is_made(source: str) -> None:
    with pytest.raises(TemplateError, match="more than 4,000,000 characters"):
        Template(source, "p").render({"word": "x"})


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for one in docs %}{{ loop.index }}/{{ loop.length }} {{ one }}\n{% endfor %}", "1/2 a\n2/2 b\n"),
        ("{{ '%d' % 5 ~ '-' ~ 3 * 4 ~ 1.5 }}{{ 2 ** 10 + 1 }}{{ [1] * 2 + [2] }}", "5-121.51025[1, 1, 2]"),
        ("{% for name, value in row.items() %}{{ name }}={{ value|upper }};{% endfor %}", "k=V;"),
        ("{{ 'ab'|indent(2, true) }}|{{ 'a'|center(3) }}|{{ '{:>3}'.format(1) }}", "  ab| a |  1"),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ docs|map('upper')|join(', ') }}{{ m(1) }}", "A, B<1>"),
        ("{% for a in docs %}{% for b in docs %}{{ a ~ b }} {% endfor %}{% endfor %}", "aa ab ba bb "),
    ],
)
def test_what_honest_templates_do_stays_as_it_was(source: str, text: str) -> None:
    variables: dict[str, Any] = {"docs": ["a", "b"], "row": {"k": "v"}}
    assert Template(source, "p").render(variables) == text
