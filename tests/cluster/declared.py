"""What the operator declares of its children, read back from a cluster: two endpoints are equal if this is."""

import json
from collections.abc import Mapping
from typing import Any

from devcluster import Cluster
from tests.cluster.support import CHILDREN, live

OURS = "app.kubernetes.io/managed-by=whisper-operator"
HASH = "whisper-operator.io/applied-hash"

Snapshot = dict[str, Any]


def declared(cluster: Cluster, namespace: str) -> Snapshot:
    """By KIND/NAME, the values that the operator owns of each child of a namespace, but for uids, the hash of what was
    applied, and replicas that an autoscaler decides."""
    return snapshot(cluster.get(CHILDREN, "-n", namespace, "-l", OURS, "--show-managed-fields")["items"])


def snapshot(items: list[dict[str, Any]]) -> Snapshot:
    """The same of objects as the API server returns them."""
    found: Snapshot = {}
    for item in items:
        metadata = item["metadata"]
        if "deletionTimestamp" in metadata:
            found[f"{item['kind']}/{metadata['name']} on its way out"] = {}
            continue
        owned: dict[str, Any] = next(
            (
                entry["fieldsV1"]
                for entry in metadata["managedFields"]
                if (entry["manager"], entry["operation"]) == ("whisper-operator", "Apply")
            ),
            {},
        )
        values = part(item, owned) if owned else {}
        if annotations := values.get("metadata", {}).get("annotations"):
            annotations.pop(HASH, None)
            if not annotations:
                del values["metadata"]["annotations"]
        for owner in values.get("metadata", {}).get("ownerReferences", []):
            owner["uid"] = "UID"
        found[f"{item['kind']}/{metadata['name']}"] = values
    if any(name.startswith("HorizontalPodAutoscaler/") for name in found):
        for name, values in found.items():
            if name.startswith("Deployment/"):
                values.get("spec", {}).pop("replicas", None)
    return found


def said(cluster: Cluster, namespace: str, name: str) -> Snapshot:
    """What the status says that does not depend on time or chance."""
    status = live(cluster, namespace, name).get("status", {})
    conditions = {each["type"]: f"{each['status']} {each['reason']}" for each in status.get("conditions", [])}
    kept = {key: status.get(key) for key in ("effective", "url", "internalURL", "selector")}
    # How many an autoscaler made depends on what it saw, and on what was there before.
    if "maxReplicas" not in status.get("effective", {}):
        kept["readyReplicas"] = status.get("readyReplicas")
    return {"conditions": conditions, **kept}


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Each place where two values differ, and how."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted({*one, *other})
        return [
            line
            for name in names
            for line in differences(one.get(name, "nothing"), other.get(name, "nothing"), f"{path}.{name}")
        ]
    return [] if one == other else [f"{path}: {one!r} != {other!r}"]


def part(value: Any, owned: Mapping[str, Any]) -> Any:
    """The part of a value that a manager owns, by its metadata.managedFields[].fieldsV1."""
    if set(owned) <= {"."}:
        return value
    if isinstance(value, dict):
        return {name: part(item, owned[f"f:{name}"]) for name, item in value.items() if f"f:{name}" in owned}
    found = []
    for name, below in owned.items():
        mark, _, text = name.partition(":")
        if mark == "v" and json.loads(text) in value:
            found.append(json.loads(text))
        if mark == "k":
            keys = json.loads(text)
            found += [part(item, below) for item in value if all(item.get(key) == keys[key] for key in keys)]
    return found
