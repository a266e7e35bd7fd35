"""What axe (https://github.com/dequelabs/axe-core) finds wrong with a page for those who see, hear or move less."""

from __future__ import annotations

from typing import Any


def barriers(page: Any) -> list[str]:
    """Serious and critical findings: rule, what it says, and the elements that it is about."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {' | '.join(node['html'] for node in one['nodes'])}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
