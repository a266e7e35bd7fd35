"""Chat completions that clients wanted stored (`store: true`), found among the contents of tenants that keep them.

Prevents two failures: an answer that is kept although its tenant does not keep what is said (nothing is kept here but
where it lies among `contents`, and its labels), and one that outlives its deletion: when the content goes, by age, by
command or by its tenant's wish, the completion is gone too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from sqlalchemy import delete, func, insert, select, update

from baimo.core.tenant import DataClass
from baimo.store import tables
from baimo.store.contents import opened
from baimo.store.dialects import inserting
from baimo.store.engine import Database

_AT_A_STRETCH = 500
_MARK = b'"store"'


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCompletion:
    """What was asked and answered, and the client's labels."""

    id: str
    """chatcmpl-… as the client knows it."""
    record: str
    """Record.id of the call, under which the content lies."""
    created_ms: int
    """When it was settled, milliseconds since 1970."""
    model: str
    """Name that the client asked for."""
    labels: Mapping[str, str]
    """`metadata`."""
    request: Mapping[str, Any]
    """Body of the request."""
    answer: Mapping[str, Any]
    """Body of the answer; of a stream, what it amounts to."""
    data_class: DataClass = "public"
    """Under which it was asked, as far as that was noted."""


class StoredCompletions:
    """Finds and lists stored completions; `Contents` deletes them. All methods block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, tenant: str, id: str) -> StoredCompletion | None:
        """A tenant's completion; None when there is none, or it is another's."""
        self.look(tenant)
        table = tables.stored_completions
        return next(self._read(tenant, table.c.id == id), None)

    def walk(
        self,
        tenant: str,
        *,
        after: str = "",
        ascending: bool = True,
        model: str = "",
        labels: Mapping[str, str] | None = None,
        after_s: int | None = None,
        before_s: int | None = None,
    ) -> Iterator[StoredCompletion]:
        """A tenant's completions in the order of their making.

        Args:
            tenant: whose.
            after: id of the last one that is known already; empty = begin.
            ascending: the oldest first.
            model: only of this one; empty = any.
            labels: only those that have all of these.
            after_s: not made before this second.
            before_s: not made after this second.
        """
        self.look(tenant)
        table = tables.stored_completions
        which: list[Any] = [table.c.model == model] if model else []
        if after_s is not None:
            which.append(table.c.created_ms >= after_s * 1000)
        if before_s is not None:
            which.append(table.c.created_ms < (before_s + 1) * 1000)
        place: tuple[int, str] | None = None
        if after:
            known = select(table.c.created_ms).where(table.c.tenant == tenant, table.c.id == after)
            with self._database.reading() as connection:
                at_ms = connection.execute(known).scalar()
            if at_ms is None:
                return
            place = (int(at_ms), after)
        wanted = dict(labels or {})
        while page := list(self._read(tenant, *which, *_beyond(place, ascending), ascending=ascending)):
            for one in page:
                if wanted.items() <= one.labels.items():
                    yield one
            place = (page[-1].created_ms, page[-1].id)

    def label(self, tenant: str, id: str, labels: Mapping[str, str]) -> bool:
        """Give a completion these labels in place of those that it has; whether there is one."""
        table = tables.stored_completions
        change = update(table).where(table.c.tenant == tenant, table.c.id == id)
        with self._database.writing() as connection:
            done = connection.execute(change.values(labels=json.dumps(dict(labels))))
        return bool(done.rowcount)

    def look(self, tenant: str) -> None:
        """Look for completions among what was kept since the last time.

        Lines of the ledger only ever come behind each other, so that none is overlooked.
        """
        records, contents, seen = tables.records, tables.contents, tables.stored_completions_seen
        query = (
            select(records.c.seq, records.c.id, records.c.at_ms, records.c.asked, contents.c.content)
            .join(contents, contents.c.record == records.c.id)
            .where(records.c.tenant == tenant, records.c.surface == "chat", records.c.status == "ok")
            .order_by(records.c.seq)
            .limit(_AT_A_STRETCH)
        )
        while True:
            with self._database.reading() as connection:
                before = connection.execute(select(seen.c.seq).where(seen.c.tenant == tenant)).scalar()
                end = int(connection.execute(select(func.coalesce(func.max(records.c.seq), 0))).scalar_one())
                if before is not None and int(before) >= end:
                    return
                rows = connection.execute(query.where(records.c.seq.between((before or 0) + 1, end))).all()
            found = [row for row in map(_index_row, rows) if row is not None]
            last = int(rows[-1].seq) if len(rows) == _AT_A_STRETCH else end
            new = [{"tenant": tenant, **row} for row in found]
            if self._enter(tenant, new, int(before or 0), last) and last == end:
                return

    def _enter(self, tenant: str, rows: list[dict[str, Any]], before: int, seq: int) -> bool:
        """Enter what was found in the lines behind `before` up to `seq`; False = somebody else did."""
        table, seen = tables.stored_completions, tables.stored_completions_seen
        contents = tables.contents
        there = select(contents.c.record).where(contents.c.record.in_([row["record"] for row in rows]))
        first: Any = inserting(self._database.dialect, seen).values(tenant=tenant, seq=0)
        with self._database.writing() as connection:
            connection.execute(first.on_conflict_do_nothing())
            moved = update(seen).where(seen.c.tenant == tenant, seen.c.seq == before).values(seq=seq)
            if not connection.execute(moved).rowcount:
                return False
            kept = set(connection.execute(there.with_for_update(read=True)).scalars())
            for row in rows:
                if row["record"] not in kept:  # deleted since it was found
                    continue
                which = (table.c.tenant == tenant, table.c.id == row["id"])
                known = connection.execute(select(table.c.record).where(*which)).scalar()
                if known not in (None, row["record"]):  # some servers give every answer the same id
                    row["id"] = f"{row['id']}-{row['record'].partition('_')[2]}"
                connection.execute(delete(table).where(table.c.tenant == tenant, table.c.id == row["id"]))
                connection.execute(insert(table).values(row))
        return True

    def _read(self, tenant: str, *which: Any, ascending: bool = True) -> Iterator[StoredCompletion]:
        table, contents = tables.stored_completions, tables.contents
        order = [table.c.created_ms, table.c.id]
        query = (
            select(table, contents.c.content)
            .join(contents, (contents.c.record == table.c.record) & (contents.c.tenant == table.c.tenant))
            .where(table.c.tenant == tenant, *which)
            .order_by(*(order if ascending else [column.desc() for column in order]))
            .limit(100)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            content: Mapping[str, Any] = msgspec.msgpack.decode(opened(bytes(row.content)))
            request, answer = _bodies(content)
            yield StoredCompletion(
                id=row.id,
                record=row.record,
                created_ms=row.created_ms,
                model=row.model,
                labels=json.loads(row.labels),
                request=request,
                answer=answer,
                data_class=content.get("data_class", "public"),
            )


def _beyond(place: tuple[int, str] | None, ascending: bool) -> list[Any]:
    if place is None:
        return []
    table, (at_ms, id) = tables.stored_completions, place
    same = table.c.created_ms == at_ms
    if ascending:
        return [(table.c.created_ms > at_ms) | (same & (table.c.id > id))]
    return [(table.c.created_ms < at_ms) | (same & (table.c.id < id))]


def _index_row(row: Any) -> dict[str, Any] | None:
    """Where a completion lies; None = it was not to be stored, or cannot be read any more."""
    content = opened(bytes(row.content))
    if _MARK not in content:
        return None
    request, answer = _bodies(msgspec.msgpack.decode(content))
    id = answer.get("id")
    if request.get("store") is not True or not isinstance(id, str) or not id:
        return None
    given = request.get("metadata")
    labels = cast("dict[str, Any]", given if isinstance(given, dict) else {})
    return {
        "id": id,
        "record": row.id,
        "created_ms": row.at_ms,
        "model": row.asked,
        "labels": json.dumps({name: str(value) for name, value in labels.items()}),
    }


def _bodies(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Of request and answer; empty where they were too long to be kept whole."""
    if row.get("cut"):
        return {}, {}
    try:
        request: Any = json.loads(row["request"])
        answer = bytes(row["answer"])
        data: Any = _assembled(answer) if answer.lstrip().startswith(b"data:") else json.loads(answer)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # it is whatever a server said
        return {}, {}
    if not isinstance(request, dict) or not isinstance(data, dict):
        return {}, {}
    return cast("Mapping[str, Any]", request), cast("Mapping[str, Any]", data)


def _assembled(stream: bytes) -> dict[str, Any]:
    """The chat completion that a stream of chunks amounts to."""
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    calls: dict[int, dict[int, dict[str, Any]]] = {}
    for line in stream.splitlines():
        if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
            continue
        chunk: dict[str, Any] = json.loads(line[5:])
        for name in ("id", "created", "model", "system_fingerprint", "service_tier", "usage"):
            if chunk.get(name) is not None:
                whole[name] = chunk[name]
        for piece in cast("list[dict[str, Any]]", chunk.get("choices") or []):
            _add(choices, calls, piece)
    rows = [{"index": index, **choices[index]} for index in sorted(choices)]
    return {**whole, "object": "chat.completion", "choices": rows}


def _add(
    choices: dict[int, dict[str, Any]], calls: dict[int, dict[int, dict[str, Any]]], piece: Mapping[str, Any]
) -> None:
    """Add a piece of a choice to what came before.

    Args:
        choices: by their numbers.
        calls: of each, the latest tool call of each number. A stream may give any number to a call.
        piece: of one of them.
    """
    index = int(piece.get("index") or 0)
    delta = cast("dict[str, Any]", piece.get("delta") or {})
    empty = {"message": {"role": "assistant", "content": None}, "finish_reason": "stop", "logprobs": None}
    choice = choices.setdefault(index, empty)
    message = choice["message"]
    for name in ("content", "refusal"):
        if delta.get(name) is not None:
            message[name] = (message.get(name) or "") + delta[name]
    for part in cast("list[dict[str, Any]]", delta.get("tool_calls") or []):
        function = cast("dict[str, Any]", part.get("function") or {})
        call = _call(message, calls.setdefault(index, {}), part, named=bool(function.get("name")))
        call["id"] = call["id"] or part.get("id") or ""
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
    if piece.get("finish_reason"):
        choice["finish_reason"] = piece["finish_reason"]


def _call(
    message: dict[str, Any], latest: dict[int, dict[str, Any]], part: Mapping[str, Any], *, named: bool
) -> dict[str, Any]:
    """The call that a piece belongs to. Another id together with a name begins another one: some servers number all
    calls 0, and some make a new id for every piece (as `providers.openai_reply` reads them)."""
    number, id = part.get("index"), part.get("id") or ""
    place = number if isinstance(number, int) else max(latest, default=0)
    call = latest.get(place)
    if call is None or (named and call["id"] and id not in ("", call["id"])):
        call = latest[place] = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        message.setdefault("tool_calls", []).append(call)
    return call
