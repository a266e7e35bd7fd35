"""What `baimo serve` is asked to do: the source of the command line's options and of the reference page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """`baimo serve`: every model behind one metered endpoint."""

    host: str | None = None
    """Address to listen on; None = serve.host of the settings."""
    port: int | None = None
    """Port; 0 = any free one; None = serve.port of the settings."""
    workers: int | None = None
    """Processes; None = serve.workers of the settings."""
    model: str = ""
    """Model for requests that name none; empty = serve.default_model of the settings."""
