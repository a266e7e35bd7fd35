"""Releases: which model answers to an alias, since when and why, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

from baimo.core.moments import shown
from baimo.core.release import Release
from baimo.core.rights import OWNER_NAME
from baimo.gateway.keyring import permits_name
from baimo.server.admin.operation import Asking, Operation
from baimo.server.admin.paging import Paged
from baimo.workspace.releasing import Promotion, Why


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseShown:
    """A line of an alias's history."""

    release: str
    """rel_…"""
    tenant: str
    """Whose alias it is."""
    alias: str
    """Name that clients ask for."""
    act: str
    """promote or roll_back."""
    model: str | None
    """Model that answers from then on; null = whatever baimo.toml says."""
    before: str | None
    """Model that answered until then; null likewise."""
    at: str
    key: str | None
    """Who wanted it; null = the command line."""
    why: str
    job: str | None
    """Tuning job that made the model."""
    run: str | None
    """Comparison that spoke for it."""
    holds: bool
    """It is the newest of its alias."""
    can_roll_back: bool
    """It holds, and something came before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasesPage:
    """Some releases, newest first."""

    data: list[ReleaseShown]
    next: str | None
    """Cursor of the next page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasesAsked(Paged):
    """Which releases."""

    alias: str | None = None
    """Only of this alias."""
    model: str | None = None
    """Only those after which this model answers."""
    tenant: str | None = None
    """Only this tenant's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseNamed:
    """One release."""

    release: str
    """rel_…, the newest of its alias."""
    why: Why = ""
    """Reason, in words."""


def _releases(asking: Asking, asked: ReleasesAsked) -> ReleasesPage:
    tenant = asking.within(asked.tenant)
    releases = asking.service.workspace.releasing.releases
    found = releases.page(
        tenant, alias=asked.alias, model=asked.model, limit=asked.limit + 1, after=asked.cursor or ""
    )
    page = found[: asked.limit]
    holding = {one.id for one in releases.holding(tenant)}
    after = page[-1].id if len(found) > asked.limit else None
    return ReleasesPage(data=[shown_release(one, one.id in holding) for one in page], next=after)


def shown_release(release: Release, holds: bool) -> ReleaseShown:
    """A release as it is shown."""
    return ReleaseShown(
        release=release.id,
        tenant=release.tenant or OWNER_NAME,
        alias=release.alias,
        act=release.act,
        model=release.model or None,
        before=release.before or None,
        at=shown(release.at_ms),
        key=release.key or None,
        why=release.why,
        job=release.job or None,
        run=release.run or None,
        holds=holds,
        can_roll_back=holds and bool(release.model or release.below),
    )


def _promote(asking: Asking, asked: Promotion) -> ReleaseShown:
    releasing = asking.service.workspace.releasing
    made = releasing.promote(asked, asking.actor, lambda model: permits_name(asking.key, model))
    asking.service.adapted.refresh()
    return shown_release(made, holds=True)


def _roll_back(asking: Asking, asked: ReleaseNamed) -> ReleaseShown:
    releases = asking.service.workspace.releasing.releases
    made = releases.roll_back(asked.release, asking.actor, why=asked.why)
    asking.service.adapted.refresh()
    return shown_release(made, holds=True)


RELEASES = (
    Operation(
        method="GET", path="/api/releases", role="viewer", takes=ReleasesAsked, gives=ReleasesPage,
        does=_releases, tag="releases", summary="admin.releases_list", errors=(404,),
    ),
    Operation(
        method="POST", path="/api/releases", role="engineer", takes=Promotion, gives=ReleaseShown,
        does=_promote, tag="releases", summary="admin.releases_promote", status=201, errors=(404, 409),
    ),
    Operation(
        method="POST", path="/api/releases/{release}/roll-back", role="engineer", takes=ReleaseNamed,
        gives=ReleaseShown, does=_roll_back, tag="releases", summary="admin.releases_roll_back", status=201,
        errors=(404, 409),
    ),
)  # fmt: skip
