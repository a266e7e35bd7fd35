"""What a model learns from: files of every format become `core.tuning.Row`s, are checked, cleaned and split.

Noun: `Row`. Invariants: a row knows its file and line; nothing is cut or left out in silence: a line that cannot be
read is a problem with its number, a row that is taken out is counted in the line of the step that took it; the same
rows give the same findings, the same cleaning and the same split on every machine.
"""
