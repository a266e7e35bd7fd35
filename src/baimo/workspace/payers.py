"""What a comparison may do in the name of the key that ordered it.

Prevents the failure where work beside the gateway has a way around it: limits on money hold here as they do there, and
so does what its `Permit` says of models, also of a key that is revoked or changed while the comparison runs. No limit
holds for the command line of the machine.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from baimo.core.model import Model
from baimo.core.money import MICROS
from baimo.core.run import Run
from baimo.core.tenant import DataClass, Key, Tenant
from baimo.errors import StoreError, UsageError
from baimo.evals.answers import Payer
from baimo.gateway.keyring import Keyring
from baimo.store.purses import Limited, Purse
from baimo.workspace.permit import permit

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace


class Rights:
    """Of one run."""

    def __init__(self, workspace: Workspace, run: Run, data: DataClass, keyring: Keyring | None) -> None:
        """
        Args:
            workspace: whose.
            run: which.
            data: class of its task.
            keyring: knows the key that ordered it; None = the command line did.

        Raises:
            Unauthenticated: that key is gone, revoked, or has expired.
            Forbidden: its tenant is disabled.
        """
        self._workspace, self._run, self._keyring = workspace, run, keyring
        self._data: DataClass = data
        key, tenant = (None, None) if keyring is None else keyring.standing(run.key)
        self._permit = permit(workspace.settings.policy, key, tenant, data)
        self._checked: dict[str, Model] = {}
        limits = () if key is None or tenant is None else money_limits(key, tenant)
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
            UnknownModel: its tenant knows no such model.
            Forbidden: the key may not use this model, or may not send there what the task holds.
        """
        self._permit.check(model, inside=self._workspace.catalogue.vendor(model.vendor).inside)
        self._checked[model.name] = model

    def check_again(self) -> None:
        """Whether the run may go on, as its key and tenant are now; blocks.

        Raises:
            Unauthenticated, Forbidden: it may not.
        """
        if self._keyring is None:
            return
        with suppress(StoreError):  # what cannot be read stays as it was, as in the gateway
            self._keyring.refresh()
        self._permit = permit(
            self._workspace.settings.policy, *self._keyring.standing(self._run.key), self._data
        )
        for model in list(self._checked.values()):
            self.check(model)

    def check_limit(self, max_cost: float | None) -> None:
        """
        Raises:
            UsageError: money is limited, and nobody said how much of it the comparison may take.
        """
        if self._permit.limited and max_cost is None:
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


def money_limits(key: Key, tenant: Tenant) -> tuple[Limited, ...]:
    """The limits on money that hold for what this key orders."""
    owned = (("key", key.meter, key.limits), ("tenant", tenant.id, tenant.limits))
    return tuple(
        Limited(scope, name, one) for scope, name, limits in owned for one in limits if one.counts == "cost"
    )


def rights(workspace: Workspace, run: Run, data: DataClass) -> Rights:
    """What a run may do.

    Args:
        workspace: whose.
        run: which.
        data: class of its task.

    Raises:
        Unauthenticated: the key that ordered it is gone, revoked, or has expired.
        Forbidden: its tenant is disabled.
    """
    keyring = Keyring(workspace.accounts, wall=time.time) if run.key else None
    return Rights(workspace, run, data, keyring)
