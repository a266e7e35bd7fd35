"""Which models work beside the gateway may ask: a comparison, a tuning job's judges and teachers.

Prevents the failure where such work is a way around the gateway: the models that a key may use and what may leave the
walls hold here as they do there. Whoever sits at the machine's command line answers to the policy alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from baimo.core.model import Model
from baimo.core.tenant import OWNER, DataClass, Key, Tenant
from baimo.errors import Forbidden, UnknownModel
from baimo.gateway.keyring import permits_name
from baimo.gateway.policy import data_class, masks, may_leave, strictest
from baimo.models.catalogue import TUNED
from baimo.settings import Outside, PolicySettings

_NOBODY = (Key(), Tenant(id=OWNER))


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Of one piece of work. It can be written down: whoever does the work need not reach the accounts."""

    key: str = ""
    """Public part of the key that ordered it; empty = the command line."""
    tenant: str = OWNER
    """The key's."""
    models: tuple[str, ...] = ()
    """Key.models."""
    data_class: DataClass = "public"
    """Of what it sends."""
    outside: Outside = "allow"
    """[policy].outside."""
    masked: bool = False
    """Whether personal data must be masked on its way there."""
    limited: bool = False
    """Whether key or tenant may spend so much money and no more."""

    def check(self, model: Model, *, inside: bool) -> None:
        """
        Raises:
            UnknownModel: it is a tuned one of the workspace's owner, of which its tenants know nothing.
            Forbidden: the key may not use this model, or what the work holds may not go there.
        """
        if self.tenant != OWNER and model.name.startswith(TUNED):  # the catalogue has no others
            raise UnknownModel("models.unknown", name=model.name, near="")
        if not permits_name(Key(models=self.models), model.name):
            raise Forbidden("compare.not_permitted", key=self.key, model=model.name)
        if inside:
            return
        if not may_leave(self.outside, self.data_class):
            raise Forbidden("compare.may_not_leave", model=model.name, data=self.data_class)
        if self.masked:
            raise Forbidden("compare.masked", model=model.name)

    def check_money(self, model: Model) -> None:
        """For work that sets no money aside before it asks.

        Raises:
            Forbidden: what this model costs, or may cost, is limited for the key or its tenant.
        """
        if self.limited and not (model.price and model.price.free):
            raise Forbidden("tune.limited_money", key=self.key, model=model.name)


def permit(policy: PolicySettings, key: Key | None, tenant: Tenant | None, *brought: DataClass) -> Permit:
    """What work in the name of a key may do, or of the command line.

    Args:
        policy: of the workspace.
        key: that ordered it; None = the command line, for which a task's class stands in place of the policy's.
        tenant: the key's.
        brought: classes of the data that it works on.
    """
    who, whose = _NOBODY if key is None or tenant is None else (key, tenant)
    data = data_class(policy, who, whose, {})
    if key is None and brought and data != "confidential":
        data = "public"
    data = strictest(data, *brought)
    return Permit(
        key=who.public,
        tenant=whose.id,
        models=who.models,
        data_class=data,
        outside=policy.outside,
        masked=masks(policy, whose),
        limited=any(one.counts == "cost" for one in (*who.limits, *whose.limits)),
    )
