"""What `render` prints is what the controller makes, and what an API server takes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from whisper_operator.kube.kinds import SPEC_ANNOTATION, TEMPLATE_ANNOTATION

from devcluster import Cluster
from devcluster.installation import IMAGES, Operator
from tests.cluster.declared import declared, differences, snapshot
from tests.cluster.support import children, condition, endpoint, until

MARKS = {SPEC_ANNOTATION, TEMPLATE_ANNOTATION}
ROOT = Path(__file__).resolve().parents[2]


def rendered(tmp_path: Path, endpoints: list[dict[str, Any]]) -> str:
    """The children, as the command prints them."""
    config = tmp_path / "config"
    config.write_text(yaml.safe_dump({"server": IMAGES}))
    command = [sys.executable, "-m", "whisper_operator", "render", "-f", "-", "--config", str(config)]
    done = subprocess.run(
        [*command, "--settled", "--with", "PodMonitoring"],
        input=json.dumps({"kind": "List", "items": endpoints}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def dry_run(cluster: Cluster, objects: str) -> list[dict[str, Any]]:
    """What the API server would make of them, written as the operator does."""
    text = cluster.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--field-manager=whisper-operator"),
        *("--show-managed-fields", "-o", "json", "-f", "-"),
        input=objects,
    )
    items: list[dict[str, Any]] = json.loads(text)["items"]
    return items


def test_render_of_every_example_is_accepted_and_equals_what_the_controller_applies(
    installed: Cluster, operator: Operator, namespace: str, tmp_path: Path
) -> None:
    endpoints = []
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        for resource in yaml.safe_load_all(path.read_text()):
            if resource["kind"] == "WhisperEndpoint":
                if path.stem == "traefik":  # a GPU that this installation does not name
                    del resource["spec"]["accelerator"]
                endpoints.append({**resource, "metadata": {"name": path.stem, "namespace": namespace}})
                # One host belongs to one endpoint.
                if "host" in resource["spec"]:
                    resource["spec"]["host"] = f"{path.stem}.{namespace}.example.com"
                    resource["spec"].pop("staticIPName", None)
                    resource["spec"]["additionalHosts"] = []
    # What looks like a number to kubectl and not to PyYAML is text all the same.
    words = {"env": [{"name": "A", "value": "1e3"}, {"name": "B", "value": "0o17"}]}
    labels = {"podLabels": {"commit": "12345e67", "octal": "0o17", "version": "1.0"}}
    endpoints.append(endpoint("numbers", namespace, device="cpu", scheduling={**words, **labels}))
    expected = snapshot(dry_run(installed, rendered(tmp_path, endpoints)))
    assert len(expected) > 30
    assert any(name.startswith("Ingress/") for name in expected)
    installed.apply(*endpoints)
    until(lambda: set(children(installed, namespace)) == set(expected), "every child", 120)
    until(lambda: all_settled(installed, namespace), "every endpoint settles", 120)
    live = declared(installed, namespace)
    for values in live.values():
        metadata = values.get("metadata", {})
        metadata.pop("ownerReferences", None)
        # By which an upgrade is told from a change of the spec: of a file, there is nothing to tell.
        left = {name: each for name, each in metadata.get("annotations", {}).items() if name not in MARKS}
        metadata |= {"annotations": left}
        if not left:
            del metadata["annotations"]
    assert differences(live, expected) == []


def all_settled(cluster: Cluster, namespace: str) -> bool:
    """All certificates active: what is staged is over."""
    items = cluster.get("whisperendpoints", "-n", namespace)["items"]
    found = [
        condition(item, "CertificateReady").get("status", "True") for item in items if item.get("status")
    ]
    return len(found) == len(items) and set(found) == {"True"}
