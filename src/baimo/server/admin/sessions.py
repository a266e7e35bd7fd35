"""Sessions: how a browser works without holding a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from baimo.core.moments import shown
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.store.sessions import LONGEST_MS

Minutes = Annotated[int, msgspec.Meta(ge=1, le=LONGEST_MS // 60_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A session to begin."""

    minutes: Minutes = 60
    """Until it ends, unless it is renewed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRenewal:
    """A session to go on with."""

    session: str
    """Public part of its credential."""
    minutes: Minutes = 60
    """Until it ends, from now; never later than twelve hours after its beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionNamed:
    """One session."""

    session: str
    """Public part of its credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionShown:
    """A session."""

    session: str
    """Public part of its credential."""
    key: str
    """Public part of the key that it stands for."""
    expires: str
    """ISO 8601."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMade(SessionShown):
    """A new session, with its credential: shown this once."""

    credential: str


def _begin(asking: Asking, new: NewSession) -> SessionMade:
    begun = asking.service.sessions.begin(asking.key.public, new.minutes * 60_000, asking.actor)
    return SessionMade(
        session=begun.session.public,
        key=begun.session.key,
        expires=shown(begun.session.expires_ms),
        credential=begun.credential.written(),
    )


def _renew(asking: Asking, renewal: SessionRenewal) -> SessionShown:
    sessions = asking.service.sessions
    session = sessions.renew(asking.key.public, renewal.session, renewal.minutes * 60_000)
    return SessionShown(session=session.public, key=session.key, expires=shown(session.expires_ms))


def _end(asking: Asking, named: SessionNamed) -> Nothing:
    asking.service.sessions.end(asking.key.public, named.session, asking.actor)
    return Nothing()


SESSIONS = (
    Operation(
        method="POST", path="/api/sessions", role="app", takes=NewSession, gives=SessionMade, does=_begin,
        tag="sessions", summary="admin.sessions_begin",
    ),
    Operation(
        method="PATCH", path="/api/sessions/{session}", role="app", takes=SessionRenewal, gives=SessionShown,
        does=_renew, tag="sessions", summary="admin.sessions_renew", errors=(404,),
    ),
    Operation(
        method="DELETE", path="/api/sessions/{session}", role="app", takes=SessionNamed, gives=Nothing,
        does=_end, tag="sessions", summary="admin.sessions_end", errors=(404,),
    ),
)  # fmt: skip
