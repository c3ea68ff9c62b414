"""Clusters that are not quite as expected: the operator comes before its CRD, and GKE's kinds are missing or come late."""

from pathlib import Path

import pytest

from devcluster import Cluster
from devcluster.installation import Operator, install
from tests.cluster.support import children, condition, endpoint, live, until, wait_for_condition

ROOT = Path(__file__).resolve().parents[2]
GKE = ("managedcertificates.networking.gke.io", "backendconfigs.cloud.google.com")


@pytest.mark.timeout(600)
def test_kinds_that_are_missing_or_come_late() -> None:
    with Cluster.start() as cluster:
        cluster.kubectl("delete", "crd", *GKE)
        install(cluster)
        cluster.kubectl("delete", "crd", "whisperendpoints.whisper-operator.io")
        with Operator(cluster) as operator:
            wanted = "apply crds/whisperendpoints.yaml"
            until(
                lambda: any(wanted in line["message"] for line in operator.complaints()),
                "what is missing, in the log",
            )
            install(cluster)
            operator.wait_until_working()

            cluster.apply(
                endpoint("inside", "default", device="cpu"),
                endpoint("public", "default", host="whisper.example.com"),
            )
            wait_for_condition(cluster, "default", "inside")
            resource = wait_for_condition(cluster, "default", "public", "Stalled", "True", "KindNotInstalled")
            message = condition(resource, "Ready")["message"]
            for kind in GKE:
                assert kind in message
            # Another ingress controller needs none of GKE's kinds.
            other = {"class": "traefik", "tls": {"secretName": "cert"}}
            cluster.apply(
                endpoint("onprem", "default", host="onprem.example.com", device="cpu", ingress=other)
            )
            wait_for_condition(cluster, "default", "onprem", "Ready", "False", "AddressPending")
            assert cluster.get("ingress", "onprem")["spec"]["ingressClassName"] == "traefik"

            made = cluster.get(
                "deployments,services", "-n", "default", "-l", "whisper-operator.io/endpoint=inside"
            )
            assert len(made["items"]) == 2

            cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "devcluster" / "gke" / "crds"))
            wait_for_condition(cluster, "default", "public")
            # Their watches have come to life too.
            cluster.kubectl("delete", "backendconfig", "public")
            until(lambda: "BackendConfig/public" in children(cluster, "default"), "the BackendConfig back")
            assert condition(live(cluster, "default", "public"), "Ready")["status"] == "True"
            # What is missing is warned of, and kopf complains of a request that it repeats; nothing else fails.
            own = [line for line in operator.complaints() if not line.get("logger", "").startswith("kopf.")]
            assert {line["level"] for line in own} == {"WARNING"}
