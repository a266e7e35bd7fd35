"""Judges of one answer: `registry.scorer(spec)` builds one, `await scorer.score(example, completion)` judges.

Invariants, tested for every scorer: no reply text makes one raise; a reply that repeats the reference gets 1.0; what
cannot be judged is unscored, never 0; strict (the form that was asked for) and lenient (form forgiven) stand apart.
"""
