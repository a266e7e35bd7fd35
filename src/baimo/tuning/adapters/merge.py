"""An adapter put into its base: W + scale · B · A, matrix by matrix, without loading a model.

Prevents the failure where merging changes what was not trained: output matrices that share their values with the
embedding are parted when only one of the two was changed, as they were while it was trained.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from baimo.core.registry import require
from baimo.errors import AdapterError
from baimo.providers.hf_files import read_json
from baimo.providers.peft_folder import PeftFolder, Update
from baimo.providers.tensor_files import TensorFiles, write_tensors

EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


class Merged(Mapping[str, Any]):
    """The tensors of base and adapter together, each computed when it is asked for; float32 where changed.

    Args:
        base: folder in Hugging Face form.
        adapter: folder of a PEFT adapter.

    Raises:
        AdapterError: the adapter cannot be read, or changes what the base does not have.
    """

    def __init__(self, base: Path, adapter: Path) -> None:
        self._base = TensorFiles.of(base)
        self._adapter = PeftFolder(adapter)
        self._sources = {name: name for name in self._base}
        changed = {f"{module}.weight" for module in self._adapter.updates} | set(self._adapter.saved)
        tied = bool(read_json(base / "config.json").get("tie_word_embeddings"))
        together = bool(self._adapter.config.get("ensure_weight_tying"))
        self.parted = tied and not together and bool(changed & {EMBEDDING, OUTPUT})
        """Whether the output matrix is no longer the embedding."""
        if self.parted:
            self._sources[OUTPUT] = self._sources.get(OUTPUT, EMBEDDING)
        elif tied:
            self._sources.pop(OUTPUT, None)
        strangers = changed - set(self._sources) - ({OUTPUT} if tied else set())
        if strangers:
            raise AdapterError("adapters.not_in_base", path=adapter, name=min(strangers))

    def shape(self, name: str) -> tuple[int, ...]:
        """Rows and columns of a tensor."""
        saved = self._adapter.saved.get(name)
        if saved is not None:
            return self._adapter.tensors.placed(saved).shape
        return self._base.placed(self._sources[name]).shape

    def __getitem__(self, name: str) -> Any:
        saved = self._adapter.saved.get(name)
        if saved is not None:
            return self._adapter.tensors[saved]
        data = self._base[self._sources[name]]
        update = self._adapter.updates.get(name.removesuffix(".weight"))
        return data if update is None else self._put(update, data)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def _put(self, update: Update, data: Any) -> Any:
        numpy = require("numpy", "local", "local.purpose")
        parts = self._adapter.arrays(update)
        added = parts["B"] @ parts["A"]
        added = (added.T if update.embedding else added) * numpy.float32(update.scale)
        if added.shape != data.shape:
            facts = {"name": update.module, "found": added.shape, "base": data.shape}
            raise AdapterError("adapters.size", path=self._adapter.path, **facts)
        added += data
        if "magnitude" in parts:  # DoRA: every row keeps a length of its own
            axis = 0 if update.embedding else 1
            length = numpy.linalg.norm(added, axis=axis, keepdims=True)
            added *= parts["magnitude"].reshape(length.shape) / length
        return added


def merged(folder: Path, base: Path, out: Path) -> Path:
    """A model in Hugging Face form that answers as base and adapter do; float32.

    Args:
        folder: of the adapter: PEFT, or whole weights, which are taken as they are.
        base: folder in Hugging Face form.
        out: a folder that does not exist yet, or is empty.

    Returns:
        `out`.

    Raises:
        AdapterError: see `Merged`.
    """
    out.mkdir(parents=True, exist_ok=True)
    described(folder, base, out)
    if is_whole(folder):
        for path in TensorFiles.of(folder).paths:
            shutil.copy2(path, out / path.name)
        return out
    tensors = Merged(base, folder)
    config = dict(read_json(base / "config.json")) | {"dtype": "float32"}
    if tensors.parted:
        config["tie_word_embeddings"] = False
    config["vocab_size"] = tensors.shape(EMBEDDING)[0]
    (out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    write_tensors(out / "model.safetensors", tensors, {name: tensors.shape(name) for name in tensors})
    return out


def described(folder: Path, base: Path, out: Path) -> None:
    """Tokenizer, chat template and generation config in `out`: the adapter's where it has them, else the base's."""
    source = folder if (folder / "tokenizer.json").is_file() else base
    for name in TOKENIZER:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    if (folder / "chat_template.jinja").is_file():
        shutil.copyfile(folder / "chat_template.jinja", out / "chat_template.jinja")
    for name in ("generation_config.json", "config.json"):
        source = folder if (folder / name).is_file() else base
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)


def is_whole(folder: Path) -> bool:
    """Whether a folder holds whole weights."""
    return (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file()
