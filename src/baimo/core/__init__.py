"""Nouns and contracts that every room shares: standard library only, no I/O, no clock, no globals."""
