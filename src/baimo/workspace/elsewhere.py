"""Questions to the process that holds the models of this machine, where several workers share them."""

from __future__ import annotations

import msgspec

from baimo.config import secret
from baimo.core.model import Model
from baimo.errors import BadReply
from baimo.providers.wire.origin import origin
from baimo.providers.wire.pool import Pools
from baimo.settings import ProviderSettings
from baimo.typed import from_json

_LONGEST = 64 * 1024


class _Counted(msgspec.Struct):
    input_tokens: int


async def elsewhere_counted(pools: Pools, process: ProviderSettings, model: Model, body: bytes) -> int:
    """Prompt tokens of a Messages request.

    Args:
        pools: of this event loop.
        process: where it listens, and its key.
        model: whose tokenizer counts.
        body: of the request.

    Raises:
        Unreachable: the process does not answer.
        BadReply: it refuses.
    """
    row = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    row["model"] = msgspec.Raw(msgspec.json.encode(model.upstream))
    headers = [
        (b"authorization", b"Bearer " + secret(process.key).encode()),
        (b"content-type", b"application/json"),
    ]
    place = origin(process.base_url)
    answer = await pools.send(place, b"POST", b"/v1/messages/count_tokens", headers, msgspec.json.encode(row))
    try:
        said = await answer.whole(_LONGEST)
    finally:
        answer.close()
    try:
        return from_json(said, _Counted).input_tokens
    except msgspec.MsgspecError:
        raise BadReply("local.engine_failed", problem=f"HTTP {answer.status}") from None
