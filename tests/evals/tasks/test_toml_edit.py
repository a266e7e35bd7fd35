"""A form changes values of a file that somebody wrote; comments and everything else stay as they were."""

from __future__ import annotations

import copy
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baimo.evals.tasks.toml_edit import edited, listed

ORDER = ("data", "prompt", "prompts", "sampling", "scorers", "candidates")
HAND = '''# ours
name = "mail"  # stays
json_schema = { type = "object" }

[data]  # where they are
test = "rows.csv"
"odd key" = 1

[prompts_are_not_prompt]
x = 1

[prompt]
# two lines
system = """
Sort [mail]. # no comment
"Quotes" stay."""   # behind
user = '{{ input }}'

[prompt.few_shot]  # solved ones
count = 4  # four
by = "language"

[sampling]
stop = [  # ends
  "\\n",  # a line
  "]",
]

# the judge
[[scorers]]
name = "choice"
labels = ["a", "b"]  # in order

[[scorers]]
name = "exact"
case.sensitive = true

# who competes
[[candidates]]
model = "acme/small"
[candidates.sampling]
temperature = 1
# last words'''


def lines(text: str) -> set[str]:
    return set(text.splitlines())


def changed(place: list[str | int], value: Any) -> dict[str, Any]:
    tree = tomllib.loads(HAND)
    at: Any = tree
    for step in place[:-1]:
        at = at[step]
    if value is None:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    return tree


@pytest.mark.parametrize(
    ("place", "value", "lost"),
    [
        (["name"], "post", 'name = "mail"  # stays'),
        (["json_schema"], True, 'json_schema = { type = "object" }'),
        (["description"], "new at the top", ""),
        (["prompt", "user"], "{{ input }}\n{{ tone }}", "user = '{{ input }}'"),
        (["prompt", "few_shot", "count"], 5, "count = 4  # four"),
        (["prompt", "few_shot", "by"], None, 'by = "language"'),
        (["prompt", "assistant"], 'says "yes"', ""),
        (["sampling", "seed"], 7, ""),
        (["scorers", 0, "labels"], ["a", "b", "c"], 'labels = ["a", "b"]  # in order'),
        (["scorers", 1, "case"], False, "case.sensitive = true"),
        (["candidates", 0, "sampling", "temperature"], 0.5, "temperature = 1"),
        (["candidates", 0, "few_shot"], 3, ""),
    ],
)
def test_only_the_line_of_a_value_that_differs_is_replaced(
    place: list[str | int], value: Any, lost: str
) -> None:
    wanted = changed(place, value)
    made = edited(HAND, wanted, ORDER)
    assert made is not None and tomllib.loads(made) == wanted
    assert lines(HAND) - lines(made) == ({lost} if lost else set())
    behind = lost.partition("  #")[2]
    assert behind in made


def test_tables_of_a_list_keep_their_comments_wherever_they_go() -> None:
    tree = tomllib.loads(HAND)
    choice, exact = tree["scorers"]
    tree["scorers"] = [exact, {"name": "regex", "pattern": "a|b"}, {**choice, "labels": ["x"]}]
    tree["candidates"] = []
    made = edited(HAND, tree, ORDER)
    assert made is None or tomllib.loads(made) == tree  # an empty list of tables is nothing to write
    del tree["candidates"]
    made = edited(HAND, tree, ORDER)
    assert made is not None and tomllib.loads(made) == tree
    assert '# the judge\n[[scorers]]\nname = "choice"\nlabels = ["x"]  # in order\n' in made
    assert made.index("exact") < made.index("regex") < made.index("choice") and "who competes" not in made


def test_a_new_table_comes_at_its_place_and_one_prompt_becomes_several() -> None:
    source = '# top\nname = "x"\n\n[[scorers]]\nname = "exact"\n'
    wanted = {**tomllib.loads(source), "sampling": {"seed": 1}, "candidates": [{"model": "a/b"}]}
    assert edited(source, wanted, ORDER) == (
        '# top\nname = "x"\n\n[sampling]\nseed = 1\n\n[[scorers]]\nname = "exact"\n\n[[candidates]]\nmodel = "a/b"\n'
    )
    many = listed(HAND, "prompt", "prompts")
    tree = tomllib.loads(HAND)
    assert tomllib.loads(many)["prompts"] == [tree.pop("prompt")]
    assert "[prompts.few_shot]  # solved ones" in many and "[prompts_are_not_prompt]" in many
    wanted = tomllib.loads(many)
    wanted["prompts"].append({"name": "short", "user": "{{ input }}?"})
    made = edited(many, wanted, ORDER)
    assert made is not None and tomllib.loads(made) == wanted and "# two lines" in made
    assert made.index("[[prompts]]") < made.index('name = "short"') < made.index("[sampling]")


@pytest.mark.parametrize(
    ("source", "place", "value", "written"),
    [
        ("# a\n[b]\nc = 1\n# d\n", "b", {"c": 1, "e": 2}, "# a\n[b]\nc = 1\ne = 2\n# d\n"),
        ("[b]\nc = 1  # d\n", "b", {}, "[b]\n"),
        ("[b.c]\nd = 1  # e\n", "b", {"c": {"d": 1}, "f": 2}, "[b]\nf = 2\n\n[b.c]\nd = 1  # e\n"),
        ("b.c = 1  # d\nb.e = 2", "b", {"c": 1, "e": 3, "f": 4}, "b.c = 1  # d\nb.f = 4\nb.e = 3\n"),
        ("[b]\nc = 1\n[d]\n# e\n[b.f]\ng = 1", "b", {"f": {"g": 2}}, "[d]\n# e\n[b.f]\ng = 2\n"),
        ("b = { c = 1 }  # d\n", "b", {"c": 2, "e f": 3}, 'b = { c = 2, "e f" = 3 }  # d\n'),
        ("b = [{ c = 1 }]  # d\n", "b", [{"c": 2}, {"c": 3}], "b = [{ c = 2 }, { c = 3 }]  # d\n"),
        ("[[b]]\nname = 1\n# c\n[[b]]\nname = 2\n", "b", [{"name": 2}], "# c\n[[b]]\nname = 2\n"),
        ("[[b]]\n# c\n[[b.d]]\ne = 1\n", "b", [{"d": [{"e": 2}]}], "[[b]]\n# c\n[[b.d]]\ne = 2\n"),
        (
            "[[b]]\nname = 1\n\n# d\n[e]\n\n# f\n[[b]]\nname = 2\n\n# g\n[h]\n",
            "b",
            [{"name": 2}, {"name": 1, "i": '"""\n'}],
            '# f\n[[b]]\nname = 2\n\n[[b]]\nname = 1\ni = """\n""\\"\n"""\n\n# d\n[e]\n\n# g\n[h]\n',
        ),
        ("a = [\n[1],\n# b\n[2]]\n# c\n[d]\n", "d", {"e": 1}, "a = [\n[1],\n# b\n[2]]\n# c\n[d]\ne = 1\n"),
    ],
)
def test_tables_of_every_form_keep_their_form_and_their_comments(
    source: str, place: str, value: Any, written: str
) -> None:
    assert edited(source, tomllib.loads(source)) == source
    assert edited(source, {**tomllib.loads(source), place: value}) == written


def test_null_is_nothing_that_can_be_written() -> None:
    with pytest.raises(ValueError, match="no form in TOML"):
        edited("a = 1", {"a": None})


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12)
VALUES = st.one_of(TEXTS, st.integers(-9, 9), st.booleans(), st.lists(TEXTS, max_size=3), st.floats(-1, 1))
PLACES = st.sampled_from(
    [(), ("data",), ("prompt",), ("sampling",), ("prompt", "few_shot"), ("scorers", 0), ("candidates", 0)]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(PLACES, TEXTS, st.none() | VALUES), max_size=4), st.permutations([0, 1]))
def test_whatever_is_wanted_is_what_is_written_or_nothing_is(changes: list[Any], places: list[int]) -> None:
    wanted = copy.deepcopy(tomllib.loads(HAND))
    for place, key, value in changes:
        at: Any = wanted
        for step in place:
            at = at[step] if isinstance(at, list) or step in at else at.setdefault(step, {})
        if isinstance(at, dict):
            at.pop(key, None) if value is None else at.update({key: value})
    wanted["scorers"] = [wanted["scorers"][at] for at in places]
    made = edited(HAND, wanted, ORDER)
    assert made is not None and tomllib.loads(made) == wanted
    assert "# the judge" in made and "# solved ones" in made and "# last words" in made
