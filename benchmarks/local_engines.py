"""Workload W on the in-process engines: 200 requests, 287 shared prompt tokens + 22, at most 24 out, greedy.

    python benchmarks/local_engines.py MODEL.gguf                       # openvino, bf16
    python benchmarks/local_engines.py MODEL.gguf --engine llamacpp --requests 40

Appends one line per run to results/local_engines.jsonl. `others_cpu` is how many cores other processes used
meanwhile; where that is much, `requests_per_core_s` (requests per CPU second of this process) says more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from baimo.providers import gguf
from baimo.providers.engine import Engine, Job, Piece
from baimo.providers.llamacpp import LlamaCppEngine
from baimo.providers.llamacpp_server import LlamaCppOptions, LlamaCppServer
from baimo.providers.openvino import OpenVinoEngine, OpenVinoOptions

PREFIX_TOKENS, QUESTION_TOKENS, ANSWER_TOKENS = 287, 22, 24


def words(path: Path, count: int) -> list[str]:
    """Words of one token each, as they stand in a text: ` payment`."""
    tokens: list[str] = gguf.read(path).metadata["tokenizer.ggml.tokens"]
    plain = [
        f" {token[1:]}" for token in tokens if token[0] == "Ġ" and token[1:].isalpha() and token.isalpha()
    ]
    return [word for word in plain if len(word) > 5 and word.islower()][:count]


def workload(path: Path, requests: int) -> list[str]:
    """Prompts of W. Shared part and question are tokenised apart, so their lengths add up."""
    server = LlamaCppServer(path, LlamaCppOptions(threads=1, max_batch=1, window=512))
    try:
        opening, end = "<|im_start|>system\nYou answer questions about", "<|im_end|>\n<|im_start|>assistant\n"
        known = words(path, PREFIX_TOKENS + requests)
        prefix = opening + "".join(known[: PREFIX_TOKENS - len(server.encode(opening))])
        room = QUESTION_TOKENS - len(server.encode(end))
        starts = range(PREFIX_TOKENS, PREFIX_TOKENS + requests)  # every question begins with another word
        questions = ["".join(known[start - 7 * at] for at in range(room)) for start in starts]
        prompts = [prefix + question + end for question in questions]
        lengths = {len(server.encode(prompt)) for prompt in prompts}
    finally:
        server.close()
    if lengths != {PREFIX_TOKENS + QUESTION_TOKENS}:
        raise SystemExit(f"prompts of {lengths} tokens")
    return prompts


async def answers(engine: Engine, prompts: list[str]) -> list[Piece]:
    """All prompts at once; the last piece of each answer."""

    async def one(prompt: str) -> Piece:
        job = Job(prompt=prompt, max_tokens=ANSWER_TOKENS, temperature=0)
        return [piece async for piece in engine.generate(job)][-1]

    return list(await asyncio.gather(*map(one, prompts)))


def busy_seconds() -> float:
    """CPU seconds that all processes of the machine have used; Linux only."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def built(arguments: argparse.Namespace) -> tuple[Engine, float, float]:
    """The engine, seconds of conversion, seconds of loading."""
    began = time.perf_counter()
    if arguments.engine == "llamacpp":
        options = LlamaCppOptions(threads=arguments.threads, max_batch=arguments.max_batch or 4, window=1024)
        return LlamaCppEngine(arguments.model, options), 0.0, time.perf_counter() - began
    copy = gguf.converted(arguments.model, arguments.weights_format, cache=arguments.cache)
    converted = time.perf_counter()
    options = OpenVinoOptions(
        precision=arguments.precision,
        threads=arguments.threads,
        max_batch=arguments.max_batch or 64,
        window=1024,
    )
    return OpenVinoEngine(copy, options), converted - began, time.perf_counter() - converted


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """One run of W."""
    prompts = workload(arguments.model, arguments.requests)
    engine, converting, loading = built(arguments)
    try:
        asyncio.run(answers(engine, ["warm up"]))
        busy, own, began = busy_seconds(), time.process_time(), time.perf_counter()
        pieces = asyncio.run(answers(engine, prompts))
        seconds = time.perf_counter() - began
        used = time.process_time() - own
        others = (busy_seconds() - busy - used) / seconds
        facts = dict(engine.facts)
    finally:
        engine.close()
    usages = [piece.usage for piece in pieces if piece.usage]
    return {
        **facts,
        "weights_format": arguments.weights_format if arguments.engine == "openvino" else "as pulled",
        "max_batch": arguments.max_batch or {"openvino": 64, "llamacpp": 4}[arguments.engine],
        "requests": arguments.requests,
        "requests_per_s": round(arguments.requests / seconds, 2),
        "requests_per_core_s": round(arguments.requests / used, 2),
        "tokens_in": sum(usage.tokens_in or 0 for usage in usages),
        "tokens_out": sum(usage.tokens_out or 0 for usage in usages),
        "convert_s": round(converting, 1),
        "load_s": round(loading, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "others_cpu": round(others, 2),
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M"),
    }


def main() -> None:
    """Measure once and append the line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--engine", choices=("openvino", "llamacpp"), default="openvino")
    parser.add_argument("--precision", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--weights-format", choices=("f16", "q8_0"), default="f16")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--max-batch", type=int, default=0)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--cache", type=Path, default=None, help="folder of converted weights")
    arguments = parser.parse_args()
    line = json.dumps(measured(arguments) | machine())
    print(line)
    results = Path(__file__).parent / "results" / "local_engines.jsonl"
    with results.open("a", encoding="utf-8") as out:
        out.write(line + "\n")


if __name__ == "__main__":
    main()
