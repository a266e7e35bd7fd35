"""The report of a comparison: the same figures for a terminal, a browser, a pull request and a program.

Noun: the Report, a run with its verdict, task, samples and replies. Invariants: unknown is shown as unknown
and never as 0; nothing that a model or a data file wrote is trusted as markup or as terminal codes; the
page asks nothing of any network."""
