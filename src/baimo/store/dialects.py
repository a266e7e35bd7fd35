"""What SQLite and PostgreSQL say in different words.

Only the words of the database that is there are loaded: the other's would be 3 MB in every process.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, cast, func


def inserting(dialect: str, table: Any) -> Any:
    """An INSERT that may go on with ON CONFLICT.

    Args:
        dialect: `Database.dialect`.
        table: to insert into.
    """
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert
    return insert(table)


def member(dialect: str, column: ColumnElement[str], name: str) -> ColumnElement[Any]:
    """A member of the JSON object in a column of text; NULL where there is none.

    Args:
        dialect: `Database.dialect`.
        column: holds the objects.
        name: of the member; dots and brackets in it mean themselves.
    """
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import JSONB

        return func.jsonb_extract_path_text(cast(column, JSONB), name)
    return func.json_extract(column, '$."' + name.replace('"', '\\"') + '"')
