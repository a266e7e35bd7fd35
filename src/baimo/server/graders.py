"""OpenAI's grader routes: is this a grader, and what does it make of this answer?

Source: developers.openai.com/api/reference/resources/fine_tuning (alpha/graders), and the official SDK 3.54.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from baimo.core.call import Usage
from baimo.evals.graders.grade import Grade
from baimo.evals.graders.grading import grade, sample_of
from baimo.evals.graders.kinds import Grader, grader_of, models_of, runs_code, type_of
from baimo.server.evals import allowed_code
from baimo.server.files import classed, permitted
from baimo.server.lines import SURFACE, Lines
from baimo.server.replies import caller, json_response, service_of
from baimo.server.surfaces.given import Given
from baimo.workspace.eval_asking import Asker

_ROOT = "/v1/fine_tuning/alpha/graders"


def routes() -> list[BaseRoute]:
    """The routes of graders."""
    return [
        Route(f"{_ROOT}/run", _run, methods=["POST"]),
        Route(f"{_ROOT}/validate", _validated, methods=["POST"]),
    ]


async def _run(request: Request) -> Response:
    permitted(request, SURFACE)
    key, tenant = caller(request)
    given = Given.body(await request.body())
    grader = await _grader(given, tenant.id)
    sample = given.row.get("model_sample")
    if not isinstance(sample, str):
        raise given.wrong("model_sample", "string")
    item = given.object("item")
    lines = Lines(service_of(request))
    for model in models_of(grader):
        lines.known(model, key)
    asker = Asker(lines.of_key(key, tenant, classed(request)))
    made = await grade(grader, {} if item is None else item.row, sample_of(sample), asker.helpers)
    return json_response(grade_row(made))


async def _validated(request: Request) -> Response:
    _, tenant = permitted(request, SURFACE)
    given = Given.body(await request.body())
    grader = await _grader(given, tenant)
    return json_response({"grader": {**given.must("grader").row, "name": grader.name or type_of(grader)}})


async def _grader(given: Given, tenant: str) -> Grader:
    grader = grader_of(given.must("grader").row, "grader")
    if runs_code(grader):
        await allowed_code(tenant)
    return grader


def grade_row(made: Grade) -> dict[str, Any]:
    """A grade as OpenAI's grader run tells it."""
    flags: dict[str, Any] = dict(made.flags())
    flags["model_grader_server_error_details"] = _details(made, "graders.model_failed")
    flags["python_grader_runtime_error_details"] = _details(made, "graders.code_failed")
    flags["python_grader_server_error_type"] = _kind(made, "graders.code_broken")
    scores = {name: part.score for name, part in made.parts.items()}
    return {
        "reward": made.score,
        "metadata": {
            "name": made.name,
            "type": made.type,
            "errors": flags,
            "execution_time": made.seconds,
            "scores": scores or {made.name: made.score},
            "token_usage": _total(made.usage) if made.usage else None,
            "sampled_model_name": made.model or None,
            # OpenAI has no words for it: what the flags stand for, for people
            "error_message": made.problem or None,
        },
        "sub_rewards": scores,
        "model_grader_token_usage_per_model": {
            model: {
                "prompt_tokens": tokens.tokens_in,
                "completion_tokens": tokens.tokens_out,
                "total_tokens": _total({model: tokens}),
            }
            for model, tokens in made.usage.items()
        },
    }


def _details(made: Grade, error: str) -> str | None:
    """The words of the first part that failed so."""
    if made.error == error and not made.parts:
        return made.problem
    return next((found for part in made.parts.values() if (found := _details(part, error))), None)


def _kind(made: Grade, error: str) -> str | None:
    if made.error == error and not made.parts:
        return made.error_type
    return next((found for part in made.parts.values() if (found := _kind(part, error))), None)


def _total(usage: dict[str, Usage] | Any) -> int:
    return sum((tokens.tokens_in or 0) + (tokens.tokens_out or 0) for tokens in usage.values())
