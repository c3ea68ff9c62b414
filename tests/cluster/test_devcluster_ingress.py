"""The stand-in makes of an Ingress what GKE's load balancer controller makes of it, and says what GKE says when it can't."""

import json
import time
from typing import Any

from devcluster import Cluster
from devcluster.waiting import eventually
from tests.cluster.gke_objects import (
    address,
    await_message,
    certificate,
    gce,
    ingress,
    messages,
    service,
    settings,
)

FINALIZER = "networking.gke.io/ingress-finalizer-V2"


def annotations(cluster: Cluster, namespace: str, kind: str = "ingress") -> dict[str, str]:
    found: dict[str, str] = cluster.get(kind, "w", "-n", namespace)["metadata"]["annotations"]
    return found


def test_gives_an_address_and_writes_what_gke_writes(cluster: Cluster, namespace: str) -> None:
    cluster.apply(service(namespace), ingress(namespace))
    ip = eventually(lambda: address(cluster, namespace))
    written = eventually(
        lambda: (
            found if "ingress.kubernetes.io/url-map" in (found := annotations(cluster, namespace)) else None
        )
    )
    assert written["ingress.kubernetes.io/url-map"].startswith("k8s2-um-")
    assert written["ingress.kubernetes.io/target-proxy"].startswith("k8s2-tp-")
    assert written["ingress.kubernetes.io/forwarding-rule"].startswith("k8s2-fr-")
    assert "ingress.kubernetes.io/https-forwarding-rule" not in written
    health = json.loads(written["ingress.kubernetes.io/backends"])
    assert len(health) == 2, "the Service and the default backend"
    assert "Unknown" in health.values(), "no pod is behind the Service"
    assert cluster.get("ingress", "w", "-n", namespace)["metadata"]["finalizers"] == [FINALIZER]

    status = json.loads(annotations(cluster, namespace, "service")["cloud.google.com/neg-status"])
    (group,) = status["network_endpoint_groups"].values()
    assert list(status["network_endpoint_groups"]) == ["8000"]
    assert group in health
    assert len(status["zones"]) == 3

    assert f"IP is now {ip}" in messages(cluster, namespace, "Normal", "IPChanged")
    first = await_message(cluster, namespace, "error running backend syncing routine")
    assert first.endswith(f"networkEndpointGroups/{group}' was not found, notFound")


def test_shows_the_health_of_the_pods_behind_it(cluster: Cluster, namespace: str) -> None:
    cluster.apply(settings(namespace), service(namespace), ingress(namespace))
    cluster.kubectl("run", "w", "--image=w", "--labels=app=w", "-n", namespace)

    def healthy() -> bool:
        health = json.loads(annotations(cluster, namespace)["ingress.kubernetes.io/backends"])
        return all(state == "HEALTHY" for state in health.values())

    eventually(healthy)
    fault = "devcluster.whisper-operator.io/fault=never-ready"
    cluster.kubectl("label", "pod", "w", fault, "-n", namespace)
    eventually(lambda: "UNHEALTHY" in annotations(cluster, namespace)["ingress.kubernetes.io/backends"])


def test_a_static_ip_name_is_one_address_for_all_who_name_it(cluster: Cluster, namespace: str) -> None:
    named = gce({"kubernetes.io/ingress.global-static-ip-name": "whisper"})
    cluster.apply(settings(namespace), service(namespace), ingress(namespace, named))
    first = eventually(lambda: address(cluster, namespace))
    cluster.kubectl("delete", "ingress", "w", "-n", namespace)
    cluster.apply(ingress(namespace, named))
    assert eventually(lambda: address(cluster, namespace)) == first


def test_the_finalizer_is_held_for_seconds(cluster: Cluster, namespace: str) -> None:
    cluster.apply(service(namespace), ingress(namespace))
    eventually(lambda: address(cluster, namespace))
    started = time.monotonic()
    cluster.kubectl("delete", "ingress", "w", "-n", namespace)
    assert time.monotonic() - started >= 1.8, "two seconds by default"

    cluster.apply(settings(namespace, finalizerSeconds="600"), ingress(namespace))
    eventually(lambda: address(cluster, namespace))
    cluster.kubectl("delete", "ingress", "w", "-n", namespace, "--wait=false")
    time.sleep(2.5)
    assert cluster.get("ingress", "w", "-n", namespace)["metadata"]["deletionTimestamp"]
    cluster.apply(settings(namespace, finalizerSeconds="0"))
    eventually(lambda: not cluster.kubectl("get", "ingress", "-n", namespace, "-o", "name"))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "tls-missing": (
        {"tls": [{"secretName": "nope"}]},
        "Error syncing to GCP: error running load balancer syncing routine: error initializing translator env:"
        ' secrets "nope" not found',
    ),
    "tls-without-secret": (
        {"tls": [{"hosts": ["a.example.com"]}]},
        'Error syncing to GCP: error running load balancer syncing routine: secret "" does not exist',
    ),
    "no-protocol": (
        {"annotations": gce({"kubernetes.io/ingress.allow-http": "false"})},
        "error running load balancer syncing routine: invalid configuration: both HTTP and HTTPS are disabled",
    ),
    "unknown-address": (
        {"annotations": gce({"kubernetes.io/ingress.global-static-ip-name": "nosuch"})},
        "the given static IP name nosuch doesn't translate to an existing static IP.",
    ),
    "unknown-certificate": (
        {"annotations": gce({"ingress.gcp.kubernetes.io/pre-shared-cert": "nosuch"})},
        "The resource 'projects/devcluster/global/sslCertificates/nosuch' was not found, notFound",
    ),
}


def test_a_wrong_one_gets_no_address_and_the_reason_until_mended(cluster: Cluster, namespace: str) -> None:
    wrong = [ingress(namespace, name=name, **spec) for name, (spec, _) in WRONG.items()]
    cluster.apply(settings(namespace), service(namespace), *wrong)
    for name, (_, words) in WRONG.items():
        await_message(cluster, namespace, words, name=name)
    assert [name for name in WRONG if address(cluster, namespace, name)] == []
    cluster.apply(*(ingress(namespace, name=name) for name in WRONG))
    for name in WRONG:
        eventually(lambda name=name: address(cluster, namespace, name))  # type: ignore[misc]


def test_a_secret_that_comes_later_is_found(cluster: Cluster, namespace: str) -> None:
    cluster.apply(settings(namespace), service(namespace), ingress(namespace, tls=[{"secretName": "late"}]))
    await_message(cluster, namespace, 'secrets "late" not found')
    literals = ("--from-literal=tls.crt=certificate", "--from-literal=tls.key=key")
    cluster.kubectl("create", "secret", "generic", "late", *literals, "-n", namespace)
    eventually(lambda: "ingress.kubernetes.io/ssl-cert" in annotations(cluster, namespace), timeout=60)


def test_a_missing_frontend_config_is_said_but_gets_an_address(cluster: Cluster, namespace: str) -> None:
    named = gce({"networking.gke.io/v1beta1.FrontendConfig": "w"})
    cluster.apply(settings(namespace), service(namespace), ingress(namespace, named))
    await_message(cluster, namespace, "Error: no FrontendConfig for Ingress exists.")
    eventually(lambda: address(cluster, namespace))


def test_a_redirect_shows_once_there_is_https(cluster: Cluster, namespace: str) -> None:
    named = gce(
        {
            "networking.gke.io/v1beta1.FrontendConfig": "w",
            "networking.gke.io/managed-certificates": "w",
        }
    )
    frontend = {
        "apiVersion": "networking.gke.io/v1beta1",
        "kind": "FrontendConfig",
        "metadata": {"name": "w", "namespace": namespace},
        "spec": {"redirectToHttps": {"enabled": True, "responseCodeName": "PERMANENT_REDIRECT"}},
    }
    cluster.apply(
        settings(namespace), service(namespace), frontend, certificate(namespace), ingress(namespace, named)
    )
    eventually(lambda: "ingress.kubernetes.io/redirect-url-map" in annotations(cluster, namespace))


def attached(cluster: Cluster, namespace: str) -> dict[str, Any] | None:
    """The policies of the load balancer, from what the stand-in shows of the project."""
    data = cluster.get("configmap", "gke-project", "-n", "kube-system").get("data", {})
    text = data.get(f"{namespace}.w")
    return None if text is None else dict(json.loads(text))


def test_policies_stay_until_an_empty_name_takes_them_off(cluster: Cluster, namespace: str) -> None:
    """As with GKE: neither a field that is gone nor an object that is gone changes anything."""
    named = gce(
        {"networking.gke.io/v1beta1.FrontendConfig": "w", "networking.gke.io/managed-certificates": "w"}
    )
    backend_config = {"cloud.google.com/backend-config": '{"default":"w"}'}

    def configs(ssl: str | None, security: str | None) -> list[dict[str, Any]]:
        front: dict[str, Any] = {"redirectToHttps": {"enabled": False}}
        back: dict[str, Any] = {"timeoutSec": 660}
        front |= {} if ssl is None else {"sslPolicy": ssl}
        back |= {} if security is None else {"securityPolicy": {"name": security}}
        metadata = {"name": "w", "namespace": namespace}
        return [
            {
                "apiVersion": "networking.gke.io/v1beta1",
                "kind": "FrontendConfig",
                "metadata": metadata,
                "spec": front,
            },
            {
                "apiVersion": "cloud.google.com/v1",
                "kind": "BackendConfig",
                "metadata": metadata,
                "spec": back,
            },
        ]

    both = {"sslPolicy": "modern", "securityPolicies": {"w": "armor"}}
    none: dict[str, Any] = {"sslPolicy": "", "securityPolicies": {}}
    cluster.apply(
        *(settings(namespace), service(namespace, **backend_config), certificate(namespace)),
        *(*configs("modern", "armor"), ingress(namespace, named)),
    )
    eventually(lambda: attached(cluster, namespace) == both)
    cluster.apply(*configs(None, None))
    time.sleep(1.5)
    assert attached(cluster, namespace) == both
    cluster.kubectl("delete", "frontendconfig", "w", "-n", namespace)
    time.sleep(1.5)
    assert attached(cluster, namespace) == both
    cluster.apply(*configs("", ""))
    eventually(lambda: attached(cluster, namespace) == none)
    cluster.kubectl("delete", "ingress", "w", "-n", namespace)
    eventually(lambda: attached(cluster, namespace) is None)


def test_an_ingress_class_name_is_ignored_without_a_word(cluster: Cluster, namespace: str) -> None:
    cluster.apply(settings(namespace), service(namespace), ingress(namespace, {}, ingressClassName="gce"))
    time.sleep(1.5)
    found = cluster.get("ingress", "w", "-n", namespace)
    assert found["status"] == {"loadBalancer": {}}
    assert "finalizers" not in found["metadata"]
    assert not cluster.get("events", "-n", namespace)["items"]


def test_a_missing_backend_config_stops_it_until_it_is_there(cluster: Cluster, namespace: str) -> None:
    named = {"cloud.google.com/backend-config": '{"default":"w"}'}
    cluster.apply(settings(namespace), service(namespace, **named), ingress(namespace))
    words = (
        f'Translation failed: invalid ingress spec: error getting BackendConfig for port "http" on service "{namespace}/w",'
        " err: no BackendConfig for service port exists."
    )
    await_message(cluster, namespace, words, reason="Translate")
    assert address(cluster, namespace) is None
    backend = {
        "apiVersion": "cloud.google.com/v1",
        "kind": "BackendConfig",
        "metadata": {"name": "w", "namespace": namespace},
        "spec": {"timeoutSec": 660},
    }
    cluster.apply(backend)
    eventually(lambda: address(cluster, namespace))


def test_a_missing_service_and_one_without_groups_are_refused(cluster: Cluster, namespace: str) -> None:
    cluster.apply(ingress(namespace))
    await_message(cluster, namespace, f'could not find service "{namespace}/w"', reason="Translate")
    plain = service(namespace)
    del plain["metadata"]["annotations"]
    cluster.apply(plain)
    await_message(
        cluster,
        namespace,
        f'service "{namespace}/w" is type "ClusterIP", expected "NodePort" or "LoadBalancer" when not using NEGs',
        reason="Translate",
    )


def test_an_address_can_be_withheld(cluster: Cluster, namespace: str) -> None:
    cluster.apply(settings(namespace, noAddress="true"), service(namespace), ingress(namespace))
    eventually(lambda: "cloud.google.com/neg-status" in annotations(cluster, namespace, "service"))
    time.sleep(1.5)
    assert address(cluster, namespace) is None
    cluster.apply(settings(namespace, noAddress="false"))
    eventually(lambda: address(cluster, namespace))


def test_settled_it_is_silent(cluster: Cluster, namespace: str) -> None:
    named = gce({"networking.gke.io/managed-certificates": "w"})
    cluster.apply(settings(namespace), service(namespace), certificate(namespace), ingress(namespace, named))
    eventually(
        lambda: cluster.get("mcrt", "w", "-n", namespace)["status"]["certificateStatus"] == "Active",
        timeout=60,
    )
    time.sleep(1)
    before = len(_writes(cluster, namespace))
    time.sleep(3)
    assert len(_writes(cluster, namespace)) == before > 0


def _writes(cluster: Cluster, namespace: str) -> list[str]:
    events = cluster.audit(
        user="system:serviceaccount:kube-system:gke-stand-in", verbs=("create", "update", "patch", "delete")
    )
    return [event.resource for event in events if event.namespace == namespace]


def test_a_load_balancer_that_can_not_be_brought_in_line_stays_as_it_was(
    cluster: Cluster, namespace: str
) -> None:
    cluster.apply(settings(namespace), service(namespace), ingress(namespace))
    before = eventually(lambda: address(cluster, namespace))
    cluster.apply(settings(namespace, syncError="googleapi: Error 503: backend error"))
    await_message(cluster, namespace, "googleapi: Error 503: backend error")
    assert address(cluster, namespace) == before
