"""Attach prices to boards, so that decisions can be counted in money.

    python benchmarks/priced_boards.py --matrix board.npz --seed 1 --out priced.npz
    python benchmarks/priced_boards.py --matrix board.npz --prices prices.json --out priced.npz

Each model is given the price of one model of the product's catalogue, drawn at random, for calls of `--tokens-in` and
`--tokens-out`; or, with `--prices`, what a JSON object {model: USD per call} says. A call's cost varies with the length
of the reply where the board knows it (`reply_chars`), else by a seeded factor.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from baimo.models.catalogue import Catalogue
from baimo.settings import Settings

Floats = NDArray[np.float64]


def listed_prices(path: Path, models: list[str]) -> Floats:
    """USD per call of each model; a model without a price is an error, for unknown is not free."""
    prices = json.loads(path.read_text())
    missing = [model for model in models if model not in prices]
    if missing:
        raise SystemExit(f"{path}: no price for {', '.join(missing)}")
    return np.array([float(prices[model]) for model in models])


def catalogue_rates() -> list[tuple[float, float]]:
    """USD per million tokens in and out of every model of the catalogue that is priced in USD and not free."""
    prices = [model.price for model in Catalogue.load(Settings()).models() if model.price is not None]
    return sorted(
        {
            (float(price.input_per_million), float(price.output_per_million))
            for price in prices
            if price.currency == "USD" and price.input_per_million and price.output_per_million
        }
    )


def drawn_prices(count: int, *, tokens_in: int, tokens_out: int, random: np.random.Generator) -> Floats:
    """USD per call of `count` models drawn from the catalogue, without replacement."""
    calls = [(rate[0] * tokens_in + rate[1] * tokens_out) / 1e6 for rate in catalogue_rates()]
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
    parser.add_argument("--prices", type=Path)
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
        price = drawn_prices(len(scores), random=random, **sizes)
    lengths = board["reply_chars"].astype(float) if "reply_chars" in board else None
    board["cost_usd"] = cost_table(price, lengths, scores.shape, random).astype(np.float32)
    np.savez_compressed(args.out, allow_pickle=False, **board)
    spread = np.quantile(price, [0.1, 0.9])
    print(
        f"{args.out}: {scores.shape[0]} models, 10th to 90th percentile {spread[0]:.2g} to {spread[1]:.2g} USD a call"
    )


if __name__ == "__main__":
    main()
