"""Compare from Python: a handful of the smart-home examples, the embedded model under two prompts.

python examples/compare.py [WORKSPACE]
"""

from __future__ import annotations

import sys
from pathlib import Path

from baimo import Workspace
from baimo.evals.options import CompareOptions

task = Path(__file__).parent / "smart-home"
kept = sys.argv[1] if len(sys.argv) > 1 else ".baimo"

with Workspace(flags={"workspace.path": str(Path(kept).absolute())}) as workspace:
    verdict = workspace.compare(
        CompareOptions(task=str(task), only=("zero-shot*",), examples=12, epsilon=0.1, max_calls=24)
    )

for standing in verdict.standings:
    low, high = standing.interval
    print(f"tier {standing.tier}  {standing.candidate:28}  {low:.2f} to {high:.2f}  {standing.calls} calls")
print(f"{verdict.winner}: {verdict.stopped}, chance of error {verdict.error_bound:.1%}")
