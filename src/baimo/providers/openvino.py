"""GGUF models on OpenVINO GenAI: the fastest engine measured on x86-64 CPUs.

Prevents three failures of the library, each with a test: it reports usage to its vendor when imported (blocked
before the first import), it mis-reads some quantisations (it only ever gets files from `gguf.converted`), and it
spoils answers that share partly filled cache blocks (`prefixes`). docs/findings/local-engines.md has the figures.

API: https://docs.openvino.ai/2026/openvino-workflow-generative/inference-with-genai.html
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from baimo.core.call import FinishReason
from baimo.core.registry import require
from baimo.errors import BadReply, ProviderError, RequestRefused
from baimo.providers import gguf, json_grammar
from baimo.providers.batching import Batcher, Tokens
from baimo.providers.engine import Job, Piece, problem

Precision = Literal["bf16", "f16", "f32"]

ARCHITECTURES = frozenset({"llama", "qwen2", "qwen3"})
"""What its GGUF reader knows: https://openvinotoolkit.github.io/openvino.genai/docs/guides/gguf"""

_PREFILL_TOKENS = 512  # per step; more gives no throughput and makes running answers wait
_SLICE = 4096  # characters
_GIB = 1 << 30


def version() -> str:
    """Version of the library, without importing it; empty = not installed."""
    try:
        return metadata.version("openvino-genai")
    except metadata.PackageNotFoundError:
        return ""


def libraries() -> tuple[Any, Any]:
    """`openvino` and `openvino_genai`, with telemetry shut out.

    `import openvino` starts a sender of usage events whenever the module below can be imported; None in its place
    makes that import fail, which the library takes for "not installed".

    Raises:
        MissingExtra: not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    return require("openvino", "local", "local.purpose"), require("openvino_genai", "local", "local.purpose")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenVinoOptions:
    """How the pipeline is built."""

    precision: Precision = "bf16"
    """Of the computation; f32 also keeps the KV cache in f32, for comparisons with training."""
    threads: int = 0
    """0 = all cores."""
    max_batch: int = 64
    """Most requests computed together."""
    max_waiting: int = 4096
    """Most requests in the queue."""
    window: int
    """Tokens of prompt and answer together."""
    cache_gib: int = 0
    """KV cache; 0 = 1 GiB, or what eight full windows need, up to 8 GiB."""


class OpenVinoEngine:
    """One model. Loading blocks for seconds: call it from a thread.

    Args:
        path: GGUF file of F32, F16 and Q8_0 tensors only.
        options: see there.

    Raises:
        ProviderError: the library cannot load the file.
    """

    def __init__(self, path: Path, options: OpenVinoOptions) -> None:
        self._options = options
        self._batcher = Batcher(
            lambda: OpenVinoPipeline(path, options),
            window=options.window,
            max_batch=options.max_batch,
            max_waiting=options.max_waiting,
            name=f"baimo-openvino-{path.stem[:16]}",
        )

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `Engine.facts`."""
        return {"engine": "openvino", "version": version(), "precision": self._options.precision}

    @property
    def running(self) -> int:
        """Requests in the pipeline."""
        return self._batcher.running

    def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """See `Engine.generate`.

        Raises:
            RequestRefused: logprobs, which the library gives for chosen tokens only.
        """
        if job.top_logprobs is not None:
            raise RequestRefused("local.no_logprobs")
        return self._batcher.generate(job)

    def count(self, text: str) -> int:
        """See `Engine.count`."""
        return self._batcher.count(text)

    def close(self) -> None:
        """See `Engine.close`."""
        self._batcher.close()


class OpenVinoPipeline:
    """`openvino_genai.ContinuousBatchingPipeline` as `batching.Pipeline`."""

    def __init__(self, path: Path, options: OpenVinoOptions) -> None:
        openvino, genai = libraries()
        self._openvino, self._genai = openvino, genai
        file = gguf.read(path)
        _refuse_misread(file)
        self._spelling = file.spelling()
        self._ends = file.token_ids("eos", "eot", "eom")
        self._cut_at = file.context_window or sys.maxsize
        self._number = 0
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = options.cache_gib or _cache_gib(file, options)
        scheduler.enable_prefix_caching = True
        scheduler.max_num_seqs = options.max_batch
        scheduler.max_num_batched_tokens = max(_PREFILL_TOKENS, options.max_batch)
        try:
            self._pipeline = genai.ContinuousBatchingPipeline(
                str(path), scheduler, "CPU", _properties(options.precision, options.threads)
            )
            self._tokenizer = self._pipeline.get_tokenizer()
        except RuntimeError as error:
            raise ProviderError("local.cannot_load", path=path, problem=problem(error)) from error

    def encode(self, text: str) -> list[int]:
        """See `Pipeline.encode`."""
        ids = self._encoded(text)
        if len(ids) < self._cut_at:
            return ids
        # the library cuts at the model's window; the sum over slices is off by a token a slice, but says how much
        slices = (text[start : start + _SLICE] for start in range(0, len(text), _SLICE))
        return [number for part in slices for number in self._encoded(part)]

    def spelled(self, ids: Sequence[int]) -> bytes:
        """See `Pipeline.spelled`; the library's own decoder drops characters that are not complete yet."""
        return b"".join([self._spelling[number] for number in ids])

    def add(self, ids: Sequence[int], job: Job, max_tokens: int) -> OpenVinoHandle:
        """See `Pipeline.add`."""
        return OpenVinoHandle(self._add(ids, self._config(job, max_tokens)), self._genai)

    def step(self) -> None:
        """See `Pipeline.step`."""
        self._pipeline.step()

    def greedy(self, prompt: Sequence[int], count: int) -> list[tuple[int, float]]:
        """At most `count` greedy tokens with their log-probabilities; only while nothing else runs."""
        config = self._genai.GenerationConfig(max_new_tokens=count, logprobs=1)
        config.stop_token_ids = self._ends
        handle = self._add(prompt, config)
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        output = handle.read_all()[0]
        return list(zip(output.generated_ids, output.generated_log_probs, strict=True))

    def _encoded(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).input_ids.data.reshape(-1).tolist()

    def _add(self, ids: Sequence[int], config: Any) -> Any:
        import numpy

        self._number += 1
        tensor = self._openvino.Tensor(numpy.array([ids], dtype=numpy.int64))
        return self._pipeline.add_request(self._number, tensor, config)

    def _config(self, job: Job, max_tokens: int) -> Any:
        config = self._genai.GenerationConfig(max_new_tokens=max_tokens)
        config.stop_token_ids = self._ends
        if job.temperature > 0:
            config.do_sample = True
            config.temperature = job.temperature
            config.top_p = job.top_p
            config.rng_seed = secrets.randbits(32) if job.seed is None else job.seed % (1 << 32)
        if job.schema is not None:
            compact = json_grammar.grammar(job.schema)
            constraint = {"grammar": compact} if compact else {"json_schema": job.schema}
            config.structured_output_config = self._genai.StructuredOutputConfig(**constraint)
        return config


class OpenVinoHandle:
    """`openvino_genai.GenerationHandle` as `batching.Handle`."""

    def __init__(self, handle: Any, genai: Any) -> None:
        self._handle = handle
        self._reasons: Mapping[Any, FinishReason] = {
            genai.GenerationFinishReason.STOP: "stop",
            genai.GenerationFinishReason.LENGTH: "length",
        }
        self._given_up = genai.GenerationStatus.IGNORED

    def read(self) -> Tokens:
        """See `Handle.read`."""
        ids: list[int] = []
        reason: FinishReason | None = None
        while self._handle.can_read():
            for output in self._handle.read().values():
                ids += output.generated_ids
                reason = self._reasons.get(output.finish_reason) or reason
        if reason is None and self._handle.get_status() == self._given_up:
            raise BadReply("local.out_of_cache")
        return Tokens(ids, reason)

    def cancel(self) -> None:
        """See `Handle.cancel`."""
        self._handle.cancel()


def _properties(precision: Precision, threads: int) -> dict[str, Any]:
    properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision}
    if precision == "f32":
        properties["KV_CACHE_PRECISION"] = "f32"
    properties["INFERENCE_NUM_THREADS"] = threads or os.cpu_count() or 1
    return properties


def _cache_gib(file: gguf.GgufFile, options: OpenVinoOptions) -> int:
    """Room for eight full windows, at least 1 GiB, at most 8: idle cache is memory that others could use."""
    facts = file.metadata
    name = file.architecture
    layers = int(facts.get(f"{name}.block_count", 32))
    heads = int(facts.get(f"{name}.attention.head_count", 32))
    pairs = int(facts.get(f"{name}.attention.head_count_kv", heads))
    width = int(
        facts.get(f"{name}.attention.key_length", int(facts.get(f"{name}.embedding_length", 4096)) // heads)
    )
    token = 2 * layers * pairs * width * (4 if options.precision == "f32" else 1)
    return min(max(1, -(-8 * options.window * token // _GIB)), 8)


def _refuse_misread(file: gguf.GgufFile) -> None:
    """The library reads other quantisations without an error, and some of them wrongly."""
    if not {tensor.kind for tensor in file.tensors} <= gguf.READ_ALIKE:
        raise ProviderError("local.not_converted", path=file.path)
