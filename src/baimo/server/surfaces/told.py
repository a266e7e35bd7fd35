"""What clients may read of an error.

Prevents two failures: the address of a database or of a model's server in a client's hands, and a proxy's page about
it quoted as the reason.
"""

from __future__ import annotations

import logging
from typing import Any

from baimo.errors import BaimoError, ProviderError, StoreError, Unreachable
from baimo.text import text

log = logging.getLogger("baimo.serve")


def told(error: BaimoError) -> BaimoError:
    """The error as clients may read it: models and vendors have names, and where they and we are is for the log."""
    if isinstance(error, StoreError):
        log.error("%s", error, extra={"repeats": f"store:{error.key}"})
        return StoreError("surfaces.store")
    if not isinstance(error, ProviderError) or "host" not in error.facts:
        return error
    model = str(error.facts.get("model", ""))
    # messages of `wire` do not name the model by themselves
    vendor = model.partition("/")[0] if "/" in model else ""
    named = model if error.key.startswith("wire.") else vendor
    facts: dict[str, Any] = {**error.facts, "host": named or text("surfaces.server")}
    if "key" in facts:
        facts["key"] = f"[providers.{vendor}]"  # it may be the path of a file
    if isinstance(error, Unreachable) and "problem" in facts:
        facts["problem"] = error.stage or "–"  # a system's words name addresses
    if error.facts.get("unread"):
        facts["detail"] = "–"
    shown = type(error)(error.key, **facts)
    shown.http_status = error.http_status
    return shown
