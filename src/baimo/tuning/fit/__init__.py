"""The mathematics and the loop that recipes share; the same code on CPU and CUDA.

Noun: `Encoded`, a row as token ids with those marked that are learnt. Invariants: a row is rendered and cut into
tokens exactly as it is served; what makes a step fast (shared beginnings, no padding, logits at answers only)
changes no figure: tests hold it against the plain way; a resumed job ends where an uninterrupted one does.
"""
