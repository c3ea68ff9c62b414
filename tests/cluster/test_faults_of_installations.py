"""What is wrong with an installation, or with the cluster under it: each endpoint that it concerns says so."""

import pytest

from devcluster import Cluster
from devcluster.installation import Operator, install
from tests.cluster import troubleshooting
from tests.cluster.support import condition, endpoint, wait_for_condition

GKE = (
    "managedcertificates.networking.gke.io",
    "frontendconfigs.networking.gke.io",
    "backendconfigs.cloud.google.com",
)


@pytest.mark.timeout(600)
def test_an_image_that_nobody_configured_and_kinds_that_the_cluster_lacks(written: list[str] | None) -> None:
    with Cluster.start() as cluster:
        cluster.kubectl("delete", "crd", *GKE)
        install(cluster)
        with Operator(cluster, {"server": {}}) as operator:
            operator.wait_until_working()
            cluster.apply(
                endpoint("unconfigured", "default"),
                endpoint("public", "default", image="registry.example.com/x:1", host="whisper.example.com"),
            )
            cases = (
                (
                    "unconfigured",
                    "ImageNotConfigured",
                    "make images",
                    "configure the images, or set spec.image",
                ),
                (
                    "public",
                    "KindNotInstalled",
                    "GKE has what a public endpoint needs",
                    "install what it names, or do without",
                ),
            )
            for (name, reason, words, cure), symptom in zip(cases, troubleshooting.INSTALLATION, strict=True):
                resource = wait_for_condition(cluster, "default", name, "Stalled", "True", reason)
                assert words in condition(resource, "Ready")["message"]
                line = troubleshooting.line(symptom, cure, resource, "Ready")
                if written is not None:
                    written.append(line)
                else:
                    assert line in troubleshooting.lines(), "docs/troubleshooting.md is out of date"
