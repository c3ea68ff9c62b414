"""The contract as the real API server enforces it: what it accepts, and what it says when it refuses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from devcluster import Cluster, DevclusterError
from devcluster.waiting import eventually
from tests.cluster.support import endpoint

HOST = {"host": "whisper.example.com"}
LONG_HOST = f"{'a' * 60}.example.com"
PVC = {"persistentVolumeClaim": {"claimName": "models"}}

ACCEPTED: dict[str, dict[str, Any]] = {
    "empty": {},
    "minimal": {**HOST, "staticIPName": "whisper"},
    "model-large": {"model": "large"},
    "model-demo": {"model": "demo", "device": "cpu"},
    "model-path": {"model": "/models/own.pt", "modelVolume": PVC},
    "model-empty-dir": {"model": "turbo", "modelVolume": {"emptyDir": {"sizeLimit": "4Gi"}}},
    "engine-int8": {"engine": "faster-whisper", "computeType": "int8_float16"},
    "engine-int8-cpu": {"engine": "faster-whisper", "computeType": "int8", "device": "cpu"},
    "bfloat16-l4": {"computeType": "bfloat16", "accelerator": {"type": "nvidia-l4"}},
    "bfloat16-cpu": {"computeType": "bfloat16", "device": "cpu"},
    "spot": {"accelerator": {"spot": True}},
    "reserve-nothing-class": {**HOST, "ingress": {"class": "traefik", "reserveStaticIP": False}},
    "onprem-gpu": {"accelerator": {"type": "rtx-4090"}},
    "autoscaling": {"autoscaling": {"max": 4}},
    "autoscaling-target": {"autoscaling": {"max": 4, "targetInFlight": 39}, "limits": {"maxQueue": 40}},
    "autoscaling-cpus": {"autoscaling": {"max": 4}, "limits": {"maxQueue": 1}, "device": "cpu"},
    "resources-int": {
        "resources": {"requests": {"cpu": 2, "memory": "8Gi"}, "limits": {"cpu": "2500m", "memory": "8Gi"}}
    },
    "english": {"model": "tiny.en", "defaults": {"language": "en"}},
    "norwegian": {"defaults": {"language": "no"}},
    "cantonese": {"model": "turbo", "defaults": {"language": "yue"}},
    "translate": {"defaults": {"task": "translate"}},
    "hosts-15": {**HOST, "additionalHosts": [f"h{index}.example.com" for index in range(14)]},
    "long-host-no-tls": {"host": LONG_HOST, "ingress": {"tls": {"mode": "none"}}},
    "long-host-secret": {"host": LONG_HOST, "ingress": {"tls": {"secretName": "cert"}}},
    "traefik": {
        **HOST,
        "ingress": {"class": "traefik", "annotations": {"a.b/c": "d"}, "tls": {"secretName": "cert"}},
    },
    "internal-lb": {
        **HOST,
        "staticIPName": "x",
        "ingress": {"class": "gce-internal", "tls": {"preSharedCert": "cert"}},
    },
    "cors": {"cors": {"allowedOrigins": ["*", "https://app.example.com", "http://localhost:3000"]}},
    "no-cors": {"cors": {"allowedOrigins": []}},
    "keys": {"auth": {"secretName": "api-keys"}},
    "suspend": {"suspend": True, "replicas": 3},
    "toleration": {"scheduling": {"tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b"}]}},
    "recreate": {"rollout": "Recreate"},
    "rolling-recreate": {"rollout": "RollingRecreate", "replicas": 3},
    "network": {
        "networkPolicy": {
            "egress": [
                {"cidr": "10.0.0.0/8", "ports": [{"port": 443, "endPort": 444}]},
                {"cidr": "2001:db8::/32"},
                {"namespace": "istio-system", "ports": [{"port": 53, "protocol": "UDP"}]},
            ]
        }
    },
    "no-network-policy": {"networkPolicy": {"enabled": False}},
    "forty-characters-" + "x" * 23: {},
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model": "huge"}, "model must be tiny, tiny.en, base"),
    "model-empty": ({"model": ""}, "spec.model in body should be at least 1 chars long"),
    "model-path-alone": (
        {"model": "/models/x.pt"},
        "a model given as a path needs modelVolume.persistentVolumeClaim",
    ),
    "model-path-empty-dir": (
        {"model": "/models/x.pt", "modelVolume": {"emptyDir": {"sizeLimit": "4Gi"}}},
        "a model given as a path needs modelVolume.persistentVolumeClaim",
    ),
    "model-path-up": (
        {"model": "/models/../etc/x", "modelVolume": PVC},
        "a model path names one file, without .. in it",
    ),
    "volume-none": ({"modelVolume": {}}, "exactly one of persistentVolumeClaim and emptyDir"),
    "volume-both": (
        {"modelVolume": {**PVC, "emptyDir": {"sizeLimit": "4Gi"}}},
        "exactly one of persistentVolumeClaim and emptyDir",
    ),
    "volume-size": (
        {"modelVolume": {"emptyDir": {"sizeLimit": "much"}}},
        "spec.modelVolume.emptyDir.sizeLimit",
    ),
    "engine": ({"engine": "whisper.cpp"}, "engine must be openai-whisper or faster-whisper"),
    "int8-torch": ({"computeType": "int8"}, "computeType int8 and int8_float16 need engine: faster-whisper"),
    "bfloat16-ct2": (
        {"computeType": "bfloat16", "engine": "faster-whisper", "device": "cpu"},
        "computeType bfloat16 needs engine: openai-whisper",
    ),
    "bfloat16-t4": ({"computeType": "bfloat16"}, "an NVIDIA T4 has no bfloat16"),
    "float16-cpu": (
        {"computeType": "float16", "device": "cpu"},
        "with device: cpu use float32, bfloat16 or int8",
    ),
    "device": ({"device": "tpu"}, "device must be cpu; a GPU is asked for by accelerator"),
    "device-and-gpu": (
        {"device": "cpu", "accelerator": {}},
        "device: cpu and accelerator exclude each other",
    ),
    "accelerator": (
        {"accelerator": {"type": "NVIDIA T4"}},
        "accelerator.type is a key of the installation's table",
    ),
    "replicas-zero": (
        {"replicas": 0},
        "to scale to nothing and keep address and certificate, set suspend: true",
    ),
    "replicas-many": ({"replicas": 1001}, "should be less than or equal to 1000"),
    "replicas-both": (
        {"replicas": 2, "autoscaling": {"max": 3}},
        "replicas and autoscaling exclude each other",
    ),
    "scaling-order": (
        {"autoscaling": {"min": 3, "max": 2}},
        "autoscaling.max must not be less than autoscaling.min",
    ),
    "scaling-zero": (
        {"autoscaling": {"min": 0, "max": 2}},
        "spec.autoscaling.min in body should be greater than",
    ),
    "scaling-no-max": ({"autoscaling": {"min": 1}}, "spec.autoscaling.max: Required value"),
    "scaling-target": (
        {"autoscaling": {"max": 2, "targetInFlight": 32}},
        "autoscaling.targetInFlight must be less than limits.maxQueue",
    ),
    "scaling-short-queue": (
        {"autoscaling": {"max": 2}, "limits": {"maxQueue": 1}},
        "autoscaling needs limits.maxQueue of at least 2",
    ),
    "quantity": ({"resources": {"requests": {"memory": "24 GB"}}}, "spec.resources.requests.memory"),
    "cpu-order": (
        {"resources": {"requests": {"cpu": 4}, "limits": {"cpu": "3500m"}}},
        "resources.requests.cpu must not exceed resources.limits.cpu",
    ),
    "memory-order": (
        {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "2G"}}},
        "resources.requests.memory must not exceed resources.limits.memory",
    ),
    "storage-order": (
        {"resources": {"requests": {"ephemeral-storage": "2Gi"}, "limits": {"ephemeral-storage": "1Gi"}}},
        "resources.requests.ephemeral-storage must not exceed resources.limits.ephemeral-storage",
    ),
    "cpu-negative": ({"resources": {"requests": {"cpu": -1}}}, "CPU cores are more than 0"),
    "cpu-zero": ({"resources": {"limits": {"cpu": "0m"}}}, "CPU cores are more than 0"),
    "memory-zero": ({"resources": {"limits": {"memory": 0}}}, "an amount of bytes is more than 0"),
    "memory-negative": ({"resources": {"requests": {"memory": "-1Gi"}}}, "an amount of bytes is more than 0"),
    "memory-GB": ({"resources": {"requests": {"memory": "24GB"}}}, "no B, such as 24G or 24Gi"),
    "volume-zero": ({"modelVolume": {"emptyDir": {"sizeLimit": 0}}}, "an amount of bytes is more than 0"),
    "gpus": (
        {"resources": {"limits": {"nvidia.com/gpu": 1}}},
        "each replica has one GPU, of the type in spec.accelerator; for more GPUs raise replicas",
    ),
    "gpu-count": ({"accelerator": {"count": 2}}, "each replica has one GPU; for more GPUs raise replicas"),
    "image": ({"image": "my image"}, "an image has no blanks in its name"),
    "language": (
        {"defaults": {"language": "english"}},
        "defaults.language must be a code that Whisper knows",
    ),
    "english-only": (
        {"model": "base.en", "defaults": {"language": "de"}},
        "a model whose name ends in .en knows English only",
    ),
    "cantonese": (
        {"model": "medium", "defaults": {"language": "yue"}},
        "yue is known to large-v3 and turbo only",
    ),
    "turbo-translate": ({"model": "turbo", "defaults": {"task": "translate"}}, "this model can't translate"),
    "english-translate": (
        {"model": "tiny.en", "defaults": {"task": "translate"}},
        "this model can't translate",
    ),
    "upload-zero": ({"limits": {"maxUploadBytes": 0}}, "should be greater than or equal to 1024"),
    "timeout-long": ({"limits": {"requestTimeoutSeconds": 7200}}, "should be less than or equal to 3600"),
    "auth": ({"auth": {}}, "spec.auth.secretName: Required value"),
    "origin": ({"cors": {"allowedOrigins": ["app.example.com"]}}, "an origin is a scheme and a host"),
    "origin-path": (
        {"cors": {"allowedOrigins": ["https://a.example.com/x"]}},
        "an origin is a scheme and a host",
    ),
    "host-url": ({"host": "https://whisper.example.com"}, "a host is a full DNS name in lower case"),
    "host-wildcard": ({"host": "*.example.com"}, "a host is a full DNS name in lower case"),
    "host-short": ({"host": "whisper"}, "a host is a full DNS name in lower case"),
    "host-upper": ({"host": "Whisper.example.com"}, "a host is a full DNS name in lower case"),
    "host-long": (
        {"host": LONG_HOST},
        "a managed certificate takes host names of at most 63 characters: shorten host",
    ),
    "more-hosts-long": (
        {**HOST, "additionalHosts": [LONG_HOST]},
        "a managed certificate takes host names of at most 63 characters: shorten additionalHosts",
    ),
    "more-hosts-alone": ({"additionalHosts": ["b.example.com"]}, "additionalHosts needs host"),
    "more-hosts-twice": ({**HOST, "additionalHosts": ["b.example.com", "b.example.com"]}, "Duplicate value"),
    "more-hosts-same": ({**HOST, "additionalHosts": ["whisper.example.com"]}, "additionalHosts repeats host"),
    "more-hosts-16": (
        {**HOST, "additionalHosts": [f"h{index}.example.com" for index in range(15)]},
        "must have at most 14 items",
    ),
    "ip-alone": ({"staticIPName": "whisper"}, "staticIPName needs host"),
    "ip-name": (
        {**HOST, "staticIPName": "1.2.3.4"},
        "a name in Google Cloud starts with a lower-case letter",
    ),
    "ip-traefik": (
        {**HOST, "staticIPName": "x", "ingress": {"class": "traefik"}},
        "staticIPName needs ingress.class gce or gce-internal",
    ),
    "reserve-nothing": (
        {**HOST, "ingress": {"reserveStaticIP": True}},
        "ingress.reserveStaticIP needs staticIPName",
    ),
    "ingress-alone": ({"ingress": {"class": "gce"}}, "ingress needs host"),
    "tls-managed-class": (
        {**HOST, "ingress": {"class": "traefik", "tls": {"mode": "managed"}}},
        "tls.mode managed needs class gce",
    ),
    "tls-preshared-class": (
        {**HOST, "ingress": {"class": "traefik", "tls": {"preSharedCert": "x"}}},
        "tls.preSharedCert needs class gce or gce-internal",
    ),
    "tls-empty": (
        {**HOST, "ingress": {"tls": {}}},
        "tls takes exactly one of mode, secretName and preSharedCert",
    ),
    "tls-two": (
        {**HOST, "ingress": {"tls": {"secretName": "a", "preSharedCert": "b"}}},
        "tls takes exactly one of mode, secretName and preSharedCert",
    ),
    "redirect-no-tls": (
        {**HOST, "ingress": {"httpsRedirect": True, "tls": {"mode": "none"}}},
        "httpsRedirect needs TLS",
    ),
    "redirect-class": (
        {**HOST, "ingress": {"httpsRedirect": True, "class": "traefik"}},
        "httpsRedirect needs class gce",
    ),
    "policy-class": ({**HOST, "ingress": {"securityPolicy": "x", "class": "traefik"}}, "need class gce"),
    "class-annotation": (
        {**HOST, "ingress": {"annotations": {"kubernetes.io/ingress.class": "nginx"}}},
        "choose the ingress class by ingress.class, not by annotation",
    ),
    "own-annotation": (
        {**HOST, "ingress": {"annotations": {"kubernetes.io/ingress.allow-http": "false"}}},
        "ingress.annotations holds an annotation that the operator or GKE writes",
    ),
    "env-own": (
        {"scheduling": {"env": [{"name": "WHISPER_MODEL", "value": "x"}]}},
        "WHISPER_* variables, HOME and TMPDIR are set from the other fields of spec",
    ),
    "env-name": (
        {"scheduling": {"env": [{"name": "A-B", "value": "x"}]}},
        "a variable's name holds letters, digits and '_'",
    ),
    "env-twice": (
        {"scheduling": {"env": [{"name": "A", "value": "x"}, {"name": "A", "value": "y"}]}},
        "Duplicate value",
    ),
    "labels-own": (
        {"scheduling": {"podLabels": {"whisper-operator.io/endpoint": "x"}}},
        "podLabels can't set the operator's own labels",
    ),
    "toleration-value": (
        {"scheduling": {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}},
        "a toleration with operator Exists has no value",
    ),
    "toleration-key": (
        {"scheduling": {"tolerations": [{"value": "b"}]}},
        "a toleration without key needs operator Exists",
    ),
    "toleration-seconds": (
        {"scheduling": {"tolerations": [{"key": "a", "tolerationSeconds": 5}]}},
        "tolerationSeconds needs effect NoExecute",
    ),
    "claim-dots": (
        {"modelVolume": {"persistentVolumeClaim": {"claimName": "a..b"}}},
        'spec.modelVolume.persistentVolumeClaim.claimName: Invalid value: "a..b": a name holds lower-case',
    ),
    "account-dots": ({"scheduling": {"serviceAccountName": "a.-b"}}, "a name holds lower-case letters"),
    "class-dots": (
        {**HOST, "ingress": {"class": "a..b", "tls": {"mode": "none"}}},
        "a name holds lower-case",
    ),
    "host-label": (
        {"host": f"{'a' * 64}.example.com", "ingress": {"tls": {"mode": "none"}}},
        "at most 63 characters between dots",
    ),
    "annotation-key": (
        {**HOST, "ingress": {"annotations": {"a b": "c"}}},
        "a key that no annotation can have",
    ),
    "annotation-prefix": (
        {"scheduling": {"podAnnotations": {"a..b/c": "d"}}},
        "a key that no annotation can have",
    ),
    "label-prefix": ({"scheduling": {"podLabels": {"-a/b": "c"}}}, "a key that no label can have"),
    "selector-value": ({"scheduling": {"nodeSelector": {"a": "b-"}}}, "the value of a label holds letters"),
    "toleration-operator": (
        {"scheduling": {"tolerations": [{"key": "a", "operator": "In"}]}},
        "a toleration's operator must be Exists or Equal",
    ),
    "spread-key": (
        {"scheduling": {"topologySpread": [{"topologyKey": "a..b/zone"}]}},
        "a label's key is [PREFIX/]NAME",
    ),
    "cidr": (
        {"networkPolicy": {"egress": [{"cidr": "10.0.0.0"}]}},
        "a cidr is an address and the length of its prefix",
    ),
    "cidr-bits": ({"networkPolicy": {"egress": [{"cidr": "10.1.2.3/8"}]}}, "with no bits set beyond it"),
    "annotation-mirror": (
        {"scheduling": {"podAnnotations": {"kubernetes.io/config.mirror": "x"}}},
        "podAnnotations can't set what Kubernetes goes by itself",
    ),
    "annotation-apparmor": (
        {"scheduling": {"podAnnotations": {"container.apparmor.security.beta.kubernetes.io/server": "x"}}},
        "podAnnotations can't set what Kubernetes goes by itself",
    ),
    "egress-all": ({"networkPolicy": {"egress": [{}]}}, "a way out needs cidr, namespace or ports"),
    "egress-both": (
        {"networkPolicy": {"egress": [{"cidr": "10.0.0.0/8", "namespace": "a"}]}},
        "cidr and namespace exclude each other",
    ),
    "egress-port": (
        {"networkPolicy": {"egress": [{"ports": [{"port": 0}]}]}},
        "should be greater than or equal to 1",
    ),
    "egress-range": (
        {"networkPolicy": {"egress": [{"ports": [{"port": 9, "endPort": 8}]}]}},
        "endPort must not be less than port",
    ),
    "rollout": ({"rollout": "BlueGreen"}, "rollout must be RollingUpdate, RollingRecreate or Recreate"),
    "type": ({"replicas": "two"}, "spec.replicas in body must be of type integer"),
    "unknown": ({"modle": "tiny"}, 'unknown field "spec.modle"'),
    "unknown-below": ({"limits": {"maxUpload": 5}}, 'unknown field "spec.limits.maxUpload"'),
    "forty-one-characters-" + "x" * 20: ({}, "metadata.name has at most 40 characters"),
    "0-first": ({}, "metadata.name must start with a lower-case letter"),
    "dotted.name": ({}, "metadata.name must start with a lower-case letter"),
}


@pytest.fixture(scope="module")
def api(installed: Cluster) -> Iterator[client.CustomObjectsApi]:
    with config.new_client_from_config(str(installed.kubeconfig)) as connection:
        yield client.CustomObjectsApi(connection)


def refusal(api: client.CustomObjectsApi, name: str, spec: dict[str, Any]) -> str | None:
    """What the API server says of a resource that it refuses (as kubectl asks it: strictly); None if it accepts."""
    try:
        api.create_namespaced_custom_object(
            "whisper-operator.io",
            "v1alpha1",
            "default",
            "whisperendpoints",
            endpoint(name, "default", **spec),
            dry_run="All",
            field_validation="Strict",
        )
    except client.ApiException as error:
        return str(json.loads(error.body or "{}")["message"])
    return None


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(api: client.CustomObjectsApi, name: str) -> None:
    assert refusal(api, name, ACCEPTED[name]) is None


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_message(api: client.CustomObjectsApi, name: str) -> None:
    spec, message = REFUSED[name]
    assert message.lower() in (refusal(api, name, spec) or "it was accepted").lower()


NULLS: dict[str, Any] = {
    "model": None,
    "modelVolume": {"emptyDir": None, "persistentVolumeClaim": {"claimName": "models"}},
    "replicas": None,
    "autoscaling": {"min": None, "max": 3},
    "resources": {"requests": None, "limits": {"cpu": None}},
    "host": "nulls.example.com",
    "additionalHosts": None,
    "ingress": {"class": None, "tls": {"mode": None, "secretName": "cert"}, "annotations": {"a": None}},
    "scheduling": {
        "tolerations": [{"operator": "Exists", "key": None, "value": None}],
        "podLabels": {"a": None},
    },
    "networkPolicy": {"egress": [{"cidr": None, "ports": [{"port": 443, "endPort": None}]}]},
    "rollout": None,
}


def test_nulls_in_a_file_mean_absent(
    installed: Cluster, api: client.CustomObjectsApi, namespace: str
) -> None:
    """Server-side apply passes them on, and so do Flux and Helm; an API server drops those of a create by itself."""
    every = dict.fromkeys(spec_fields(installed))
    for name, spec in (("nulls", NULLS), ("all", every)):
        installed.apply(endpoint(name, namespace, **spec))
        assert refusal(api, name, spec) is None
    assert installed.get("wep", "all", "-n", namespace)["spec"]["replicas"] == 1
    # The rules see them as absent as well.
    with pytest.raises(DevclusterError, match="tls takes exactly one of mode, secretName and preSharedCert"):
        installed.apply(
            endpoint("none", namespace, **HOST, ingress={"tls": {"mode": None, "secretName": None}})
        )


def spec_fields(cluster: Cluster) -> list[str]:
    crd = cluster.get("crd", "whisperendpoints.whisper-operator.io")
    return list(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"])


EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_the_examples_are_accepted(installed: Cluster, example: Path) -> None:
    installed.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(example))


def test_every_field_is_documented(installed: Cluster) -> None:
    """`kubectl explain` is the reference that people read."""
    crd = installed.get("crd", "whisperendpoints.whisper-operator.io")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    missing: list[str] = []

    def walk(at: dict[str, Any], path: str) -> None:
        for name, below in at.get("properties", {}).items():
            here = f"{path}.{name}"
            if not below.get("description") and here not in (".apiVersion", ".kind", ".metadata"):
                missing.append(here)
            walk(below, here)
            if isinstance(below.get("items"), dict):
                walk(below["items"], f"{here}[]")

    walk(schema, "")
    assert missing == []
    conditions = [each["type"] for each in crd["status"]["conditions"] if each["status"] == "True"]
    assert {"Established", "NamesAccepted"} <= set(conditions)
    assert "NonStructuralSchema" not in conditions


@pytest.mark.parametrize(
    ("role", "verb", "wanted"), [("edit", "create", "yes"), ("view", "list", "yes"), ("view", "create", "no")]
)
def test_who_may_edit_a_namespace_may_have_endpoints_there(
    installed: Cluster, namespace: str, role: str, verb: str, wanted: str
) -> None:
    installed.kubectl(
        "create", "rolebinding", "person", f"--clusterrole={role}", "--user=person", "-n", namespace
    )

    def answer() -> str:
        try:
            return installed.kubectl(
                "auth", "can-i", verb, "whisperendpoints", "--as=person", "-n", namespace
            ).strip()
        except DevclusterError:  # kubectl says no with its exit status too
            return "no"

    eventually(lambda: answer() == wanted, what=f"{role} may {verb}: {wanted}")
