"""What can be asked of the ledger: the source of the command line's options and of the reference page.

Imports nothing heavy. Each field's help text is `options.ledger_<field>` in the message catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from baimo.workspace.account_options import NAMED


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerOptions:
    """Which Records are meant; what is not said is not looked at."""

    since: str | None = None
    """Settled at or after: a date, or how long ago: 7d."""
    until: str | None = None
    """Settled before: likewise."""
    tenant: str | None = None
    """Who paid; `owner` is the workspace's own."""
    key: str | None = None
    """Public part or label of the key."""
    model: str | None = None
    """vendor/model."""
    surface: str | None = None
    """chat, messages, compare …"""
    status: str | None = None
    """ok, failed, or the message key of an error."""
    route: str | None = None
    """Why this model: direct, alias, fallback:error …"""
    run: str | None = None
    """Run or batch that it belongs to."""
    tag: tuple[str, ...] = ()
    """name=value; all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowOptions(LedgerOptions):
    """`baimo ledger show`: the newest Records, or everything about one."""

    record: str = field(metadata={"metavar": "[RECORD]"})
    """Record.id; empty = the newest ones."""
    limit: int = 20
    """Most Records."""
    content: bool = False
    """Of one Record: the prompt and answer that are kept with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SumOptions(LedgerOptions):
    """`baimo ledger sum`: what was spent, by whom, on what."""

    by: str = "model"
    """Groups with commas between them: key, tenant, model, surface, day, tag:NAME …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyOptions(LedgerOptions):
    """How long answers took, by what."""

    by: Literal["model", "key", "tenant", "surface", "route", "model_used"] = "model"
    """What is told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions(LedgerOptions):
    """`baimo ledger export`: every line for another program."""

    format: Literal["csv", "jsonl", "parquet"] = "csv"
    """Form of the file."""
    output: str | None = None
    """File; None = standard output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileOptions:
    """`baimo ledger reconcile FILE`: the ledger against a provider's statement."""

    file: str = field(metadata=NAMED)
    """A usage or cost export of OpenAI or Anthropic, JSON or CSV."""
    vendor: tuple[str, ...] = ()
    """Names before the slash of the models that this provider bills; () = openai or anthropic."""
    tolerance: str = "0.01"
    """Difference of money that does not matter for a day and model."""
    api_key: str | None = None
    """Only what was booked on this key of the provider."""
    project: str | None = None
    """Only what was booked on this project or workspace of the provider."""
