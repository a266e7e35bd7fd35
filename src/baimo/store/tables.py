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
    Column("id", Text, primary_key=True),
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
)

blobs = Table(
    "blobs",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("kind", Text),
    Column("data", LargeBinary),
)
