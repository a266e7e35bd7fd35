"""compare: which candidate does this task best, for how much money, and how sure are we?

Noun: the Board, N candidates by M examples with scores in [0, 1], of which only the cells that were paid for are seen.
Invariants: every candidate meets the examples in one shared random order, so any two are compared on the same examples;
an unscored cell leaves the denominator and never counts as 0; nothing is bought twice.
"""
