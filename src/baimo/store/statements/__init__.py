"""Statements: what providers say that was used, in the forms in which they export it.

Its noun is the `Line`. Invariants: what an export does not say stays unknown, never 0; money is decimal, never float; a
file that is not understood is refused by place, never half read.
"""
