"""What doctor says of what an endpoint takes of its cluster: metrics, nodes with its GPU, and quotas."""

from typing import Any

import pytest
from whisper_operator.config import parse as settings_of
from whisper_operator.doctor.facts import Answer
from whisper_operator.doctor.finding import Gap
from whisper_operator.kube.kinds import AUTOSCALER, DEPLOYMENT, SERVICE, Kind

from tests.unit.diagnosing import (
    ADDRESS,
    CPU,
    FORBIDDEN,
    HOST,
    NODE,
    READY,
    RUNS,
    child,
    condition,
    deployed,
    endpoint,
    facts,
    found,
    installation,
    on_gpu,
    public,
    raw,
    served,
    well,
)
from tests.unit.making import Body


def scaled(**spec: Any) -> Body:
    return endpoint(conditions=(READY,), autoscaling={"max": 3}, **spec)


def scaling() -> dict[Kind, Any]:
    """An autoscaler that has nothing to complain of, so that only what serves the metrics is."""
    status = {"conditions": [condition("ScalingActive", "True"), condition("AbleToScale", "True")]}
    return {
        DEPLOYMENT: (deployed(),),
        SERVICE: (child(SERVICE),),
        AUTOSCALER: (child(AUTOSCALER, spec={}, status=status),),
    }


def service(group: str, available: str = "True", message: str = "") -> Body:
    state = condition("Available", available, "", message)
    return raw(f"v1.{group}", "", spec={"group": group}, status={"conditions": [state]})


def test_metrics_that_nothing_serves() -> None:
    given = facts(scaled(), objects=scaling(), nodes=(NODE,))
    finding = found(given)["MetricsAPIMissing"]
    assert (finding.severity, str(finding.subject)) == ("error", "APIService custom.metrics.k8s.io")
    assert "prometheus-adapter" in finding.advice
    of_cpu = found(facts(scaled(**CPU), objects=scaling()))["MetricsAPIMissing"]
    assert (str(of_cpu.subject), "Install metrics-server" in of_cpu.advice) == (
        "APIService metrics.k8s.io",
        True,
    )
    down = service("custom.metrics.k8s.io", "False", "no endpoints")
    finding = found(facts(scaled(), objects=scaling(), nodes=(NODE,), api_services=(down,)))[
        "MetricsAPIUnavailable"
    ]
    assert "does not answer (no endpoints)" in finding.problem
    assert finding.command == "kubectl describe apiservice v1.custom.metrics.k8s.io"
    up = facts(
        scaled(), objects=scaling(), nodes=(NODE,), api_services=(down, service("custom.metrics.k8s.io"))
    )
    assert found(up) == {}
    assert "NotPermitted" in found(facts(scaled(), objects=scaling(), nodes=(NODE,), api_services=FORBIDDEN))
    assert found(facts(public(), objects=served(), api_services=FORBIDDEN), {HOST: Answer((ADDRESS,))}) == {}


def node(name: str, **status: Any) -> Body:
    return {**NODE, "metadata": {**NODE["metadata"], "name": name}, "status": {**NODE["status"], **status}}


def test_nodes_with_the_gpu() -> None:
    assert found(facts(on_gpu(), objects=RUNS, nodes=(NODE,))) == {}
    assert "1 node offers GPU nvidia-tesla-t4" in well(facts(on_gpu(), objects=RUNS, nodes=(NODE,)))
    missing = found(facts(on_gpu(), objects=RUNS))["GPUNodesMissing"]
    assert missing.severity == "warning"
    assert "cloud.google.com/gke-accelerator=nvidia-tesla-t4" in missing.problem
    assert "--accelerator=type=nvidia-tesla-t4,count=1,gpu-driver-version=latest" in missing.command
    spot = found(facts(on_gpu(accelerator={"spot": True}), objects=RUNS, nodes=(NODE,)))["GPUNodesMissing"]
    assert str(spot.subject) == "GPU nvidia-tesla-t4 (spot)"
    cordoned = {**NODE, "spec": {"unschedulable": True}}
    lost = node("n2", conditions=[condition("Ready", "Unknown")])
    finding = found(facts(on_gpu(), objects=RUNS, nodes=(cordoned, lost)))["GPUNodesNotReady"]
    assert (finding.severity, "n1, n2" in finding.problem) == ("error", True)
    unread = found(facts(on_gpu(), objects=RUNS, nodes=FORBIDDEN))
    assert unread["NotPermitted"].problem.startswith("GPU nodes: not checked")


def test_nodes_without_a_driver() -> None:
    broken = node("n2", allocatable={"cpu": "8"})
    one = found(facts(on_gpu(), objects=RUNS, nodes=(NODE, broken)))["GPUDriverMissing"]
    assert (one.severity, "1 of 2 such nodes can give one" in one.problem) == ("warning", True)
    finding = found(facts(on_gpu(), objects=RUNS, nodes=(broken,)))["GPUDriverMissing"]
    assert finding.severity == "error"
    assert finding.problem.startswith(
        "Node n2 has the label cloud.google.com/gke-accelerator=nvidia-tesla-t4 and no nvidia.com/gpu to give"
    )
    young = {**broken, "metadata": {**broken["metadata"], "creationTimestamp": "2026-03-01T11:55:00Z"}}
    assert found(facts(on_gpu(), objects=RUNS, nodes=(young,)))["GPUDriverMissing"].severity == "warning"


def test_the_installations_own_gpus() -> None:
    table = settings_of(
        {"accelerators": {"rtx": {"nodeSelector": {"gpu": "rtx"}, "resource": "example.com/gpu"}}}
    )
    own = (installation(settings=table),)
    given = on_gpu(accelerator={"type": "rtx"}, image="x")
    rtx = {**NODE, "metadata": {**NODE["metadata"], "labels": {"gpu": "rtx"}}}
    finding = found(facts(given, objects=RUNS, nodes=(rtx,), installations=own))["GPUDriverMissing"]
    assert finding.command == "kubectl describe node n1"
    unread = (installation(settings=None),)
    unknown = found(facts(on_gpu(), objects=RUNS, nodes=(NODE,), installations=unread))
    assert "needs the right to read the installation's configuration" in unknown["NotPermitted"].problem


def quota(hard: Body, used: Body, **spec: Any) -> Body:
    return raw("q", spec=spec, status={"hard": hard, "used": used})


@pytest.mark.parametrize(
    ("hard", "used", "words"),
    [
        ({"requests.nvidia.com/gpu": "2"}, {"requests.nvidia.com/gpu": "2"}, "requests.nvidia.com/gpu: 1 a pod, and 0 free of 2"),
        ({"pods": "3"}, {"pods": "2"}, "pods: 1 a pod, and 1 free of 3"),
        ({"memory": "40Gi"}, {"memory": "24Gi"}, "memory: 24Gi a pod, and 16Gi free of 40Gi"),
        ({"limits.memory": "40Gi"}, {"limits.memory": "24Gi"}, "limits.memory: 24Gi a pod"),
        ({"requests.cpu": "7500m"}, {"requests.cpu": "4"}, "requests.cpu: 4 a pod, and 3.5 free of 7500m"),
    ],
)  # fmt: skip
def test_a_quota_that_is_too_small(hard: Body, used: Body, words: str) -> None:
    objects = {**RUNS, DEPLOYMENT: (deployed(wanted=3, there=1),)}
    given = facts(on_gpu(replicas=3), objects=objects, nodes=(NODE,), quotas=(quota(hard, used),))
    finding = found(given)["QuotaTooSmall"]
    assert "WhisperEndpoint asr/whisper lacks 2 of 3 replicas" in finding.problem
    assert words in finding.problem
    assert finding.command == "kubectl describe resourcequota -n asr q"


def test_a_quota_with_room_or_of_no_concern() -> None:
    objects = {**RUNS, DEPLOYMENT: (deployed(wanted=3, there=1),)}
    full = {"hard": {"requests.nvidia.com/gpu": "2"}, "used": {"requests.nvidia.com/gpu": "2"}}
    for each in (
        quota({"requests.nvidia.com/gpu": "4"}, {"requests.nvidia.com/gpu": "2"}),
        quota({"services": "0"}, {}),
        quota(full["hard"], full["used"], scopes=["BestEffort"]),
        {**quota(full["hard"], full["used"]), "metadata": raw("q", "elsewhere")["metadata"]},
    ):
        given = facts(on_gpu(replicas=3), objects=objects, nodes=(NODE,), quotas=(each,))
        assert "QuotaTooSmall" not in found(given)
    unread = found(facts(on_gpu(), objects=RUNS, nodes=(NODE,), quotas=Gap("list resourcequotas", "")))
    assert unread["NotPermitted"].problem == "Quotas: not checked: needs the right to list resourcequotas"


def test_a_quota_without_room_for_a_change() -> None:
    rolling = deployed(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}})
    full = quota({"requests.nvidia.com/gpu": "1"}, {"requests.nvidia.com/gpu": "1"})
    given = facts(on_gpu(), objects={**RUNS, DEPLOYMENT: (rolling,)}, nodes=(NODE,), quotas=(full,))
    finding = found(given)["QuotaWithoutSurge"]
    assert (finding.severity, "a change of it will not go out" in finding.problem) == ("warning", True)
    # Whatever the quota counts, be it a GPU of another maker's or pods.
    for name, amount in (("pods", "1"), ("requests.memory", "24Gi")):
        scarce = quota({name: amount}, {name: amount})
        given = facts(on_gpu(), objects={**RUNS, DEPLOYMENT: (rolling,)}, nodes=(NODE,), quotas=(scarce,))
        assert f"({name}: " in found(given)["QuotaWithoutSurge"].problem
    under_way = {**rolling, "status": {**rolling["status"], "replicas": 2}}
    given = facts(on_gpu(), objects={**RUNS, DEPLOYMENT: (under_way,)}, nodes=(NODE,), quotas=(full,))
    assert set(found(given)) == {"RollingOut"}, "the new pod is there"
    recreate = deployed(strategy={"type": "Recreate"})
    assert (
        found(facts(on_gpu(), objects={**RUNS, DEPLOYMENT: (recreate,)}, nodes=(NODE,), quotas=(full,))) == {}
    )
