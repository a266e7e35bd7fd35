"""Attach prices to boards, so that decisions can be counted in money.

    python benchmarks/priced_boards.py --matrix board.npz --prices prices.json --out priced.npz
    python benchmarks/priced_boards.py --matrix board.npz --catalogue prices.jsonl.gz --seed 1 --out priced.npz

`--prices` is a JSON object {model: USD per call}. `--catalogue` draws one row {input_usd_per_mtok, output_usd_per_mtok}
per model instead, for calls of `--tokens-in` and `--tokens-out`. A call's cost varies with the length of the reply
where the board knows it (`reply_chars`), else by a seeded factor.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def listed_prices(path: Path, models: list[str]) -> Floats:
    """USD per call of each model; a model without a price is an error, for unknown is not free."""
    prices = json.loads(path.read_text())
    missing = [model for model in models if model not in prices]
    if missing:
        raise SystemExit(f"{path}: no price for {', '.join(missing)}")
    return np.array([float(prices[model]) for model in models])


def drawn_prices(
    path: Path, count: int, *, tokens_in: int, tokens_out: int, random: np.random.Generator
) -> Floats:
    """USD per call of `count` rows drawn from those of a price table that are not free."""
    with gzip.open(path, "rt") as file:
        rows = [json.loads(line) for line in file]
    calls = [
        (row["input_usd_per_mtok"] * tokens_in + row["output_usd_per_mtok"] * tokens_out) / 1e6
        for row in rows
        if row.get("input_usd_per_mtok") and row.get("output_usd_per_mtok")
    ]
    return random.choice(np.array(calls), size=count, replace=False)


def cost_table(
    price: Floats, lengths: Floats | None, shape: tuple[int, int], random: np.random.Generator
) -> Floats:
    """USD of every cell [N, M] with the given mean per model."""
    factor = random.lognormal(0.0, 0.3, shape) if lengths is None else 1.0 + np.maximum(lengths, 0.0)
    return price[:, None] * factor / factor.mean(axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--matrix", type=Path, required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prices", type=Path)
    source.add_argument("--catalogue", type=Path)
    parser.add_argument("--tokens-in", type=int, default=1000)
    parser.add_argument("--tokens-out", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    random = np.random.default_rng(args.seed)
    with np.load(args.matrix, allow_pickle=False) as file:
        board = {name: file[name] for name in file.files}
    scores = board["scores"]
    if args.prices:
        price = listed_prices(args.prices, [str(model) for model in board["models"]])
    else:
        sizes = {"tokens_in": args.tokens_in, "tokens_out": args.tokens_out}
        price = drawn_prices(args.catalogue, len(scores), random=random, **sizes)
    lengths = board["reply_chars"].astype(float) if "reply_chars" in board else None
    board["cost_usd"] = cost_table(price, lengths, scores.shape, random).astype(np.float32)
    np.savez_compressed(args.out, allow_pickle=False, **board)
    spread = np.quantile(price, [0.1, 0.9])
    print(
        f"{args.out}: {scores.shape[0]} models, 10th to 90th percentile {spread[0]:.2g} to {spread[1]:.2g} USD a call"
    )


if __name__ == "__main__":
    main()
