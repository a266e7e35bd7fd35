"""Every exception that baimo raises on purpose.

    BaimoError                     exit code 1
    ├─ UsageError             2    the command or call was put wrongly; change it
    │  └─ MissingExtra             a library of an extra is not installed; install baimo[extra]
    ├─ ConfigError            2    baimo.toml, a BAIMO_* variable or a flag is wrong; mend it
    ├─ TaskError              2    a task folder or one of its examples cannot be used; mend the line it names
    │  └─ TemplateError            a prompt template does not render with these examples
    ├─ DataError              2    a file of training data cannot be used; mend the line it names
    ├─ UnknownModel           2    no such model or provider; take one of the near names
    ├─ AdapterError           2    an adapter cannot be read, merged, exported or served; the message says which part
    ├─ PullError              3    weights could not be fetched or failed their hash; try again or name another source
    ├─ ProviderError          3    a model could not answer
    │  ├─ AuthenticationFailed     the key is missing or refused; set the variable it names
    │  ├─ RequestRefused           the server refuses this very request (4xx); it will not work again either
    │  ├─ RateLimited              429, or the server is overloaded; waiting helps, the model is not to blame
    │  ├─ Unreachable              no connection, DNS, TLS or timeout; check the address and the server
    │  └─ BadReply                 the server answered with something that is no completion
    ├─ ScorerError            3    a scorer failed; its score is left out, never counted as 0
    ├─ StoreError             4    the workspace cannot be read or written (disk, rights, corruption, lock)
    ├─ BudgetExceeded         5    the next call could cost more than is left; raise the limit
    ├─ CallRefused            3    the gateway does not let this call in (an HTTP status says why)
    │  ├─ Unauthenticated          401: no key, or none that is valid
    │  ├─ Forbidden                403: the key may not do this, or the data may not go there
    │  ├─ NotFound           2     404: no such thing, or not this tenant's
    │  ├─ Conflict           2     409: it is in a state that does not allow this
    │  ├─ TooLarge                 413: the body is longer than allowed
    │  ├─ LimitReached             429: a limit of key, tenant, model, route, provider; wait, or raise it
    │  ├─ NotSupported             501: a part of the API that is not offered here
    │  └─ Overloaded               503: too much at once, or stopping; try again
    └─ RequirementNotMet      6    `--require` was not met by the verdict

Other exit codes: 0 done; 1 from `baimo tasks check` and `baimo data check` when something must be mended, from
`baimo ledger verify` and `reconcile` when something differs; 130 after Ctrl-C.

`str(error)` says what is wrong and where; `error.hint` says what to do next. Both come from the message catalogue.
"""

from __future__ import annotations

from typing import Any

from baimo.text import has, text


class BaimoError(Exception):
    """Something went wrong that a person can mend; print `error` and `error.hint`, not a traceback.

    Args:
        key: message key in the catalogue, `room.name`; `room.name_hint` is the advice that goes with it.
        facts: what the message names: path, line, model, limit …
    """

    exit_code = 1
    http_status = 500
    """Status that a client of the endpoint gets."""

    def __init__(self, key: str, /, **facts: object) -> None:
        self.key = key
        self.facts = facts
        super().__init__(key)

    def __str__(self) -> str:
        return text(self.key, **self.facts)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuilt, (type(self), self.key, self.facts), self.__dict__)

    @property
    def hint(self) -> str:
        """What to do next; empty when the message already says it."""
        key = f"{self.key}_hint"
        return text(key, **self.facts) if has(key) else ""


def _rebuilt(kind: type[BaimoError], key: str, facts: dict[str, object]) -> BaimoError:
    return kind(key, **facts)


class UsageError(BaimoError):
    """The command or call was put wrongly; change it."""

    http_status = 400
    exit_code = 2


class MissingExtra(UsageError):
    """A library of an extra is not installed; install the extra that the message names."""

    http_status = 503


class ConfigError(BaimoError):
    """A setting is wrong; the message names its source and line."""

    exit_code = 2


class TaskError(BaimoError):
    """A task folder or an example cannot be used; the message names file and line."""

    http_status = 400
    exit_code = 2


class TemplateError(TaskError):
    """A prompt template does not render; the message names the template and the missing variable."""


class DataError(BaimoError):
    """A file of training data, or one of its rows, cannot be used; the message names file and line."""

    http_status = 400
    exit_code = 2


class UnknownModel(BaimoError):
    """No such model or provider; take one of the near names."""

    http_status = 404
    exit_code = 2


class AdapterError(BaimoError):
    """An adapter cannot be read, merged, exported or served; the message names the folder and the part."""

    http_status = 400
    exit_code = 2


class PullError(BaimoError):
    """Weights could not be fetched or failed their hash."""

    exit_code = 3


class ProviderError(BaimoError):
    """A model could not answer. `retry_after_s` is what the server asked us to wait, in seconds, or None."""

    http_status = 502
    exit_code = 3
    retryable = False

    def __init__(self, key: str, /, *, retry_after_s: float | None = None, **facts: object) -> None:
        super().__init__(key, **facts)
        self.retry_after_s = retry_after_s


class AuthenticationFailed(ProviderError):
    """The key is missing or refused; set the variable that the message names."""


class RequestRefused(ProviderError):
    """The server refuses this very request (HTTP 4xx); sending it again will not help."""

    http_status = 400


class RateLimited(ProviderError):
    """HTTP 429 or overload: waiting helps; never counted as a fault of the model."""

    http_status = 429
    retryable = True


class Unreachable(ProviderError):
    """No connection, or a timeout; check the address and the server.

    `sent` is False where not a byte of the request can have been taken, so that sending it again is safe. `stage` is
    dns, connect, tls, proxy, write, first_byte or body; empty where nobody looked.
    """

    http_status = 502
    retryable = True

    def __init__(self, key: str, /, *, sent: bool = True, stage: str = "", **facts: Any) -> None:
        super().__init__(key, **facts)
        self.sent = sent
        self.stage = stage


class BadReply(ProviderError):
    """The server answered with something that is no completion (HTTP 5xx, truncated or malformed body)."""

    retryable = True


class ScorerError(BaimoError):
    """A scorer failed; the sample is left out of the denominator, visibly."""

    exit_code = 3


class StoreError(BaimoError):
    """The workspace cannot be read or written; nothing that was stored is lost."""

    http_status = 503
    exit_code = 4


class BudgetExceeded(BaimoError):
    """The next call could cost more than is left; raise the limit."""

    http_status = 429
    exit_code = 5


class RequirementNotMet(BaimoError):
    """`--require` was not met by the verdict."""

    exit_code = 6


class CallRefused(BaimoError):
    """The gateway does not let this call in; nothing was sent and nothing was charged."""

    exit_code = 3
    http_status = 400

    def __init__(self, key: str, /, *, retry_after_s: float | None = None, **facts: object) -> None:
        super().__init__(key, **facts)
        self.retry_after_s = retry_after_s


class Unauthenticated(CallRefused):
    """No key, or none that is valid; send `Authorization: Bearer bm-…`."""

    http_status = 401


class Forbidden(CallRefused):
    """The key may not do this, or the data may not go there."""

    http_status = 403


class NotFound(CallRefused):
    """There is no such thing, or it belongs to another tenant."""

    exit_code = 2
    http_status = 404


class Conflict(CallRefused):
    """It is in a state that does not allow this."""

    exit_code = 2
    http_status = 409


class TooLarge(CallRefused):
    """The body is longer than allowed."""

    http_status = 413


class LimitReached(CallRefused):
    """A limit of key, tenant, model, route or provider is used up; wait `retry_after_s`, or raise it."""

    http_status = 429


class NotSupported(CallRefused):
    """A part of the API that is not offered here."""

    http_status = 501


class Overloaded(CallRefused):
    """Too much at once, or the server is stopping; try again."""

    http_status = 503
