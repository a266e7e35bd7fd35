"""The schema, as the list of steps that led to it. Append only: a step that was released is never edited.

In braces stand the words that SQLite and PostgreSQL have for the same thing, see `migrations`.
"""

from __future__ import annotations

STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "0001_answers_runs_samples_records_blobs",
        (
            """CREATE TABLE answers (
                hash TEXT PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL, completion TEXT NOT NULL,
                price_micros BIGINT, currency TEXT NOT NULL, created_ms BIGINT NOT NULL)""",
            """CREATE TABLE runs (
                id TEXT PRIMARY KEY, task TEXT NOT NULL, task_hash TEXT NOT NULL, status TEXT NOT NULL,
                started_ms BIGINT NOT NULL, ended_ms BIGINT, run TEXT NOT NULL, verdict TEXT)""",
            """CREATE TABLE samples (
                run TEXT NOT NULL, candidate TEXT NOT NULL, example TEXT NOT NULL, position BIGINT NOT NULL,
                outcome TEXT NOT NULL, sample TEXT NOT NULL, PRIMARY KEY (run, candidate, example))""",
            """CREATE TABLE records (
                id TEXT PRIMARY KEY, at_ms BIGINT NOT NULL, surface TEXT NOT NULL, model TEXT NOT NULL,
                model_used TEXT NOT NULL, run TEXT NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL,
                status TEXT NOT NULL, tokens_in BIGINT, tokens_out BIGINT, tokens_cached BIGINT,
                tokens_reasoning BIGINT, estimated BIGINT NOT NULL, cost_micros BIGINT, currency TEXT NOT NULL,
                latency_ms DOUBLE PRECISION, attempts BIGINT NOT NULL, request_hash TEXT NOT NULL,
                config_hash TEXT NOT NULL, tags TEXT NOT NULL)""",
            "CREATE INDEX records_at ON records (at_ms)",
            "CREATE INDEX records_run ON records (run)",
            "CREATE TABLE blobs (hash TEXT PRIMARY KEY, kind TEXT NOT NULL, data {blob} NOT NULL)",
        ),
    ),
    (
        "0002_ledger_tenants_meters",
        (
            # `seq` becomes the table's own order, which spares an index; `chain` of old lines is filled in by `adopt`
            "ALTER TABLE records RENAME TO records_before",
            """CREATE TABLE records (
                seq {order} PRIMARY KEY, chain {blob}, id TEXT NOT NULL, at_ms BIGINT NOT NULL,
                surface TEXT NOT NULL, model TEXT NOT NULL, model_used TEXT NOT NULL, run TEXT NOT NULL,
                tenant TEXT NOT NULL, key TEXT NOT NULL, status TEXT NOT NULL, tokens_in BIGINT, tokens_out BIGINT,
                tokens_cached BIGINT, tokens_reasoning BIGINT, estimated BIGINT NOT NULL, cost_micros BIGINT,
                currency TEXT NOT NULL, latency_ms DOUBLE PRECISION, attempts BIGINT NOT NULL,
                request_hash TEXT NOT NULL, config_hash TEXT NOT NULL, tags TEXT NOT NULL, began_ms BIGINT,
                asked TEXT NOT NULL DEFAULT '', route TEXT NOT NULL DEFAULT '', http_status BIGINT,
                streamed BIGINT NOT NULL DEFAULT 0, queue_ms DOUBLE PRECISION, first_byte_ms DOUBLE PRECISION,
                tokens_cache_write BIGINT, cost_rest BIGINT, price_in BIGINT, price_out BIGINT,
                price_cached BIGINT, price_cache_write BIGINT, price_call BIGINT,
                charged_micros BIGINT NOT NULL DEFAULT 0, charged_tokens BIGINT NOT NULL DEFAULT 0,
                unsure BIGINT NOT NULL DEFAULT 0, conversation TEXT NOT NULL DEFAULT '',
                limits BIGINT NOT NULL DEFAULT 0, charges TEXT NOT NULL DEFAULT '',
                content_hash TEXT NOT NULL DEFAULT '')""",
            """INSERT INTO records (
                seq, id, at_ms, surface, model, model_used, run, tenant, key, status, tokens_in, tokens_out,
                tokens_cached, tokens_reasoning, estimated, cost_micros, currency, latency_ms, attempts,
                request_hash, config_hash, tags)
                SELECT row_number() OVER (ORDER BY at_ms, id), id, at_ms, surface, model, model_used, run, tenant,
                key, status, tokens_in, tokens_out, tokens_cached, tokens_reasoning, estimated, cost_micros,
                currency, latency_ms, attempts, request_hash, config_hash, tags FROM records_before""",
            "DROP TABLE records_before",
            "CREATE UNIQUE INDEX records_id ON records (id)",
            "CREATE INDEX records_at ON records (at_ms)",
            "CREATE INDEX records_run ON records (run) WHERE run <> ''",
            # one row: the ledger's head, locked while lines are appended
            "CREATE TABLE ledger_head (one BIGINT PRIMARY KEY, seq BIGINT NOT NULL, chain {blob} NOT NULL)",
            # where a pruned ledger begins: the chain goes on from here
            """CREATE TABLE ledger_checkpoints (
                seq BIGINT PRIMARY KEY, chain {blob} NOT NULL, at_ms BIGINT NOT NULL, lines BIGINT NOT NULL)""",
            # sums of the ledger, kept up to date in the transaction that appends; `verify` derives them anew.
            # `totals_pruned` is the part of them whose lines are gone
            *(
                f"""CREATE TABLE {name} (
                day TEXT NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL,
                surface TEXT NOT NULL, currency TEXT NOT NULL, calls BIGINT NOT NULL, failed BIGINT NOT NULL,
                unpriced BIGINT NOT NULL, uncounted BIGINT NOT NULL, cost_micros BIGINT NOT NULL,
                cost_rest BIGINT NOT NULL, tokens_in BIGINT NOT NULL, tokens_out BIGINT NOT NULL,
                tokens_cached BIGINT NOT NULL, tokens_cache_write BIGINT NOT NULL, charged_micros BIGINT NOT NULL,
                charged_tokens BIGINT NOT NULL, PRIMARY KEY (day, tenant, key, model, surface, currency))"""
                for name in ("totals", "totals_pruned")
            ),
            """CREATE TABLE tenants (
                id TEXT PRIMARY KEY, tenant TEXT NOT NULL, created_ms BIGINT NOT NULL)""",
            """CREATE TABLE keys (
                public TEXT PRIMARY KEY, tenant TEXT NOT NULL, key TEXT NOT NULL, created_ms BIGINT NOT NULL)""",
            # raised whenever tenants or keys change, so that every process sees it
            "CREATE TABLE revisions (name TEXT PRIMARY KEY, revision BIGINT NOT NULL)",
            """CREATE TABLE audit (
                id TEXT PRIMARY KEY, at_ms BIGINT NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL,
                act TEXT NOT NULL, subject TEXT NOT NULL, facts TEXT NOT NULL)""",
            # what limits have used; used + all leases never exceed the limit. `base` is the part of `used` whose
            # lines do not name the limit: they were written before it was set, or are pruned
            """CREATE TABLE meters (
                bucket TEXT PRIMARY KEY, used BIGINT NOT NULL, base BIGINT NOT NULL DEFAULT 0,
                wanted BIGINT NOT NULL DEFAULT 0)""",
            "CREATE INDEX meters_wanted ON meters (bucket) WHERE wanted > 0",
            """CREATE TABLE leases (
                bucket TEXT NOT NULL, holder TEXT NOT NULL, amount BIGINT NOT NULL,
                PRIMARY KEY (bucket, holder))""",
            """CREATE TABLE holders (
                id TEXT PRIMARY KEY, host TEXT NOT NULL, pid BIGINT NOT NULL, started TEXT NOT NULL,
                beat_ms BIGINT NOT NULL)""",
            # prompts and answers of tenants that opted in; the Record keeps only a hash of them
            """CREATE TABLE contents (
                record TEXT PRIMARY KEY, tenant TEXT NOT NULL, at_ms BIGINT NOT NULL, hash TEXT NOT NULL,
                content {blob})""",
            "CREATE INDEX contents_tenant ON contents (tenant, at_ms)",
        ),
    ),
    (
        "0003_cache",
        (
            # answers that tenants have paid for, to be given again to the same request
            """CREATE TABLE cache (
                tenant TEXT NOT NULL, hash TEXT NOT NULL, at_ms BIGINT NOT NULL, data {blob} NOT NULL,
                PRIMARY KEY (tenant, hash))""",
            "CREATE INDEX cache_at ON cache (at_ms)",
        ),
    ),
    (
        "0004_responses",
        (
            # turns of conversations that clients continue by id; all turns of one expire together
            """CREATE TABLE responses (
                tenant TEXT NOT NULL, id TEXT NOT NULL, key TEXT NOT NULL, conversation TEXT NOT NULL,
                previous TEXT NOT NULL, given {blob} NOT NULL, response {blob} NOT NULL,
                created_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL, PRIMARY KEY (tenant, id))""",
            "CREATE INDEX responses_conversation ON responses (tenant, conversation)",
            "CREATE INDEX responses_expires ON responses (expires_ms)",
            # items of answers, so that a client may name one instead of sending it again
            """CREATE TABLE response_items (
                tenant TEXT NOT NULL, item TEXT NOT NULL, response TEXT NOT NULL, PRIMARY KEY (tenant, item),
                FOREIGN KEY (tenant, response) REFERENCES responses (tenant, id) ON DELETE CASCADE)""",
            "CREATE INDEX response_items_response ON response_items (tenant, response)",
        ),
    ),
    (
        "0005_workspace_secret",
        ("CREATE TABLE secrets (name TEXT PRIMARY KEY, value {blob} NOT NULL)",),
    ),
    (
        "0006_files_batches",
        (
            # what clients upload and what is written for them; the contents lie in a folder
            """CREATE TABLE files (
                tenant TEXT NOT NULL, id TEXT NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL, purpose TEXT NOT NULL,
                bytes BIGINT NOT NULL, sha256 TEXT NOT NULL, created_ms BIGINT NOT NULL, expires_ms BIGINT,
                PRIMARY KEY (tenant, id))""",
            "CREATE INDEX files_expires ON files (expires_ms) WHERE expires_ms IS NOT NULL",
            # `holder` names the process that answers a batch; the others leave it alone as long as that one lives
            """CREATE TABLE batches (
                tenant TEXT NOT NULL, id TEXT NOT NULL, surface TEXT NOT NULL, status TEXT NOT NULL,
                holder TEXT NOT NULL, batch TEXT NOT NULL, PRIMARY KEY (tenant, id))""",
            """CREATE INDEX batches_active ON batches (id)
                WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling')""",
        ),
    ),
    (
        "0007_tuning_evaluations",
        (
            # `holder` names the process that looks after a job; the child process itself holds a lock in its folder
            """CREATE TABLE jobs (
                tenant TEXT NOT NULL, id TEXT NOT NULL, status TEXT NOT NULL, holder TEXT NOT NULL,
                created_ms BIGINT NOT NULL, job TEXT NOT NULL, PRIMARY KEY (tenant, id))""",
            """CREATE INDEX jobs_active ON jobs (created_ms)
                WHERE status IN ('validating_files', 'queued', 'running', 'paused')""",
            """CREATE TABLE job_events (
                job TEXT NOT NULL, seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, event TEXT NOT NULL,
                PRIMARY KEY (job, seq))""",
            """CREATE TABLE adapters (
                tenant TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL UNIQUE, job TEXT NOT NULL,
                status TEXT NOT NULL, created_ms BIGINT NOT NULL, adapter TEXT NOT NULL, PRIMARY KEY (tenant, id))""",
            """CREATE TABLE uploads (
                tenant TEXT NOT NULL, id TEXT NOT NULL, status TEXT NOT NULL, created_ms BIGINT NOT NULL,
                expires_ms BIGINT NOT NULL, upload TEXT NOT NULL, PRIMARY KEY (tenant, id))""",
            """CREATE TABLE evaluations (
                tenant TEXT NOT NULL, id TEXT NOT NULL, created_ms BIGINT NOT NULL, evaluation TEXT NOT NULL,
                PRIMARY KEY (tenant, id))""",
            """CREATE TABLE evaluation_runs (
                tenant TEXT NOT NULL, id TEXT NOT NULL, evaluation TEXT NOT NULL, status TEXT NOT NULL,
                holder TEXT NOT NULL, created_ms BIGINT NOT NULL, run TEXT NOT NULL, PRIMARY KEY (tenant, id))""",
            "CREATE INDEX evaluation_runs_of ON evaluation_runs (tenant, evaluation)",
            """CREATE TABLE evaluation_items (
                run TEXT NOT NULL, position BIGINT NOT NULL, id TEXT NOT NULL, status TEXT NOT NULL,
                item TEXT NOT NULL, PRIMARY KEY (run, position))""",
        ),
    ),
    (
        "0008_evaluations_of_tenants",
        (
            # nothing was ever written to these: items get a tenant, so that they are forgotten with it
            "DROP TABLE evaluation_items",
            "DROP TABLE evaluation_runs",
            "DROP TABLE evaluations",
            """CREATE TABLE evaluations (
                tenant TEXT NOT NULL, id TEXT NOT NULL, created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL,
                evaluation TEXT NOT NULL, PRIMARY KEY (tenant, id))""",
            # `asked` is the data source as the client sent it: written once, however often `run` changes
            """CREATE TABLE evaluation_runs (
                tenant TEXT NOT NULL, id TEXT NOT NULL, evaluation TEXT NOT NULL, status TEXT NOT NULL,
                holder TEXT NOT NULL, asked TEXT NOT NULL, run TEXT NOT NULL, PRIMARY KEY (tenant, id))""",
            "CREATE INDEX evaluation_runs_of ON evaluation_runs (tenant, evaluation)",
            """CREATE INDEX evaluation_runs_active ON evaluation_runs (id)
                WHERE status IN ('queued', 'in_progress')""",
            # `source` is the row of data, `item` what came of it
            """CREATE TABLE evaluation_items (
                tenant TEXT NOT NULL, run TEXT NOT NULL, position BIGINT NOT NULL, status TEXT NOT NULL,
                source TEXT NOT NULL, item TEXT NOT NULL, PRIMARY KEY (tenant, run, position))""",
            # chat completions that clients wanted stored: where they lie among the contents, and their labels
            """CREATE TABLE stored_completions (
                tenant TEXT NOT NULL, id TEXT NOT NULL, record TEXT NOT NULL, created_ms BIGINT NOT NULL,
                model TEXT NOT NULL, labels TEXT NOT NULL, PRIMARY KEY (tenant, id))""",
            # up to which line of the ledger they were looked for
            "CREATE TABLE stored_completions_seen (tenant TEXT PRIMARY KEY, seq BIGINT NOT NULL)",
        ),
    ),
    (
        "0009_sessions",
        (
            """CREATE TABLE sessions (
                public TEXT PRIMARY KEY, digest TEXT NOT NULL, key TEXT NOT NULL,
                created_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL)""",
        ),
    ),
    (
        "0010_comparisons",
        (
            # who began a run, and whose answers are whose: nothing that one tenant asked is told to another
            "ALTER TABLE runs ADD COLUMN tenant TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE answers ADD COLUMN tenant TEXT NOT NULL DEFAULT ''",
            "CREATE INDEX runs_tenant ON runs (tenant, id)",
            "CREATE INDEX runs_waiting ON runs (id) WHERE status IN ('queued', 'running')",
            "CREATE INDEX answers_tenant ON answers (tenant) WHERE tenant <> ''",
        ),
    ),
    (
        "0011_judgements",
        (
            # answers that wait for an expert: where question and answer are kept, never the texts themselves
            """CREATE TABLE reviews (
                tenant TEXT NOT NULL, id TEXT NOT NULL, subject TEXT NOT NULL, task TEXT NOT NULL, run TEXT NOT NULL,
                rank BIGINT NOT NULL, readers BIGINT NOT NULL, read BIGINT NOT NULL, created_ms BIGINT NOT NULL,
                review TEXT NOT NULL, PRIMARY KEY (tenant, id), UNIQUE (tenant, subject))""",
            "CREATE INDEX reviews_order ON reviews (tenant, rank, id)",
            """CREATE TABLE judgements (
                tenant TEXT NOT NULL, review TEXT NOT NULL, reader TEXT NOT NULL, at_ms BIGINT NOT NULL,
                said TEXT NOT NULL, judgement TEXT NOT NULL, PRIMARY KEY (tenant, review, reader))""",
        ),
    ),
    (
        "0012_releases",
        (
            # which model answers to an alias of a tenant: the newest line holds, nothing is taken away
            """CREATE TABLE releases (
                id TEXT PRIMARY KEY, tenant TEXT NOT NULL, alias TEXT NOT NULL, at_ms BIGINT NOT NULL,
                release TEXT NOT NULL)""",
            "CREATE INDEX releases_alias ON releases (tenant, alias, id)",
        ),
    ),
    (
        "0013_conversations_votes",
        (
            # chats that people wanted kept; `content` is sealed like the contents of calls
            """CREATE TABLE conversations (
                tenant TEXT NOT NULL, id TEXT NOT NULL, key TEXT NOT NULL, title TEXT NOT NULL,
                content {blob} NOT NULL, created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL, share TEXT,
                PRIMARY KEY (tenant, id))""",
            "CREATE INDEX conversations_of ON conversations (tenant, key, updated_ms)",
            "CREATE UNIQUE INDEX conversations_share ON conversations (share) WHERE share IS NOT NULL",
            # answers side by side: `choice` is empty until somebody has voted
            """CREATE TABLE votes (
                tenant TEXT NOT NULL, id TEXT NOT NULL, key TEXT NOT NULL, created_ms BIGINT NOT NULL,
                at_ms BIGINT, choice TEXT NOT NULL, asked {blob}, PRIMARY KEY (tenant, id))""",
            """CREATE TABLE vote_answers (
                tenant TEXT NOT NULL, vote TEXT NOT NULL, place TEXT NOT NULL, model TEXT NOT NULL,
                record TEXT NOT NULL, answer {blob}, PRIMARY KEY (tenant, vote, place))""",
            "CREATE INDEX vote_answers_vote ON vote_answers (vote)",
        ),
    ),
    (
        "0016_rollups",
        (
            # sums by a few things at a time, counted in late: `rolled` says up to which line. Of lines that are
            # pruned already only the totals are left, which know no status, route or tags: their status is ?
            """CREATE TABLE rollups (
                kind TEXT NOT NULL, tenant TEXT NOT NULL DEFAULT '', day TEXT NOT NULL, key TEXT NOT NULL DEFAULT '',
                model TEXT NOT NULL DEFAULT '', surface TEXT NOT NULL DEFAULT '', status TEXT NOT NULL DEFAULT '',
                route TEXT NOT NULL DEFAULT '', tags TEXT NOT NULL DEFAULT '', currency TEXT NOT NULL,
                calls BIGINT NOT NULL, failed BIGINT NOT NULL, unpriced BIGINT NOT NULL, uncounted BIGINT NOT NULL,
                cost_micros BIGINT NOT NULL, cost_rest BIGINT NOT NULL, tokens_in BIGINT NOT NULL,
                tokens_out BIGINT NOT NULL, tokens_cached BIGINT NOT NULL, tokens_cache_write BIGINT NOT NULL,
                PRIMARY KEY (kind, tenant, day, key, model, surface, status, route, tags, currency)) {packed}""",
            "CREATE TABLE rolled (one BIGINT PRIMARY KEY, seq BIGINT NOT NULL)",
            "INSERT INTO rolled (one, seq) SELECT 1, coalesce(max(seq), 0) FROM ledger_checkpoints",
            *(
                f"""INSERT INTO rollups (kind, day, {told}, status, currency, calls, failed, unpriced, uncounted,
                    cost_micros, cost_rest, tokens_in, tokens_out, tokens_cached, tokens_cache_write)
                    SELECT '{kind}', day, {given}, '?', currency, sum(calls), sum(failed), sum(unpriced),
                    sum(uncounted), sum(cost_micros), sum(cost_rest), sum(tokens_in), sum(tokens_out),
                    sum(tokens_cached), sum(tokens_cache_write) FROM totals_pruned GROUP BY day, {by}, currency"""
                for kind, told, given, by in (
                    ("offer", "model, surface", "model, surface", "model, surface"),
                    ("payers", "tenant, key", "tenant, key", "tenant, key"),
                    ("tags", "tenant, tags", "tenant, '{{}}'", "tenant"),
                    ("whole", "tenant, model, surface", "tenant, model, surface", "tenant, model, surface"),
                )
            ),
        ),
    ),
    (
        "0017_rollups_by_day",
        (
            # every sum comes from them now: one kind tells all apart. By day first, for a question is of some days.
            # In PostgreSQL the largest kind lies apart: who asks for a small one does not read past it.
            # `first_seq` and `last_seq` say between which lines theirs are; 0 where all are pruned
            "DROP TABLE rollups",
            """CREATE TABLE rollups (
                kind TEXT NOT NULL, day TEXT NOT NULL, tenant TEXT NOT NULL DEFAULT '', key TEXT NOT NULL DEFAULT '',
                tags TEXT NOT NULL DEFAULT '', model TEXT NOT NULL DEFAULT '', surface TEXT NOT NULL DEFAULT '',
                status TEXT NOT NULL DEFAULT '', route TEXT NOT NULL DEFAULT '', currency TEXT NOT NULL,
                calls BIGINT NOT NULL, failed BIGINT NOT NULL, unpriced BIGINT NOT NULL, uncounted BIGINT NOT NULL,
                cost_micros BIGINT NOT NULL, cost_rest BIGINT NOT NULL, tokens_in BIGINT NOT NULL,
                tokens_out BIGINT NOT NULL, tokens_cached BIGINT NOT NULL, tokens_cache_write BIGINT NOT NULL,
                first_seq BIGINT NOT NULL DEFAULT 0, last_seq BIGINT NOT NULL DEFAULT 0,
                PRIMARY KEY (kind, day, tenant, key, tags, model, surface, status, route, currency)) {apart}""",
            "UPDATE rolled SET seq = (SELECT coalesce(max(seq), 0) FROM ledger_checkpoints)",
            *(
                f"""INSERT INTO rollups (kind, day, {told}, tags, status, currency, calls, failed, unpriced,
                    uncounted, cost_micros, cost_rest, tokens_in, tokens_out, tokens_cached, tokens_cache_write)
                    SELECT '{kind}', day, {told}, '{tags}', '?', currency, sum(calls), sum(failed), sum(unpriced),
                    sum(uncounted), sum(cost_micros), sum(cost_rest), sum(tokens_in), sum(tokens_out),
                    sum(tokens_cached), sum(tokens_cache_write) FROM totals_pruned GROUP BY day, {told}, currency"""
                for kind, told, tags in (
                    ("offer", "model, surface", ""),
                    ("payers", "tenant, key", "{{}}"),
                    ("whole", "tenant, key, model, surface", "{{}}"),
                )
            ),
        ),
    ),
    ("0018_files_by_time", ("CREATE INDEX files_by_time ON files (tenant, created_ms, id)",)),
    ("0019_responses_class", ("ALTER TABLE responses ADD COLUMN data_class TEXT NOT NULL DEFAULT 'public'",)),
    ("0020_files_class", ("ALTER TABLE files ADD COLUMN data_class TEXT NOT NULL DEFAULT 'public'",)),
)
