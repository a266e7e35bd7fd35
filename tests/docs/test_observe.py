"""What the pages, the dashboard and the alerts name exists, so that no panel stays empty for ever."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from baimo.server.metrics import TABLE

ROOT = Path(__file__).parents[2]
KINDS = {metric.name: metric.kind for metric in TABLE}
GUIDES = ("observe.md", "observe.zh.md")


def known(name: str) -> bool:
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    return name in KINDS or KINDS.get(base) == "histogram"


def labels_of(name: str) -> set[str]:
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    return {"job", "instance", "le"} | next({*one.labels} for one in TABLE if one.name in (name, base))


def held(expression: str) -> None:
    """Every metric exists, is asked for labels that it has, and only counters and histograms have rates."""
    names = re.findall(r"baimo_\w+", expression)
    assert names
    for name in names:
        assert known(name), name
    for name, inner in re.findall(r"(baimo_\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)(?==|!=|=~)", inner)) <= labels_of(name), expression
    for grouped, rest in re.findall(r"by \(([^)]*)\) \((.*)", expression):
        name = re.findall(r"baimo_\w+", rest)[0]
        assert {one.strip() for one in grouped.split(",")} <= labels_of(name), expression
    for name in re.findall(r"(?:rate|increase)\((baimo_\w+)", expression):
        assert KINDS.get(name) != "gauge", expression


def test_every_panel_of_the_dashboard_asks_for_what_there_is() -> None:
    board = json.loads((ROOT / "deploy/grafana/baimo.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(expressions) > 20
    for one in expressions:
        held(one)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("name", GUIDES)
def test_every_alert_of_the_guide_asks_for_what_there_is(name: str) -> None:
    page = (ROOT / "docs/guides" / name).read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    rules = [rule for block in blocks for group in block.get("groups", []) for rule in group["rules"]]
    assert len(rules) >= 5
    for rule in rules:
        held(rule["expr"])
    for metric in re.findall(r"baimo_\w+", page):
        assert known(metric), metric


def test_every_metric_is_documented_with_its_labels() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    for metric in TABLE:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{metric.name}` ")]
        assert metric.means in row
        for label in metric.labels:
            assert f"`{label}`" in row
