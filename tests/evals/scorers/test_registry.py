"""Building scorers from Specs."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

import pytest

from baimo.core.registry import Spec, resolve
from baimo.errors import TaskError
from baimo.evals.scorers.base import GIVEN
from baimo.evals.scorers.registry import SCORERS, scorer
from tests.evals.scorers import ScriptedJudge

ARGUMENTS = {
    "all": {"scorers": [{"name": "exact"}]},
    "any": {"scorers": [{"name": "exact"}, {"name": "numeric", "absolute": 1}]},
    "grader": {
        "grader": {"type": "string_check", "input": "a", "reference": "{{item.b}}", "operation": "eq"},
        "by": "score",
    },
    "judge": {"model": "lab/judge"},
    "pairwise": {"model": "lab/judge"},
}


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_every_scorer_can_be_built_again_from_its_own_spec(name: str, tmp_path: Path) -> None:
    (tmp_path / "scorer.py").write_text("def score(example, completion):\n    return 1.0\n")
    built = scorer(Spec(name=name, args=ARGUMENTS.get(name, {})), folder=tmp_path, ask=ScriptedJudge())
    assert built.spec.name == name
    assert built.spec.version.startswith("1")
    again = scorer(built.spec, folder=tmp_path, ask=ScriptedJudge())
    assert again.spec == built.spec


def test_every_scorer_is_named_as_in_the_table() -> None:
    assert all(resolve(target).name == name for name, target in SCORERS.items())


def test_an_unknown_scorer_names_its_neighbours() -> None:
    with pytest.raises(TaskError, match="exact"):
        scorer(Spec(name="exakt"), folder=Path())


def test_a_misspelt_argument_is_refused_with_the_near_name() -> None:
    with pytest.raises(TaskError, match="absolute"):
        scorer(Spec(name="numeric", args={"absolut": 1}), folder=Path())


@pytest.mark.parametrize("args", [{"absolute": "much"}, {"form": "roman"}])
def test_an_argument_of_the_wrong_type_is_refused(args: dict[str, str]) -> None:
    with pytest.raises(TaskError, match=next(iter(args))):
        scorer(Spec(name="numeric", args=args), folder=Path())


@pytest.mark.parametrize("name", ["judge", "pairwise"])
def test_a_judge_needs_a_model_and_a_way_to_be_asked(name: str) -> None:
    with pytest.raises(TaskError, match="model is missing"):
        scorer(Spec(name=name), folder=Path(), ask=ScriptedJudge())
    with pytest.raises(TaskError, match="no way to call"):
        scorer(Spec(name=name, args={"model": "lab/judge"}), folder=Path())


def test_a_spec_shows_only_what_differs_from_the_default() -> None:
    spec = scorer(Spec(name="exact", args={"case": True, "unicode": False}), folder=Path()).spec
    assert spec == Spec(name="exact", args={"case": True}, version="1")


def test_editing_a_file_that_a_scorer_reads_changes_its_version(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    spec = Spec(name="json", args={"schema": "schema.json"})
    before = scorer(spec, folder=tmp_path).spec
    other = tmp_path / "other"
    other.mkdir()
    (other / "schema.json").write_text('{"type": "array"}')
    assert before.version != scorer(spec, folder=other).spec.version


def test_both_languages_have_the_same_messages_with_the_same_placeholders() -> None:
    import string

    rooms = [
        tomllib.loads((resources.files("baimo") / "locales" / locale / "scorers.toml").read_text("utf-8"))
        for locale in ("en", "zh")
    ]

    def placeholders(message: str) -> set[str]:
        try:
            return {name for _, name, _, _ in string.Formatter().parse(message) if name}
        except ValueError:  # a message without facts may hold plain braces
            return set()

    assert rooms[0].keys() == rooms[1].keys()
    assert all(placeholders(rooms[0][key]) == placeholders(rooms[1][key]) for key in rooms[0])


def test_every_scorer_and_argument_is_in_the_reference() -> None:
    import dataclasses

    page = (Path(__file__).parents[3] / "docs" / "reference" / "scorers.md").read_text(encoding="utf-8")
    for name, target in SCORERS.items():
        assert f"## {name}\n" in page
        section = page.split(f"## {name}\n")[1].split("\n## ")[0]
        for field in dataclasses.fields(resolve(target)):
            if field.init and field.name not in GIVEN and name not in ("icontains", "any"):
                assert f"`{field.name}`" in section, (name, field.name)
