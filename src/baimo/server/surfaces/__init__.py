"""The public APIs as clients speak them: one file per operation, each a `gateway.surface.Surface`.

Invariants: a surface is stateless and does no I/O; where a model speaks the surface's own wire format, bytes pass
through and are only looked at; what cannot be said to another model is refused with the path of its field.
"""
