"""What a comparison may do in the name of the key that ordered it.

Prevents the failure where work beside the gateway has a way around it: the models that a key may use, what may leave
the walls, and limits on money hold here as they do there. The command line of the machine may everything.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from baimo.core.model import Model
from baimo.core.money import MICROS
from baimo.core.run import Run
from baimo.core.tenant import Key, Tenant
from baimo.errors import Forbidden, UsageError
from baimo.evals.answers import Payer
from baimo.gateway.keyring import Keyring, permits_name
from baimo.gateway.policy import data_class, masks, may_leave
from baimo.store.purses import Limited, Purse

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace


class Rights:
    """Of one run."""

    def __init__(self, workspace: Workspace, run: Run, key: Key | None, tenant: Tenant | None) -> None:
        self._workspace, self._run, self._key, self._tenant = workspace, run, key, tenant
        limits: list[Limited] = []
        if key is not None and tenant is not None:
            limits += [Limited("key", key.meter, one) for one in key.limits if one.counts == "cost"]
            limits += [Limited("tenant", tenant.id, one) for one in tenant.limits if one.counts == "cost"]
        self._limited = bool(limits)
        self.purse = Purse(workspace.store.database, limits)
        self.payer = Payer(
            tenant=run.tenant,
            key=run.key,
            tags={} if key is None else dict(key.tags),
            purse=self.purse if limits else None,
        )
        """For the Records."""

    def check(self, model: Model) -> None:
        """
        Raises:
            Forbidden: the key may not use this model, or may not send there what the task holds.
        """
        if self._key is None or self._tenant is None:
            return
        if not permits_name(self._key, model.name):
            raise Forbidden("compare.not_permitted", key=self._key.public, model=model.name)
        if self._workspace.catalogue.vendor(model.vendor).inside:
            return
        policy = self._workspace.settings.policy
        data = data_class(policy, self._key, self._tenant, {})
        if not may_leave(policy, data):
            raise Forbidden("compare.may_not_leave", model=model.name, data=data)
        if masks(policy, self._tenant):
            raise Forbidden("compare.masked", model=model.name)

    def check_limit(self, max_cost: float | None) -> None:
        """
        Raises:
            UsageError: money is limited, and nobody said how much of it the comparison may take.
        """
        if self._limited and max_cost is None:
            raise UsageError("compare.wants_max_cost", field="/max_cost")

    def fill(self, max_cost: float | None) -> None:
        """Set aside what the run may still spend.

        Raises:
            BudgetExceeded: a limit does not leave as much.
        """
        self.check_limit(max_cost)
        spent = sum(
            one.charged_micros for one in self._workspace.store.records(run=self._run.id)
        )  # by earlier lives of the run
        self.purse.fill(max(0, round((max_cost or 0) * MICROS) - spent), time.time_ns() // 1_000_000)


def rights(workspace: Workspace, run: Run) -> Rights:
    """What a run may do.

    Raises:
        Unauthenticated: the key that ordered it is gone, revoked, or has expired.
        Forbidden: its tenant is disabled.
    """
    if not run.key:
        return Rights(workspace, run, None, None)
    keyring = Keyring(workspace.accounts, wall=time.time)
    return Rights(workspace, run, *keyring.standing(run.key))
