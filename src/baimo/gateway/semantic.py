"""Answers to questions that are alike: opt-in, because alike is not the same.

Prevents two failures: a similar question answered although what stands around it differs (system prompt, earlier turns,
tools and parameters must be exactly the same; only the last question may differ), and embeddings that nobody pays for
(each is a call of its own, with a Record, under the caller's limits and policy). The rate of wrong hits is measured in
docs/findings/semantic-cache.md. Questions are remembered by each process for itself; answers lie in the exact cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from baimo.core.call import Request
from baimo.core.ids import digest
from baimo.errors import BaimoError
from baimo.gateway.call import Call
from baimo.gateway.collected import Collected
from baimo.gateway.surface import Peek, Surface
from baimo.typed import from_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

QUESTIONS = 1024
"""Questions that are remembered for each tenant and frame; then the oldest go."""
FRAMES = 256
"""Frames that are remembered by a process; then those that were not used for longest go."""
LONGEST = 2000
"""Characters of a question: longer ones differ in what no single vector shows."""


class Question(NamedTuple):
    """What was asked last, and a digest of everything around it."""

    frame: str
    text: str


class Hit(NamedTuple):
    """The question most like another one."""

    key: str
    """Its answer's, in the exact cache."""
    similarity: float
    """Cosine."""


class _Frame:
    """The questions of one tenant in one frame, as rows of unit length."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.rows: Vectors | None = None


class Semantic:
    """Finds the question most like a new one."""

    def __init__(self, *, model: str, threshold: float, surface: Surface, now: Callable[[], float]) -> None:
        """
        Args:
            model: embeds questions; a name as clients ask for it.
            threshold: least cosine similarity.
            surface: of embeddings in OpenAI's format.
            now: monotonic seconds.
        """
        self._model = model
        self._threshold = threshold
        self._surface = surface
        self._now = now
        self._frames: OrderedDict[tuple[str, str], _Frame] = OrderedDict()

    def question(self, call: Call, peek: Peek) -> Question | None:
        """The last question of a conversation; None where there is none that could be compared."""
        if not call.surface.neutral or peek.attachments:
            return None
        try:
            request = call.surface.request(call.body, peek, model=peek.model)
        except BaimoError:  # it will be refused, or passed through as it is
            return None
        text = _asked(request)
        if not text or len(text) > LONGEST:
            return None
        last = replace(request.messages[-1], content="")
        around = replace(request, messages=(*request.messages[:-1], last))
        frame = digest([call.surface.name, peek.stream, peek.wants_usage, around])
        return Question(frame, text)

    async def vector(
        self, serve: Callable[[Call], Awaitable[None]], call: Call, text: str
    ) -> Sequence[float] | None:
        """A question's embedding, asked for and paid in the caller's name; None = it could not be had.

        Args:
            serve: the gateway.
            call: whose key pays, and whose data class the text has.
            text: the question.
        """
        headers = {b"content-type": b"application/json", b"x-baimo-cache": b"off"}
        if b"x-baimo-data-class" in call.headers:
            headers[b"x-baimo-data-class"] = call.headers[b"x-baimo-data-class"]
        reply = Collected(call.reply)
        # the key's patterns say what its user may ask for; this is asked for by the administrator's configuration
        payer = replace(call.key, models=(), surfaces=())
        body = msgspec.json.encode({"model": self._model, "input": text, "encoding_format": "float"})
        await serve(
            Call(
                surface=self._surface,
                body=body,
                headers=headers,
                key=payer,
                tenant=call.tenant,
                reply=reply,
                began=self._now(),
                request_id=call.request_id,
                run=call.batch or call.run,
            )
        )
        if reply.status != 200:
            return None
        try:
            return from_json(reply.body, _Embeddings).data[0].embedding
        except (msgspec.MsgspecError, IndexError):
            return None

    def nearest(self, tenant: str, question: Question, vector: Sequence[float]) -> Hit | None:
        """The remembered question that is most like this one, if it is alike enough."""
        frame = self._frames.get((tenant, question.frame))
        if frame is None or frame.rows is None:
            return None
        self._frames.move_to_end((tenant, question.frame))
        row = _unit(vector)
        if row is None or row.shape[0] != frame.rows.shape[1]:
            return None
        cosines = frame.rows @ row
        place = int(cosines.argmax())
        similarity = float(cosines[place])
        return Hit(frame.keys[place], similarity) if similarity >= self._threshold else None

    def remember(self, tenant: str, question: Question, vector: Sequence[float], key: str) -> None:
        """That the answer to this question lies under `key`."""
        import numpy as np

        row = _unit(vector)
        if row is None:
            return
        frame = self._frames.setdefault((tenant, question.frame), _Frame())
        self._frames.move_to_end((tenant, question.frame))
        if frame.rows is None or frame.rows.shape[1] != row.shape[0]:
            frame.keys, frame.rows = [key], row[None, :]
        else:
            frame.keys = [*frame.keys, key][-QUESTIONS:]
            frame.rows = np.vstack([frame.rows, row])[-QUESTIONS:]
        while len(self._frames) > FRAMES:
            self._frames.popitem(last=False)

    def clear(self, tenant: str | None = None) -> None:
        """Forget what one tenant asked, or all."""
        for place in [place for place in self._frames if tenant is None or place[0] == tenant]:
            del self._frames[place]


class _Embedding(msgspec.Struct):
    embedding: list[float]


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]


def _asked(request: Request) -> str:
    if not request.messages or request.messages[-1].role != "user":
        return ""
    content = request.messages[-1].content
    if isinstance(content, str):
        return content
    return "\n".join(part.data for part in content) if all(part.kind == "text" for part in content) else ""


def _unit(vector: Sequence[float]) -> Any:
    import numpy as np

    row = np.asarray(vector, dtype=np.float32)
    length = float(np.linalg.norm(row))
    return row / length if row.ndim == 1 and np.isfinite(length) and length > 0 else None
