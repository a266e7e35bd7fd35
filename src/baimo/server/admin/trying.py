"""Models tried and fetched: one tiny call of a model, and the way of its weights to this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Annotated, Any

import msgspec

from baimo.core.model import Model
from baimo.core.moments import shown
from baimo.errors import BaimoError, NotFound
from baimo.gateway.answers import by_name
from baimo.gateway.call import Call
from baimo.gateway.collected import Collected
from baimo.gateway.keyring import permits_name
from baimo.providers.openai_reply import count, fields
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.server.surfaces.table import surfaces
from baimo.store import audit
from baimo.workspace.pulling import Pull, Pulling

SURFACE = "test"
"""`Record.surface` of the call."""
CHAT = "/v1/chat/completions"
_HEADERS: Mapping[bytes, bytes] = {b"content-type": b"application/json"}
_LONGEST = 400
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTried:
    """A model to be called once."""

    model: _Name
    """Model, alias or route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialShown:
    """What one tiny call of a model showed. A failure is a finding."""

    model: str
    answered: bool
    said: str
    """Beginning of the answer, or why there is none."""
    latency_ms: float
    """Wall time, the gateway's part included."""
    tokens_in: int | None
    tokens_out: int | None
    cost: str | None
    """Decimal text in units of `currency`; null = not known."""
    currency: str | None
    record: str | None
    """Id of its Record; null = it was not let in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelWanted:
    """A model whose weights are wanted here."""

    model: _Name
    """vendor/model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullShown:
    """A fetch of weights."""

    model: str
    state: str
    """pulling, done or failed."""
    done: int
    """Bytes."""
    total: int | None
    """Bytes; null = not known."""
    began: str
    ended: str | None
    problem: str | None
    """Why it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsShown:
    """A model whose weights can be had."""

    model: str
    here: bool
    """They are on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullsShown:
    """Weights on this machine, and on their way to it."""

    weights: list[WeightsShown]
    """Every model whose weights can be had, by name."""
    pulls: list[PullShown]
    """Newest first."""


class _Noted(Collected):
    """An answer with the headers that say what it cost."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: dict[bytes, bytes] = {}

    def whole(self, status: int, head: bytes, body: bytes) -> None:
        self.headers = by_name(head)
        super().whole(status, head, body)


async def _try(asking: Asking, asked: ModelTried) -> TrialShown:
    reply, began = _Noted(), monotonic()
    body = {
        "model": asked.model,
        "messages": [{"role": "user", "content": "Say hello in one short sentence."}],
        "max_tokens": 24,
    }
    problem = ""
    try:
        await asking.service.gateway.serve(
            Call(
                surface=surfaces()[CHAT],
                body=msgspec.json.encode(body),
                headers=_HEADERS,
                key=asking.key,
                tenant=asking.tenant,
                reply=reply,
                began=began,
                request_id=asking.request_id,
                recorded_as=SURFACE,
            )
        )
    except BaimoError as error:
        problem = str(error)
    data = _read(reply.body)
    answered = reply.status == 200 and not problem
    usage = fields(data.get("usage"))
    cost = reply.headers.get(b"x-baimo-cost", b"").decode()
    return TrialShown(
        model=asked.model,
        answered=answered,
        said=(_said(data) if answered else problem or _refused(data, reply.status))[:_LONGEST],
        latency_ms=round((monotonic() - began) * 1000, 1),
        tokens_in=count(usage.get("prompt_tokens")),
        tokens_out=count(usage.get("completion_tokens")),
        cost=cost or None,
        currency=reply.headers.get(b"x-baimo-currency", b"").decode() or None,
        record=reply.headers.get(b"x-baimo-record", b"").decode() or None,
    )


def _read(body: bytes) -> Mapping[str, Any]:
    try:
        return fields(json.loads(body or b"{}"))
    except ValueError:
        return {}


def _said(data: Mapping[str, Any]) -> str:
    choices: Any = data.get("choices") or [{}]
    return str(fields(fields(choices[0]).get("message")).get("content") or "")


def _refused(data: Mapping[str, Any], status: int) -> str:
    return str(fields(data.get("error")).get("message") or status)


def _pull(asking: Asking, asked: ModelWanted) -> PullShown:
    service = asking.service
    begun = Pulling(service.workspace).start(_model(asking, asked.model))
    with service.workspace.store.database.writing() as connection:
        audit.enter(connection, asking.actor, "weights.pull", "", {"model": begun.model}, begun.began_ms)
    return _shown(begun)


def _model(asking: Asking, name: str) -> Model:
    """A model of the catalogue that this key may ask for.

    Raises:
        NotFound: there is none.
    """
    try:
        model = asking.service.catalogue.model(name)
    except BaimoError:
        model = None
    if model is None or not permits_name(asking.key, model.name):
        raise NotFound("admin.no_model", field="/model")
    return model


def _pulls(asking: Asking, _: Nothing) -> PullsShown:
    pulling = Pulling(asking.service.workspace)
    weights = [
        WeightsShown(model=model.name, here=here)
        for model in asking.service.catalogue.models()
        if permits_name(asking.key, model.name) and (here := pulling.here(model)) is not None
    ]
    return PullsShown(weights=weights, pulls=[_shown(one) for one in pulling.known()])


def _shown(pull: Pull) -> PullShown:
    return PullShown(
        model=pull.model,
        state=pull.state,
        done=pull.done,
        total=pull.total,
        began=shown(pull.began_ms),
        ended=None if pull.ended_ms is None else shown(pull.ended_ms),
        problem=pull.problem or None,
    )


TRYING = (
    Operation(
        method="POST", path="/api/trials", role="engineer", takes=ModelTried, gives=TrialShown, does=_try,
        tag="models", summary="admin.models_try",
    ),
    Operation(
        method="GET", path="/api/pulls", role="viewer", owners=True, gives=PullsShown, does=_pulls,
        tag="models", summary="admin.pulls_list",
    ),
    Operation(
        method="POST", path="/api/pulls", role="engineer", owners=True, takes=ModelWanted, gives=PullShown,
        does=_pull, tag="models", summary="admin.pulls_start", status=202, errors=(404, 409, 501),
    ),
)  # fmt: skip
