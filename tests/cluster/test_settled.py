"""Settled means that nothing is to be written: told from what a real API server records of who owns which field."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from whisper_operator import manifests
from whisper_operator.apply.plan import Plan, applied, plan
from whisper_operator.config import parse
from whisper_operator.kube.kinds import COMPUTE_ADDRESS, POD_MONITORING, Kind
from whisper_operator.manifests import Manifest
from whisper_operator.observed.children import Child, Observed
from whisper_operator.spec import endpoint

from devcluster import Cluster
from devcluster.installation import IMAGES

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SETTINGS = parse({"server": IMAGES, "accelerators": {"rtx-4090": {"nodeSelector": {"gpu": "rtx-4090"}}}})
UID = "6f1e2c6e-0000-4000-8000-000000000000"

SPECS: dict[str, dict[str, Any]] = {
    path.stem: resource["spec"]
    for path in sorted(EXAMPLES.glob("*.yaml"))
    for resource in yaml.safe_load_all(path.read_text())
    if resource["kind"] == "WhisperEndpoint"
} | {
    "bare": {},
    "open": {"networkPolicy": {"egress": [{"cidr": "::/0"}, {"ports": [{"port": 1, "endPort": 2}]}]}},
    "nulls": {"scheduling": {"tolerations": [{"operator": "Exists", "key": None}]}, "additionalHosts": None},
    "quantities": {
        "resources": {"requests": {"cpu": "1.50", "memory": "1024Mi"}, "limits": {"memory": "2048Mi"}}
    },
}


def desired(spec: dict[str, Any], namespace: str, observed: Observed) -> list[Manifest]:
    resource = {"metadata": {"name": "whisper", "namespace": namespace, "uid": UID}, "spec": spec}
    made = manifests.of(endpoint.parse(resource, SETTINGS), observed, SETTINGS)
    return [each for each in made if each.kind is not COMPUTE_ADDRESS]


def applied_by_the_api_server(cluster: Cluster, made: list[Manifest]) -> Observed:
    """What it keeps of them, applied as the operator does, though nothing is stored."""
    objects = {"apiVersion": "v1", "kind": "List", "items": [applied(each) for each in made]}
    text = cluster.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--field-manager=whisper-operator"),
        *("--show-managed-fields", "-o", "json", "-f", "-"),
        input=json.dumps(objects),
    )
    kinds: dict[str, Kind] = {each.kind.name: each.kind for each in made}
    answer = json.loads(text)
    items = answer["items"] if answer["kind"] == "List" else [answer]
    # A dry run gives no resourceVersion.
    seen = [
        Child.of(kinds[item["kind"]], {**item, "metadata": {"resourceVersion": "7", **item["metadata"]}})
        for item in items
    ]
    assert len(seen) == len(made) > 2
    return Observed({(child.kind, child.name): child for child in seen}, frozenset({POD_MONITORING}))


@pytest.mark.parametrize("name", SPECS)
def test_what_was_applied_leaves_nothing_to_write(installed: Cluster, namespace: str, name: str) -> None:
    made = desired(SPECS[name], namespace, Observed(optional=frozenset({POD_MONITORING})))
    observed = applied_by_the_api_server(installed, made)
    assert plan(desired(SPECS[name], namespace, observed), observed) == Plan()


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "replicas": lambda spec: spec.update(replicas=2),
    "limits": lambda spec: spec.update(limits={"maxQueue": 7}),
    "host": lambda spec: spec.update(host="other.example.com"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_changed_spec_leaves_something(installed: Cluster, namespace: str, edit: str) -> None:
    """Or the test above would show nothing."""
    made = desired(SPECS["minimal"], namespace, Observed(optional=frozenset({POD_MONITORING})))
    observed = applied_by_the_api_server(installed, made)
    spec = dict(SPECS["minimal"])
    EDITS[edit](spec)
    assert plan(desired(spec, namespace, observed), observed) != Plan()
