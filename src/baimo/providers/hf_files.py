"""Small files of a folder in Hugging Face form: configs, chat template, the token that ends an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from baimo.errors import AdapterError
from baimo.providers.vocabulary import token_text


def chat_template_of(folder: Path) -> str:
    """The chat template of a tokenizer in Hugging Face form; empty = none."""
    written = folder / "chat_template.jinja"
    if written.is_file():
        return written.read_text(encoding="utf-8")
    config = read_json(folder / "tokenizer_config.json", optional=True)
    template: Any = config.get("chat_template") or ""
    if isinstance(template, list):  # several by name, before transformers 5
        named = {str(one["name"]): str(one["template"]) for one in template}  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
        template = named.get("default", "")
    return str(template)


def end_token(folder: Path) -> str:
    """Text of the token that ends an answer, as the folder's tokenizer has it; empty = not said."""
    return token_text(read_json(folder / "tokenizer_config.json", optional=True).get("eos_token"))


def read_json(path: Path, *, optional: bool = False) -> Mapping[str, Any]:
    """A JSON object of a model's folder; empty where it is `optional` and absent.

    Raises:
        AdapterError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        if optional:
            return {}
        raise AdapterError("adapters.no_file", path=path.parent, file=path.name) from None
    except ValueError as error:
        raise AdapterError("adapters.bad_config", path=path, problem=error) from error
