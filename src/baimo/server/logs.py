"""The log: one form for everything that this process says, and one line for each call that failed.

Prevents four failures: a line that a client wrote (its line feeds and control characters are shown, not obeyed), a
prompt or a key in a log, a disk that fills because one thing goes wrong ten thousand times a second, and uvicorn's
lines in another form than ours.
"""

from __future__ import annotations

import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from baimo.core.tenant import Key, Tenant
from baimo.errors import AuthenticationFailed, BaimoError, ConfigError
from baimo.gateway.breaker import State
from baimo.gateway.call import Call, Grant
from baimo.gateway.heads import cost
from baimo.gateway.observe import Asked
from baimo.settings import ObserveSettings
from baimo.store.entry import Entry
from baimo.text import text

log = logging.getLogger("baimo.calls")
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
AGAIN_S = 60.0
"""The same thing is said again after that, with how often it happened meanwhile."""
MOST_FAILURES = 100
"""Lines about failed calls in one second."""
_REMEMBERED = 1024

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
# our own keys, with the public part left in; keys of vendors; whatever stands in an Authorization header
_SECRETS = (
    (re.compile(r"\b(bm-[0-9A-Za-z]{12}-)[0-9A-Za-z]{8,}"), r"\1***"),
    (re.compile(r"\b((?:sk|pk|rk|xai|gsk|hf|AIza)[-_][A-Za-z0-9_-]{3})[A-Za-z0-9_-]{9,}"), r"\1***"),
    (re.compile(r"(?i)\b(bearer\s+)(?!bm-)[A-Za-z0-9._~+/=-]{8,}"), r"\1***"),
    (re.compile(r"://[^/\s@:]*:[^/\s@]+@"), "://***@"),
)
_SUSPECT = re.compile(r"(?i)[\\@]|\b(?:bm|sk|pk|rk|xai|gsk|hf|aiza)[-_]|bearer|" + _UNPRINTABLE.pattern)
"""What no line has that can be written as it is: a backslash is how JSON escapes what is worth a second look."""
_PLAIN = re.compile(r"[^\s\"=]+")


def shown(value: str) -> str:
    """A text without secrets, in which every control character stands as `\\x0a`."""
    for pattern, instead in _SECRETS:
        value = pattern.sub(instead, value)
    return _UNPRINTABLE.sub(_escaped, value)


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


class Form(logging.Formatter):
    """One line for each record: `text` for people, `json` for machines."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        level, name = record.levelname.lower(), record.name
        facts: Mapping[str, Any] = {"message": record.getMessage(), **getattr(record, "facts", {})}
        if record.exc_info and record.exc_info[1] is not None:
            facts["fault"] = _fault(record.exc_info[1])
        line = self._line(at, level, name, facts)
        if _SUSPECT.search(line) is None:  # nearly always: one look at the whole line is enough
            return line
        return self._line(at, level, name, {key: _safe(value) for key, value in facts.items()})

    def _line(self, at: str, level: str, name: str, facts: Mapping[str, Any]) -> str:
        if self._json:
            return _encoded({"at": at, "level": level, "logger": name, **facts})
        pairs = "".join(
            f" {key}={_word(value)}" for key, value in facts.items() if value is not None and key != "message"
        )
        return f"{at} {level:7} {name}: {facts['message']}{pairs}"


def configure(settings: ObserveSettings, stream: TextIO | None = None) -> None:
    """Let everything that this process logs, uvicorn's lines too, go to `stream` in the form of the settings.

    Args:
        settings: form and least severity.
        stream: standard error when none is given.
    """
    root = logging.getLogger()
    for ours in _ours():
        root.removeHandler(ours)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        theirs = logging.getLogger(name)
        theirs.handlers.clear()
        theirs.propagate = True
        theirs.setLevel(logging.NOTSET)
    silent = settings.log == "off"
    handler = logging.NullHandler() if silent else logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Form(settings.log))
    handler.addFilter(Repeats())
    root.addHandler(handler)
    root.setLevel(logging.CRITICAL + 1 if silent else LEVELS[settings.log_level])
    # their lines below a warning are about themselves
    for name in ("opentelemetry", "grpc", "urllib3", "requests", "asyncio", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(max(logging.WARNING, LEVELS[settings.log_level]))


def follow(settings: ObserveSettings) -> None:
    """`configure` anew, if this process was configured: one that only lends us its logging keeps it as it is."""
    if _ours():
        configure(settings)


def _ours() -> list[logging.Handler]:
    return [one for one in logging.getLogger().handlers if isinstance(one.formatter, Form)]


class Repeats(logging.Filter):
    """Lets a warning of another library, or one that says so (`facts["repeats"]`), pass once in a while."""

    def __init__(self, now: Callable[[], float] = time.monotonic, again_s: float = AGAIN_S) -> None:
        super().__init__()
        self._now, self._again_s = now, again_s
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is written; what was not is counted in the next line of its kind."""
        ours = record.name.startswith("baimo")
        kind = getattr(record, "repeats", "") if ours else f"{record.name}:{record.msg}"
        if not kind or (not ours and record.levelno < logging.WARNING):
            return True
        now = self._now()
        since, left_out = self._seen.get(kind, (float("-inf"), 0))
        if now - since < self._again_s:
            self._seen[kind] = since, left_out + 1
            return False
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[kind] = now, 0
        if left_out:
            record.facts = {**getattr(record, "facts", {}), "left_out": left_out}
        return True


class Lines:
    """The observer that writes. Holds to what a Record says: no content, of keys the public part."""

    def __init__(self, *, access: bool, now: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            access: also write a line for calls that went well.
            now: on a clock that never goes back.
        """
        self.access = access
        self._now = now
        self._second = (0, 0)

    def admitted(self, call: Call, grant: Grant) -> None:
        """Nothing is said before the end."""

    def settled(self, call: Call, grant: Grant, entry: Entry, overhead_s: float) -> None:
        """A line for a failure; for every call where that is wanted."""
        if entry.status != "ok":
            if self._room():
                log.warning("call failed", extra={"facts": facts_of(call, entry, overhead_s)})
        elif self.access:
            log.info("call", extra={"facts": facts_of(call, entry, overhead_s)})
        if entry.status == "ok" and (entry.cost_micros is None or entry.estimated):
            self._warn(grant, entry)

    def refused(self, error: BaimoError, surface: str, key: Key, tenant: Tenant, asked: Asked) -> None:
        """A line for a call that was not let in; one in a while for each key and reason."""
        facts: dict[str, Any] = {"key": key.public or None, "tenant": tenant.id or None, "surface": surface}
        facts |= {"reason": error.key, "http": error.http_status, "request": asked.request_id}
        kind = "" if self.access else f"refused:{key.public}:{error.key}"
        log.info("call refused", extra={"facts": facts, "repeats": kind})

    def attempt_failed(self, grant: Grant, model: str, error: BaimoError, kind: str, unsure: int) -> None:
        """A line in a while for each model and reason. A vendor's words may quote a prompt: they are not shown."""
        said: dict[str, Any] = {"model": model, "reason": error.key, "kind": kind, "unsure": unsure or None}
        for fact in ("status", "stage", "host"):
            if isinstance(value := error.facts.get(fact, getattr(error, fact, None)), (str, int)):
                said[fact] = value
        if isinstance(error, (AuthenticationFailed, ConfigError)):  # about our side, and for nobody else
            said["problem"] = str(error)
        log.warning("attempt failed", extra={"facts": said, "repeats": f"attempt:{model}:{error.key}"})

    def breaker(self, model: str, state: State) -> None:
        """A line for each change."""
        level = logging.WARNING if state == "open" else logging.INFO
        said = {
            "open": text("observe.breaker_open", model=model),
            "half_open": text("observe.breaker_half_open", model=model),
            "closed": text("observe.breaker_closed", model=model),
        }
        log.log(level, said[state], extra={"facts": {"model": model}})

    def _warn(self, grant: Grant, entry: Entry) -> None:
        model = entry.model
        if entry.estimated:
            said = text("observe.estimated", model=model)
        elif entry.tokens_in is None or entry.tokens_out is None:
            said = text("observe.uncounted", model=model)
        elif grant.terms.price is None:
            said = text("observe.unpriced", model=model)
        elif entry.cost_micros is None:
            said = text("observe.unpriced_call", model=model)
        else:
            return
        log.warning(said, extra={"facts": {"model": model}, "repeats": said})

    def _room(self) -> bool:
        """Whether one more failure may be written in this second."""
        second = int(self._now())
        before, count = self._second
        if second != before:
            if count > MOST_FAILURES:
                log.warning("more calls failed", extra={"facts": {"left_out": count - MOST_FAILURES}})
            count = 0
        self._second = second, count + 1
        return count < MOST_FAILURES


def facts_of(call: Call, entry: Entry, overhead_s: float) -> dict[str, Any]:
    """What a line says about a call. Unknown is None."""
    return {
        "request": call.request_id,
        "record": entry.id,
        "key": entry.key,
        "tenant": entry.tenant or None,
        "surface": entry.surface,
        "asked": entry.asked[:256],
        "model": entry.model,
        "route": entry.route,
        "status": entry.status,
        "http": entry.http_status,
        "ms": None if entry.latency_ms is None else round(entry.latency_ms, 3),
        "first_byte_ms": None if entry.first_byte_ms is None else round(entry.first_byte_ms, 3),
        "overhead_ms": round(overhead_s * 1000, 3),
        "attempts": entry.attempts,
        "tokens_in": entry.tokens_in,
        "tokens_out": entry.tokens_out,
        "cost": None if entry.cost_micros is None else cost(entry),
        "currency": entry.currency,
    }


def _safe(value: Any) -> Any:
    return shown(value) if isinstance(value, str) else value


def _encoded(row: Mapping[str, Any]) -> str:
    try:
        return msgspec.json.encode(row).decode()
    except UnicodeEncodeError:  # half of a character, which `shown` writes out
        return msgspec.json.encode({key: _safe(value) for key, value in row.items()}).decode()


def _word(value: Any) -> str:
    """A value that ends where it seems to end."""
    if not isinstance(value, str):
        return str(value)
    if _PLAIN.fullmatch(value):
        return value
    quoted = value.replace('"', "'")
    return f'"{quoted}"'


def _fault(first: BaseException) -> str:
    """Kinds and places of an exception and its causes; never its message, which may quote what a client sent."""
    found: list[str] = []
    error: BaseException | None = first
    while error is not None and len(found) < 5:
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        places = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
        found.append(f"{type(error).__name__} at {places or '?'}")
        error = error.__cause__ or error.__context__
    return "; from ".join(found)
