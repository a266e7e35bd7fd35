"""What axe (https://github.com/dequelabs/axe-core) finds wrong with a page for those who see, hear or move less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def barriers(page: Any, rules: Sequence[str] = ()) -> list[str]:
    """Serious and critical findings: rule, what it says, and the elements that it is about.

    Args:
        page: of Playwright.
        rules: only these; none = all.
    """
    from axe_playwright_python.sync_playwright import Axe

    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": list(rules)}
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {' | '.join(node['html'] for node in one['nodes'])}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
