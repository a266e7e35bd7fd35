from __future__ import annotations

from baimo.evals.report.markdown import markdown
from tests.evals.report.reports import full, many, report, standing, verdict


def rows(source: str) -> list[str]:
    return [line for line in source.splitlines() if line.startswith("|")]


def cells(row: str) -> int:
    return row.replace("\\|", "").count("|") - 1


def test_a_comment_is_a_sentence_a_table_and_folded_details() -> None:
    source = markdown(full().verdict)
    assert source.startswith("### acme/large is the one to take")
    assert len(rows(source)) == 6 and {cells(row) for row in rows(source)} == {10}
    assert source.count("<details>") == source.count("</details>") == 1
    assert source.index("<details>") < source.index("Assurance")


def test_three_hundred_candidates_fit_into_a_comment() -> None:
    source = markdown(many(300).verdict)
    assert len(source) < 10_000 and "290 more candidates" in source


def test_a_hostile_name_is_no_markup_and_calls_nobody() -> None:
    hostile = "a|b`</details><script>\n# x @team [l](http://x)"
    source = markdown(verdict([standing(hostile, 0.9), standing("b", 0.1, tier=2)]))
    assert {cells(row) for row in rows(source)} == {10}
    row = rows(source)[2]
    assert row.count("`") == 2  # one code span holds the whole name
    rest = source.replace(row, "")
    assert "<script>" not in rest and "@team" not in rest and "[l]" not in rest
    assert rest.count("</details>") == 1


def test_nothing_judged_and_nobody_there_still_make_a_comment() -> None:
    assert "?" in rows(markdown(report([standing("a", None)]).verdict))[2]
    assert "no winner" in markdown(verdict([]))
