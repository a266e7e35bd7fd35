"""What is arranged before a base is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="torch is missing: pip install 'baimo[tune]'")

PRODUCTS = """
import torch
from baimo.tuning.fit.base import keep_few_shapes
keep_few_shapes()
weight = torch.ones(64, 64, dtype=torch.bfloat16)
for _ in range(2):
    for rows in range(1, 101):
        torch.nn.functional.linear(torch.ones(rows, 64, dtype=torch.bfloat16), weight)
"""


def kernels_made(**environment: str) -> int:
    """How many kernels two rounds over a hundred shapes take."""
    done = subprocess.run(
        [sys.executable, "-c", PRODUCTS],
        env=os.environ | {"ONEDNN_VERBOSE": "2"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.count("create:cache_miss")


def test_kernels_of_many_shapes_are_not_kept_unless_the_environment_says_so() -> None:
    made = kernels_made()
    if not made:
        pytest.skip("this processor multiplies without oneDNN")
    kept = kernels_made(ONEDNN_PRIMITIVE_CACHE_CAPACITY="1000", LRU_CACHE_CAPACITY="1000")
    assert made == 2 * kept
