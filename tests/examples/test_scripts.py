"""The example scripts run as they stand, against the real embedded model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.providers.local_model import smollm2 as smollm2

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.local
def test_the_comparison_from_python_ends_with_a_winner(tmp_path: Path, smollm2: Path) -> None:
    script = EXAMPLES / "compare.py"
    ended = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].startswith("zero-shot")
    assert "tier 1" in ended.stdout
