"""Each child comes with its field of the spec and goes with it, and says what it should."""

import json
from dataclasses import replace
from typing import Any

import pytest
from whisper_operator.config import parse as config
from whisper_operator.kube.kinds import (
    BACKEND_CONFIG,
    FRONTEND_CONFIG,
    INGRESS,
    MANAGED_CERTIFICATE,
    POD_MONITOR,
    POD_MONITORING,
    Kind,
)
from whisper_operator.manifests.managedcertificate import certificate_name
from whisper_operator.observed.children import Child, Observed

from tests.unit.making import SCALED, SETTINGS, Body, child, made, seen

HOST, OTHER = "a.example.com", "b.example.com"
ATTACHED = "ingress.kubernetes.io/ssl-cert"
POD_LABELS = {"app.kubernetes.io/name": "whisper-server", "whisper-operator.io/endpoint": "whisper"}


def public(**ingress: Any) -> Body:
    return {"host": HOST, **({"ingress": ingress} if ingress else {})}


MONITORED = seen(optional=frozenset({POD_MONITORING, POD_MONITOR}))

COME_AND_GO: dict[str, tuple[Body, Body, set[str], Observed | None]] = {
    "autoscaling": ({}, {"autoscaling": {"max": 1}}, {"HorizontalPodAutoscaler/whisper"}, None),
    "more replicas": ({"replicas": 1}, {"replicas": 2}, {"PodDisruptionBudget/whisper"}, None),
    "more to scale to": (
        {},
        {"autoscaling": {"max": 2}},
        {"HorizontalPodAutoscaler/whisper", "PodDisruptionBudget/whisper"},
        None,
    ),
    "waking": (
        {**SCALED, "suspend": True},
        SCALED,
        {"HorizontalPodAutoscaler/whisper", "PodDisruptionBudget/whisper"},
        None,
    ),
    "a redirect": (public(), public(httpsRedirect=True), {"FrontendConfig/whisper"}, None),
    "an SSL policy": (public(), public(sslPolicy="modern"), {"FrontendConfig/whisper"}, None),
    "an address": (
        {**public(), "staticIPName": "ip"},
        {**public(reserveStaticIP=True), "staticIPName": "ip"},
        {"ComputeAddress/ip"},
        None,
    ),
    "managed TLS": (
        public(tls={"mode": "none"}),
        public(),
        {f"ManagedCertificate/{certificate_name('whisper', HOST)}"},
        None,
    ),
    "GKE's load balancer": (
        public(**{"class": "traefik"}),
        public(**{"class": "gce-internal"}),
        {"BackendConfig/whisper"},
        None,
    ),
    "another host": (
        public(),
        {**public(), "additionalHosts": [OTHER]},
        {f"ManagedCertificate/{certificate_name('whisper', OTHER)}"},
        None,
    ),
}


@pytest.mark.parametrize("what", COME_AND_GO)
def test_a_child_comes_and_goes_with_its_field(what: str) -> None:
    without, with_it, children, observed = COME_AND_GO[what]
    assert set(made(with_it, observed)) - set(made(without, observed)) == children
    assert set(made(without, observed)) <= set(made(with_it, observed))


def test_metrics_are_collected_where_something_is_there_to_collect_them() -> None:
    assert not [name for name in made({}) if "Monitor" in name]
    found = made({}, MONITORED)
    port = {"port": "ops", "path": "/metrics", "interval": "15s"}
    selector = {"matchLabels": POD_LABELS}
    assert found["PodMonitoring/whisper"]["spec"] == {
        "selector": selector,
        "endpoints": [port],
        "targetLabels": {"fromPod": [{"from": "whisper-operator.io/endpoint", "to": "whisper_endpoint"}]},
    }
    named = {
        "action": "replace",
        "sourceLabels": ["__meta_kubernetes_pod_label_whisper_operator_io_endpoint"],
        "targetLabel": "whisper_endpoint",
    }
    assert found["PodMonitor/whisper"]["spec"] == {
        "selector": selector,
        "podMetricsEndpoints": [port | {"relabelings": [named]}],
    }
    only = made({}, seen(optional=frozenset({POD_MONITOR})))
    assert "PodMonitor/whisper" in only
    assert "PodMonitoring/whisper" not in only


def test_an_address_outlives_its_endpoint() -> None:
    """Neither a deletion of the endpoint nor one of the object itself may free what DNS points at."""
    address = made({**public(reserveStaticIP=True), "staticIPName": "ip"})["ComputeAddress/ip"]
    assert "ownerReferences" not in address["metadata"]
    assert address["metadata"]["annotations"] == {"cnrm.cloud.google.com/deletion-policy": "abandon"}
    assert address["spec"] == {"location": "global"}


def test_the_autoscaler_goes_by_requests_in_flight_or_by_cpus() -> None:
    spec = made(SCALED)["HorizontalPodAutoscaler/whisper"]["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "whisper"}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    metric = {"name": "whisper_requests_in_flight"}
    target = {"type": "AverageValue", "averageValue": "6"}
    assert spec["metrics"] == [{"type": "Pods", "pods": {"metric": metric, "target": target}}]
    (cpu,) = made({"device": "cpu", "autoscaling": {"max": 3}})["HorizontalPodAutoscaler/whisper"]["spec"][
        "metrics"
    ]
    assert cpu["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}


def test_the_installation_names_the_metric_of_its_adapter() -> None:
    metric = "prometheus.googleapis.com|in_flight|gauge"
    settings = replace(SETTINGS, in_flight_metric=metric)
    spec = made(SCALED, settings=settings)["HorizontalPodAutoscaler/whisper"]["spec"]
    assert spec["metrics"][0]["pods"]["metric"] == {"name": metric}


def certificate(host: str, status: str) -> Child:
    name = certificate_name("whisper", host)
    return child(MANAGED_CERTIFICATE, name, spec={"domains": [host]}, status={"certificateStatus": status})


def attached(names: str) -> Child:
    return child(INGRESS, annotations={ATTACHED: names} if names else {})


BOTH = {"host": HOST, "additionalHosts": [OTHER], "ingress": {"httpsRedirect": True}}
SECRET = public(httpsRedirect=True, tls={"secretName": "cert"})
SHARED = public(httpsRedirect=True, tls={"preSharedCert": "cert"})


@pytest.mark.parametrize(
    ("spec", "observed", "redirected"),
    [
        (public(httpsRedirect=True), seen(), False),
        (public(httpsRedirect=True), seen(certificate(HOST, "Provisioning")), False),
        (public(httpsRedirect=True), seen(certificate(HOST, "Active")), True),
        # It serves until it expires, and to switch HTTPS off would not mend it.
        (public(httpsRedirect=True), seen(certificate(HOST, "RenewalFailed")), True),
        (BOTH, seen(certificate(HOST, "Active")), False),
        (BOTH, seen(certificate(HOST, "Active"), certificate(OTHER, "Provisioning")), False),
        (BOTH, seen(certificate(HOST, "Active"), certificate(OTHER, "Active")), True),
        (SECRET, seen(), False),
        (SECRET, seen(attached("")), False),
        (SECRET, seen(attached("mcrt-1")), False),  # still that of the certificate before
        (SECRET, seen(attached("k8s2-cr-1")), True),
        (SHARED, seen(attached("other")), False),
        (SHARED, seen(attached("cert,other")), True),
    ],
)
def test_the_redirect_waits_until_https_works_for_every_host(
    spec: Body, observed: Observed, redirected: bool
) -> None:
    found = made(spec, observed)
    assert found["FrontendConfig/whisper"]["spec"] == {"redirectToHttps": {"enabled": redirected}}
    assert found["Ingress/whisper"]["metadata"]["annotations"][
        "networking.gke.io/v1beta1.FrontendConfig"
    ] == ("whisper")


def test_policies_are_named_where_gke_reads_them() -> None:
    found = made(public(sslPolicy="modern", securityPolicy="armor"))
    assert found["FrontendConfig/whisper"]["spec"] == {"sslPolicy": "modern"}
    assert found["BackendConfig/whisper"]["spec"]["securityPolicy"] == {"name": "armor"}
    assert "securityPolicy" not in made(public())["BackendConfig/whisper"]["spec"]


def owning(kind: Kind, *path: str) -> Child:
    """A live child of which the operator declares one field."""
    fields: Body = {}
    for name in reversed(path):
        fields = {f"f:{name}": fields}
    return replace(child(kind), own_fields=json.dumps(fields))


HAD_SSL = owning(FRONTEND_CONFIG, "spec", "sslPolicy")
HAD_SECURITY = owning(BACKEND_CONFIG, "spec", "securityPolicy", "name")


def test_a_policy_is_taken_off_by_an_empty_name() -> None:
    """A missing one means "leave it" to GKE."""
    found = made(public(), seen(HAD_SSL, HAD_SECURITY))
    assert found["FrontendConfig/whisper"]["spec"] == {"sslPolicy": ""}
    assert found["BackendConfig/whisper"]["spec"]["securityPolicy"] == {"name": ""}
    annotations = found["Ingress/whisper"]["metadata"]["annotations"]
    assert annotations["networking.gke.io/v1beta1.FrontendConfig"] == "whisper"

    # That they were never asked for leaves alone what somebody has attached with gcloud.
    untouched = made(
        public(), seen(owning(FRONTEND_CONFIG, "spec", "redirectToHttps"), child(BACKEND_CONFIG))
    )
    assert "FrontendConfig/whisper" not in untouched
    assert "securityPolicy" not in untouched["BackendConfig/whisper"]["spec"]


@pytest.mark.parametrize("ingress_class", ["gce-internal", "traefik"])
def test_another_load_balancer_has_no_policy_to_take_off(ingress_class: str) -> None:
    found = made(public(**{"class": ingress_class}), seen(HAD_SSL, HAD_SECURITY))
    assert "FrontendConfig/whisper" not in found
    assert "securityPolicy" not in found.get("BackendConfig/whisper", {}).get("spec", {})


def test_certificates_of_ones_own() -> None:
    secret = made({**SECRET, "additionalHosts": [OTHER]})
    assert secret["Ingress/whisper"]["spec"]["tls"] == [{"hosts": [HOST, OTHER], "secretName": "cert"}]
    shared = made(SHARED)["Ingress/whisper"]
    assert shared["metadata"]["annotations"]["ingress.gcp.kubernetes.io/pre-shared-cert"] == "cert"
    assert "tls" not in shared["spec"]
    for found in (secret, made(SHARED)):
        assert not [name for name in found if name.startswith("ManagedCertificate")]
        annotations = found["Ingress/whisper"]["metadata"]["annotations"]
        assert "networking.gke.io/managed-certificates" not in annotations


def test_the_internal_load_balancer_has_a_regional_address_and_nothing_public() -> None:
    found = made({**public(**{"class": "gce-internal"}), "staticIPName": "ip"})
    annotations = found["Ingress/whisper"]["metadata"]["annotations"]
    assert annotations == {
        "kubernetes.io/ingress.class": "gce-internal",
        "kubernetes.io/ingress.regional-static-ip-name": "ip",
    }
    assert {name.partition("/")[0] for name in found} == {
        "BackendConfig",
        "NetworkPolicy",
        "Service",
        "Deployment",
        "Ingress",
    }
    assert "cloud.google.com/neg" in found["Service/whisper"]["metadata"]["annotations"]


def test_another_controllers_ingress_is_a_plain_one() -> None:
    annotations = {"traefik.ingress.kubernetes.io/router.entrypoints": "websecure"}
    found = made(public(**{"class": "traefik"}, annotations=annotations, tls={"secretName": "cert"}))
    ingress = found["Ingress/whisper"]
    assert ingress["metadata"]["annotations"] == annotations
    assert ingress["spec"]["ingressClassName"] == "traefik"
    assert ingress["spec"]["tls"] == [{"hosts": [HOST], "secretName": "cert"}]
    assert "annotations" not in found["Service/whisper"]["metadata"]
    assert {name.partition("/")[0] for name in found} == {
        "NetworkPolicy",
        "Service",
        "Deployment",
        "Ingress",
    }


def rules(spec: Body, direction: str) -> list[Any]:
    """The rules of the NetworkPolicy as (ports, peers), short."""

    def peer(each: Body) -> str:
        if "ipBlock" in each:
            return str(each["ipBlock"]["cidr"])
        return str(each["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"])

    policy = made(spec)["NetworkPolicy/whisper"]["spec"]
    assert policy["podSelector"] == {"matchLabels": POD_LABELS}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    key = {"ingress": "from", "egress": "to"}[direction]
    return [
        ([f"{port['protocol']} {port['port']}" for port in rule["ports"]], [peer(each) for each in rule.get(key, [])])
        for rule in policy[direction]
    ]  # fmt: skip


COLLECTORS = ["gmp-system", "gke-gmp-system", "monitoring"]
DNS: tuple[list[str], list[str]] = (["UDP 53", "TCP 53"], [])


def test_who_may_reach_the_pods() -> None:
    anyone: tuple[list[str], list[str]] = (["TCP 8000"], [])
    checked = ["130.211.0.0/22", "35.191.0.0/16", *COLLECTORS]
    assert rules({}, "ingress") == [anyone, (["TCP 9090"], COLLECTORS)]
    assert rules(public(), "ingress") == [anyone, (["TCP 9090"], checked)]
    assert rules(public(**{"class": "traefik"}), "ingress") == [anyone, (["TCP 9090"], COLLECTORS)]


def test_without_collectors_nobody_is_let_in_by_an_empty_rule() -> None:
    policy = made({}, settings=replace(SETTINGS, scrapers=()))["NetworkPolicy/whisper"]
    assert policy["spec"]["ingress"] == [{"ports": [{"port": 8000, "protocol": "TCP"}]}]


@pytest.mark.parametrize(
    ("spec", "more"),
    [
        ({}, []),
        ({"modelVolume": {"persistentVolumeClaim": {"claimName": "c"}}}, []),
        ({"modelVolume": {"emptyDir": {"sizeLimit": "4Gi"}}}, [(["TCP 443"], [])]),
        (
            {"scheduling": {"serviceAccountName": "sa"}},
            [(["TCP 80"], ["169.254.169.254/32"]), (["TCP 988"], ["169.254.169.252/32"])],
        ),
        ({"scheduling": {"podAnnotations": {"gke-gcsfuse/volumes": "false"}}}, []),
    ],
)
def test_what_the_pods_may_reach(spec: Body, more: list[Any]) -> None:
    assert rules(spec, "egress") == [DNS, *more]


METADATA = [(["TCP 80"], ["169.254.169.254/32"]), (["TCP 988"], ["169.254.169.252/32"])]


def test_a_bucket_mounted_by_gkes_sidecar_can_be_reached() -> None:
    """Cloud Storage FUSE runs in the pod: cut off from Google's API and the metadata server, it mounts nothing."""
    annotated: Body = {"scheduling": {"podAnnotations": {"gke-gcsfuse/volumes": "true"}}}
    assert rules(annotated, "egress") == [DNS, (["TCP 443"], []), *METADATA]
    annotated["scheduling"]["serviceAccountName"] = "sa"
    assert rules(annotated, "egress") == [DNS, (["TCP 443"], []), *METADATA]


MESH = {"networkPolicy": {"egress": [{"namespace": "istio-system", "ports": [{"port": 15012}]}]}}
AGENT = {
    "networkPolicy": {
        "egress": [
            {"cidr": "10.0.0.0/8", "ports": [{"port": 4317}, {"port": 8125, "protocol": "UDP"}]},
            {"ports": [{"port": 30000, "endPort": 30100}]},
            {"cidr": "192.0.2.0/24"},
        ]
    }
}


def egress(policy: Body) -> Any:
    return policy["NetworkPolicy/whisper"]["spec"]["egress"][1:]


def test_more_ways_out_are_the_installations_and_the_endpoints() -> None:
    """As a mesh's proxy, or a telemetry agent, needs them."""
    mesh = {
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "istio-system"}}}],
        "ports": [{"port": 15012, "protocol": "TCP"}],
    }
    agent = [
        {
            "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            "ports": [{"port": 4317, "protocol": "TCP"}, {"port": 8125, "protocol": "UDP"}],
        },
        {"ports": [{"port": 30000, "protocol": "TCP", "endPort": 30100}]},
        {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
    ]
    installed = config({"server": {"repository": "r", "version": "1"}, **MESH})
    assert egress(made({})) == []
    assert egress(made({}, settings=installed)) == [mesh]
    assert egress(made(AGENT, settings=installed)) == [mesh, *agent]


@pytest.mark.parametrize(
    ("installation", "endpoint", "wanted"),
    [(None, None, True), (None, False, False), (False, None, False), (False, True, True), (True, None, True)],
)
def test_an_endpoint_may_do_without_a_network_policy(
    installation: bool | None, endpoint: bool | None, wanted: bool
) -> None:
    settings = config(
        {"server": {"repository": "r", "version": "1"}, "networkPolicy": {"enabled": installation}}
    )
    found = made({"networkPolicy": {"enabled": endpoint}}, settings=settings)
    assert ("NetworkPolicy/whisper" in found) is wanted


def pod(spec: Body) -> Body:
    return dict(made(spec)["Deployment/whisper"]["spec"]["template"]["spec"])


def env(container: Body) -> dict[str, str]:
    return {item["name"]: item["value"] for item in container["env"]}


def test_weights_of_a_claim_are_mounted_read_only() -> None:
    spec = pod({"model": "/models/own.pt", "modelVolume": {"persistentVolumeClaim": {"claimName": "models"}}})
    assert "initContainers" not in spec
    claim = {"claimName": "models", "readOnly": True}
    assert {"name": "models", "persistentVolumeClaim": claim} in spec["volumes"]
    (server,) = spec["containers"]
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in server["volumeMounts"]
    assert env(server)["WHISPER_MODEL"] == "/models/own.pt"
    assert env(server)["WHISPER_MODEL_DIR"] == "/models"


def test_an_empty_volume_is_filled_before_the_server_starts() -> None:
    spec = pod({"model": "turbo", "modelVolume": {"emptyDir": {"sizeLimit": "2Gi"}}})
    assert {"name": "models", "emptyDir": {"sizeLimit": "2Gi"}} in spec["volumes"]
    (download,), (server,) = spec["initContainers"], spec["containers"]
    assert download["args"] == ["--preload", "turbo"]
    assert download["image"] == server["image"]
    assert env(download) == env(server)
    assert env(download)["WHISPER_MODEL_DIR"] == "/models"
    assert download["securityContext"] == server["securityContext"]
    assert {"name": "models", "mountPath": "/models"} in download["volumeMounts"]
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in server["volumeMounts"]
    # A GPU that it doesn't use would be asked for twice.
    assert "nvidia.com/gpu" not in str(download["resources"])
    assert download["resources"]["limits"].items() <= server["resources"]["limits"].items()


def test_weights_in_the_image_need_no_volume() -> None:
    spec = pod({})
    assert [volume["name"] for volume in spec["volumes"]] == ["tmp"]
    assert "WHISPER_MODEL_DIR" not in env(spec["containers"][0])


def test_keys_are_mounted_and_never_read_by_the_operator() -> None:
    spec = pod({"auth": {"secretName": "keys"}})
    (server,) = spec["containers"]
    assert {"name": "api-keys", "secret": {"secretName": "keys"}} in spec["volumes"]
    assert {"name": "api-keys", "mountPath": "/etc/whisper/api-keys", "readOnly": True} in server[
        "volumeMounts"
    ]
    assert env(server)["WHISPER_API_KEYS_DIR"] == "/etc/whisper/api-keys"
    assert "WHISPER_API_KEYS_DIR" not in env(pod({})["containers"][0])


@pytest.mark.parametrize(
    ("spec", "variable", "value"),
    [
        ({"engine": "faster-whisper"}, "WHISPER_ENGINE", "faster-whisper"),
        ({"computeType": "float16"}, "WHISPER_DTYPE", "float16"),
        ({}, "WHISPER_DTYPE", None),
        ({"defaults": {"vad": True}}, "WHISPER_VAD", "true"),
        ({"defaults": {"vad": False}}, "WHISPER_VAD", None),
    ],
)
def test_the_server_is_told(spec: Body, variable: str, value: str | None) -> None:
    assert env(pod(spec)["containers"][0]).get(variable) == value
