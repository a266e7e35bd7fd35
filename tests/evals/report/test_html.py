from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from baimo.core.run import Outcome, Sample, Score
from baimo.core.task import Example, Task
from baimo.evals.report.html import html
from baimo.evals.report.report import Report
from tests.evals.report.reports import examples, full, many, report, samples, standing

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = (
    "</pre></style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"' \u202eevil\x00\ud800"
)


class Page(HTMLParser):
    """Reads a page, checks that it nests, and keeps its elements, attributes and text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def hostile() -> Report:
    lines = [standing(HOSTILE, 0.9), standing("b", 0.8)]
    task = Task(
        name=HOSTILE,
        examples=tuple(
            Example(
                id=f"{HOSTILE}{n}",
                fields={"input": HOSTILE},
                target=HOSTILE,
                metadata={HOSTILE: HOSTILE + str(n % 2)},
            )
            for n in range(4)
        ),
        scorers=(),
    )
    cells = [
        Sample(
            candidate=line.candidate,
            example=example.id,
            request_hash=f"{rank}",
            score=Score.of(float(rank), explanation=HOSTILE),
        )
        for example in task.examples
        for rank, line in enumerate(lines)
    ]
    return report(lines, cells, replies={"0": HOSTILE, "1": HOSTILE * 3}, task=task, currency="<b>")


@pytest.mark.parametrize(
    "made",
    [
        full(),
        many(300),
        many(2),
        hostile(),
        report([standing("a")], samples({"a": [1.0] * 5})),
        report([standing("a", None), standing("b", None)]),
        report([]),
        report(
            [standing("a", cost_per_1000_micros=None), standing("b", cost_per_1000_micros=None)],
            cost_micros=None,
        ),
        full(certain=False, stopped="interrupted", calls_left=None),
        full(stopped="exhausted", certain=False),
    ],
    ids=[
        "full",
        "300",
        "2",
        "hostile",
        "one",
        "nothing judged",
        "nobody",
        "no price",
        "interrupted",
        "exhausted",
    ],
)
def test_a_page_nests_and_holds_no_script_handler_style_or_address(made: Report) -> None:
    page = Page(html(made))
    assert not page.all("script") and not page.all("img") and not page.all("iframe")
    for _, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on") or key in ("style", "src", "action")]
        assert attributes.get("href") in (None, "data:,")
    assert not re.search(r"\b(?:NaN|nan|inf|None(?! of the))\b", page.text)


def test_the_policy_allows_the_page_s_own_style_and_nothing_else() -> None:
    source = html(full())
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(meta["content"] for meta in Page(source).all("meta") if meta.get("http-equiv"))
    assert (
        policy
        == f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert "url(" not in style[1] and "@import" not in style[1]


def test_a_hostile_reply_is_shown_and_is_inert() -> None:
    source = html(hostile())
    assert "<script" not in source and "<img" not in source and "\u202e" not in source
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in source
    source.encode("utf-8")


def test_the_page_says_what_the_verdict_says() -> None:
    text = Page(html(full())).text
    for part in (
        "acme/large",
        "0.930",
        "0.890–0.960",
        "Where the leaders differ",
        "reply of acme/small",
        "question",
        "a1a1",
        "--seed 7",
    ):
        assert part in text
    assert "near-constant!" in text and "not to be named the winner" in text


def test_unknown_prices_are_question_marks_and_listed_aside() -> None:
    text = Page(html(full())).text
    assert "Price not known, so not drawn: other/base" in text
    unpriced = report([standing("a", cost_per_1000_micros=None)], cost_micros=None)
    assert "No candidate's price is known" in Page(html(unpriced)).text


def test_the_best_candidates_stand_in_the_open_and_the_rest_folded() -> None:
    source = html(many(300))
    assert "All 300 candidates" in source
    assert (
        source.index("vendor-0/model-0")
        < source.index("All 300 candidates")
        < source.index("model-299</bdi>")
    )


def test_right_to_left_text_finds_its_own_direction() -> None:
    lines = [standing("a"), standing("b", 0.8)]
    made = report(lines, samples({"a": [1.0], "b": [0.0]}), replies={"a/0": "مرحبا", "b/0": "שלום"})
    source = html(made)
    assert '<pre dir="auto">مرحبا</pre>' in source


def test_examples_are_capped_with_a_note_and_replies_cut_with_one() -> None:
    lines = [standing("a"), standing("b", 0.8)]
    cells = samples({"a": [1.0] * 200, "b": [0.0] * 200})
    made = report(
        lines,
        cells,
        replies={cell.request_hash: "long " * 5000 for cell in cells},
        task=Task(name="t", examples=examples(200), scorers=()),
    )
    source = html(made)
    assert source.count('<details class="pair"') == 50
    assert "The 50 widest apart of 200" in source and "more characters" in source


def test_twenty_thousand_examples_make_a_page_of_less_than_two_megabytes() -> None:
    lines = [standing(f"vendor/model-{rank}", 0.9 - rank / 50) for rank in range(4)]
    score, miss = Score.of(1.0), Score.of(0.0)
    cells = [
        Sample(
            candidate=line.candidate,
            example=f"e{place}",
            request_hash=f"{rank}",
            score=score if (place + rank) % 3 else miss,
        )
        for place in range(20_000)
        for rank, line in enumerate(lines)
    ]
    task = Task(name="t", examples=examples(20_000), scorers=())
    page = html(report(lines, cells, replies={str(rank): "x" * 100_000 for rank in range(4)}, task=task))
    assert len(page.encode()) < 2_000_000


def test_a_difference_is_marked_where_replies_are_alike_and_not_where_they_are_not() -> None:
    lines = [standing("a"), standing("b", 0.8)]
    cells = samples({"a": [1.0, 1.0], "b": [0.0, 0.0]})
    replies = {
        "a/0": "turn on the light in the kitchen",
        "b/0": "turn on the light in the hall",
        "a/1": "yes",
        "b/1": "no",
    }
    source = html(report(lines, cells, replies=replies))
    assert "turn on the light in the <mark>hall</mark>" in source
    assert "<mark>yes</mark>" not in source


def test_every_outcome_has_a_name_and_a_colour() -> None:
    source = html(full())
    for outcome in Outcome:
        assert f".o-{outcome.value} " in source or f".o-{outcome.value}{{" in source.replace(" {", "{")
