"""From a GGUF file to an engine that has loaded it, with what the engine needs made on the way."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from baimo.providers import agreement, gguf
from baimo.providers.engine import Engine
from baimo.providers.local_options import LocalOptions


def engine_of(
    file: gguf.GgufFile,
    engine: str,
    options: LocalOptions,
    adapters: tuple[Path, ...] = (),
    *,
    judged: bool = False,
) -> Engine:
    """An engine with this model; blocks for seconds.

    Args:
        file: the model.
        engine: openvino or llamacpp.
        options: see there.
        adapters: LoRA in GGUF form that requests may name by place; llamacpp only.
        judged: that the engine reads it rightly was found before: a tuned model went through the gate.

    Raises:
        ProviderError: it cannot be loaded, or the engine reads it otherwise than llama.cpp does.
    """
    from baimo.providers import llamacpp, llamacpp_server, openvino

    window = min(options.context, file.context_window or options.context)
    if engine == "llamacpp":
        return llamacpp.LlamaCppEngine(
            file.path,
            llamacpp_server.LlamaCppOptions(
                threads=options.threads,
                max_batch=options.max_batch or 4,
                max_waiting=options.max_waiting,
                window=window,
                adapters=adapters,
            ),
        )
    built = openvino.OpenVinoOptions(
        precision=options.precision,  # pyright: ignore[reportArgumentType]
        threads=options.threads,
        max_batch=options.max_batch or 64,
        max_waiting=options.max_waiting,
        window=window,
        cache_gib=options.cache_gib,
    )
    folder = Path(options.cache).expanduser() if options.cache else None
    with _alone(file.path):
        copy = gguf.converted(file.path, options.weights_format, cache=folder)  # pyright: ignore[reportArgumentType]
        if not judged:
            record = agreement_record(file.path, copy, built.precision, folder)
            agreement.ensured(record, lambda: _measured(file.path, copy, built), source=file.path)
    return openvino.OpenVinoEngine(copy, built)


@contextmanager
def _alone(source: Path) -> Generator[None]:
    """Wait for whoever prepares this file, so that it is prepared once: it takes all cores, up to a minute.

    Where there are no such locks (Windows, some network file systems) everybody does it, and all come to the same.
    """
    with source.open("rb") as file:
        if os.name != "nt":
            import fcntl

            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)  # given back with the file, and with the process
        yield


def agreement_record(source: Path, copy: Path, precision: str, cache: Path | None) -> Path:
    """Where the agreement of a copy with its source is kept."""
    from baimo.providers import openvino

    folder = copy.parent if copy != source else cache or gguf.user_cache() / "converted"
    folder.mkdir(parents=True, exist_ok=True)
    stem = copy.stem if copy != source else gguf.file_hash(source)[:32]
    return folder / f"{stem}-openvino-{openvino.version()}-{precision}.json"


def _measured(source: Path, copy: Path, options: Any) -> agreement.Agreement:
    from baimo.providers import llamacpp_server, openvino

    small = dataclasses.replace(options, window=512, cache_gib=1, max_batch=1)
    candidate = openvino.OpenVinoPipeline(copy, small)
    reference = llamacpp_server.LlamaCppServer(
        source, llamacpp_server.LlamaCppOptions(threads=options.threads or 1, max_batch=1, window=512)
    )
    try:
        return agreement.compared(reference, candidate)
    finally:
        reference.close()
