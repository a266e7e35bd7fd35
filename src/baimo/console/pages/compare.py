"""Compare: which model does a task best, for how much, and how sure? Begun from a form, watched, read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

from markupsafe import Markup
from starlette.responses import Response

from baimo.console.api import Refused, named
from baimo.console.live import events_of
from baimo.console.page import Page
from baimo.console.pages.compare_form import PATTERNS, asked, filled, form_fields, sent
from baimo.console.visit import Visit, words
from baimo.core.tuned_name import briefs
from baimo.core.verdict import Progress, Verdict
from baimo.evals.options import LIMITS
from baimo.evals.report import differing, html
from baimo.evals.report import figures as amounts
from baimo.evals.report.html import Pair, Side, cards, flagged, heat, standing, state
from baimo.evals.report.report import SMALL, Mean, Pareto, Slice, Slicing, pareto
from baimo.evals.report.sentences import account
from baimo.evals.report.terminal import marks
from baimo.typed import converted

STATUSES = ("queued", "running", "interrupted", "done", "stopped", "failed")
SORTS = ("started", "task", "status", "winner", "candidates", "calls", "cost")
ACTIVE = ("queued", "running")
FILTERS = ("text", "task", "status", "tenant")
ROWS = 20
"""Candidates that the table of a comparison under way shows."""
PAIRS = 10
"""Examples where the leaders differ on one page."""


async def comparisons(visit: Visit) -> Response:
    """The list."""
    events = await events_of(visit, "comparisons")
    given = visit.request.query_params
    question = visit.asked(FILTERS, SORTS)
    found = await visit.api.get("/api/comparisons", **question, cursor=given.get("cursor"), limit=50)
    active = any(one["status"] in ACTIVE for one in found["data"])
    tasks = await _tasks(visit)
    facts: dict[str, Any] = {"tasks": tasks, "active": active}
    facts["statuses"] = [(one, words(f"console_compare.status_{one}")) for one in STATUSES]
    names = [one["name"] for one in tasks] + ([question["task"]] if "task" in question else [])
    facts["task_names"] = [(one, one) for one in dict.fromkeys(names)]
    return visit.shown("compare.html", page="compare", found=found, asked=question, events=events, **facts)


async def export_list(visit: Visit) -> Response:
    """The comparisons of a question as a file."""
    visit.must("comparisons_list_export")
    form = visit.request.query_params.get("format", "csv")
    return visit.api.forwarded(
        "/api/comparisons/export", query={**visit.asked(FILTERS, SORTS), "format": form}
    )


async def begin(visit: Visit) -> Response:
    """The form; after it the forecast; then the comparison."""
    refused, planned = None, None
    tasks, models = await asyncio.gather(_tasks(visit), _models(visit))
    listed = [one["name"] for one in models]
    if visit.request.method == "POST":
        form = sent(await visit.request.body())
        try:
            if form.get("act") == ["start"]:
                begun = await visit.api.post("/api/comparisons", asked(form))
                return visit.gone_to(named("/compare/{run}", run=begun["comparison"]["id"]))
            planned = await visit.api.post("/api/comparisons/forecast", asked(form))
        except Refused as error:
            refused = error
    else:
        form = await _prefilled(visit, listed)
    facts: dict[str, Any] = {"tasks": tasks, "models": models, "fields": form_fields(), "planned": planned}
    status = refused.status if refused else 200
    return visit.shown(
        "compare_new.html", status, page="compare", form=form, refused=refused, f=amounts, **facts
    )


async def _prefilled(visit: Visit, listed: Sequence[str]) -> Mapping[str, Sequence[str]]:
    given = visit.request.query_params
    again = given.get("again")
    if not again:
        models = given.getlist("model")
        further = "\n".join(name for name in models if name not in listed)  # as tuned ones
        return {"task": given.getlist("task"), "model": models, PATTERNS: [further]}
    before = await visit.api.get(named("/api/comparisons/{run}", run=again))
    return filled(before["options"], listed)


async def _tasks(visit: Visit) -> list[dict[str, Any]]:
    """Tasks that can be compared on: those with examples, where nothing is wrong."""
    found = await visit.api.get("/api/tasks", limit=500)
    return [one for one in found["data"] if not one["problem"] and one["test"]]


async def _models(visit: Visit) -> list[dict[str, Any]]:
    """Models that can be called from here and say something."""
    found = await visit.api.get("/api/models", usable="true", limit=200)
    mute = {"embeddings", "rerank"}
    return [one for one in found["data"] if not mute & set(one["abilities"])]


async def comparison(visit: Visit) -> Response:
    """One comparison: live while it runs, then its verdict."""
    path = _path(visit)
    events = await events_of(visit, "comparisons", str(visit.request.path_params["run"]))
    detail = await visit.api.get(path)
    shown, verdict = detail["comparison"], detail["verdict"]
    read_as = briefs(shown["candidates"])
    facts: dict[str, Any] = {
        "shown": shown,
        "detail": detail,
        "active": shown["status"] in ACTIVE,
        "f": amounts,
        "events": events,
    }
    facts |= {"told": None, "standing": None, "progress": None, "rows": ROWS}
    facts["whole"] = {short: name for name, short in read_as.items() if short != name}
    if verdict is not None:
        facts |= await _read(visit, path, converted(_whole(_read_as(verdict, read_as)), Verdict), read_as)
    elif detail["progress"] is not None:
        progress = converted(_whole(_read_as(detail["progress"], read_as)), Progress)
        leader = next((one.candidate for one in progress.standings if one.judged), None)
        facts |= {"progress": progress, "leader": leader}
        facts["standing"] = _drawn(standing(progress.standings, leader, Pareto((), (), ())))
    return visit.shown("compare_run.html", page="compare", **facts)


def _read_as(value: Any, names: Mapping[str, str]) -> Any:
    """Candidates under the names that people read, wherever they are named."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, list):
        return [_read_as(one, names) for one in cast("list[Any]", value)]
    if isinstance(value, dict):
        facts = cast("dict[str, Any]", value)
        return {names.get(name, name): _read_as(one, names) for name, one in facts.items()}
    return value


async def _read(visit: Visit, path: str, verdict: Verdict, names: Mapping[str, str]) -> dict[str, Any]:
    """What the page of a verdict shows."""
    cursor = visit.request.query_params.get("from")
    report, found = await asyncio.gather(
        visit.api.get(f"{path}/export", format="json"),
        visit.api.get(f"{path}/differences", limit=PAIRS, cursor=cursor),
    )
    front = pareto(verdict)
    return {
        "verdict": verdict,
        "told": account(verdict),
        "cards": cards(verdict),
        "state": state(verdict),
        "standing": _drawn(standing(verdict.standings, verdict.winner, front)),
        "pareto": front,
        "unpriced": html.unpriced(front),
        "heat": heat([_slicing(one) for one in _read_as(report["slices"], names)]),
        "small": SMALL,
        "flagged": flagged(verdict),
        "marks": marks,
        "pairs": [_pair(one) for one in _named_pairs(found["data"], names)],
        "found": found,
        "command": report["run"]["command"],
    }


def _drawn(plots: Mapping[str, tuple[Markup, Markup] | None]) -> dict[str, tuple[Markup, ...] | None]:
    """Drawings of the report under a class of their own: those of the console place their labels otherwise."""
    theirs, ours = 'class="plot"', 'class="drawn"'
    return {
        name: None if pair is None else tuple(Markup(str(one).replace(theirs, ours, 1)) for one in pair)
        for name, pair in plots.items()
    }


async def stop(visit: Visit) -> Response:
    """End it with a verdict on what is known."""
    await visit.api.post(f"{_path(visit)}/stop")
    return _there(visit)


async def resume(visit: Visit) -> Response:
    """Go on, perhaps under other limits."""
    form = await visit.form()
    said = asked({name: [form.get(name, "")] for name in LIMITS})
    await visit.api.post(f"{_path(visit)}/resume", {name: said[name] for name in LIMITS if name in said})
    return _there(visit)


def _there(visit: Visit) -> Response:
    return visit.gone_to(named("/compare/{run}", run=str(visit.request.path_params["run"])))


async def export(visit: Visit) -> Response:
    """The report as a file."""
    visit.must("comparisons_export")
    form = visit.request.query_params.get("format", "html")
    return visit.api.forwarded(f"{_path(visit)}/export", query={"format": form})


def _path(visit: Visit) -> str:
    return named("/api/comparisons/{run}", run=str(visit.request.path_params["run"]))


def _whole(noun: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict or progress with ends for intervals that have none: they span everything."""
    lines = cast("list[dict[str, Any]]", noun["standings"])
    bounded = [{**line, "interval": _bounded(line["interval"])} for line in lines]
    return {**noun, "standings": bounded}


def _bounded(interval: Sequence[float | None]) -> list[float]:
    low, high = interval
    return [0.0 if low is None else low, 1.0 if high is None else high]


def _slicing(one: Mapping[str, Any]) -> Slicing:
    rows = tuple(
        Slice(
            row["value"],
            row["examples"],
            {name: Mean(mean["score"], mean["n"]) for name, mean in row["means"].items()},
        )
        for row in one["values"]
    )
    return Slicing(one["name"], rows, one["hidden"])


def _named_pairs(pairs: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Only who answered is named anew: what models said stays as it is."""
    return [
        {
            **pair,
            "answers": [
                {**one, "candidate": names.get(one["candidate"], one["candidate"])} for one in pair["answers"]
            ],
        }
        for pair in pairs
    ]


def _pair(one: Mapping[str, Any]) -> Pair:
    """An example with the leaders' replies, marked against the best reply (that one against the worst)."""
    answers = cast("list[dict[str, Any]]", one["answers"])
    best, worst = max(answers, key=_score), min(answers, key=_score)
    return Pair(
        id=amounts.clean(one["example"]),
        asked=differing.shown(one["asked"], longest=1200),
        target=differing.shown(one["expected"], longest=600) if one["expected"] else None,
        sides=tuple(_side(answer, worst if answer is best else best) for answer in answers),
    )


def _side(answer: Mapping[str, Any], other: Mapping[str, Any]) -> Side:
    reply = answer["reply"]
    return Side(
        candidate=answer["candidate"],
        score=f"{answer['score']:.2f}".rstrip("0").rstrip("."),
        reply=None if reply is None else differing.shown(reply, other["reply"]),
        explanation=amounts.clean(answer["explanation"])[:300],
        outcome=answer["outcome"],
    )


def _score(answer: Mapping[str, Any]) -> float:
    return float(answer["score"])


COMPARE = Page(
    name="compare",
    path="/compare",
    needs=("comparisons_list", "tasks_list", "models_list"),
    views=(
        ("GET", "/compare", comparisons),
        ("GET", "/compare/new", begin),
        ("POST", "/compare/new", begin),
        ("GET", "/compare/export", export_list),
        ("GET", "/compare/{run}", comparison),
        ("GET", "/compare/{run}/export", export),
        ("POST", "/compare/{run}/stop", stop),
        ("POST", "/compare/{run}/resume", resume),
    ),
)
