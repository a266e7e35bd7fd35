"""Ways in which examples are written down, each read as it is: one file per family of formats.

A format turns rows (a line number and an object) into Examples. What a row holds and an Example cannot goes to the
Notebook that every format is given.
"""
