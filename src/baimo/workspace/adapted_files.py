"""What engines read for tuned models: merged weights, or a LoRA beside its base. A cache, made when missing."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from baimo.core.call import Request
from baimo.core.ids import digest
from baimo.core.tuning import Adapter
from baimo.errors import AdapterError
from baimo.models.catalogue import TUNED
from baimo.providers import gguf
from baimo.providers.gguf_write import WRITER, gguf_adapter
from baimo.providers.hf_files import chat_template_of, end_token
from baimo.providers.local_options import LocalOptions
from baimo.providers.peft_folder import PeftFolder
from baimo.providers.weights import Weights
from baimo.tuning.adapters.export import merged_gguf
from baimo.tuning.search.served import Served

if TYPE_CHECKING:
    from baimo.workspace.adapting import Below


class Based(Protocol):
    """Finds a base in both forms."""

    def __call__(self, name: str) -> Below: ...


class ServedFiles:
    """What is served of adapters.

    Args:
        folder: of the cache.
        options: merged or lora, and what weights are kept in.
        base: finds bases.
        at: an adapter's folder.
    """

    def __init__(
        self, folder: Path, options: LocalOptions, base: Based, at: Callable[[Adapter], Path]
    ) -> None:
        self._folder = folder
        self._options = options
        self._base = base
        self._at = at

    def weights(self, adapter: Adapter, ready: Sequence[Adapter]) -> Weights:
        """What answers for an adapter.

        Args:
            adapter: any.
            ready: everything that is served now, among it those that share the base.
        """
        if adapter.kind == "prompt":
            return self._prompted(adapter)
        if self._options.tuned_form == "lora" and self._alone(adapter):
            return self._beside(adapter, ready)
        return Weights(path=self.merged(adapter), tuned=True)

    def merged(self, adapter: Adapter) -> Path:
        """Base and adapter in one GGUF file."""
        form = "q8_0" if self._options.weights_format == "q8_0" else "f16"
        path = self._path(adapter, f"{form}.gguf")
        if not path.is_file():
            below = self._base(adapter.base)
            self._folder.mkdir(parents=True, exist_ok=True)
            merged_gguf(self._at(adapter), below.hf, below.gguf, path, form)
        return path

    def forget(self, adapter: Adapter) -> None:
        """Remove what was made of an adapter."""
        for path in self._folder.glob(f"{adapter.id}-*"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._folder / adapter.id, ignore_errors=True)

    def lora(self, adapter: Adapter) -> Path:
        """The adapter alone, as llama.cpp puts it on its base."""
        path = self._path(adapter, "lora.gguf")
        if not path.is_file():
            self._folder.mkdir(parents=True, exist_ok=True)
            gguf_adapter(self._at(adapter), self._bare(adapter), path)
        return path

    def _beside(self, adapter: Adapter, ready: Sequence[Adapter]) -> Weights:
        same = {one.id: one for one in ready if one.base == adapter.base and self._alone(one)}
        same[adapter.id] = adapter
        mine = self.lora(adapter)
        return Weights(
            path=self._bare(adapter),
            adapter=mine,
            beside=tuple(self.lora(one) for _, one in sorted(same.items())),
            template=chat_template_of(self._at(adapter)),
            tuned=True,
        )

    def _prompted(self, adapter: Adapter) -> Weights:
        served = Served.read(self._at(adapter))
        put = partial(put_before, served)
        return Weights(path=self.merged_base(adapter), put=put, put_hash=digest(served), tuned=True)

    def merged_base(self, adapter: Adapter) -> Path:
        """GGUF of an adapter's base."""
        below = self._base(adapter.base)
        if below.gguf is None:
            raise AdapterError("adapters.no_gguf", name=adapter.base)
        return below.gguf

    def _bare(self, adapter: Adapter) -> Path:
        folder = Path(self._options.cache).expanduser() if self._options.cache else None
        form = "q8_0" if self._options.weights_format == "q8_0" else "f16"
        return gguf.converted(self.merged_base(adapter), form, cache=folder)

    def _alone(self, adapter: Adapter) -> bool:
        """Whether an adapter can answer without being merged: a plain LoRA whose answers end as its base's."""
        folder = self._at(adapter)
        if adapter.kind != "lora" or adapter.base.startswith(TUNED):
            return False
        peft = PeftFolder(folder)
        end = end_token(folder)
        return (
            not peft.dora
            and not peft.saved
            and end in ("", gguf.read(self.merged_base(adapter)).token("eos"))
        )

    def _path(self, adapter: Adapter, end: str) -> Path:
        return self._folder / f"{adapter.id}-{WRITER}-{end}"


def put_before(served: Served, request: Request) -> Request:
    """A caller's request with a tuned prompt before it; the caller's own decoding parameters are stronger."""
    extra: Mapping[str, Any] = request.extra or {}
    named: Mapping[str, Any] = extra.get("metadata") or {}
    said = str(named.get(served.by, "")) if served.by else ""
    sampling = request.sampling
    for field in dataclasses.fields(sampling):
        if getattr(sampling, field.name) in (None, ()):
            sampling = replace(sampling, **{field.name: getattr(served.sampling, field.name)})
    return replace(request, messages=served.messages(request.messages, said), sampling=sampling)
