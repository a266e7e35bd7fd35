from __future__ import annotations

import re
from html import unescape

import pytest

from baimo.evals.report.html import html
from baimo.evals.report.live import line
from baimo.evals.report.markdown import markdown
from baimo.evals.report.report import Report
from baimo.evals.report.terminal import plain
from baimo.text import room
from tests.evals.report.reports import full, many, progress, report, standing

# names, units and signs that are the same in every language
NEUTRAL = {"baimo", "compare", "seed", "usd", "ms", "s", "n", "utc", "vendor", "e"}


@pytest.fixture(autouse=True)
def chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAIMO_LANG", "zh")


def english(shown: str) -> set[str]:
    """English words of the catalogue that are left in a text."""
    words = {
        word
        for name in ("report",)
        for message in room(name, "en").values()
        for word in re.findall(r"[a-z]{3,}", re.sub(r"\{\w+\}", "", message).lower())
    }
    return set(re.findall(r"[a-z]{3,}", shown.lower())) & words - NEUTRAL


def visible(page: str) -> str:
    body = re.sub(r"<style>.*?</style>|<meta[^>]*>|</?mark>", "", page, flags=re.DOTALL)
    labels = " ".join(re.findall(r'(?:aria-label|title)="([^"]*)"', body))
    return unescape(re.sub(r"<[^>]*>", " ", body) + labels)


def named(made: Report) -> list[str]:
    own = [line.candidate for line in made.verdict.standings]
    texts = [
        *made.replies.values(),
        *(f"question {n}" for n in range(100)),
        *(f"answer {n}" for n in range(100)),
    ]
    return sorted(
        [*own, *texts, "smart-home", "tasks/smart-home", made.run.id, "2026-05-01"], key=len, reverse=True
    )


def without_names(shown: str, made: Report) -> str:
    for each in named(made):
        shown = shown.replace(each, "")
    return re.sub(r"\S*(?:vendor|model)-\d+\S*|\S*…\S*", "", shown)


@pytest.mark.parametrize(
    "made",
    [
        full(),
        full(
            assurance="guaranteed",
            certain=False,
            stopped="max_calls",
            calls_left=30.0,
            cost_left_micros=None,
            target="population",
        ),
        full(certain=False, stopped="exhausted", decision="cheapest"),
        many(300),
        report([standing("x/y", None)]),
        report([]),
    ],
    ids=["full", "guaranteed", "exhausted", "300", "nothing judged", "nobody"],
)
def test_no_english_label_is_left_in_chinese(made: Report) -> None:
    for shown in (
        plain(made.verdict, width=160),
        plain(made.verdict, width=60),
        markdown(made.verdict).replace("details", "").replace("summary", ""),
        visible(html(made)),
    ):
        assert english(without_names(shown, made)) == set()
    now = progress(made.verdict.standings, cost_left_micros=None)
    assert english(without_names(line(now), made)) == set()


def test_the_page_says_which_language_it_is_in() -> None:
    assert '<html lang="zh-CN">' in html(full())


@pytest.mark.parametrize("name", ["report", "require"])
def test_both_languages_have_the_same_messages_with_the_same_placeholders(name: str) -> None:
    ours, theirs = room(name, "en"), room(name, "zh")
    assert ours.keys() == theirs.keys()
    for key, message in ours.items():
        assert set(re.findall(r"\{(\w+)\}", message)) >= set(re.findall(r"\{(\w+)\}", theirs[key])), key
        if not key.endswith("_one"):
            assert set(re.findall(r"\{(\w+)\}", message)) == set(re.findall(r"\{(\w+)\}", theirs[key])), key
