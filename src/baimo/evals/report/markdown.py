"""The verdict as a comment on a pull request: one sentence, one short table, the rest folded away.

Prevents the failure where a model's name breaks the table or calls a colleague: names stand in code spans,
where nothing of Markdown is read, and pipes are escaped."""

from __future__ import annotations

from baimo.core.verdict import Standing, Verdict
from baimo.evals.report.figures import amount, clean, count, latency, name, say, score, span, tier
from baimo.evals.report.sentences import Account, account
from baimo.evals.report.terminal import footnote, marks

TOP = 10
"""Candidates in the table."""


def markdown(verdict: Verdict, *, top: int = TOP) -> str:
    """GitHub-flavoured Markdown, well under the 65,536 characters that a comment may have."""
    told = account(verdict)
    parts = [f"### {_prose(told.headline)}", ""]
    parts += [*_table(verdict, top), ""]
    parts += [f"_{_prose(note)}_\n" for note in footnote(verdict, (), top)]
    parts += [f"- ⚠️ {_prose(warning)}" for warning in told.warnings]
    parts += [*([""] if told.warnings else []), *_details(told), ""]
    return "\n".join(parts)


def _table(verdict: Verdict, top: int) -> list[str]:
    keys = (
        "tier",
        "candidate",
        "score",
        "interval",
        "strict",
        "outcomes",
        "cost",
        "calls",
        "latency",
        "flags",
    )
    heads = [_cell(say(f"head_{key}", currency=name(verdict.currency))) for key in keys]
    rule = ["--:", ":--", *["--:"] * 7, ":--"]
    rows = [_row(line, won=line.candidate == verdict.winner) for line in verdict.standings[:top]]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]


def _row(line: Standing, *, won: bool) -> list[str]:
    code = "`" + name(line.candidate).replace("`", "'").replace("|", "\\|") + "`"
    return [
        tier(line),
        f"**{code}**" if won else code,
        score(line.score),
        span(line.interval if line.judged else None),
        f"{score(line.strict)} \\| {score(line.lenient)}",
        f"{line.wrong}/{line.malformed}/{line.failed}",
        amount(line.cost_per_1000_micros),
        count(line.calls),
        latency(line.latency_ms_median),
        _cell(marks(line)),
    ]


def _details(told: Account) -> list[str]:
    body = [line for sentence in told.body for line in (_prose(sentence), "")]
    return ["<details>", f"<summary>{say('md_details')}</summary>", "", *body, "</details>"]


def _cell(shown: str) -> str:
    return _prose(shown).replace("|", "\\|")


def _prose(shown: str) -> str:
    """Text in which nothing is markup: names in it come from outside."""
    quoted = clean(shown).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in ("\\", "`", "*", "_", "[", "]", "#", "~"):
        quoted = quoted.replace(sign, "\\" + sign)
    # a word joiner keeps "@name" from calling somebody
    return " ".join(quoted.replace("@", "@\u2060").split())
