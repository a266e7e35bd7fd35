from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.chart import ROOT

ALONE = ["unshare", "--map-root-user", "--net"]


def test_a_gateway_without_a_network_serves_and_never_tries_to_reach_one(tmp_path: Path) -> None:
    if (
        shutil.which("unshare") is None
        or subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine lets nobody make a network namespace")
    command = [*ALONE, sys.executable, "-m", "tests.deploy.airgapped", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["counted"] > 0
    assert (seen["status"], seen["attempts"]) == (200, 0)
