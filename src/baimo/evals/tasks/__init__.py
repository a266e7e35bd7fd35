"""A company's own work as a folder: read it, check it, ask it, write it.

Noun: the Task, examples with references, prompts and scorers. Invariants: every complaint names file and line; what a
foreign format holds and a Task cannot is listed, never dropped in silence; reading the same bytes gives the same Task.
"""
