"""Holds an answer against the `openai` library's own model of it, strictly.

The library itself accepts anything: a missing member is left out and a wrong type is passed on. Here a member that the
model requires must be there, and every value must be of the type that the model names.
"""

from __future__ import annotations

from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel


def problems(data: Any, model: Any, path: str = "$") -> list[str]:
    """What is wrong with `data` as an instance of `model`, an annotation; empty = nothing.

    Args:
        data: decoded JSON.
        model: a model of the library, or the type of one of its members.
        path: where it stands.
    """
    if isinstance(model, type) and issubclass(model, BaseModel):
        return _object(data, model, path)
    origin, arguments = get_origin(model), get_args(model)
    if origin is Literal:
        return [] if data in arguments else [f"{path}: {data!r} is none of {arguments}"]
    if origin is not None and (origin is Union or origin.__name__ in ("UnionType", "Annotated")):
        found = [problems(data, one, path) for one in arguments if not _is_marker(one)]
        return [] if any(not one for one in found) else min(found, key=len)
    if origin in (list, tuple):
        if not isinstance(data, list):
            return [f"{path}: {data!r} is no list"]
        return [
            said for place, one in enumerate(data) for said in problems(one, arguments[0], f"{path}[{place}]")
        ]
    if origin is dict:
        if not isinstance(data, dict):
            return [f"{path}: {data!r} is no object"]
        return [said for name, one in data.items() for said in problems(one, arguments[1], f"{path}.{name}")]
    return _plain(data, model, path)


def _object(data: Any, model: type[BaseModel], path: str) -> list[str]:
    if not isinstance(data, dict):
        return [f"{path}: {data!r} is no object"]
    found: list[str] = []
    for name, field in model.model_fields.items():
        known = field.alias or name
        if known in data:
            found += problems(data[known], field.annotation, f"{path}.{known}")
        elif field.is_required():
            found.append(f"{path}.{known} is missing")
    return found


def _plain(data: Any, kind: Any, path: str) -> list[str]:
    if kind is Any or kind is object:
        return []
    if kind is None or kind is type(None):
        return [] if data is None else [f"{path}: {data!r} is not null"]
    if isinstance(data, bool) and kind is not bool:
        return [f"{path}: {data!r} is no {kind.__name__}"]
    if kind is float and isinstance(data, int):
        return []
    return [] if isinstance(data, kind) else [f"{path}: {data!r} is no {kind.__name__}"]


def _is_marker(one: Any) -> bool:
    return type(one).__name__ in ("PropertyInfo", "FieldInfo")
