"""Rows of a Parquet file, batch by batch; needs the extra `parquet`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from baimo.core.registry import require
from baimo.errors import TaskError
from baimo.evals.tasks.formats.rows import Row


def parquet_rows(path: Path) -> Iterator[Row]:
    """Rows numbered from 1. Dates become ISO 8601 text, decimals numbers, NaN null.

    Raises:
        MissingExtra: pyarrow is not installed.
        TaskError: the file is no Parquet, or a cell has no JSON form.
    """
    parquet = require("pyarrow.parquet", "parquet", "tasks.purpose_parquet")
    broken: tuple[type[Exception], ...] = (
        require("pyarrow", "parquet", "tasks.purpose_parquet").ArrowException,
        OSError,
    )
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for record in batch.to_pylist():
                    number += 1
                    yield Row(
                        number, {str(name): _plain(item, path, number) for name, item in record.items()}
                    )
    except broken as error:
        raise TaskError("tasks.bad_parquet", path=path, problem=error) from error


def _plain(value: Any, path: Path, line: int) -> Any:
    match value:
        case None | str() | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError as error:
                raise TaskError("tasks.parquet_cell", path=path, line=line, found="bytes") from error
        case Mapping():
            return {
                str(name): _plain(item, path, line) for name, item in cast("Mapping[Any, Any]", value).items()
            }
        case list() | tuple():
            return [_plain(item, path, line) for item in cast("list[Any]", value)]
        case _:
            raise TaskError("tasks.parquet_cell", path=path, line=line, found=type(value).__name__)
