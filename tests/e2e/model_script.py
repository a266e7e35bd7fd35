"""What the `fake` model of the compatibility tests says: the same as the tests' upstream, without HTTP."""

from __future__ import annotations

from baimo.core.call import Completion, Request
from baimo.core.message import ToolCall
from baimo.providers.fake import last_user_text
from tests.upstream_answers import ARGUMENTS


def answer(request: Request) -> str | Completion:
    """A call of the first tool, JSON, or an echo."""
    last = request.messages[-1]
    if request.tools and last.role != "tool":
        call = ToolCall(id="call_1", name=request.tools[0].name, arguments=ARGUMENTS)
        return Completion(text="", tool_calls=(call,), finish_reason="tool_calls")
    if request.response_format is not None:
        return ARGUMENTS
    parts = [part for turn in request.messages if not isinstance(turn.content, str) for part in turn.content]
    pictures = sum(part.kind == "image_url" for part in parts)
    said = str(last.content) if last.role == "tool" else last_user_text(request)
    return f"echo: {said}" + (f" [{pictures} pictures]" if pictures else "")
