"""whisper-operator doctor, on clusters with much wrong and with nothing wrong, and with callers of few rights."""

import json
import re
from argparse import ArgumentParser
from collections.abc import Collection, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from whisper_operator.doctor import command
from whisper_operator.doctor.arguments import add_to
from whisper_operator.doctor.facts import Answer
from whisper_operator.doctor.resolver import Resolve, resolve
from whisper_operator.kube.errors import NoCluster

from devcluster import Cluster
from devcluster.faults import FaultProxy
from devcluster.installation import Operator, install
from tests.cluster.faults import configure, quota, simulated
from tests.cluster.second_installation import SECOND, install_second
from tests.cluster.support import endpoint, live, until, wait_for_condition, without_right

ROOT = Path(__file__).resolve().parents[2]
OVERLAY = "overlays/example"
DOCTOR = "system:serviceaccount:default:doctor"
"""Who may do everything, and so would be let through with a write."""
A100 = "nvidia-tesla-a100"

Found = dict[str, dict[str, Any]]
"""Findings by code and subject, such as "CRDOlder CustomResourceDefinition whisperendpoints.whisper-operator.io"."""


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A whole installation, whose operator runs beside its Deployment's pods, which are simulated."""
    with Cluster.start() as cluster:
        install(cluster, OVERLAY)
        deploy(cluster, OVERLAY)
        cluster.kubectl("create", "serviceaccount", "doctor")
        cluster.kubectl(
            *("create", "clusterrolebinding", "doctor", "--clusterrole=cluster-admin"),
            "--serviceaccount=default:doctor",
        )
        with Operator(cluster) as operator:
            operator.wait_until_working()
            yield cluster


def deploy(cluster: Cluster, folder: str) -> None:
    """The operator's Deployment, which `install` leaves out."""
    rendered = yaml.safe_load_all(cluster.kubectl("kustomize", str(ROOT / "deploy" / folder)))
    cluster.apply(*(each for each in rendered if each["kind"] == "Deployment"))
    wait = ("--for=condition=Available", "--timeout=60s", "deployment/whisper-operator")
    cluster.kubectl("wait", "-n", "whisper-operator", *wait)


def dns(records: Mapping[str, str]) -> Resolve:
    """A DNS of these records; names under .invalid are asked for where this machine asks."""

    def look_up(names: Collection[str]) -> dict[str, Answer]:
        real = resolve([name for name in names if name.endswith(".invalid")])
        known = {name: Answer((records[name],)) for name in names if name in records}
        return {**{name: Answer() for name in names}, **known, **real}

    return look_up


def run(kubeconfig: Path, *arguments: str, records: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit status, and what is printed."""
    parser = ArgumentParser()
    add_to(parser.add_subparsers())
    options = parser.parse_args(["doctor", "--kubeconfig", str(kubeconfig), *arguments])
    output = StringIO()
    return command.run(options, output, dns(records or {})), output.getvalue()


def examine(
    kubeconfig: Path, *arguments: str, records: Mapping[str, str] | None = None
) -> tuple[int, Found, list[str]]:
    """Exit status, findings, and what is well."""
    status, printed = run(kubeconfig, *arguments, "-o", "json", records=records)
    report = json.loads(printed)
    found = {}
    for each in report["findings"]:
        subject = each["subject"]
        path = "/".join(part for part in (subject["namespace"], subject["name"]) if part)
        found[f"{each['code']} {subject['kind']} {path}"] = each
    return status, found, report["well"]


def of_severity(found: Found, severity: str) -> list[str]:
    return [name for name, each in found.items() if each["severity"] == severity]


def doctor(cluster: Cluster) -> Path:
    return cluster.kubeconfig_for(DOCTOR)


@pytest.mark.timeout(300)
def test_nothing_is_wrong_with_a_healthy_cluster(own: Cluster) -> None:
    own.kubectl("create", "namespace", "well")
    host = "well.example.com"
    own.apply(
        endpoint("whisper", "well", host=host, staticIPName="well"),
        endpoint("inner", "well", device="cpu"),
        endpoint("asleep", "well", suspend=True, host="asleep.example.com"),
    )
    address = wait_for_condition(own, "well", "whisper")["status"]["address"]
    for name in ("inner", "asleep"):
        wait_for_condition(own, "well", name)
    for arguments in (("-A",), ("-n", "well"), ("whisper", "-n", "well")):
        status, found, well = examine(doctor(own), *arguments, records={host: address})
        assert of_severity(found, "error") == of_severity(found, "warning") == []
        # Simulated pods have no log.
        assert of_severity(found, "not-checked") == [
            "NotReadable Deployment whisper-operator/whisper-operator"
        ]
        assert status == 0
    words = "\n".join(well)
    assert "is served, as this version of the operator has it" in words
    assert "has the rights that the operator needs" in words
    assert f"{host} resolves to {address}" in words
    assert "4 nodes offer GPU nvidia-tesla-t4" in words
    assert "WhisperEndpoint well/whisper is ready. The current spec is served, with all it asks for." in words
    status, text = run(doctor(own), "-n", "well", records={host: address})
    assert status == 0
    assert re.search(r"^Nothing is wrong with \d+ things that were looked at: -v says what.$", text, re.M)
    own.kubectl("delete", "namespace", "well")


def broken_node(cluster: Cluster) -> None:
    """One whose driver was never installed."""
    (node,) = cluster.get("nodes", "-l", "cloud.google.com/gke-nodepool=t4-spot")["items"]
    labels = {**node["metadata"]["labels"], "cloud.google.com/gke-accelerator": A100}
    name = "gke-devcluster-a100-0"
    labels = {key: each for key, each in labels.items() if "spot" not in key} | {
        "kubernetes.io/hostname": name
    }
    capacity = {key: each for key, each in node["status"]["capacity"].items() if key != "nvidia.com/gpu"}
    cluster.kubectl(
        "create", "-f", "-",
        input=json.dumps({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
            "status": {"capacity": capacity, "allocatable": capacity},
        }),
    )  # fmt: skip
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", f"node/{name}")


def older_crd(cluster: Cluster) -> None:
    """One of a version that did not know spec.cors yet."""
    crd = yaml.safe_load((ROOT / "crds" / "whisperendpoints.yaml").read_text())
    del crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["cors"]
    cluster.apply(crd)


def invalid_policy(cluster: Cluster) -> None:
    change = json.dumps({"data": {"policy.yaml": "everywhere: {hosts: ['*']}\nceiling: {gpus: 4}\n"}})
    name = "whisper-operator-policy"
    cluster.kubectl("patch", "configmap", name, "-n", "whisper-operator", "--type=merge", "-p", change)


@pytest.mark.timeout(900)
def test_all_that_is_wrong_with_a_cluster_is_named(own: Cluster) -> None:
    for name in ("sick", "poor", "crypt", SECOND):
        own.kubectl("create", "namespace", name)
    configure(certificates="FailedCaaForbidden")(own, "crypt")
    quota(**{"requests.nvidia.com/gpu": "1"})(own, "poor")
    broken_node(own)
    own.apply(
        endpoint("scaled", "sick", autoscaling={"max": 3}),
        endpoint("addressless", "sick", device="cpu", host="addressless.example.com", staticIPName="nosuch"),
        endpoint("elsewhere", "sick", device="cpu", host="elsewhere.example.com"),
        endpoint("nowhere", "sick", device="cpu", host="nowhere.invalid"),
        endpoint("driverless", "sick", accelerator={"type": A100}),
        endpoint("imageless", "sick", **simulated("image-pull")),
        endpoint("forbidden", "crypt", device="cpu", host="forbidden.example.com"),
        endpoint("greedy", "poor", replicas=2),
    )
    addresses = {
        host: wait_for_condition(own, host[0], host[1], "AddressAssigned")["status"]["address"]
        for host in (("sick", "elsewhere"), ("sick", "nowhere"), ("crypt", "forbidden"))
    }
    wait_for_condition(own, "sick", "addressless", "Ready", "False", "StaticIPNotFound")
    wait_for_condition(own, "crypt", "forbidden", "Stalled", "True", "FailedCaaForbidden")
    wait_for_condition(own, "sick", "imageless", "Ready", "False", "ImagePullFailed")
    wait_for_condition(own, "sick", "driverless", "Ready", "False", "Unschedulable")
    wait_for_condition(own, "poor", "greedy", "Ready", "False", "QuotaExceeded")
    wait_for_condition(own, "sick", "scaled", "AutoscalingReady", "False", "NoMetricsAPI")
    install_second(own)
    records = {
        "elsewhere.example.com": "203.0.113.7",
        "forbidden.example.com": addresses["crypt", "forbidden"],
    }
    with Operator(own, name="second", namespace=SECOND) as second:
        until(lambda: "Another installation" in second.ask("/readyz")[1], "the second gives way")
        invalid_policy(own)
        older_crd(own)
        with without_right(own, "poddisruptionbudgets"):
            status, found, _ = examine(doctor(own), "-A", records=records)
            of_one, about_one, _ = examine(doctor(own), "forbidden", "-n", "crypt", records=records)
            _, text = run(doctor(own), "-A", records=records)
    policy = "PolicyInvalid ConfigMap whisper-operator/whisper-operator-policy"
    errors = {
        "CRDOlder CustomResourceDefinition whisperendpoints.whisper-operator.io": "it lacks spec.cors",
        "OperatorLacksRights ServiceAccount whisper-operator/whisper-operator": "poddisruptionbudgets.policy",
        policy: "unknown field 'ceiling': did you mean ceilings?",
        f"InstallationsOverlap Installation {SECOND}": "The one in namespace whisper-operator has the cluster",
        "MetricsAPIMissing APIService custom.metrics.k8s.io": "nothing serves custom.metrics.k8s.io",
        "StaticIPNotFound WhisperEndpoint sick/addressless": "the project has no address named nosuch",
        "DNSPointsElsewhere Host sick/elsewhere.example.com": "resolves to 203.0.113.7",
        "DNSRecordMissing Host sick/nowhere.invalid": f"has {addresses['sick', 'nowhere']}",
        "QuotaTooSmall ResourceQuota poor/q": "requests.nvidia.com/gpu: 1 a pod, and 0 free of 1",
        "QuotaExceeded WhisperEndpoint poor/greedy": "no room",
    }
    certificate = next(
        name for name in found if name.startswith("FailedCaaForbidden ManagedCertificate crypt/")
    )
    errors[certificate] = "allow pki.goog"
    warnings = {
        f"GPUDriverMissing GPU {A100}": "Node gke-devcluster-a100-0 has the label",  # it is too young for an error
        "ImagePullFailed WhisperEndpoint sick/imageless": "can't pull the image",  # yet
    }
    for name, words in {**errors, **warnings}.items():
        assert found[name]["severity"] == ("error" if name in errors else "warning"), name
        assert words in found[name]["problem"], name
    assert set(of_severity(found, "error")) == set(errors)
    assert status == 1
    assert found["DNSRecordMissing Host sick/nowhere.invalid"]["command"] == (
        "gcloud dns record-sets create nowhere.invalid. --zone=ZONE --type=A --ttl=300 "
        f"--rrdatas={addresses['sick', 'nowhere']}"
    )
    # The gravest first.
    heads = re.findall(r"^(ERROR|WARNING|NOT CHECKED)", text, re.M)
    assert heads == sorted(heads, key=("ERROR", "WARNING", "NOT CHECKED").index)
    assert len(heads) == len(found)
    assert text.endswith(
        f"{len(errors)} errors, {heads.count('WARNING')} warnings, {heads.count('NOT CHECKED')} not checked.\n"
    )
    # Of one endpoint, what is its own and the installation's.
    assert certificate in about_one
    assert policy in about_one
    assert not any("sick" in name or "poor" in name or name.startswith("MetricsAPI") for name in about_one)
    assert of_one == 1


@pytest.mark.timeout(300)
def test_before_anything_is_installed_and_for_some_namespaces_only() -> None:
    with Cluster.start() as cluster:
        status, found, _ = examine(cluster.kubeconfig, "-A")
        assert list(found) == [
            "CRDMissing CustomResourceDefinition whisperendpoints.whisper-operator.io",
            "OperatorMissing Deployment whisper-operator",
        ]
        assert status == 1
        for name in ("asr", "other"):
            cluster.kubectl("create", "namespace", name)
        install(cluster, "overlays/namespaced")
        deploy(cluster, "overlays/namespaced")
        with Operator(cluster, {"namespaces": ["asr"]}) as operator:
            operator.wait_until_working()
            cluster.apply(
                endpoint("whisper", "asr", device="cpu"), endpoint("whisper", "other", device="cpu")
            )
            wait_for_condition(cluster, "asr", "whisper")
            status, found, well = examine(cluster.kubeconfig, "-A")
            assert of_severity(found, "error") == ["EndpointNotLookedAfter WhisperEndpoint other/whisper"]
            assert of_severity(found, "warning") == []
            account = "ServiceAccount whisper-operator/whisper-operator"
            assert f"{account} has the rights that the operator needs" in well
            assert examine(cluster.kubeconfig, "-n", "asr")[0] == 0
            cluster.kubectl("delete", "rolebinding", "whisper-operator", "-n", "asr")
            _, found, _ = examine(cluster.kubeconfig, "-n", "asr")
            lacking = found[f"OperatorLacksRights {account}"]["problem"]
            assert "get, list, watch, create, patch, delete services in namespace asr" in lacking
            assert "leases" not in lacking


def test_nothing_is_written_and_no_secret_is_read(own: Cluster) -> None:
    own.apply(endpoint("plain", "default", device="cpu"))
    wait_for_condition(own, "default", "plain")
    examine(doctor(own), "-A")
    asked = own.audit(user=DOCTOR)
    assert {event.verb for event in asked} == {"get", "list", "create"}
    assert {event.resource for event in asked if event.verb == "create"} == {
        "authorization.k8s.io/subjectaccessreviews"
    }
    assert "secrets" not in {event.resource for event in asked}
    assert "whisper-operator.io/whisperendpoints" in {event.resource for event in asked}


def test_who_may_read_one_namespace_hears_of_it_and_of_what_was_not_checked(own: Cluster) -> None:
    own.kubectl("create", "namespace", "team")
    own.kubectl("create", "serviceaccount", "team", "-n", "team")
    own.kubectl(
        "create", "rolebinding", "view", "-n", "team", "--clusterrole=view", "--serviceaccount=team:team"
    )
    configure(missingStaticIPs="team-ip")(own, "team")
    own.apply(endpoint("whisper", "team", host="team.example.com", staticIPName="team-ip", device="cpu"))
    wait_for_condition(own, "team", "whisper", "Ready", "False", "StaticIPNotFound")
    kubeconfig = own.kubeconfig_for("system:serviceaccount:team:team")
    status, found, _ = examine(kubeconfig, "-n", "team")
    assert of_severity(found, "error") == ["StaticIPNotFound WhisperEndpoint team/whisper"]
    assert status == 1
    unseen = [found[name]["problem"] for name in of_severity(found, "not-checked")]
    assert (
        "Operator: not checked: needs the right to get deployments.apps whisper-operator in namespace whisper-operator"
        in unseen
    )
    assert any(
        each.startswith("CRD: not checked: needs the right to get customresourcedefinitions")
        for each in unseen
    )
    parts = next(each for each in unseen if each.startswith("What endpoints are made of: not checked: "))
    assert "list managedcertificates.networking.gke.io in namespace team" in parts
    assert "list deployments" not in parts
    # Elsewhere it may read nothing at all, and is told so in one line.
    for arguments, right in ((("-n", "default"), "in namespace default"), (("-A",), "in the whole cluster")):
        with pytest.raises(NoCluster, match=rf"you have not even the right to list .* {right}$"):
            run(kubeconfig, *arguments)
    with pytest.raises(NoCluster, match="there is no WhisperEndpoint nope in namespace team"):
        run(kubeconfig, "nope", "-n", "team")


@pytest.mark.timeout(300)
def test_a_kind_that_fails_stops_none_of_the_rest(own: Cluster) -> None:
    own.kubectl("create", "namespace", "failing")
    configure(missingStaticIPs="failing-ip")(own, "failing")
    own.apply(
        endpoint("whisper", "failing", host="failing.example.com", staticIPName="failing-ip", device="cpu")
    )
    wait_for_condition(own, "failing", "whisper", "Ready", "False", "StaticIPNotFound")
    with FaultProxy(own) as proxy:
        kubeconfig = yaml.safe_load(doctor(own).read_text())
        kubeconfig["clusters"][0]["cluster"] = {"server": proxy.url}
        path = own.folder / "doctor.kubeconfig"
        path.write_text(yaml.safe_dump(kubeconfig))
        for fault in ("503", "cut"):
            with (
                proxy.always(fault, "/pods"),
                proxy.always(fault, "/customresourcedefinitions/whisperendpoints.whisper-operator.io"),
            ):
                _, found, _ = examine(path, "-n", "failing")
            assert "StaticIPNotFound WhisperEndpoint failing/whisper" in found
            crd = found["NotReadable CustomResourceDefinition whisperendpoints.whisper-operator.io"]
            assert crd["severity"] == "not-checked"
            assert "list pods" in found["NotReadable What endpoints are made of "]["problem"]
            assert live(own, "failing", "whisper")["status"]["conditions"]
    with pytest.raises(
        NoCluster, match=r"^can't reach the API server http://127.0.0.1:\d+: GET /version: "
    ) as raised:
        run(path, "-A")
    assert "\n" not in str(raised.value)
