"""console: the whole loop on one page, in Chinese and English.

Noun: `Page`. Invariants: it is a client of the same API as everybody else, with the rights of whoever signed in, and
has no other way to anything; a browser never holds a key; no page loads anything from another origin or runs a script
that is not a file of this room; every page is whole without a script, which only makes it livelier.
"""
