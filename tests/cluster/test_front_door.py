"""The public side in transition: hosts, certificates, redirect and ingress class, each state of which somebody meets."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster
from devcluster.installation import Operator
from tests.cluster.faults import tls_secret
from tests.cluster.history import History, State
from tests.cluster.support import (
    children,
    condition,
    endpoint,
    live,
    patch,
    until,
    wait_for_condition,
    wait_until_quiet,
)

A, B, C = "a.example.com", "b.example.com", "c.example.com"
WATCHED = ("ingresses", "frontendconfigs", "managedcertificates")
MANAGED = "networking.gke.io/managed-certificates"
FRONTEND = "networking.gke.io/v1beta1.FrontendConfig"


def stand_in(cluster: Cluster, namespace: str, **data: str) -> None:
    """Tell GKE's stand-in what becomes of this namespace's load balancers."""
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "gke-stand-in", "namespace": namespace},
        "data": {"certificateSeconds": "0.5", "finalizerSeconds": "0.2", **data},
    }
    cluster.apply(settings)


def redirects(cluster: Cluster, namespace: str) -> bool | None:
    """What the FrontendConfig says; None without one."""
    found = children(cluster, namespace).get("FrontendConfig/whisper")
    return None if found is None else bool(found["spec"]["redirectToHttps"]["enabled"])


def certificates(cluster: Cluster, namespace: str) -> dict[str, tuple[str, str]]:
    """By host: the object's uid, and the name of the certificate in the project."""
    return {
        each["spec"]["domains"][0]: (each["metadata"]["uid"], each["status"]["certificateName"])
        for each in children(cluster, namespace).values()
        if each["kind"] == "ManagedCertificate"
    }


def unreachable(states: list[State]) -> list[str]:
    """Moments at which a host was served by neither HTTP nor HTTPS, or an Ingress named what was not there.

    HTTP serves unless the FrontendConfig redirects it; then the host needs a certificate that is Active.
    """
    now: dict[tuple[str, str], dict[str, Any]] = {}
    found = []
    for state in states:
        key = (state.body["kind"], state.body["metadata"]["name"])
        if state.deleted:
            now.pop(key, None)
        else:
            now[key] = state.body
        ingress = now.get(("Ingress", "whisper"))
        if ingress is None or "deletionTimestamp" in ingress["metadata"]:
            continue
        annotations = ingress["metadata"]["annotations"]
        front = now.get(("FrontendConfig", "whisper"))
        if FRONTEND in annotations and front is None:
            found.append(f"{state.version}: the Ingress names a FrontendConfig that is not there")
        redirect = (
            FRONTEND in annotations and front and front["spec"].get("redirectToHttps", {}).get("enabled")
        )
        named = annotations.get(MANAGED, "").split(",")
        active = {
            each["spec"]["domains"][0]
            for (kind, name), each in now.items()
            if kind == "ManagedCertificate"
            and name in named
            and each.get("status", {}).get("certificateStatus") == "Active"
        }
        hosts = [rule["host"] for rule in ingress["spec"]["rules"]]
        bare = [host for host in hosts if host not in active] if redirect else []
        found += [f"{state.version}: {host} is redirected and has no certificate" for host in bare]
    return found


@pytest.mark.timeout(300)
def test_the_redirect_comes_after_every_certificate_and_goes_before_a_new_host(
    installed: Cluster, operator: Operator, namespace: str, tmp_path: Path
) -> None:
    stand_in(installed, namespace, **{f"certificate.{B}": "FailedNotVisible"})
    with History(installed, namespace, tmp_path, *WATCHED) as history:
        installed.apply(endpoint("whisper", namespace, host=A, ingress={"httpsRedirect": True}))
        wait_for_condition(installed, namespace, "whisper")
        until(lambda: redirects(installed, namespace), "the redirect")
        before = certificates(installed, namespace)

        # A second host whose DNS is not there yet: nobody is sent to a certificate that does not exist.
        patch(installed, namespace, additionalHosts=[B])
        wait_for_condition(installed, namespace, "whisper", "CertificateReady", "False", "FailedNotVisible")
        assert redirects(installed, namespace) is False
        assert certificates(installed, namespace)[A] == before[A]

        stand_in(installed, namespace)
        wait_for_condition(installed, namespace, "whisper")
        until(lambda: redirects(installed, namespace), "the redirect again")
        both = certificates(installed, namespace)
        assert both[A] == before[A]

        # Another takes the second one's place, the first one goes, the redirect goes and comes.
        patch(installed, namespace, additionalHosts=[C])
        wait_for_condition(installed, namespace, "whisper")
        patch(installed, namespace, host=C, additionalHosts=None)
        wait_for_condition(installed, namespace, "whisper")
        until(lambda: set(certificates(installed, namespace)) == {C}, "one certificate")
        patch(installed, namespace, ingress=None)
        until(lambda: redirects(installed, namespace) is None, "no FrontendConfig")
        patch(installed, namespace, ingress={"httpsRedirect": True})
        until(lambda: redirects(installed, namespace), "the redirect once more")

        for kind, name in (("ingresses", "whisper"), ("frontendconfigs", "whisper")):
            history.seen_up_to(kind, name)
        states = history.states()
        fronts = [state.body["spec"] for state in states if state.body["kind"] == "FrontendConfig"]
        toggled = [each["redirectToHttps"]["enabled"] for each in fronts]
        assert toggled[:4] == [False, True, False, True]
        assert unreachable(states) == []


def test_a_certificate_that_is_lost_takes_the_redirect_with_it(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    stand_in(installed, namespace)
    installed.apply(endpoint("whisper", namespace, host=A, ingress={"httpsRedirect": True}))
    until(lambda: redirects(installed, namespace), "the redirect")
    stand_in(installed, namespace, certificates="FailedNotVisible")
    installed.kubectl("delete", "managedcertificates", "--all", "-n", namespace, "--wait=false")
    until(lambda: redirects(installed, namespace) is False, "no redirect")
    stand_in(installed, namespace)
    until(lambda: redirects(installed, namespace), "the redirect again")


def test_a_certificate_that_can_not_be_renewed_keeps_the_redirect(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    """It serves until it expires."""
    stand_in(installed, namespace)
    installed.apply(endpoint("whisper", namespace, host=A, ingress={"httpsRedirect": True}))
    until(lambda: redirects(installed, namespace), "the redirect")
    wait_for_condition(installed, namespace, "whisper")
    stand_in(installed, namespace, certificates="RenewalFailed")
    resource = wait_for_condition(
        installed, namespace, "whisper", "CertificateReady", "False", "RenewalFailed"
    )
    assert "HTTPS ends when it expires" in condition(resource, "CertificateReady")["message"]
    wait_until_quiet(installed)
    assert redirects(installed, namespace) is True


def attached(cluster: Cluster, namespace: str) -> list[str]:
    """The certificates that the load balancer has."""
    annotations = children(cluster, namespace)["Ingress/whisper"]["metadata"]["annotations"]
    return [name for name in annotations.get("ingress.kubernetes.io/ssl-cert", "").split(",") if name]


@pytest.mark.timeout(300)
def test_certificates_change_their_kind(installed: Cluster, operator: Operator, namespace: str) -> None:
    """Managed, from a Secret that comes late, pre-shared, none, and managed again."""
    stand_in(installed, namespace)
    installed.apply(endpoint("whisper", namespace, host=A, ingress={"httpsRedirect": True}))
    until(lambda: redirects(installed, namespace), "the redirect")

    patch(installed, namespace, ingress={"tls": {"secretName": "cert"}})
    until(lambda: "tls" in children(installed, namespace)["Ingress/whisper"]["spec"], "spec.tls")
    until(lambda: not certificates(installed, namespace), "no managed certificate")
    tls = ("--cert", str(_pair(installed)[0]), "--key", str(_pair(installed)[1]))
    installed.kubectl("create", "secret", "tls", "cert", "-n", namespace, *tls)
    until(lambda: [each for each in attached(installed, namespace) if each.startswith("k8s2-cr-")], "HTTPS")
    until(lambda: redirects(installed, namespace), "the redirect")
    resource = wait_for_condition(installed, namespace, "whisper")
    assert resource["status"]["effective"]["tls"] == "secret"
    assert condition(resource, "CertificateReady") == {}

    patch(installed, namespace, ingress={"tls": {"secretName": None, "preSharedCert": "bought"}})
    until(lambda: attached(installed, namespace) == ["bought"], "the pre-shared certificate")
    until(lambda: redirects(installed, namespace), "the redirect")
    assert "tls" not in children(installed, namespace)["Ingress/whisper"]["spec"]

    change = {"httpsRedirect": None, "tls": {"preSharedCert": None, "mode": "none"}}
    patch(installed, namespace, ingress=change)
    until(lambda: attached(installed, namespace) == [], "no certificate")
    resource = wait_for_condition(installed, namespace, "whisper")
    assert resource["status"]["url"] == f"http://{A}"
    assert redirects(installed, namespace) is None

    patch(installed, namespace, ingress=None)
    resource = wait_for_condition(installed, namespace, "whisper")
    assert condition(resource, "CertificateReady")["reason"] == "Active"
    assert resource["status"]["url"] == f"https://{A}"


def _pair(cluster: Cluster) -> tuple[Path, Path]:
    """Files of a certificate and its key: the API server's own."""
    pki = cluster.folder / "kwok" / "clusters" / "devcluster" / "pki"
    return pki / "admin.crt", pki / "admin.key"


def test_a_change_of_class_leaves_nothing_of_gke_behind_and_back(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    """Traefik is not here: its part, an address in the Ingress's status, is played by the test."""
    stand_in(installed, namespace)
    installed.apply(endpoint("whisper", namespace, host=A))
    address = wait_for_condition(installed, namespace, "whisper")["status"]["address"]
    annotations = {"traefik.ingress.kubernetes.io/router.entrypoints": "websecure"}
    other = {"class": "traefik", "annotations": annotations, "tls": {"secretName": "cert"}}
    patch(installed, namespace, ingress=other)
    until(lambda: not {"BackendConfig/whisper"} & set(children(installed, namespace)), "no BackendConfig")
    until(lambda: not certificates_named(installed, namespace), "no managed certificate")
    until(lambda: ingress_class(installed, namespace) == "traefik", "an Ingress for Traefik")
    # The address went with the load balancer that had it.
    resource = wait_for_condition(
        installed, namespace, "whisper", "AddressAssigned", "False", "AddressPending"
    )
    assert not {"address", "dns"} & set(resource["status"])
    found = children(installed, namespace)
    ingress = found["Ingress/whisper"]
    assert not ingress["status"]["loadBalancer"]
    assert not [
        name for name in ingress["metadata"]["annotations"] if name.startswith("ingress.kubernetes.io")
    ]
    assert ingress["spec"]["tls"] == [{"hosts": [A], "secretName": "cert"}]
    assert annotations.items() <= ingress["metadata"]["annotations"].items()
    assert not [name for name in ingress["metadata"]["annotations"] if name.startswith("networking.gke.io")]
    assert "cloud.google.com/neg" not in found["Service/whisper"]["metadata"]["annotations"]

    status = {"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example.net"}]}}}
    installed.kubectl(
        "patch", "ingress", "whisper", "-n", namespace, "--subresource=status", "--type=merge", "-p", json.dumps(status)
    )  # fmt: skip
    until(
        lambda: live(installed, namespace, "whisper")["status"].get("address") == "lb.example.net", "the name"
    )
    resource = wait_for_condition(installed, namespace, "whisper")
    assert resource["status"]["dns"] == [{"name": A, "type": "CNAME", "value": "lb.example.net"}]
    assert resource["status"]["url"] == f"https://{A}"

    patch(installed, namespace, ingress=None)
    until(lambda: ingress_class(installed, namespace) == "gce", "an Ingress for GKE")
    resource = wait_for_condition(installed, namespace, "whisper")
    assert resource["status"]["address"] not in (address, "lb.example.net")
    ingress = children(installed, namespace)["Ingress/whisper"]
    assert "ingressClassName" not in ingress["spec"]
    assert "tls" not in ingress["spec"]
    assert "BackendConfig/whisper" in children(installed, namespace)


def test_a_class_edited_by_hand_is_put_back_where_it_is(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    stand_in(installed, namespace)
    installed.apply(endpoint("whisper", namespace, host=A))
    before = wait_for_condition(installed, namespace, "whisper")["status"]["address"]
    uid = children(installed, namespace)["Ingress/whisper"]["metadata"]["uid"]
    edit = "kubernetes.io/ingress.class=nginx"
    installed.kubectl("annotate", "ingress", "whisper", "-n", namespace, "--overwrite", edit)
    until(lambda: ingress_class(installed, namespace) == "gce", "the class is put back")
    assert wait_for_condition(installed, namespace, "whisper")["status"]["address"] == before
    assert children(installed, namespace)["Ingress/whisper"]["metadata"]["uid"] == uid


def ingress_class(cluster: Cluster, namespace: str) -> str | None:
    """The class of the Ingress; None while there is none."""
    ingress = children(cluster, namespace).get("Ingress/whisper", {"metadata": {}, "spec": {}})
    name: str | None = ingress["spec"].get("ingressClassName")
    return name or ingress["metadata"].get("annotations", {}).get("kubernetes.io/ingress.class")


def certificates_named(cluster: Cluster, namespace: str) -> list[str]:
    return [name for name in children(cluster, namespace) if name.startswith("ManagedCertificate/")]


def test_the_internal_load_balancer_is_asked_for_and_named(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    installed.apply(
        endpoint("whisper", namespace, host=A, staticIPName="ip", ingress={"class": "gce-internal"})
    )
    wait_for_condition(installed, namespace, "whisper", "Ready", "False", "AddressPending")
    found = children(installed, namespace)
    annotations = found["Ingress/whisper"]["metadata"]["annotations"]
    assert annotations["kubernetes.io/ingress.class"] == "gce-internal"
    assert annotations["kubernetes.io/ingress.regional-static-ip-name"] == "ip"
    assert "BackendConfig/whisper" in found
    assert not certificates_named(installed, namespace)
    assert live(installed, namespace, "whisper")["status"]["url"] == f"http://{A}"


def policies(cluster: Cluster, namespace: str) -> tuple[str, dict[str, str]]:
    """The SSL policy that the load balancer has, and the security policy by Service; "" for none."""
    project = cluster.get("configmap", "gke-project", "-n", "kube-system").get("data", {})
    has = json.loads(project.get(f"{namespace}.whisper", '{"sslPolicy": "", "securityPolicies": {}}'))
    return has["sslPolicy"], has["securityPolicies"]


NO_POLICIES: tuple[str, dict[str, str]] = ("", {})


@pytest.mark.timeout(300)
def test_policies_are_attached_and_taken_off(installed: Cluster, operator: Operator, namespace: str) -> None:
    """Seen at the load balancer, which keeps what nobody takes off: our objects alone would show nothing."""
    stand_in(installed, namespace)
    both = {"sslPolicy": "modern", "securityPolicy": "armor"}
    installed.apply(endpoint("whisper", namespace, host=A, ingress=both))
    wait_for_condition(installed, namespace, "whisper")
    until(lambda: policies(installed, namespace) == ("modern", {"whisper": "armor"}), "both policies")
    patch(installed, namespace, ingress={"sslPolicy": "strict", "securityPolicy": None})
    until(lambda: policies(installed, namespace) == ("strict", {}), "another SSL policy, and no other")
    patch(installed, namespace, ingress=None)
    until(lambda: policies(installed, namespace) == NO_POLICIES, "no policy")
    wait_for_condition(installed, namespace, "whisper")

    # With a redirect beside it, and after the operator has forgotten all that it did not write down.
    patch(installed, namespace, ingress={**both, "httpsRedirect": True})
    until(lambda: policies(installed, namespace) == ("modern", {"whisper": "armor"}), "both policies again")
    until(lambda: redirects(installed, namespace), "the redirect")
    operator.stop()
    patch(installed, namespace, ingress={"sslPolicy": None, "securityPolicy": None})
    operator.start().wait_until_working()
    until(lambda: policies(installed, namespace) == NO_POLICIES, "no policy")
    assert redirects(installed, namespace) is True

    # Where another load balancer takes over there is nothing to take off, and nothing of GKE's stays.
    patch(installed, namespace, ingress={"httpsRedirect": None, "class": "traefik", "tls": {"mode": "none"}})
    until(lambda: ingress_class(installed, namespace) == "traefik", "an Ingress for Traefik")
    until(lambda: frontend_config(installed, namespace) is None, "no FrontendConfig")


def frontend_config(cluster: Cluster, namespace: str) -> dict[str, Any] | None:
    return children(cluster, namespace).get("FrontendConfig/whisper")


@pytest.mark.timeout(300)
def test_what_the_load_balancer_lacks_is_said_though_it_serves_as_before(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    stand_in(installed, namespace)
    installed.apply(endpoint("whisper", namespace, host=A))
    wait_for_condition(installed, namespace, "whisper")
    patch(installed, namespace, staticIPName="nosuch")
    resource = wait_for_condition(installed, namespace, "whisper", "Stalled", "True", "StaticIPNotFound")
    assert condition(resource, "AddressAssigned")["status"] == "True"
    assert "stays as it was" in condition(resource, "Ready")["message"]
    patch(installed, namespace, staticIPName="there")
    wait_for_condition(installed, namespace, "whisper")

    patch(installed, namespace, ingress={"tls": {"secretName": "nope"}})
    wait_for_condition(installed, namespace, "whisper", "Stalled", "True", "TLSSecretMissing")
    tls_secret(installed, namespace)
    wait_for_condition(installed, namespace, "whisper")


@pytest.fixture
def elsewhere(installed: Cluster, namespace: str) -> Iterator[str]:
    """A second namespace."""
    name = f"{namespace}-2"
    installed.kubectl("create", "namespace", name)
    yield name
    installed.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.timeout(300)
def test_a_frozen_endpoint_keeps_the_host_that_it_serves(
    installed: Cluster, operator: Operator, namespace: str, elsewhere: str
) -> None:
    for place in (namespace, elsewhere):
        stand_in(installed, place)
    installed.apply(endpoint("older", namespace, host=A), endpoint("whisper", namespace, host=B))
    wait_for_condition(installed, namespace, "older")
    wait_for_condition(installed, namespace, "whisper")
    patch(installed, namespace, host=A)
    wait_for_condition(installed, namespace, "whisper", "Stalled", "True", "HostConflict")
    # Its Ingress still serves B.
    installed.apply(endpoint("third", elsewhere, host=B))
    resource = wait_for_condition(installed, elsewhere, "third", "Stalled", "True", "HostConflict")
    assert f"WhisperEndpoint whisper in namespace {namespace} has" in condition(resource, "Ready")["message"]
    assert children(installed, elsewhere) == {}
    installed.kubectl("delete", "wep", "older", "-n", namespace)
    wait_for_condition(installed, namespace, "whisper")
    wait_for_condition(installed, elsewhere, "third")


def test_a_served_host_is_not_taken_away_by_an_older_endpoint(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    stand_in(installed, namespace)
    installed.apply(endpoint("older", namespace, host=A))
    wait_for_condition(installed, namespace, "older")
    installed.apply(endpoint("whisper", namespace, host=B))
    wait_for_condition(installed, namespace, "whisper")
    patch(installed, namespace, name="older", host=B)
    wait_for_condition(installed, namespace, "older", "Stalled", "True", "HostConflict")
    wait_for_condition(installed, namespace, "whisper")


def test_a_global_and_a_regional_address_of_one_name_are_two(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    inside = {"host": B, "staticIPName": namespace, "ingress": {"class": "gce-internal"}}
    installed.apply(
        endpoint("outside", namespace, host=A, staticIPName=namespace),
        endpoint("inside", namespace, **inside),
    )
    wait_for_condition(installed, namespace, "outside")
    wait_for_condition(installed, namespace, "inside", "Ready", "False", "AddressPending")
