"""Write boards that the engine was not tuned on: parts of known boards, and boards from item-response models.

    python benchmarks/hard_boards.py --matrix a.npz b.npz --parts 6 --drawn 16 --out folder

From every known board: without its best model, its ten best only, every model twice, and random parts. Drawn boards
vary in size, spread of abilities, discrimination, a second ability, near-ties at the top, saturation, fine-grained
scores and clustered examples.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def parts(scores: Floats, count: int, random: np.random.Generator) -> dict[str, Floats]:
    """Boards cut from one that is known; scores [N, M]."""
    rank = np.argsort(-np.nanmean(scores, axis=1))
    found = {"without-best": scores[rank[1:]], "top-10": scores[rank[:10]]}
    found["near-top"] = scores[rank[1:7]][:, random.permutation(scores.shape[1])[:800]]
    found["twice"] = np.concatenate([scores[rank[:12]], scores[rank[:12]]])[
        :, random.permutation(scores.shape[1])[:800]
    ]
    for number in range(count):
        models = int(random.integers(5, len(scores)))
        examples = min(int(random.choice([200, 400, 800, 2000])), scores.shape[1])
        rows, columns = (
            random.permutation(len(scores))[:models],
            random.permutation(scores.shape[1])[:examples],
        )
        found[f"part-{number}"] = scores[rows][:, columns]
    return found


def drawn(random: np.random.Generator) -> tuple[Floats, NDArray[np.int64] | None, str]:
    """Scores [N, M], clusters where there are any, and the kind, from a two-dimensional item-response model."""
    models, examples = int(random.choice([2, 6, 12, 30, 60])), int(random.choice([200, 600, 1500, 4000]))
    kind = str(random.choice(["plain", "near-tie", "saturated", "fine", "clustered", "smooth"]))
    ability = random.normal(random.choice([-0.5, 0.5]), random.choice([0.3, 0.8, 1.3]), models)
    if kind == "near-tie":
        ability[: max(2, models // 3)] = ability.max() + random.normal(0.0, 0.06, max(2, models // 3))
    if kind == "saturated":
        ability += 3.0
    groups = np.arange(examples) // 5 if kind == "clustered" else None
    difficulty = random.normal(0.0, random.choice([0.7, 1.5, 2.5]), examples)
    if groups is not None:
        difficulty = random.normal(0.0, 2.0, examples // 5 + 1)[groups]
    slope = random.lognormal(0.0, random.choice([0.0, 0.4]), examples)
    second = random.normal(0.0, 0.7, examples) * random.normal(0.0, 1.0, (models, 1))
    if groups is not None:  # a model is good or bad at a whole cluster
        second = random.normal(0.0, 1.0, (models, examples // 5 + 1))[:, groups]
    chance = 1.0 / (1.0 + np.exp(-(slope * (ability[:, None] - difficulty) + second)))
    scores = (random.random(chance.shape) < chance).astype(float)
    if kind == "fine":
        scores = 0.5 * scores + 0.5 * random.beta(2.0, 2.0, scores.shape)
    if kind == "smooth":
        scores = np.clip(chance + random.normal(0.0, 0.05, chance.shape), 0.0, 1.0)
    return scores, groups, kind


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--matrix", type=Path, nargs="*", default=[])
    parser.add_argument("--parts", type=int, default=6)
    parser.add_argument("--drawn", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(args.seed)
    for path in args.matrix:
        with np.load(path, allow_pickle=False) as file:
            scores = file["scores"].astype(float)
        for name, part in parts(scores, args.parts, random).items():
            np.savez_compressed(
                args.out / f"{path.stem.split('_')[0]}-{name}.npz", scores=part.astype(np.float32)
            )
    for number in range(args.drawn):
        scores, groups, kind = drawn(random)
        extra = {} if groups is None else {"groups": groups}
        np.savez_compressed(
            args.out / f"drawn-{number:02}-{kind}.npz", scores=scores.astype(np.float32), **extra
        )


if __name__ == "__main__":
    main()
