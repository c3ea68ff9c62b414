"""Faults that the development cluster does not bring about, and messages that outlive the events they came from."""

from typing import Any

import pytest
from whisper_operator.kube.kinds import (
    AUTOSCALER,
    DEPLOYMENT,
)
from whisper_operator.observed.pods import Pod, Trouble
from whisper_operator.observed.warnings import Warning
from whisper_operator.status.condition import Condition

from tests.unit.telling import NOTHING_READY, SERVING, child, pod, ready, said, said_of_status


@pytest.mark.parametrize(
    ("trouble", "reason", "words", "needs_action"),
    [
        (
            Trouble("Crash", "server", "2", "WHISPER_PORT=x", True),
            "ServerSettingsInvalid",
            "WHISPER_PORT=x",
            True,
        ),
        (Trouble("Crash", "server", "3", "no such file", True), "ModelNotLoaded", "model large-v3", True),
        (Trouble("Crash", "server", "3", "no CUDA", False), "DeviceUnusable", "driver", False),
        (Trouble("Crash", "server", "1", "", True), "CrashLooping", "kubectl logs -n n w-1 -c server", True),
        (Trouble("Crash", "sidecar", "3", "x", True), "CrashLooping", "container sidecar", True),
        (Trouble("Crash", "download", "1", "timed out", True), "ModelDownloadFailed", "internet", True),
        (Trouble("NotCreated", "server", "X", 'secret "s" not found'), "SecretMissing", "Secret s", True),
        (Trouble("NotCreated", "server", "X", "bad path"), "ContainerNotCreated", "bad path", True),
        (
            Trouble("Failed", "", "UnexpectedAdmissionError", "no healthy devices"),
            "DeviceUnusable",
            "plugin",
            True,
        ),
        (Trouble("Failed", "", "Evicted", "low on disk."), "PodEvicted", "ephemeral-storage", False),
        (Trouble("Failed", "", "OutOfcpu", "no room"), "PodFailed", "no room", False),
        (
            Trouble("Unschedulable", words="pod has unbound immediate PersistentVolumeClaims"),
            "VolumeClaimPending",
            "kubectl describe pvc -n n",
            False,
        ),
    ],
)
def test_what_is_wrong_with_a_pod(trouble: Trouble, reason: str, words: str, needs_action: bool) -> None:
    found = ready(pod(trouble))
    assert (found.reason, found.needs_action) == (reason, needs_action)
    assert words in found.message


def test_a_living_pod_tells_more_than_a_failed_one() -> None:
    corpse = pod(Trouble("Failed", "", "Evicted", "x"), name="a")
    assert ready(corpse, pod(Trouble("OutOfMemory", "server"), name="b")).reason == "OutOfMemory"
    assert ready(corpse, pod(name="b")).reason == "PodEvicted"


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_what_a_person_has_to_mend_comes_before_what_mends_itself(names: tuple[str, str]) -> None:
    """Names of pods are random: which comes first by name is no reason."""
    waiting = pod(Trouble("Unschedulable", words="0/3 nodes"), name=names[0])
    crashing = pod(Trouble("Crash", "server", "1", "", True), name=names[1])
    found = ready(waiting, crashing)
    assert (found.reason, found.needs_action) == ("CrashLooping", True)
    # Among the living: of a corpse, nobody knows whether the next pod fares as badly.
    corpse = pod(Trouble("Failed", "", "UnexpectedAdmissionError", "no healthy devices"), name=names[1])
    assert ready(waiting, corpse).reason == "Unschedulable"


def test_a_pod_that_serves_or_is_not_wanted_is_no_fault() -> None:
    crashing = pod(Trouble("Crash", "server", "1"))
    assert ready(crashing, deployment=SERVING).reason == "Ready"
    assert ready(pod()).reason == "RollingOut"


def test_mounting_is_normal_until_somebody_complains() -> None:
    starting = pod(starting=True)
    assert ready(starting).reason == "RollingOut"
    slow = Warning("w-1", "FailedMount", "Unable to attach or mount volumes: timed out")
    assert ready(starting, warnings=(slow,)).reason == "VolumeNotMounted"
    named = Warning("w-1", "FailedMount", 'MountVolume.SetUp failed for volume "k" : secret "s" not found')
    found = ready(starting, warnings=(slow, named))
    assert found.reason == "SecretMissing"
    # The events expire, and nothing else has changed.
    assert ready(starting, before=said(found)) == found
    # Evidence to the contrary: the pod has got further, or is another one, or the spec is another.
    assert ready(pod(), before=said(found)).reason == "RollingOut"
    assert ready(pod(name="w-2", starting=True), before=said(found)).reason == "RollingOut"
    changed = {"conditions": [{**said(found)["conditions"][0], "observedGeneration": 0}]}
    assert ready(starting, before=changed).reason == "RollingOut"


def test_the_cause_of_a_failed_pull_outlives_its_event() -> None:
    pulling = pod(Trouble("ImagePull", "server", "img:1"))
    causes = (not_pulled("denied", "12:00:10"), not_pulled("reset", "12:00:00"))
    found = ready(pulling, warnings=causes)
    assert "(denied)" in found.message  # it was said last
    assert ready(pulling, before=said(found)) == found
    other = pod(Trouble("ImagePull", "server", "img:2"), name="w-2")
    assert "denied" not in ready(other, before=said(found)).message


def not_pulled(cause: str, at: str, since: str = "12:00:00") -> Warning:
    words = f'Failed to pull image "img:1": {cause}'
    return Warning("w-1", "Failed", words, f"2026-01-31T{at}Z", f"2026-01-31T{since}Z")


def test_a_registry_that_fails_for_a_moment_is_no_reason_to_act() -> None:
    """The kubelet tries after 10, 30, 70 and 150 s."""
    pulling = pod(Trouble("ImagePull", "server", "img:1"))
    two = (not_pulled("reset by 1", "12:00:00"), not_pulled("reset by 2", "12:02:30", "12:02:30"))
    for warnings, needs_action in (
        ((not_pulled("reset", "12:00:00"),), False),
        ((not_pulled("reset", "12:01:10"),), False),
        ((not_pulled("reset", "12:02:30"),), True),
        (two, True),  # words of its own for each try
    ):
        found = ready(pulling, warnings=warnings)
        assert (found.reason, found.needs_action) == ("ImagePullFailed", needs_action)
    # Once it lasts it stays so for this pod, though its events expire; another pod begins anew.
    before = said_of_status(found)
    assert ready(pulling, before=before) == found
    assert ready(pulling, before=before, warnings=(not_pulled("reset", "12:59:00", "12:59:00"),)).needs_action
    other = pod(Trouble("ImagePull", "server", "img:1"), name="w-2")
    assert not ready(other, before=before).needs_action
    # What no try can mend is for a person at once.
    assert ready(pod(Trouble("ImagePull", "server", "IMG", again=True))).needs_action


def test_a_missing_pull_secret_is_named() -> None:
    pulling = pod(Trouble("ImagePull", "server", "img:1"))
    words = (
        "Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed."
    )
    found = ready(pulling, warnings=(Warning("w-1", "FailedToRetrieveImagePullSecret", words),))
    assert found.reason == "SecretMissing"
    assert "kubectl create secret docker-registry -n n regcred" in found.message


@pytest.mark.parametrize(
    ("missed", "reason", "words"),
    [
        (
            "12:00:00",
            "ImagePullFailed",
            "(401 Unauthorized)",
        ),  # somebody has made it since, with a wrong password
        ("12:39:58", "SecretMissing", "regcred"),  # said right before the pull that failed for want of it
        ("12:41:00", "SecretMissing", "regcred"),
    ],
)
def test_a_pull_secret_that_is_there_by_now_is_not_said_to_be_missing(
    missed: str, reason: str, words: str
) -> None:
    event = {
        "reason": "FailedToRetrieveImagePullSecret",
        "message": "Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed.",
        "involvedObject": {"uid": "w-1"},
        "lastTimestamp": f"2026-01-31T{missed}Z",
    }
    pulling = pod(Trouble("ImagePull", "server", "img:1"))
    found = ready(pulling, warnings=(Warning.of(event), not_pulled("401 Unauthorized", "12:40:00")))
    assert found.reason == reason
    assert words in found.message


@pytest.mark.parametrize(
    ("spec", "proposed"),
    [
        ({}, "rollout: Recreate."),
        (
            {"autoscaling": {"min": 2, "max": 3}},
            "rollout: RollingRecreate, by which one replica stops at a time",
        ),
        ({"autoscaling": {"min": 1, "max": 3}}, "rollout: Recreate."),
        ({"rollout": "Recreate"}, ""),
        ({"rollout": "RollingRecreate"}, ""),
        ({"device": "cpu"}, ""),
    ],
)
def test_what_needs_no_other_gpu_is_proposed_where_it_would_help(spec: dict[str, Any], proposed: str) -> None:
    late = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
    found = ready(pod(), deployment={**NOTHING_READY, "conditions": late}, **spec)
    assert found.reason == "RolloutStuck"
    assert proposed in found.message
    assert ("rollout: R" in found.message) is bool(proposed)


def test_another_exit_status_is_told() -> None:
    def crashing(status: str, words: str = "") -> Pod:
        return pod(Trouble("Crash", "server", status, words, True))

    found = ready(crashing("1", "at 0x7f01 of 12"))
    assert ready(crashing("1", "at 0x7f99 of 13"), before=said(found)) == found
    other = ready(crashing("139", "at 0x7f01 of 12"), before=said(found))
    assert "exit status 139" in other.message


def test_figures_that_change_are_not_told_again() -> None:
    def waiting(nodes: int) -> Pod:
        return pod(Trouble("Unschedulable", words=f"0/{nodes} nodes are available: {nodes} too small."))

    found = ready(waiting(7))
    assert ready(waiting(8), before=said(found)) == found
    assert ready(pod(Trouble("Unschedulable", words="another reason")), before=said(found)) != found


NODES = "0/{} nodes are available: {}. preemption: 0/{} nodes are available: {} Preemption is not helpful."
TEN = NODES.format(10, "1 node(s) had untolerated taint {gpu: }, 9 Insufficient nvidia.com/gpu", 10, 10)
ELEVEN = NODES.format(11, "10 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint {gpu: }", 11, 11)


@pytest.mark.parametrize("late", [False, True])
def test_the_order_that_figures_bring_about_is_no_news(late: bool) -> None:
    """The scheduler sorts its reasons as texts, "10 ..." before "9 ..."."""
    words = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
    deployment = {**NOTHING_READY, "conditions": words if late else []}
    found = ready(pod(Trouble("Unschedulable", words=TEN)), deployment=deployment)
    assert found.reason == ("RolloutStuck" if late else "Unschedulable")
    again = ready(
        pod(Trouble("Unschedulable", words=ELEVEN)), deployment=deployment, before=said_of_status(found)
    )
    assert again == found


def test_nor_is_it_for_replicas_beyond_the_least() -> None:
    five = {**SERVING, "replicas": 5, "updatedReplicas": 5}
    scaled: dict[str, Any] = {"autoscaling": {"max": 5}}
    active = {"conditions": [{"type": "ScalingActive", "status": "True"}]}
    others = (child(DEPLOYMENT, five, spec={"replicas": 5}), child(AUTOSCALER, active))

    def told(words: str, before: dict[str, Any] | None = None) -> Condition:
        waiting = pod(Trouble("Unschedulable", words=words))
        return ready(waiting, deployment=five, others=others, before=before, **scaled)

    found = told(TEN)
    assert found.message.startswith("The autoscaler asks for 5 replicas, and 1 serve. Pod w-1 ")
    assert told(ELEVEN, before=said_of_status(found)) == found


def not_scaled(words: str, at: str, zone: str = "a") -> Warning:
    words = f"Node scale up in zones {zone} associated with this pod failed: {words}."
    return Warning("w-1", "FailedScaleUp", words, f"2026-01-31T{at}Z", f"2026-01-31T{at}Z")


QUOTA, STOCK = "GCE quota exceeded", "GCE out of resources"


@pytest.mark.parametrize(
    ("warnings", "reason"),
    [
        ((not_scaled(QUOTA, "11:00:00"), not_scaled(STOCK, "12:00:00")), "OutOfStock"),
        ((not_scaled(STOCK, "11:00:00"), not_scaled(QUOTA, "12:00:00")), "NoGPUQuota"),
        # As long as one zone may have some again, there is nothing that somebody has to do; and no to and fro.
        ((not_scaled(STOCK, "12:00:00"), not_scaled(QUOTA, "12:00:01", "b")), "OutOfStock"),
        ((not_scaled(STOCK, "12:00:01"), not_scaled(QUOTA, "12:00:00", "b")), "OutOfStock"),
    ],
)
def test_what_the_autoscaler_said_last_counts(warnings: tuple[Warning, ...], reason: str) -> None:
    found = ready(pod(Trouble("Unschedulable", words="0/3 nodes")), warnings=warnings)
    assert found.reason == reason
    assert ready(pod(Trouble("Unschedulable", words="0/3 nodes")), warnings=warnings[::-1]) == found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=0, limited: 0",
            ("QuotaExceeded", "ResourceQuota gpus has no room"),
        ),
        (
            "failed quota: cpus: must specify limits.cpu for: server; requests.cpu for: server",
            ("PodsRefused", "ResourceQuota cpus", "set spec.resources.limits.cpu and spec.resources.requests.cpu"),
        ),
        (
            "[maximum memory usage per Container is 8Gi, but limit is 24Gi, minimum cpu usage per Pod is 5, but request is 4]",
            ("PodsRefused", "LimitRange of namespace n", "spec.resources.limits.memory and spec.resources.requests.cpu",
             "kubectl describe limitrange -n n"),
        ),
        (
            "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
            ("PodsRefused", "LimitRange", "change spec.resources.limits.cpu"),
        ),
        ("violates PodSecurity", ("PodsRefused", "violates PodSecurity")),
    ],
)  # fmt: skip
def test_who_refuses_pods_is_named_and_what_to_set(words: str, said: tuple[str, ...]) -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": f'pods "w-x" is forbidden: {words}'}
    found = ready(deployment={**NOTHING_READY, "conditions": [failure]})
    assert (found.reason, found.needs_action) == (said[0], True)
    for each in said[1:]:
        assert each in found.message


def test_a_quota_of_the_project_is_told_from_a_stockout() -> None:
    waiting = pod(Trouble("Unschedulable", words="0/3 nodes"))
    quota = Warning("w-1", "FailedScaleUp", "failed: GCE quota exceeded.")
    found = ready(waiting, warnings=(quota,))
    assert (found.reason, found.needs_action) == ("NoGPUQuota", True)
    assert ready(waiting, before=said(found)) == found
    machines = ready(waiting, warnings=(quota,), device="cpu")
    assert (machines.reason, machines.needs_action) == ("NoQuota", True)
    assert ready(waiting, before=said(machines), device="cpu") == machines
    stock = Warning("w-1", "FailedScaleUp", "failed: GCE out of resources.")
    assert (ready(waiting, warnings=(stock,)).reason, found.needs_action) == ("OutOfStock", True)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"accelerator": {"spot": True}}, "25 s notice"),
        ({"accelerator": {"spot": True}, "limits": {"requestTimeoutSeconds": 20}}, None),
        ({"limits": {"requestTimeoutSeconds": 601}}, "600 s at most"),
        ({}, None),
    ],
)
def test_requests_that_outlast_what_a_node_allows_are_pointed_out(
    spec: dict[str, Any], words: str | None
) -> None:
    found = ready(deployment=SERVING, **spec)
    assert found.status == "True"
    assert ("Mind" in found.message) is (words is not None)
    assert words is None or words in found.message
