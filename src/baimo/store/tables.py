"""The tables as SQLAlchemy sees them; a test holds them against the migrations."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, LargeBinary, MetaData, Table, Text

metadata = MetaData()

answers = Table(
    "answers",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("model", Text),
    Column("request", Text),
    Column("completion", Text),
    Column("price_micros", BigInteger, nullable=True),
    Column("currency", Text),
    Column("created_ms", BigInteger),
    Column("tenant", Text),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("task", Text),
    Column("task_hash", Text),
    Column("status", Text),
    Column("started_ms", BigInteger),
    Column("ended_ms", BigInteger, nullable=True),
    Column("run", Text),
    Column("verdict", Text, nullable=True),
    Column("tenant", Text),
)

samples = Table(
    "samples",
    metadata,
    Column("run", Text, primary_key=True),
    Column("candidate", Text, primary_key=True),
    Column("example", Text, primary_key=True),
    Column("position", BigInteger),
    Column("outcome", Text),
    Column("sample", Text),
)

records = Table(
    "records",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("chain", LargeBinary),
    Column("id", Text),
    Column("at_ms", BigInteger),
    Column("surface", Text),
    Column("model", Text),
    Column("model_used", Text),
    Column("run", Text),
    Column("tenant", Text),
    Column("key", Text),
    Column("status", Text),
    Column("tokens_in", BigInteger, nullable=True),
    Column("tokens_out", BigInteger, nullable=True),
    Column("tokens_cached", BigInteger, nullable=True),
    Column("tokens_reasoning", BigInteger, nullable=True),
    Column("estimated", BigInteger),
    Column("cost_micros", BigInteger, nullable=True),
    Column("currency", Text),
    Column("latency_ms", Double, nullable=True),
    Column("attempts", BigInteger),
    Column("request_hash", Text),
    Column("config_hash", Text),
    Column("tags", Text),
    Column("began_ms", BigInteger, nullable=True),
    Column("asked", Text),
    Column("route", Text),
    Column("http_status", BigInteger, nullable=True),
    Column("streamed", BigInteger),
    Column("queue_ms", Double, nullable=True),
    Column("first_byte_ms", Double, nullable=True),
    Column("tokens_cache_write", BigInteger, nullable=True),
    Column("cost_rest", BigInteger, nullable=True),
    Column("price_in", BigInteger, nullable=True),
    Column("price_out", BigInteger, nullable=True),
    Column("price_cached", BigInteger, nullable=True),
    Column("price_cache_write", BigInteger, nullable=True),
    Column("price_call", BigInteger, nullable=True),
    Column("charged_micros", BigInteger),
    Column("charged_tokens", BigInteger),
    Column("unsure", BigInteger),
    Column("conversation", Text),
    Column("limits", BigInteger),
    Column("charges", Text),
    Column("content_hash", Text),
)

ledger_head = Table(
    "ledger_head",
    metadata,
    Column("one", BigInteger, primary_key=True),
    Column("seq", BigInteger),
    Column("chain", LargeBinary),
)

ledger_checkpoints = Table(
    "ledger_checkpoints",
    metadata,
    Column("seq", BigInteger, primary_key=True),
    Column("chain", LargeBinary),
    Column("at_ms", BigInteger),
    Column("lines", BigInteger),
)

GROUPED = ("day", "tenant", "key", "model", "surface", "currency")
"""What the kept sums tell apart."""
SUMMED = (
    *("calls", "failed", "unpriced", "uncounted", "cost_micros", "cost_rest"),
    *("tokens_in", "tokens_out", "tokens_cached", "tokens_cache_write", "charged_micros", "charged_tokens"),
)
"""What they sum."""

totals, totals_pruned = (
    Table(
        name,
        metadata,
        *(Column(group, Text, primary_key=True) for group in GROUPED),
        *(Column(sum, BigInteger) for sum in SUMMED),
    )
    for name in ("totals", "totals_pruned")
)

ROLLED = ("kind", "day", "tenant", "key", "tags", "model", "surface", "status", "route", "currency")
"""What the roll-ups tell apart; each kind but one leaves some of them empty."""

rollups = Table(
    "rollups",
    metadata,
    *(Column(group, Text, primary_key=True) for group in ROLLED),
    *(Column(sum, BigInteger) for sum in (*SUMMED[:10], "first_seq", "last_seq")),
)

rolled = Table("rolled", metadata, Column("one", BigInteger, primary_key=True), Column("seq", BigInteger))

tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text),
    Column("created_ms", BigInteger),
)

keys = Table(
    "keys",
    metadata,
    Column("public", Text, primary_key=True),
    Column("tenant", Text),
    Column("key", Text),
    Column("created_ms", BigInteger),
)

revisions = Table(
    "revisions", metadata, Column("name", Text, primary_key=True), Column("revision", BigInteger)
)

audit = Table(
    "audit",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at_ms", BigInteger),
    *(Column(name, Text) for name in ("tenant", "key", "act", "subject", "facts")),
)

meters = Table(
    "meters",
    metadata,
    Column("bucket", Text, primary_key=True),
    Column("used", BigInteger),
    Column("base", BigInteger),
    Column("wanted", BigInteger),
)

leases = Table(
    "leases",
    metadata,
    Column("bucket", Text, primary_key=True),
    Column("holder", Text, primary_key=True),
    Column("amount", BigInteger),
)

holders = Table(
    "holders",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text),
    Column("pid", BigInteger),
    Column("started", Text),
    Column("beat_ms", BigInteger),
)

contents = Table(
    "contents",
    metadata,
    Column("record", Text, primary_key=True),
    Column("tenant", Text),
    Column("at_ms", BigInteger),
    Column("hash", Text),
    Column("content", LargeBinary, nullable=True),
)

cache = Table(
    "cache",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "hash")),
    Column("at_ms", BigInteger),
    Column("data", LargeBinary),
)

responses = Table(
    "responses",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "id")),
    *(Column(name, Text) for name in ("key", "conversation", "previous", "data_class")),
    *(Column(name, LargeBinary) for name in ("given", "response")),
    *(Column(name, BigInteger) for name in ("created_ms", "expires_ms")),
)

response_items = Table(
    "response_items",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "item")),
    Column("response", Text),
)

files = Table(
    "files",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "id")),
    *(Column(name, Text) for name in ("key", "name", "purpose")),
    Column("bytes", BigInteger),
    Column("sha256", Text),
    Column("created_ms", BigInteger),
    Column("expires_ms", BigInteger, nullable=True),
    Column("data_class", Text),
)

batches = Table(
    "batches",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "id")),
    *(Column(name, Text) for name in ("surface", "status", "holder", "batch")),
)

jobs = Table(
    "jobs",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "id")),
    *(Column(name, Text) for name in ("status", "holder")),
    Column("created_ms", BigInteger),
    Column("job", Text),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger),
    Column("event", Text),
)

adapters = Table(
    "adapters",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "id")),
    *(Column(name, Text) for name in ("name", "job", "status")),
    Column("created_ms", BigInteger),
    Column("adapter", Text),
)

uploads = Table(
    "uploads",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "id")),
    Column("status", Text),
    *(Column(name, BigInteger) for name in ("created_ms", "expires_ms")),
    Column("upload", Text),
)

evaluations = Table(
    "evaluations",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "id")),
    *(Column(name, BigInteger) for name in ("created_ms", "updated_ms")),
    Column("evaluation", Text),
)

evaluation_runs = Table(
    "evaluation_runs",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "id")),
    *(Column(name, Text) for name in ("evaluation", "status", "holder", "asked", "run")),
)

evaluation_items = Table(
    "evaluation_items",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "run")),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, Text) for name in ("status", "source", "item")),
)

stored_completions = Table(
    "stored_completions",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "id")),
    Column("record", Text),
    Column("created_ms", BigInteger),
    *(Column(name, Text) for name in ("model", "labels")),
)

stored_completions_seen = Table(
    "stored_completions_seen",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("seq", BigInteger),
)

sessions = Table(
    "sessions",
    metadata,
    Column("public", Text, primary_key=True),
    *(Column(name, Text) for name in ("digest", "key")),
    *(Column(name, BigInteger) for name in ("created_ms", "expires_ms")),
)

releases = Table(
    "releases",
    metadata,
    Column("id", Text, primary_key=True),
    *(Column(name, Text) for name in ("tenant", "alias")),
    Column("at_ms", BigInteger),
    Column("release", Text),
)

conversations = Table(
    "conversations",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "id")),
    *(Column(name, Text) for name in ("key", "title")),
    Column("content", LargeBinary),
    *(Column(name, BigInteger) for name in ("created_ms", "updated_ms")),
    Column("share", Text, nullable=True),
)

votes = Table(
    "votes",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "id")),
    Column("key", Text),
    Column("created_ms", BigInteger),
    Column("at_ms", BigInteger, nullable=True),
    Column("choice", Text),
    Column("asked", LargeBinary, nullable=True),
)

vote_answers = Table(
    "vote_answers",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "vote", "place")),
    *(Column(name, Text) for name in ("model", "record")),
    Column("answer", LargeBinary, nullable=True),
)

reviews = Table(
    "reviews",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "id")),
    *(Column(name, Text) for name in ("subject", "task", "run")),
    *(Column(name, BigInteger) for name in ("rank", "readers", "read", "created_ms")),
    Column("review", Text),
)

judgements = Table(
    "judgements",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("tenant", "review", "reader")),
    Column("at_ms", BigInteger),
    *(Column(name, Text) for name in ("said", "judgement")),
)

blobs = Table(
    "blobs",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("kind", Text),
    Column("data", LargeBinary),
)

secrets = Table("secrets", metadata, Column("name", Text, primary_key=True), Column("value", LargeBinary))
