"""Scorers as a task uses them: built from a Spec, given an Example and a Completion."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from baimo.core.call import Completion, Request
from baimo.core.registry import Spec
from baimo.core.run import Score
from baimo.core.task import Example
from baimo.evals.scorers.base import Ask
from baimo.evals.scorers.registry import scorer


def judge(name: str, reply: str | Completion, target: Any = None, **args: Any) -> Score:
    """The score of one reply; `example_…` arguments go to the Example, `ask` and `folder` to the registry."""
    example = {
        key.removeprefix("example_"): args.pop(key) for key in list(args) if key.startswith("example_")
    }
    folder, ask = args.pop("folder", Path()), args.pop("ask", None)
    built = scorer(Spec(name=name, args=args), folder=folder, ask=ask)
    completion = reply if isinstance(reply, Completion) else Completion(text=reply)
    given = Example(**{"id": "1", "fields": {"input": "?"}, "target": target, **example})
    return asyncio.run(built.score(given, completion))


class ScriptedJudge:
    """A judge that says what it was told to, one reply after the other, and keeps what it was asked."""

    def __init__(self, *replies: str | Exception) -> None:
        self.replies = list(replies)
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> Completion:
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return Completion(text=reply)


def as_ask(judge: ScriptedJudge) -> Ask:
    """The double under the alias that scorers want."""
    return judge
