"""The serving side of the gate: the engine and the files that will serve, one prompt at a time, in f32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from baimo.core.call import Request
from baimo.core.registry import require
from baimo.providers import gguf
from baimo.providers.llamacpp_server import LlamaCppOptions, LlamaCppServer
from baimo.providers.local import prompt_of
from baimo.providers.openvino import OpenVinoOptions, OpenVinoPipeline
from baimo.providers.weights import Weights
from baimo.tuning.parity import Answer, Spoken

WINDOW = 2048


class EngineSide:
    """A model on the engine that serves, as `parity.Serving`. Loading blocks for seconds; use it as a context manager.

    Args:
        weights: files, adapter and template, as the provider has them.
        engine: openvino or llamacpp.
        form: what the weights are promised to be kept in: f16 or q8_0.
        threads: 0 = all cores.
        precision: of OpenVINO's computation; the gate judges in f32.

    Raises:
        ProviderError: the engine cannot load them.
    """

    def __init__(
        self,
        weights: Weights,
        engine: Literal["openvino", "llamacpp"],
        *,
        form: str = "f16",
        threads: int = 0,
        precision: str = "f32",
    ) -> None:
        self._weights = weights
        self._file = gguf.read(weights.path)
        self._form = form
        self._precision = precision
        self._told: dict[tuple[tuple[int, ...], int], list[tuple[int, float]]] = {}
        self._place = None if weights.adapter is None else weights.beside.index(weights.adapter)
        self._engine: OpenVinoPipeline | LlamaCppServer
        if engine == "openvino":
            options = OpenVinoOptions(
                precision=precision,  # pyright: ignore[reportArgumentType]
                threads=threads,
                max_batch=1,
                window=WINDOW,
                cache_gib=1,
            )
            self._engine = OpenVinoPipeline(weights.path, options)
        else:
            self._engine = LlamaCppServer(
                weights.path,
                LlamaCppOptions(threads=threads, max_batch=1, window=WINDOW, adapters=weights.beside),
            )

    def __enter__(self) -> EngineSide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self._engine, LlamaCppServer):
            self._engine.close()
        del self._engine

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `parity.Serving`."""
        library = require("gguf", "local", "local.purpose")
        kinds = sorted({library.GGMLQuantizationType(tensor.kind).name for tensor in self._file.tensors})
        name = "llamacpp" if isinstance(self._engine, LlamaCppServer) else "openvino"
        form = "lora" if self._weights.adapter is not None else "merged"
        return {
            "engine": name,
            "precision": self._precision,
            "weights": self._form,
            "kinds": kinds,
            "form": form,
        }

    @property
    def ends(self) -> frozenset[int]:
        """See `parity.Serving`."""
        return frozenset(self._file.token_ids("eos", "eot", "eom"))

    def _once(self, engine: OpenVinoPipeline, prompt: Sequence[int], count: int) -> list[tuple[int, float]]:
        key = (tuple(prompt), count)
        if key not in self._told:  # an answer is asked for twice: for its tokens and for its text
            self._told[key] = engine.greedy(prompt, count)
        return self._told[key]

    def spoken(self, request: Request) -> Spoken:
        """See `parity.Serving`."""
        prompt = prompt_of(self._file, self._weights, request)
        return Spoken(prompt, self._engine.encode(prompt))

    def steps(self, prompt: Sequence[int], count: int) -> list[tuple[int, float]]:
        """See `parity.Serving`."""
        if isinstance(self._engine, OpenVinoPipeline):
            return self._once(self._engine, prompt, count)
        return [(step.token, step.logprob) for step in self._engine.greedy(prompt, count, 1, self._place)]

    def answer(self, request: Request, prompt: Sequence[int], count: int) -> Answer:
        """See `parity.Serving`."""
        if isinstance(self._engine, OpenVinoPipeline):
            ids = [token for token, _ in self._once(self._engine, prompt, count)]
            words = self._engine.spelled(ids).decode("utf-8", errors="replace")
            return Answer(words.rstrip("\ufffd"), bool(ids) and ids[-1] in self.ends, tuple(ids))
        words, ended = self._engine.answered(prompt, count, self._place)
        return Answer(words.rstrip("\ufffd"), ended)
