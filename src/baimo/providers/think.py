"""Takes `<think>…</think>` from the start of a text that may arrive in pieces."""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


class ThinkSplitter:
    """Feed it text; it says how much of it is reasoning and how much is the answer.

    Only a tag at the very start counts, so that an answer which talks about `<think>` stays whole.
    """

    def __init__(self) -> None:
        self._state = "start"  # start → thinking → after → said
        self._held = ""

    def feed(self, text: str) -> tuple[str, str]:
        """(reasoning, answer) that are certain after `text`; a possible half of a tag is held back."""
        self._held += text
        thought = ""
        if self._state == "start":
            start = self._held.lstrip()
            if OPEN.startswith(start) and start != OPEN:
                return "", ""
            self._state, self._held = (
                ("thinking", start[len(OPEN) :]) if start.startswith(OPEN) else ("said", self._held)
            )
        if self._state == "thinking":
            before, found, rest = self._held.partition(CLOSE)
            if not found:
                half = next((n for n in range(len(CLOSE) - 1, 0, -1) if before.endswith(CLOSE[:n])), 0)
                return self._taken(len(before) - half), ""
            thought, self._held, self._state = before, rest, "after"
        if self._state == "after":
            self._held = self._held.lstrip()  # blank lines between reasoning and answer belong to neither
            self._state = "said" if self._held else "after"
        return thought, self._taken(len(self._held))

    def close(self) -> tuple[str, str]:
        """What was held back when the text ended."""
        rest = self._taken(len(self._held))
        return (rest, "") if self._state == "thinking" else ("", rest)

    def _taken(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken
