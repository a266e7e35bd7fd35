"""Graders as clients use them: a description, a sample, an item."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from baimo.evals.graders.grade import Grade
from baimo.evals.graders.grading import Helpers, grade, sample_of
from baimo.evals.graders.kinds import grader_of


def graded(
    grader: Mapping[str, Any],
    said: str | Mapping[str, Any],
    item: Mapping[str, Any] | None = None,
    helpers: Helpers = Helpers(),
) -> Grade:
    """What a grader makes of an answer."""
    sample = sample_of(said) if isinstance(said, str) else said
    return asyncio.run(grade(grader_of(grader), item or {}, sample, helpers))
