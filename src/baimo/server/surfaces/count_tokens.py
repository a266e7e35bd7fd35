"""Anthropic's `POST /v1/messages/count_tokens`: how many tokens a Messages request has, without asking a model.

Prevents the failure of counting "about four characters a token" and calling that a count: a model whose tokenizer is
not here is refused with 501.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from baimo.core.call import Completion, Request, Usage
from baimo.errors import NotSupported
from baimo.gateway.surface import Peek, Seen
from baimo.server.surfaces import messages_request, wirejson
from baimo.server.surfaces.given import Given
from baimo.server.surfaces.messages import Messages, MessagesPeek

TokenCounter = Callable[[Request], int | None]
"""Prompt tokens of a request by the tokenizer and chat template of its model; None where they are not here."""


class CountTokens(Messages):
    """Implements `Surface` for models behind Anthropic's API; for all others there is `count`.

    It is not `neutral`: no model is ever called to answer it.
    """

    name = "count_tokens"
    target = "v1/messages/count_tokens"
    neutral = False
    counted = False

    def peek(self, body: bytes, headers: Mapping[bytes, bytes]) -> MessagesPeek:
        """Nothing of it becomes tokens: the operation is free."""
        peek = super().peek(body, headers)
        peek.stream, peek.text_bytes, peek.attachments, peek.unpriced = False, 0, 0, ""
        return peek

    def seen(self, body: bytes) -> Seen:
        """Counting uses no tokens."""
        return Seen(Usage(tokens_in=0, tokens_out=0))

    def count(self, body: bytes, *, model: str, counter: TokenCounter) -> bytes:
        """The answer for a model whose tokenizer may be here.

        Raises:
            CallRefused: a field is wrong or cannot be said to this model.
            NotSupported: there is no tokenizer for it.
        """
        tokens = counter(self.asked(body, model=model))
        if tokens is None:
            raise NotSupported("messages.uncountable", model=model)
        return self.told(tokens)

    def asked(self, body: bytes, *, model: str) -> Request:
        """The request whose tokens are to be counted.

        Raises:
            CallRefused: a field is wrong or cannot be said to this model.
        """
        return messages_request.request(Given.body(body), model=model)

    def told(self, tokens: int) -> bytes:
        """The answer."""
        return wirejson.written({"input_tokens": tokens})

    def answer(
        self, completion: Completion | Sequence[Completion], peek: Peek, *, id: str, created_s: int
    ) -> bytes:
        """Never asked for."""
        raise NotSupported("messages.uncountable", model=peek.model)
