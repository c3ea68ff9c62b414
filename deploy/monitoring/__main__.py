"""`python -m deploy.monitoring` writes the files of components/ that are made: rules.yaml in two other shapes, and dashboards."""

import json
from pathlib import Path
from typing import Any

import yaml

from deploy.monitoring.endpoints_dashboard import endpoints
from deploy.monitoring.operator_dashboard import operator

HERE = Path(__file__).parent
RULES = HERE / "rules.yaml"
COMPONENTS = HERE.parent / "components"
MADE = "# Made from deploy/monitoring/rules.yaml by `python -m deploy.monitoring`.\n"


def files() -> dict[Path, str]:
    """The text of each file that is made."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {
        COMPONENTS / "prometheus-rules" / "prometheusrule.yaml": _manifest(
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "PrometheusRule",
                "metadata": {"name": "whisper-operator", "namespace": "whisper-operator"},
                "spec": {"groups": groups},
            }
        ),
        # Not Rules, which see the metrics of their own namespace only: endpoints are in others.
        COMPONENTS / "managed-rules" / "clusterrules.yaml": _manifest(
            {
                "apiVersion": "monitoring.googleapis.com/v1",
                "kind": "ClusterRules",
                "metadata": {"name": "whisper-operator"},
                "spec": {"groups": groups},
            }
        ),
        COMPONENTS / "dashboards" / "whisper-operator.json": _json(operator()),
        COMPONENTS / "dashboards" / "whisper-endpoints.json": _json(endpoints()),
    }


def _manifest(body: dict[str, Any]) -> str:
    return MADE + yaml.safe_dump(body, sort_keys=False, width=120)


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, indent=1) + "\n"


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
        print(path)
