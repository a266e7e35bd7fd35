"""How often a semantic cache answers the wrong question: false hits on public data, by threshold.

    python benchmarks/semantic_cache.py MODEL.gguf DATA     # DATA: folder with banking77_test.jsonl

Questions come in a random order to an empty cache that finds them by `gateway.semantic`'s own cosine; each either hits
or is remembered. A hit is false when the question found has another label (banking77: 77 intents; Casanueva et al.,
"Efficient Intent Detection with Dual Sentence Encoders", 2020). Two questions of one intent may still want different
answers, so these are lower bounds. Vectors: the mean of the last hidden states of a language model (llama.cpp), and for
comparison the tf-idf of character 3-grams. Appends one line per kind of vector to results/semantic_cache.jsonl.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

from baimo.gateway.semantic import Question, Semantic
from baimo.gateway.surface import Surface

THRESHOLDS = (0.70, 0.80, 0.85, 0.90, 0.93, 0.95, 0.97, 0.98, 0.99)
Vectors = Sequence[Sequence[float]]


class Rates(NamedTuple):
    """What a threshold does."""

    threshold: float
    hit_rate: float
    """Hits per question."""
    false_hit_rate: float | None
    """False hits per hit; None = no hit."""
    wrong_rate: float
    """False hits per question."""


def replayed(vectors: Vectors, labels: Sequence[str], threshold: float) -> Rates:
    """Ask all questions in their order."""
    semantic = Semantic(model="", threshold=threshold, surface=cast("Surface", None), now=lambda: 0.0)
    frame = Question("", "")
    hits = wrong = 0
    for place, (vector, label) in enumerate(zip(vectors, labels, strict=True)):
        found = semantic.nearest("", frame, vector)
        if found is None:
            semantic.remember("", frame, vector, str(place))
        else:
            hits += 1
            wrong += labels[int(found.key)] != label
    return Rates(threshold, hits / len(labels), wrong / hits if hits else None, wrong / len(labels))


def by_model(texts: Sequence[str], path: str) -> Vectors:
    """The mean of the last hidden states."""
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = path
    options.embedding = True
    options.pooling_type = 1  # mean
    options.n_ctx = options.n_batch = options.n_ubatch = 512
    options.n_parallel = 1
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(options)
    vectors: list[Sequence[float]] = []
    for start in range(0, len(texts), 50):
        answer: Any = server.handle_embeddings({"input": list(texts[start : start + 50])})
        answer = json.loads(answer) if isinstance(answer, str | bytes) else answer
        vectors += [row["embedding"] for row in answer["data"]]
    return vectors


def by_letters(texts: Sequence[str], _: str) -> Vectors:
    """tf-idf of character 3-grams, each hashed to one of 4,096 places."""

    def grams(text: str) -> Counter[int]:
        padded = f"  {text.casefold()} "
        return Counter(hash_of(padded[at : at + 3]) for at in range(len(padded) - 2))

    counted = [grams(text) for text in texts]
    seen = Counter(place for one in counted for place in one)
    weights = {place: math.log(len(texts) / count) for place, count in seen.items()}
    return [[one[place] * weights.get(place, 0.0) for place in range(4096)] for one in counted]


def hash_of(gram: str) -> int:
    """The same in every process."""
    return int.from_bytes(gram.encode(), "big") * 2_654_435_761 % (1 << 32) % 4096


KINDS: dict[str, Callable[[Sequence[str], str], Vectors]] = {"letters": by_letters, "model": by_model}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("data", type=Path, help="folder of banking77_test.jsonl")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=sorted(KINDS))
    arguments = parser.parse_args()
    lines = (arguments.data / "banking77_test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    random.Random(arguments.seed).shuffle(rows)
    rows = rows[: arguments.questions]
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    for kind in [arguments.only] if arguments.only else KINDS:
        vectors = KINDS[kind](texts, arguments.model)
        rates = [replayed(vectors, labels, threshold) for threshold in THRESHOLDS]
        for one in rates:
            false = "–" if one.false_hit_rate is None else f"{one.false_hit_rate:6.1%}"
            print(
                f"{kind:8} {one.threshold:.2f}  hits {one.hit_rate:6.1%}  false {false}  wrong {one.wrong_rate:6.2%}"
            )
        record = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit.stdout.strip(),
            "machine": f"{platform.machine()} {platform.system()} python {platform.python_version()}",
            "data": "banking77 test",
            "questions": len(texts),
            "seed": arguments.seed,
            "vectors": kind if kind == "letters" else Path(arguments.model).name,
            "rates": [one._asdict() for one in rates],
        }
        with (Path(__file__).parent / "results" / "semantic_cache.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
