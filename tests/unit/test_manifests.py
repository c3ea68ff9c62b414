"""The children: each trap of GKE that a manifest could step into has a test here."""

import json
from typing import Any

import pytest
from whisper_operator import manifests
from whisper_operator.config import Settings
from whisper_operator.config import parse as parse_settings
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import parse

SETTINGS = Settings(server_repository="registry.example.com/whisper-server", server_version="1.2.3")


def children(settings: Settings = SETTINGS, name: str = "whisper", **spec: Any) -> dict[str, Any]:
    """Bodies by kind; certificates as a list."""
    resource = {"metadata": {"name": name, "namespace": "asr", "uid": "u-1"}, "spec": spec}
    found: dict[str, Any] = {}
    for child in manifests.of(parse(resource, settings), Observed.nothing(), settings):
        if child.kind.name == "ManagedCertificate":
            found.setdefault("ManagedCertificate", []).append(child.body)
        else:
            found[child.kind.name] = child.body
    return found


def pod(**spec: Any) -> dict[str, Any]:
    return dict(children(**spec)["Deployment"]["spec"]["template"]["spec"])


def env(**spec: Any) -> dict[str, str]:
    return {item["name"]: item["value"] for item in pod(**spec)["containers"][0]["env"]}


@pytest.mark.parametrize(
    ("public", "proxies"),
    [
        ({}, None),
        ({"host": "w.example.com"}, None),
        ({"host": "w.example.com", "ingress": {"class": "gce-internal"}}, None),
        ({"host": "w.example.com", "ingress": {"class": "nginx"}}, "1"),
    ],
)
def test_the_server_believes_as_many_proxies_as_there_are(
    public: dict[str, Any], proxies: str | None
) -> None:
    """Google's load balancer writes two entries, which is what the server takes for granted in a pod; others write one."""
    assert env(**public).get("WHISPER_PROXIES") == proxies


def test_the_minimal_endpoint_has_its_children_in_the_order_of_their_references() -> None:
    resource = {"metadata": {"name": "w", "namespace": "n", "uid": "u"}, "spec": {"host": "w.example.com"}}
    kinds = [
        child.kind.name for child in manifests.of(parse(resource, SETTINGS), Observed.nothing(), SETTINGS)
    ]
    assert kinds == [
        "BackendConfig",
        "NetworkPolicy",
        "Service",
        "Deployment",
        "ManagedCertificate",
        "Ingress",
    ]


def test_without_a_host_there_is_no_load_balancer() -> None:
    found = children()
    assert set(found) == {"Deployment", "Service", "NetworkPolicy"}
    assert "annotations" not in found["Service"]["metadata"]


def test_children_are_owned_and_labelled_and_copy_nothing() -> None:
    resource = {
        "metadata": {
            "name": "whisper",
            "namespace": "asr",
            "uid": "u-1",
            "labels": {"app.kubernetes.io/instance": "argo"},
            "annotations": {"a": "b"},
        },
        "spec": {"host": "w.example.com"},
    }
    for child in manifests.of(parse(resource, SETTINGS), Observed.nothing(), SETTINGS):
        metadata = child.body["metadata"]
        assert metadata["labels"] == {
            "app.kubernetes.io/name": "whisper-server",
            "app.kubernetes.io/managed-by": "whisper-operator",
            "whisper-operator.io/endpoint": "whisper",
        }
        assert "a" not in metadata.get("annotations", {})
        (owner,) = metadata["ownerReferences"]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == ("u-1", True, True)


def test_the_ingress_has_no_tls_and_its_class_as_an_annotation() -> None:
    ingress = children(host="w.example.com", staticIPName="addr")["Ingress"]
    assert set(ingress["spec"]) == {"rules"}
    annotations = ingress["metadata"]["annotations"]
    assert annotations["kubernetes.io/ingress.class"] == "gce"
    assert annotations["kubernetes.io/ingress.global-static-ip-name"] == "addr"
    assert "kubernetes.io/ingress.allow-http" not in annotations
    # NEG and BackendConfig are read from Services only.
    assert not any(name.startswith("cloud.google.com/") for name in annotations)


def test_each_host_has_a_certificate_of_its_own_that_no_other_host_changes() -> None:
    one = children(host="a.example.com")["ManagedCertificate"]
    two = children(host="a.example.com", additionalHosts=["b.example.com"])
    assert one[0] in two["ManagedCertificate"]
    assert [body["spec"]["domains"] for body in two["ManagedCertificate"]] == [
        ["a.example.com"],
        ["b.example.com"],
    ]
    names = [body["metadata"]["name"] for body in two["ManagedCertificate"]]
    assert two["Ingress"]["metadata"]["annotations"]["networking.gke.io/managed-certificates"] == ",".join(
        names
    )
    assert [rule["host"] for rule in two["Ingress"]["spec"]["rules"]] == ["a.example.com", "b.example.com"]


def test_without_tls_there_is_no_certificate() -> None:
    found = children(host="a.example.com", ingress={"tls": {"mode": "none"}})
    assert "ManagedCertificate" not in found
    assert "networking.gke.io/managed-certificates" not in found["Ingress"]["metadata"]["annotations"]


def test_the_service_names_its_backend_config_and_wants_a_neg() -> None:
    found = children(host="a.example.com")
    annotations = found["Service"]["metadata"]["annotations"]
    assert json.loads(annotations["cloud.google.com/neg"]) == {"ingress": True}
    assert json.loads(annotations["cloud.google.com/backend-config"]) == {"default": "whisper"}
    assert found["BackendConfig"]["metadata"]["name"] == "whisper"


def test_one_request_timeout_is_used_everywhere() -> None:
    found = children(host="a.example.com", limits={"requestTimeoutSeconds": 900})
    backend = found["BackendConfig"]["spec"]
    assert backend["timeoutSec"] == 960
    assert backend["connectionDraining"]["drainingTimeoutSec"] == 900
    assert backend["healthCheck"]["port"] == 9090
    template = found["Deployment"]["spec"]["template"]["spec"]
    assert template["terminationGracePeriodSeconds"] == 945
    assert {"name": "WHISPER_REQUEST_TIMEOUT_SECONDS", "value": "900"} in template["containers"][0]["env"]


def test_pods_pass_pod_security_restricted() -> None:
    spec = pod()
    container = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]


def test_gpus_are_asked_for_and_limited_alike() -> None:
    spec = pod()
    resources = spec["containers"][0]["resources"]
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == "1"
    assert spec["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["nvidia.com/gpu"]


def test_autopilot_is_told_the_count_of_gpus() -> None:
    settings = parse_settings({"autopilot": True, "server": {"repository": "r", "version": "1"}})
    assert pod(settings=settings)["nodeSelector"] == {
        "cloud.google.com/gke-accelerator": "nvidia-tesla-t4",
        "cloud.google.com/gke-accelerator-count": "1",
    }


def test_spot_nodes_are_selected_and_tolerated() -> None:
    spec = pod(accelerator={"type": "nvidia-l4", "spot": True})
    assert spec["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert "cloud.google.com/gke-spot" in [toleration["key"] for toleration in spec["tolerations"]]


def test_spot_nodes_of_an_installations_own_are_asked_for_by_its_labels() -> None:
    """GKE's selector fits no node outside of GKE."""
    table = {
        "rtx-4090": {
            "nodeSelector": {"gpu": "rtx-4090"},
            "spot": {
                "nodeSelector": {"pool": "scavenger"},
                "tolerations": [{"key": "scavenger", "operator": "Exists"}],
            },
        },
        "nvidia-h200": {"nodeSelector": {"cloud.google.com/gke-accelerator": "nvidia-h200"}},
    }
    settings = parse_settings({"accelerators": table, "server": {"repository": "r", "version": "1"}})
    spec = pod(settings=settings, accelerator={"type": "rtx-4090", "spot": True})
    assert spec["nodeSelector"] == {"gpu": "rtx-4090", "pool": "scavenger"}
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["nvidia.com/gpu", "scavenger"]
    of_gke = pod(settings=settings, accelerator={"type": "nvidia-h200", "spot": True})
    assert of_gke["nodeSelector"]["cloud.google.com/gke-spot"] == "true"


def test_a_rollout_has_time_for_the_node_the_pull_the_download_and_the_loading() -> None:
    """Each of which is slow when all goes well; a deadline that one of them can use up cries wolf."""

    def seconds(**spec: Any) -> tuple[int, int]:
        deployment = children(**spec)["Deployment"]["spec"]
        probe = deployment["template"]["spec"]["containers"][0]["startupProbe"]
        return deployment["progressDeadlineSeconds"], probe["periodSeconds"] * probe["failureThreshold"]

    deadline, loading = seconds()
    assert deadline >= loading + 1800
    with_download, loading = seconds(modelVolume={"emptyDir": {"sizeLimit": "4Gi"}})
    assert with_download >= deadline + 1800


def test_a_cpu_endpoint_has_no_trace_of_a_gpu() -> None:
    """Autopilot refuses a toleration of nvidia.com/gpu on a pod that asks for none."""
    assert "nvidia" not in json.dumps(pod(device="cpu"))
    assert env(device="cpu")["WHISPER_DEVICE"] == "cpu"
    assert env()["WHISPER_DEVICE"] == "cuda"


def test_recreate_declares_no_parameters_of_a_rolling_update() -> None:
    assert children(rollout="Recreate")["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize(
    ("rollout", "surge", "unavailable"), [("RollingUpdate", 1, 0), ("RollingRecreate", 0, 1)]
)
def test_a_rolling_rollout_has_a_spare_pod_or_lacks_one(rollout: str, surge: int, unavailable: int) -> None:
    assert children(rollout=rollout)["Deployment"]["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
    }


def test_literals_stay_literal() -> None:
    """Kubernetes would expand $(WHISPER_MODEL) in the value of a variable."""
    found = env(
        defaults={"prompt": "$(WHISPER_MODEL) costs $5"},
        scheduling={"env": [{"name": "A", "value": "$(HOME)"}]},
    )
    assert found["WHISPER_PROMPT"] == "$$(WHISPER_MODEL) costs $$5"
    assert found["A"] == "$$(HOME)"


def test_a_user_may_move_a_cache_without_a_duplicate_variable() -> None:
    container = pod(scheduling={"env": [{"name": "TRITON_CACHE_DIR", "value": "/tmp/t"}]})["containers"][0]
    names = [item["name"] for item in container["env"]]
    assert len(names) == len(set(names))
    assert {"name": "TRITON_CACHE_DIR", "value": "/tmp/t"} in container["env"]


def test_own_labels_win_over_pod_labels() -> None:
    scheduling = {"podLabels": {"whisper-operator.io/endpoint": "other", "team": "x"}}
    template = children(scheduling=scheduling)["Deployment"]["spec"]["template"]
    assert template["metadata"]["labels"]["whisper-operator.io/endpoint"] == "whisper"
    assert template["metadata"]["labels"]["team"] == "x"


def test_cors_tells_none_from_all() -> None:
    assert "WHISPER_CORS_ORIGINS" not in env()
    assert env(cors={"allowedOrigins": []})["WHISPER_CORS_ORIGINS"] == ""
    assert env(cors={"allowedOrigins": ["https://a.example", "https://b.example"]})[
        "WHISPER_CORS_ORIGINS"
    ] == ("https://a.example,https://b.example")


def test_list_entries_carry_their_whole_key() -> None:
    """Server-side apply identifies ports by number and protocol: a defaulted protocol would look like drift."""
    for port in pod()["containers"][0]["ports"]:
        assert port["protocol"] == "TCP"
    assert all(port["protocol"] == "TCP" for port in children()["Service"]["spec"]["ports"])
