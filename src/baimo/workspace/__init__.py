"""The workspace: settings, memory, models and rooms of one company's work, wired together.

Its noun is `Workspace`: one thin method per verb, whose wiring is in the file of that verb; `bridge` is the only way
from synchronous callers to the asynchronous inside.
"""
