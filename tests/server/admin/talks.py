"""Conversations and votes of a key, for tests that are about who may touch them."""

from __future__ import annotations

import json
from typing import Any

from baimo.store.conversations import Conversation, Conversations
from baimo.store.votes import Vote, Votes
from tests.server.served import Served

QUESTION = [{"role": "user", "content": "Which of you is better?"}]
MODELS = ("acme/small", "fast")
"""Names that `served.TOML` knows."""
STATEMENT = '{"data": [{"start_time": 1793923200, "end_time": 1794009600, "results": []}]}'
"""Of a provider: nothing was used on that day."""


def conversation(house: Served, credential: str, said: str = "kept") -> Conversation:
    """One that this key keeps and shares."""
    key = house.workspace.accounts.key(credential[3:15])
    kept = Conversations(house.workspace.store.database)
    answers = [{"model": MODELS[0], "text": f"{said}, too", "note": ""}]
    content = {"models": MODELS[:1], "rounds": [{"text": said, "answers": answers}]}
    made = kept.keep(key.tenant, key.meter, said, json.dumps(content).encode())
    return kept.share(key.tenant, key.meter, made.id, True)


def vote(house: Served, credential: str, *, said: str = "said", choice: str = "", record: str = "") -> Vote:
    """One that this key began, with all answers; cast if there is a choice. Without `record`, theirs are invented."""
    key = house.workspace.accounts.key(credential[3:15])
    votes = Votes(house.workspace.store.database)
    begun = votes.begin(key.tenant, key.public, MODELS)
    asked = b'[{"role":"user","content":"%s"}]' % said.encode()
    for one in begun.answers:
        votes.answered(
            begun, one.place, record or f"rec_{one.place}", asked=asked, answer=f"{said} {one.place}"
        )
    return votes.cast(key.tenant, key.public, begun.id, choice) if choice else begun


def values(house: Served, credential: str, operation: str) -> dict[str, str]:
    """What stands in the paths of operations on conversations and votes."""
    if operation.startswith("conversations"):
        made = conversation(house, credential)
        return {"conversation": made.id, "share": made.share or ""}
    if operation == "votes_answer":
        begun = Votes(house.workspace.store.database).begin(
            house.workspace.accounts.key(credential[3:15]).tenant, credential[3:15], MODELS
        )
        return {"vote": begun.id, "place": "A"}
    return {"vote": vote(house, credential).id} if operation.startswith("votes") else {}


BODIES: dict[str, dict[str, Any]] = {
    "conversations_keep": {"title": "kept", "content": {}},
    "conversations_change": {"share": False},
    "votes_begin": {"models": MODELS},
    "votes_answer": {"messages": QUESTION},
    "votes_cast": {"choice": "tie"},
    "ledger_reconcile": {"statement": STATEMENT},
}
"""Bodies that work."""
