"""A cluster with endpoints that the CRD of a release let in, some of which today's refuses."""

import json
from pathlib import Path
from typing import Any

import yaml

from devcluster import Cluster, DevclusterError
from devcluster.installation import CRD, wait_for_kinds
from tests.cluster.support import endpoint, until

RELEASED = Path(__file__).parent / "released" / "whisperendpoints-0.1.0.yaml"
STORED = RELEASED.with_name("stored-0.1.0.yaml")
ENDPOINTS: dict[str, dict[str, Any]] = {
    each["metadata"]["name"]: each for each in yaml.safe_load_all(STORED.read_text())
}
"""By name. Together they use every field that there was."""
NAMESPACE = "stored"

REFUSED = {
    "refused-amounts": (
        "resources.requests.cpu: Invalid value: 0: CPU cores are more than 0",
        "resources.requests.ephemeral-storage must not exceed resources.limits.ephemeral-storage",
    ),
    "refused-volume": ("sizeLimit: Invalid value: 0: an amount of bytes is more than 0",),
    "refused-names": (
        "claimName",
        "imagePullSecrets[0].name",
        "auth.secretName",
        "priorityClassName",
        "serviceAccountName",
    ),
    "refused-hosts": ("spec.host: Invalid value", "spec.additionalHosts[1]: Invalid value"),
    "refused-ingress": ("ingress.class", "ingress.annotations", "ingress.tls.secretName"),
    "refused-scheduling": (
        "nodeSelector",
        "tolerations[0].key",
        "topologySpread[0].topologyKey",
        "podLabels",
        "podAnnotations: Invalid value",
        "podAnnotations can't set what Kubernetes goes by itself",
    ),
}
"""What today's CRD says of them, were they new."""


def apply_crd(cluster: Cluster, crd: Path | dict[str, Any]) -> None:
    """As docs/upgrades.md tells."""
    text = crd.read_text() if isinstance(crd, Path) else json.dumps(crd)
    cluster.kubectl("apply", "-f", "-", input=text)
    wait_for_kinds(cluster)


def complaint(cluster: Cluster, body: dict[str, Any]) -> str:
    """What the API server would say of a new object; empty if it would take it."""
    try:
        cluster.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(body))
    except DevclusterError as error:
        return str(error)
    return ""


def store(cluster: Cluster, *more: dict[str, Any]) -> None:
    """Put the released CRD in place of today's, store its endpoints, and bring today's back. No operator runs yet."""
    apply_crd(cluster, RELEASED)
    cluster.kubectl("create", "namespace", NAMESPACE)

    def accepted() -> bool:
        try:
            cluster.kubectl("apply", "-n", NAMESPACE, "-f", str(STORED))
            if more:
                cluster.apply(*more)
        except DevclusterError as error:  # the newer one may answer for a moment
            if "is invalid" in str(error):
                return False
            raise
        return True

    until(accepted, "the released CRD takes them")
    apply_crd(cluster, CRD)
    refused = endpoint("new", "default", device="cpu", resources={"requests": {"cpu": 0}})
    until(lambda: "CPU cores are more than 0" in complaint(cluster, refused), "the new CRD refuses them")
