"""Who may teach whom: data that must not leave, and terms under which answers may not be learnt from.

Prevents two failures that cannot be undone afterwards: confidential questions sent to somebody else's model, and
weights that were made of answers whose terms forbid it. Both are asked before the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from baimo.core.call import Usage
from baimo.core.model import Model
from baimo.errors import UsageError
from baimo.models.terms import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """What is known of a model whose answers are to be learnt from."""

    model: Model
    """Its name, price and licence."""
    inside: bool
    """It runs within the company's walls."""
    terms: Terms
    """Whether its answers may train another model."""
    data_class: str = "internal"
    """Of the questions: public, internal or confidential."""
    outside: str = "allow"
    """[policy].outside: allow, public_only or deny."""

    def cost_micros(self, usage: Usage) -> int | None:
        """What a call costs, in micro-units of the price's currency; None = not known."""
        return None if self.model.price is None else self.model.price.cost_micros(usage)


Teachers = Callable[[str], Teacher]
"""What is known of `vendor/model`, lent by the workspace; raises UnknownModel."""


def permitted(teacher: Teacher, *, accept_terms: bool) -> None:
    """Return if this model may be asked these questions and its answers may be learnt from.

    Args:
        teacher: who would be asked.
        accept_terms: a person has read the terms and decided.

    Raises:
        UsageError: the questions must not leave, or the terms do not allow it, or nobody knows what they say.
    """
    name, terms = teacher.model.name, teacher.terms
    if not teacher.inside:
        if teacher.data_class == "confidential":
            raise UsageError("distill.confidential", model=name)
        if teacher.outside == "deny" or (teacher.outside == "public_only" and teacher.data_class != "public"):
            raise UsageError(
                "distill.policy", model=name, data_class=teacher.data_class, policy=teacher.outside
            )
    if accept_terms or terms.training in ("allowed", "conditions"):
        return
    if terms.training == "unknown":
        raise UsageError("distill.terms_unknown", model=name)
    facts = {"note": terms.told, "source": terms.source, "as_of": terms.as_of}
    raise UsageError(f"distill.terms_{terms.training}", model=name, **facts)
