"""baimo: which of hundreds of models does your own work best, for how much, and how sure is that?

`Workspace` is the door: one method per verb. Names are loaded when first used, so `import baimo` stays fast.
"""

from __future__ import annotations

TYPE_CHECKING = (
    False  # type checkers take it for true; importing `typing` for it would cost every start 10 ms
)
if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace as Workspace

__version__ = "0.1.0"
__all__ = ["Workspace", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Workspace":
        from baimo.workspace.workspace import Workspace

        return Workspace
    raise AttributeError(f"module 'baimo' has no attribute {name!r}")
