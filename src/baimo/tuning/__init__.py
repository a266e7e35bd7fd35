"""tune: adapt an open model on your own machine.

Noun: `TuneSpec`, everything that determines a tuned model; the result is an `Adapter`. Invariants: recipes run in a
child process that writes only into its job's folder; whatever is learnt is reproducible from the folder; a job that
was killed goes on from its last checkpoint; nothing here imports torch before the child does.
"""
