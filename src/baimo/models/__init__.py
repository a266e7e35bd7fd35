"""The models on offer: vendors, prices and abilities as data, weights on disk, and a first call to see what is true.

Noun: `Model` of a `Vendor`. Invariants: a price carries its source and date, an unknown price is absent and never 0;
weights are complete and hashed before they bear their final name.
"""
