"""Everything that is kept, and the only SQL: answers, runs, samples, the ledger, blobs.

Noun: `Store`. Invariants: what was written survives `kill -9`; migrations are append-only; several processes may use
one store at once; SQLite and PostgreSQL run the same statements.
"""
