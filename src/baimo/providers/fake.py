"""A scripted model: for tests, demonstrations and rehearsals of what goes wrong.

`[providers.NAME.options]`, all optional:
    constant = "text"            answers every prompt with it
    table = {"prompt" = "reply"} answers by the last user message; others get `constant`, or are refused
    function = "module:attr"     is given the Request, returns str or Completion, directly or as an awaitable
                                 (none of the three: echoes the last user message)
    errors = ["429", "500"]      what the first attempts of every request run into; then it answers. Also: 400, 401,
                                 402, 503, "timeout", "truncated", "ok"
    fault_rate = 0.1             share of attempts that fail with 429, 500, timeout or truncated
    seed = 0                     makes those faults a function of (seed, request, attempt)
    latency_ms = 0               how long an answer takes

Usage is counted in words and marked as estimated.
"""

from __future__ import annotations

import dataclasses
import inspect
import random
import re
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

from baimo.core.call import Completion, Delta, Request, Usage
from baimo.core.ids import digest, plain
from baimo.core.message import Message
from baimo.core.model import Vendor
from baimo.core.registry import Spec, resolve
from baimo.errors import BadReply, ConfigError, ProviderError, RequestRefused, Unreachable
from baimo.providers.faults import Place, fault
from baimo.providers.pace import Clock
from baimo.providers.paced import PacedProvider, as_delta
from baimo.providers.retry import Patience
from baimo.providers.weights import Located
from baimo.settings import ProviderSettings

OPTIONS = frozenset({"constant", "table", "function", "errors", "fault_rate", "seed", "latency_ms"})
_CHANCE_FAULTS = ("429", "500", "timeout", "truncated")


class FakeProvider(PacedProvider):
    """Implements `Provider` without any model; goes through the same pacing and retries as a real one."""

    def __init__(
        self,
        vendor: Vendor,
        settings: ProviderSettings,
        *,
        weights: Located | None = None,
        clock: Clock | None = None,
        chance: random.Random | None = None,
    ) -> None:
        del weights
        super().__init__(settings, clock=clock, chance=chance)
        self.vendor = vendor
        self._options = dict(settings.options)
        for name in sorted(self._options.keys() - OPTIONS):
            known = ", ".join(sorted(OPTIONS))
            raise ConfigError("providers.unknown_option", provider=vendor.name, option=name, known=known)
        self._asked: Counter[str] = Counter()

    @property
    def spec(self) -> Spec:
        """The script is part of what determines an answer."""
        return Spec(
            name="fake", args={"vendor": self.vendor.name, "options": plain(self._options)}, version="1"
        )

    async def attempt(self, request: Request, patience: Patience) -> Completion:
        """One scripted attempt."""
        patience.attempts += 1
        await self.clock.sleep(float(self._options.get("latency_ms", 0)) / 1000)
        if error := self._fault(request):
            raise error
        answer = await self._answer(request)
        completion = (
            answer if isinstance(answer, Completion) else Completion(text=answer, finish_reason="stop")
        )
        changes: dict[str, Any] = {}
        if completion.usage == Usage():
            changes["usage"] = _counted(request, completion.text)
        if not completion.model:
            changes["model"] = request.model
        return dataclasses.replace(completion, **changes)

    async def attempt_stream(self, request: Request, patience: Patience) -> AsyncGenerator[Delta, None]:
        """The same answer, word by word."""
        completion = await self.attempt(request, patience)
        if completion.reasoning:
            yield Delta(reasoning=completion.reasoning)
        for word in re.findall(r"\S+\s*|\s+", completion.text):
            yield Delta(text=word, refused=completion.refused)
        yield dataclasses.replace(as_delta(completion), text="", reasoning="")

    async def aclose(self) -> None:
        """There is nothing to give back."""

    async def _answer(self, request: Request) -> str | Completion:
        prompt = last_user_text(request)
        if target := self._options.get("function"):
            made = resolve(str(target))(request)
            return await made if inspect.isawaitable(made) else made
        table = self._options.get("table")
        if table is not None and prompt in table:
            return str(table[prompt])
        if "constant" in self._options:
            return str(self._options["constant"])
        if table is not None:
            raise RequestRefused("providers.not_in_table", provider=self.vendor.name, prompt=prompt[:80])
        return prompt

    def _fault(self, request: Request) -> ProviderError | None:
        """What this attempt runs into; each request goes through the script on its own, whatever runs beside it."""
        key = digest(request)
        number = self._asked[key]
        self._asked[key] += 1
        script = [str(entry) for entry in self._options.get("errors", ())]
        if number < len(script):
            return _named_fault(script[number], request.model)
        chance = random.Random(f"{self._options.get('seed', 0)}/{key}/{number}")
        if chance.random() < float(self._options.get("fault_rate", 0)):
            return _named_fault(chance.choice(_CHANCE_FAULTS), request.model)
        return None


def last_user_text(request: Request) -> str:
    """The text of the last user message."""
    users = [message for message in request.messages if message.role == "user"]
    return _text(users[-1]) if users else ""


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(part.data for part in message.content if part.kind == "text")


def _named_fault(name: str, model: str) -> ProviderError | None:
    place = Place(host="fake", model=model, key="")
    if name == "ok":
        return None
    if name == "timeout":
        return Unreachable("providers.read_timeout", host="fake", model=model, seconds=0)
    if name == "truncated":
        return BadReply("providers.truncated", host="fake", model=model)
    if name.isdigit():
        return fault(int(name), "scripted", place, wait=1.0 if name == "503" else None)
    raise ConfigError("providers.unknown_fault", fault=name)


def _counted(request: Request, answer: str) -> Usage:
    words = sum(len(_text(message).split()) for message in request.messages)
    return Usage(tokens_in=words, tokens_out=len(answer.split()), estimated=True)
