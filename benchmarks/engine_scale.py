"""Engine time per batch decided and peak memory on a large board: 300 candidates x 20,000 examples by default.

    python benchmarks/engine_scale.py --candidates 300 --examples 20000 --calls 60000

Answers come from a seeded item-response model with many near-ties at the top, so that the engine stays busy.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np
from decision_cost import record

from baimo.evals.engine import Engine


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--calls", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--assurance", choices=["calibrated", "guaranteed"], default="calibrated")
    args = parser.parse_args()
    random = np.random.default_rng(0)
    ability = random.normal(0.5, 0.7, args.candidates)
    ability[:10] = ability.max() + random.normal(0.0, 0.03, 10)
    difficulty = random.normal(0.0, 1.5, args.examples)
    engine = Engine(candidates=args.candidates, examples=args.examples, assurance=args.assurance)
    propose, observe, calls = [], [], 0
    while calls < args.calls:
        began = time.perf_counter()
        cells = [] if engine.done else engine.propose(args.batch)
        asked = time.perf_counter()
        if not cells:
            break
        chance = 1.0 / (
            1.0 + np.exp(difficulty[[c.example for c in cells]] - ability[[c.candidate for c in cells]])
        )
        scores = (random.random(len(cells)) < chance).astype(float)
        bought = time.perf_counter()
        for cell, score in zip(cells, scores, strict=True):
            engine.observe(cell, float(score))
        propose.append(asked - began)
        observe.append(time.perf_counter() - bought)
        calls += len(cells)
    began = time.perf_counter()
    engine.standing()
    figures = {
        "candidates": args.candidates,
        "examples": args.examples,
        "assurance": args.assurance,
        "calls": calls,
        "batches": len(propose),
        "propose_ms_median": 1000 * float(np.median(propose)),
        "propose_ms_p99": 1000 * float(np.quantile(propose, 0.99)),
        "observe_batch_ms_median": 1000 * float(np.median(observe)),
        "standing_ms": 1000 * (time.perf_counter() - began),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "reason": engine.reason,
    }
    print(json.dumps(figures, indent=1))
    record("engine_scale", [figures], {})


if __name__ == "__main__":
    main()
