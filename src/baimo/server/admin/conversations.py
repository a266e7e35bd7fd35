"""Conversations that people keep: their own, and those that others of their tenant share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from baimo.core.moments import shown
from baimo.errors import Conflict
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.server.admin.paging import Paged
from baimo.store.conversations import Conversation, Conversations

Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationsAsked(Paged):
    """Which of one's own."""

    text: str = ""
    """Occurs in the title or in what was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationNamed:
    """One conversation."""

    conversation: str
    """Its id: conv_…"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareNamed:
    """What somebody shares."""

    share: str
    """Name of the share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConversation:
    """A conversation to keep."""

    title: Title
    """What the list calls it."""
    content: dict[str, Any]
    """What was said, as the page that shows it wants it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationChange:
    """What is new; what is not said stays as it is."""

    conversation: str
    """Its id: conv_…"""
    title: Title | None = None
    """What the list calls it."""
    content: dict[str, Any] | None = None
    """What was said until now."""
    share: bool | None = None
    """Whether others of the tenant may read it; each time under a new name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationShown:
    """A conversation in a list."""

    conversation: str
    """conv_…"""
    title: str
    created: str
    """ISO 8601."""
    updated: str
    """ISO 8601, of the last change."""
    share: str | None
    """Name under which others of the tenant may read it; null = they may not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationWhole(ConversationShown):
    """A conversation with what was said."""

    content: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationsPage:
    """Some conversations, what was changed last first."""

    data: list[ConversationShown]
    next: str | None
    """Cursor of the next page."""


def _kept(asking: Asking) -> Conversations:
    return Conversations(asking.service.workspace.store.database)


def _policy(asking: Asking) -> None:
    """
    Raises:
        Conflict: the tenant does not keep what is said.
    """
    if not asking.tenant.keep_contents:
        raise Conflict("conversations.not_kept", field="/content")


def _facts(one: Conversation) -> dict[str, Any]:
    return {
        "conversation": one.id,
        "title": one.title,
        "created": shown(one.created_ms),
        "updated": shown(one.updated_ms),
        "share": one.share,
    }


def _whole(one: Conversation) -> ConversationWhole:
    return ConversationWhole(**_facts(one), content=msgspec.json.decode(one.content, type=dict[str, Any]))


def _list(asking: Asking, asked: ConversationsAsked) -> ConversationsPage:
    found = _kept(asking).page(
        asking.tenant.id, asking.key.meter, words=asked.text, limit=asked.limit, after=asked.cursor
    )
    after = found[-1].id if len(found) == asked.limit else None
    return ConversationsPage(data=[ConversationShown(**_facts(one)) for one in found], next=after)


def _get(asking: Asking, asked: ConversationNamed) -> ConversationWhole:
    return _whole(_kept(asking).get(asking.tenant.id, asking.key.meter, asked.conversation))


def _shared(asking: Asking, asked: ShareNamed) -> ConversationWhole:
    return _whole(_kept(asking).shared(asking.tenant.id, asked.share))


def _keep(asking: Asking, new: NewConversation) -> ConversationShown:
    _policy(asking)
    content = msgspec.json.encode(new.content)
    made = _kept(asking).keep(asking.tenant.id, asking.key.meter, new.title, content, asking.actor)
    return ConversationShown(**_facts(made))


def _change(asking: Asking, change: ConversationChange) -> ConversationShown:
    whose = (asking.tenant.id, asking.key.meter, change.conversation)
    kept = _kept(asking)
    one = kept.get(*whose)
    if change.title is not None or change.content is not None:
        _policy(asking)
        content = None if change.content is None else msgspec.json.encode(change.content)
        one = kept.change(*whose, title=change.title, content=content)
    if change.share is not None:
        if change.share:
            _policy(asking)
        one = kept.share(*whose, change.share, asking.actor)
    return ConversationShown(**_facts(one))


def _delete(asking: Asking, asked: ConversationNamed) -> Nothing:
    _kept(asking).delete(asking.tenant.id, asking.key.meter, asked.conversation, asking.actor)
    return Nothing()


_ONE = "/api/conversations/{conversation}"

CONVERSATIONS = (
    Operation(
        method="GET", path="/api/conversations", role="app", takes=ConversationsAsked,
        gives=ConversationsPage, does=_list, tag="conversations", summary="admin.conversations_list",
        errors=(404,),
    ),
    Operation(
        method="POST", path="/api/conversations", role="app", takes=NewConversation, gives=ConversationShown,
        does=_keep, tag="conversations", summary="admin.conversations_keep", status=201, errors=(409,),
    ),
    Operation(
        method="GET", path=_ONE, role="app", takes=ConversationNamed, gives=ConversationWhole, does=_get,
        tag="conversations", summary="admin.conversations_get", errors=(404,),
    ),
    Operation(
        method="PATCH", path=_ONE, role="app", takes=ConversationChange, gives=ConversationShown,
        does=_change, tag="conversations", summary="admin.conversations_change", errors=(404, 409),
    ),
    Operation(
        method="DELETE", path=_ONE, role="app", takes=ConversationNamed, gives=Nothing, does=_delete,
        tag="conversations", summary="admin.conversations_delete", errors=(404,),
    ),
    Operation(
        method="GET", path="/api/shares/{share}", role="app", takes=ShareNamed, gives=ConversationWhole,
        does=_shared, tag="conversations", summary="admin.conversations_shared", errors=(404,),
    ),
)  # fmt: skip
