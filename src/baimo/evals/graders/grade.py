"""What a grader made of one sample: a score, or what went wrong, as data.

Prevents the failure where a judge that could not be reached, or a grader with a slip in it, counts as a wrong answer:
`Grade.error` says what happened, and `blames_sample` whose fault it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from baimo.core.call import Usage
from baimo.errors import BaimoError

FLAGS: Mapping[str, str] = {
    "graders.no_variable": "invalid_variable_error",
    "graders.sample_no_json": "sample_parse_error",
    "graders.sample_no_field": "invalid_variable_error",
    "graders.formula_unreadable": "formula_parse_error",
    "graders.formula_unknown": "formula_parse_error",
    "graders.formula_failed": "formula_parse_error",
    "graders.code_failed": "python_grader_runtime_error",
    "graders.code_broken": "python_grader_server_error",
    "graders.model_failed": "model_grader_server_error",
    "graders.model_refused": "model_grader_refusal_error",
    "graders.model_unreadable": "model_grader_parse_error",
}
"""Message key → flag of OpenAI's grader runs; every other key is `other_error`."""
_SAMPLE = frozenset({"graders.sample_no_json", "graders.sample_no_field"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """One grader's judgement of one sample."""

    name: str
    """The grader's."""
    type: str
    """string_check, text_similarity, score_model, label_model, python or multi."""
    score: float
    """What it gave; 0 where something went wrong."""
    error: str = ""
    """Message key of what went wrong; empty = nothing did."""
    problem: str = ""
    """The same, for people."""
    error_type: str = ""
    """For programs: how a piece of code or a model's server failed."""
    passed: bool = False
    """Whether the score is good enough."""
    parts: Mapping[str, Grade] = field(default_factory=dict[str, "Grade"])
    """Of a multi grader, by the names in its formula."""
    usage: Mapping[str, Usage] = field(default_factory=dict[str, Usage])
    """Model → tokens that judging took."""
    model: str = ""
    """Model that judged, as its server calls it."""
    seconds: float = 0.0
    """How long it took."""
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What a judge said: result, label, steps."""

    @property
    def blames_sample(self) -> bool:
        """Whether what went wrong is the answer's fault: it is no JSON, or lacks a field that was asked for."""
        return self.error in _SAMPLE

    @property
    def failed(self) -> bool:
        """Whether there is no judgement: the grader, the data or a judge is to blame, and not the answer."""
        return bool(self.error) and not self.blames_sample

    def flags(self) -> dict[str, bool]:
        """What went wrong here or in a part, as OpenAI's grader runs name it."""
        names = {FLAGS.get(self.error, "other_error")} if self.error else set[str]()
        for part in self.parts.values():
            names |= {name for name, is_set in part.flags().items() if is_set}
        return {name: name in names for name in ALL_FLAGS}


ALL_FLAGS = (
    *(
        "formula_parse_error",
        "invalid_variable_error",
        "model_grader_parse_error",
        "model_grader_refusal_error",
    ),
    *(
        "model_grader_server_error",
        "other_error",
        "python_grader_runtime_error",
        "python_grader_server_error",
    ),
    *("sample_parse_error", "truncated_observation_error", "unresponsive_reward_error"),
)
"""The last two are of OpenAI's training loop and never set here."""


class GradingError(Exception):
    """Carries what went wrong in one grader to where it becomes a Grade; never leaves this room."""

    def __init__(
        self, error: BaimoError, *, kind: str = "", model: str = "", usage: Mapping[str, Usage] | None = None
    ) -> None:
        """
        Args:
            error: what happened.
            kind: `Grade.error_type`.
            model: that judged.
            usage: what it took all the same.
        """
        super().__init__(str(error))
        self.error = error
        self.kind = kind
        self.model = model
        self.usage = usage or {}
