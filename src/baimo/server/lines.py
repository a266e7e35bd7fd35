"""How evaluations and graders reach models: through the gateway, in the name of a key, recorded as `evals`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic

from baimo.core.tenant import DataClass, Key, Tenant
from baimo.errors import UnknownModel
from baimo.gateway.call import Call
from baimo.gateway.collected import Collected
from baimo.gateway.idle import Gate
from baimo.gateway.policy import CLASS_HEADER
from baimo.gateway.surface import Surface
from baimo.server.surfaces.table import surfaces
from baimo.store.evaluation_runs import EvalRun
from baimo.workspace.eval_asking import EMBEDDER, Line, Said, Send
from baimo.workspace.serving import Service

SURFACE = "evals"
"""`Record.surface` of every call, and the name under which keys may be allowed evaluations."""


class Lines:
    """Makes ways to models."""

    def __init__(self, service: Service, gate: Gate | None = None) -> None:
        self._service = service
        self._gate = gate
        self._table: Mapping[str, Surface] = surfaces()

    async def of_run(self, run: EvalRun, halted: Callable[[], bool]) -> Line:
        """The way of a run: behind everybody who waits for an answer.

        Raises:
            Unauthenticated: its key is gone.
        """
        service = self._service
        key, _ = await service.keyring.ordered_by(run.key)

        def vendors(name: str) -> frozenset[str]:
            return frozenset(model.vendor for model in service.parts.router.behind(name, key))

        return Line(
            send=self._send(lambda: service.keyring.standing(run.key), run.data_class, run.id),
            embedder=self.embedder(key),
            gate=self._gate,
            vendors=vendors,
            halted=halted,
        )

    def of_key(self, key: Key, tenant: Tenant, data: DataClass) -> Line:
        """The way of somebody who waits; `data` is the class of what is judged."""
        return Line(send=self._send(lambda: (key, tenant), data), embedder=self.embedder(key))

    def embedder(self, key: Key) -> str:
        """The model that embeds texts: a route or model of that name, OpenAI's own, else the first that embeds."""
        router = self._service.parts.router
        if router.behind(EMBEDDER, key):
            return EMBEDDER
        models, _ = self._service.offered(key)
        able = [model for model in models if "embeddings" in model.abilities]
        return min((model.upstream != EMBEDDER, model.name) for model in able)[1] if able else ""

    def known(self, name: str, key: Key) -> None:
        """Refuse a model that nobody here knows before anything is begun.

        Raises:
            UnknownModel: there is none.
        """
        if not self._service.parts.router.behind(name, key):
            raise UnknownModel("evaluations.no_model", name=name[:200])

    def _send(self, payer: Callable[[], tuple[Key, Tenant]], data: DataClass, run: str = "") -> Send:
        rightful: dict[str, tuple[Key, Key]] = {}
        headers = {b"content-type": b"application/json", CLASS_HEADER: data.encode()}

        async def send(path: str, body: bytes) -> Said:
            reply = Collected()
            key, tenant = payer()
            known = rightful.get(key.public)
            if known is None or known[0] is not key:
                # whoever may evaluate may ask for it; which models and how much stays as the key says
                rightful[key.public] = known = (key, replace(key, surfaces=()))
            await self._service.gateway.serve(
                Call(
                    surface=self._table[path],
                    body=body,
                    headers=headers,
                    key=known[1],
                    tenant=tenant,
                    reply=reply,
                    began=monotonic(),
                    request_id=f"evals_{time.time_ns():x}",
                    run=run,
                    recorded_as=SURFACE,
                )
            )
            return Said(reply.status, reply.body, reply.retry_after_s)

        return send
