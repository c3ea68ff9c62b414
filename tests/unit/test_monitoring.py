"""What is installed of alerts and dashboards is what deploy/monitoring says."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.monitoring.__main__ import COMPONENTS, RULES, files
from tests.unit.test_deploy import documents

MADE = files()


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_what_is_made_is_up_to_date(path: Path) -> None:
    assert path.read_text() == MADE[path], "run `.venv/bin/python -m deploy.monitoring`"


@pytest.mark.parametrize(
    ("path", "kind"),
    [("prometheus-rules/prometheusrule", "PrometheusRule"), ("managed-rules/clusterrules", "ClusterRules")],
)
def test_both_kinds_of_rules_are_the_plain_ones(path: str, kind: str) -> None:
    body = documents(f"components/{path}.yaml")[kind]
    assert body["spec"] == yaml.safe_load(RULES.read_text())
    # Google's asks for an interval, a Prometheus operator does not.
    assert all(group["interval"] for group in body["spec"]["groups"])


def dashboards() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((COMPONENTS / "dashboards").glob("*.json"))]


def test_dashboards_name_no_data_source_of_ours() -> None:
    for each in dashboards():
        assert "uid" not in each
        sources = [panel["datasource"] for panel in each["panels"] if panel["type"] != "row"]
        targets = [target for panel in each["panels"] for target in panel.get("targets", ())]
        sources += [target["datasource"] for target in targets]
        assert {source["uid"] for source in sources} == {"${datasource}"}
        assert each["templating"]["list"][0]["type"] == "datasource"
        assert len({panel["id"] for panel in each["panels"]}) == len(each["panels"])


def test_panels_lie_side_by_side() -> None:
    for each in dashboards():
        taken: set[tuple[int, int]] = set()
        for panel in each["panels"]:
            place = panel["gridPos"]
            cells = {
                (place["x"] + right, place["y"] + down)
                for right in range(place["w"])
                for down in range(place["h"])
            }
            assert not cells & taken, panel["title"]
            assert max(x for x, _ in cells) < 24
            taken |= cells


def test_the_two_ways_to_collect_the_operators_metrics_are_the_same() -> None:
    ours = documents("components/podmonitor/podmonitor.yaml")["PodMonitor"]["spec"]
    googles = documents("components/podmonitoring/podmonitoring.yaml")["PodMonitoring"]["spec"]
    assert ours["selector"] == googles["selector"]
    assert ours["podMetricsEndpoints"] == googles["endpoints"]
