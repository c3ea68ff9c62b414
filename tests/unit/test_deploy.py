"""deploy/, in what the operator relies on."""

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def installed(kind: str) -> dict[str, Any]:
    documents = yaml.safe_load_all((DEPLOY / "base" / "operator.yaml").read_text())
    (found,) = (each for each in documents if each["kind"] == kind)
    return dict(found["spec"])


def test_the_operator_is_told_the_name_of_its_service_account() -> None:
    """By which other installations look up its rights."""
    (container,) = installed("Deployment")["template"]["spec"]["containers"]
    (variable,) = container["env"]
    assert variable["name"] == "WHISPER_OPERATOR_SERVICE_ACCOUNT"
    assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}


def test_a_replica_that_is_not_ready_keeps_no_node_from_being_drained() -> None:
    assert installed("PodDisruptionBudget")["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
