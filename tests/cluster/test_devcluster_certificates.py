"""The stand-in walks ManagedCertificates as GKE does: only on a load balancer, from Provisioning, reset by new domains."""

import time
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster, DevclusterError
from devcluster.waiting import eventually
from tests.cluster.gke_objects import (
    HOST,
    await_message,
    certificate,
    gce,
    ingress,
    messages,
    service,
    settings,
)
from tests.cluster.history import History

PRE_SHARED = "ingress.gcp.kubernetes.io/pre-shared-cert"


def named(*names: str) -> dict[str, str]:
    return gce({"networking.gke.io/managed-certificates": ",".join(names or ("w",))})


def status(cluster: Cluster, namespace: str, name: str = "w") -> dict[str, Any]:
    found: dict[str, Any] = cluster.get("managedcertificate", name, "-n", namespace).get("status", {})
    return found


def becomes(cluster: Cluster, namespace: str, certificate_status: str, domain_status: str) -> dict[str, Any]:
    """The status once it is that."""

    def reached() -> dict[str, Any] | None:
        now = status(cluster, namespace)
        domains = {entry["status"] for entry in now["domainStatus"]}
        return now if now["certificateStatus"] == certificate_status and domains == {domain_status} else None

    return eventually(reached)


def test_walks_from_provisioning_to_active_on_a_load_balancer(cluster: Cluster, namespace: str) -> None:
    cluster.apply(service(namespace), certificate(namespace), ingress(namespace, named()))
    first = becomes(cluster, namespace, "Provisioning", "Provisioning")
    last = becomes(cluster, namespace, "Active", "Active")
    assert first["certificateName"] == last["certificateName"]
    assert last["certificateName"].startswith("mcrt-")
    assert "expireTime" not in first
    assert "expireTime" in last
    annotations = cluster.get("ingress", "w", "-n", namespace)["metadata"]["annotations"]
    assert annotations[PRE_SHARED] == annotations["ingress.kubernetes.io/ssl-cert"] == last["certificateName"]
    assert "ingress.kubernetes.io/https-forwarding-rule" in annotations


def test_stays_provisioning_while_no_ingress_of_class_gce_names_it(cluster: Cluster, namespace: str) -> None:
    other = named() | {"kubernetes.io/ingress.class": "nginx"}
    cluster.apply(
        settings(namespace, certificateSeconds="0"),
        service(namespace),
        certificate(namespace),
        ingress(namespace, other),
    )
    becomes(cluster, namespace, "Provisioning", "Provisioning")
    time.sleep(1.5)
    becomes(cluster, namespace, "Provisioning", "Provisioning")
    cluster.apply(ingress(namespace, named()))
    becomes(cluster, namespace, "Active", "Active")


@pytest.mark.parametrize(
    ("told", "overall", "domain"),
    [
        ("FailedNotVisible", "Provisioning", "FailedNotVisible"),
        ("FailedCaaForbidden", "ProvisioningFailed", "FailedCaaForbidden"),
    ],
)
def test_fails_when_told_to_and_recovers(
    cluster: Cluster, namespace: str, told: str, overall: str, domain: str
) -> None:
    cluster.apply(
        settings(namespace, certificates=told, certificateSeconds="0.5"),
        service(namespace),
        certificate(namespace),
        ingress(namespace, named()),
    )
    becomes(cluster, namespace, overall, domain)
    cluster.apply(settings(namespace, certificates="Active", certificateSeconds="0.5"))
    becomes(cluster, namespace, "Active", "Active")


def test_failed_permanently_is_for_good_until_the_domains_change(cluster: Cluster, namespace: str) -> None:
    told = settings(namespace, certificates="ProvisioningFailedPermanently", certificateSeconds="0")
    cluster.apply(told, service(namespace), certificate(namespace), ingress(namespace, named()))
    becomes(cluster, namespace, "ProvisioningFailedPermanently", "FailedNotVisible")
    cluster.apply(settings(namespace, certificateSeconds="0"))
    time.sleep(1)
    becomes(cluster, namespace, "ProvisioningFailedPermanently", "FailedNotVisible")
    cluster.apply(certificate(namespace, "other.example.com"))
    becomes(cluster, namespace, "Active", "Active")


def test_one_domain_may_fail_while_another_is_fine(cluster: Cluster, namespace: str) -> None:
    told = settings(
        namespace, **{"certificateSeconds": "0.5", "certificate.b.example.com": "FailedNotVisible"}
    )
    cluster.apply(
        told,
        service(namespace),
        certificate(namespace, HOST, name="w"),
        certificate(namespace, "b.example.com", name="x"),
        ingress(namespace, named("w", "x")),
    )
    becomes(cluster, namespace, "Active", "Active")
    eventually(lambda: status(cluster, namespace, "x")["domainStatus"][0]["status"] == "FailedNotVisible")


def test_new_domains_delete_the_certificate_and_take_https_down(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    slow = settings(namespace, certificateSeconds="2")  # or Provisioning passes unseen
    cluster.apply(slow, service(namespace), certificate(namespace), ingress(namespace, named()))
    before = becomes(cluster, namespace, "Active", "Active")
    with History(cluster, namespace, tmp_path, "ingresses") as history:
        start = history.seen_up_to("ingresses", "w")
        cluster.apply(certificate(namespace, HOST, "b.example.com"))

        def no_https() -> bool:
            states = (state.body["metadata"]["annotations"] for state in history.states(since=start))
            return any("ingress.kubernetes.io/https-forwarding-rule" not in each for each in states)

        eventually(no_https)  # for a second or so
    reset = becomes(cluster, namespace, "Provisioning", "Provisioning")
    assert [entry["domain"] for entry in reset["domainStatus"]] == [HOST, "b.example.com"]
    # GKE makes the new one under the old one's name.
    assert becomes(cluster, namespace, "Active", "Active")["certificateName"] == before["certificateName"]
    said = messages(cluster, namespace, "Normal", "Delete", "ManagedCertificate")
    assert said == [f"Delete SslCertificate {before['certificateName']}"]


def test_one_that_is_missing_keeps_all_off_the_load_balancer(cluster: Cluster, namespace: str) -> None:
    cluster.apply(
        settings(namespace),
        service(namespace),
        certificate(namespace),
        ingress(namespace, named("w", "absent")),
    )
    await_message(
        cluster, namespace, f"ManagedCertificate {namespace}:absent missing", reason="MissingCertificate"
    )
    time.sleep(1.5)
    assert status(cluster, namespace)["certificateStatus"] == "Provisioning"
    cluster.apply(certificate(namespace, "b.example.com", name="absent"))
    becomes(cluster, namespace, "Active", "Active")


def test_a_deleted_one_is_taken_off_the_load_balancer(cluster: Cluster, namespace: str) -> None:
    cluster.apply(
        settings(namespace), service(namespace), certificate(namespace), ingress(namespace, named())
    )
    becomes(cluster, namespace, "Active", "Active")
    cluster.apply(ingress(namespace, gce()))
    cluster.kubectl("delete", "managedcertificate", "w", "-n", namespace)
    eventually(
        lambda: not cluster.get("ingress", "w", "-n", namespace)["metadata"]["annotations"][PRE_SHARED]
    )


@pytest.mark.parametrize(
    "domain", ["*.example.com", "Upper.example.com", "single", f"{'a' * 60}.com", "a..com"]
)
def test_a_name_that_gke_refuses_is_refused(cluster: Cluster, namespace: str, domain: str) -> None:
    with pytest.raises(DevclusterError, match=r"spec\.domains\[0\]"):
        cluster.apply(certificate(namespace, domain))


def test_limits_of_the_other_kinds(cluster: Cluster, namespace: str) -> None:
    backend = {"apiVersion": "cloud.google.com/v1", "kind": "BackendConfig"}
    metadata = {"metadata": {"name": "w", "namespace": namespace}}
    with pytest.raises(DevclusterError, match="drainingTimeoutSec"):
        cluster.apply(backend | metadata | {"spec": {"connectionDraining": {"drainingTimeoutSec": 3601}}})
    both = {
        "iap": {"enabled": True, "oauthclientCredentials": {"secretName": "s"}},
        "cdn": {"enabled": True},
    }
    with pytest.raises(DevclusterError, match="iap and cdn cannot be enabled at the same time"):
        cluster.apply(backend | metadata | {"spec": both})
    frontend = {"apiVersion": "networking.gke.io/v1beta1", "kind": "FrontendConfig"}
    redirect = {"redirectToHttps": {"enabled": True, "responseCodeName": "MOVED"}}
    with pytest.raises(DevclusterError, match="responseCodeName"):
        cluster.apply(frontend | metadata | {"spec": redirect})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("googleapi: Error 403: QUOTA_EXCEEDED - Quota 'SSL_CERTIFICATES' exceeded.", "TooManyCertificates"),
        ("googleapi: Error 500: Internal error encountered.", "BackendError"),
    ],
)
def test_what_google_does_not_make_is_said_by_events_alone(
    cluster: Cluster, namespace: str, error: str, reason: str
) -> None:
    cluster.apply(
        settings(namespace, certificateError=error),
        service(namespace),
        certificate(namespace),
        ingress(namespace, named()),
    )
    eventually(lambda: messages(cluster, namespace, "Warning", reason, "ManagedCertificate") == [error])
    # Its name is on the Ingress already, whose load balancer waits for it.
    await_message(cluster, namespace, "sslCertificates/mcrt-")
    assert status(cluster, namespace) == {}
    cluster.apply(settings(namespace))
    becomes(cluster, namespace, "Active", "Active")
