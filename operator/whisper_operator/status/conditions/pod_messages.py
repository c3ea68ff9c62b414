"""The words for what may be wrong with pods: what it is, in which pod, and what to do about it."""

import re
from dataclasses import dataclass

from whisper_operator.observed.pods import Trouble
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.status.condition import Fault

PASSING = {"OutOfStock", "Unschedulable", "VolumeNotMounted", "VolumeClaimPending"}
"""Reasons of what may pass without anybody's doing."""

WRONG_SETTINGS, NO_MODEL = "2", "3"
"""The server's exit statuses; other containers, which somebody may have added, have their own."""


RECREATE = "rollout: Recreate"
ONE_BY_ONE = "rollout: RollingRecreate, by which one replica stops at a time and the others serve"


@dataclass(frozen=True)
class About:
    """What messages name of an endpoint, which need not be readable any more."""

    namespace: str
    memory: str
    model: str
    gpu: str | None
    without_spare: str
    """The rollout to propose where one more GPU is not to be had; "" where a change takes none."""

    @staticmethod
    def of(endpoint: WhisperEndpoint | SpecError | None, namespace: str) -> "About":
        if not isinstance(endpoint, WhisperEndpoint):
            return About(namespace, "its limit", "the model", None, RECREATE)
        return About(
            namespace,
            endpoint.resources.limits["memory"],
            f"model {endpoint.model}",
            endpoint.gpu.type if endpoint.gpu else None,
            _without_spare(endpoint),
        )


def _without_spare(endpoint: WhisperEndpoint) -> str:
    if endpoint.rollout != "RollingUpdate":
        return ""
    least = endpoint.autoscaling.minimum if endpoint.autoscaling else endpoint.replicas or 0
    return ONE_BY_ONE if least > 1 else RECREATE


def image_pull(about: About, pod: str, image: str, cause: str, *, needs_action: bool) -> Fault:
    said = f" ({cause})" if cause else ""
    return Fault(
        "ImagePullFailed",
        f"Pod {pod} can't pull the image {image}{said}: push it with `make images`, or correct spec.image; for a registry that "
        f"asks for credentials, name a Secret of namespace {about.namespace} in spec.imagePullSecrets.",
        needs_action=needs_action,
    )


def no_pull_secret(about: About, pod: str, image: str, names: str) -> Fault:
    """`names`: as the kubelet lists them."""
    return Fault(
        "SecretMissing",
        f"Pod {pod} can't pull the image {image}: spec.imagePullSecrets names Secret {names}, which does not exist in namespace "
        f"{about.namespace}: create it with kubectl create secret docker-registry -n {about.namespace} {names.split(',')[0]} "
        "--docker-server=REGISTRY --docker-username=NAME --docker-password=PASSWORD, or correct its name.",
    )


def out_of_memory(about: About, pod: str, trouble: Trouble) -> Fault:
    return Fault(
        "OutOfMemory",
        f"Pod {pod} was killed for using more memory than {about.memory} (OOMKilled, container {trouble.container}): "
        f"{about.model} needs more. Raise spec.resources.limits.memory, or choose a smaller spec.model.",
        needs_action=trouble.again,
    )


def crashed(about: About, pod: str, trouble: Trouble) -> Fault:
    says = f': "{trouble.words}"' if trouble.words else "."
    logs = f"kubectl logs -n {about.namespace} {pod} -c {trouble.container} --previous"
    if trouble.container == "download":
        return Fault(
            "ModelDownloadFailed",
            f"Pod {pod} could not download {about.model}{says} See {logs}; check that the cluster's way to the internet is open, "
            "and that spec.modelVolume is large enough.",
            trouble.again,
        )
    status = trouble.about if trouble.container == "server" else ""
    if status == WRONG_SETTINGS:
        return Fault(
            "ServerSettingsInvalid",
            f"Pod {pod} does not start, as the server refuses its settings{says} Correct the field of spec that it is made from, "
            f"or the server's version. See {logs}",
            trouble.again,
        )
    if status == NO_MODEL and re.search(r"cuda|gpu|nvidia|driver|device", trouble.words, re.I):
        return Fault(
            "DeviceUnusable",
            f"Pod {pod} can't use its GPU{says} Install the driver that it asks for on the node pool, or build the image "
            f"with a torch for that driver. See {logs}",
            trouble.again,
        )
    if status == NO_MODEL:
        return Fault(
            "ModelNotLoaded",
            f"Pod {pod} can't load {about.model}{says} Check spec.model, spec.modelVolume and the image. See {logs}",
            trouble.again,
        )
    return Fault(
        "CrashLooping",
        f"Pod {pod} crashes: container {trouble.container} ended with exit status {trouble.about}{says} See {logs}",
        trouble.again,
    )


def failed(about: About, trouble: Trouble) -> Fault:
    """Of a pod that will never run again; others take its place, so it is not named."""
    if trouble.about == "UnexpectedAdmissionError":
        return Fault(
            "DeviceUnusable",
            f"A node could not give a pod its GPU: {trouble.words}. Check the GPU's driver and device plugin on that node, or "
            "delete the node to get another.",
        )
    if trouble.about == "Evicted":
        return Fault(
            "PodEvicted",
            f"A pod was evicted from its node, and another takes its place: {trouble.words} Where it ran out of disk, raise "
            "spec.resources.limits.ephemeral-storage, or lower limits.maxUploadBytes or limits.maxQueue.",
            needs_action=False,
        )
    return Fault(
        "PodFailed",
        f"A pod failed with {trouble.about}, and another takes its place: {trouble.words} "
        f"See kubectl get events -n {about.namespace}.",
        needs_action=False,
    )


def not_created(pod: str, trouble: Trouble) -> Fault:
    return Fault(
        "ContainerNotCreated",
        f"The node can't make container {trouble.container} of Pod {pod} ({trouble.about}): {trouble.words}. Correct what it "
        "names in spec.",
    )


def missing(about: About, pod: str, words: str) -> Fault | None:
    """What a pod refers to and is not there, if the words say so."""
    if found := re.search(r'secret "([^"]+)" not found', words):
        name = found[1]
        return Fault(
            "SecretMissing",
            f"Pod {pod} waits for Secret {name}, which does not exist in namespace {about.namespace}: create it with kubectl "
            f"create secret generic -n {about.namespace} {name} --from-literal=CLIENT=KEY, or correct its name in spec.",
        )
    if found := re.search(r'persistentvolumeclaim "([^"]+)" not found', words):
        return Fault(
            "VolumeClaimMissing",
            f"Pod {pod} waits for PersistentVolumeClaim {found[1]}, which does not exist in namespace {about.namespace}: create "
            "it, with the model's weights on it, or correct spec.modelVolume.persistentVolumeClaim.claimName.",
        )
    if "unbound immediate PersistentVolumeClaims" in words:
        return Fault(
            "VolumeClaimPending",
            f"Pod {pod} waits for its PersistentVolumeClaim, which has no volume yet: kubectl describe pvc -n {about.namespace} "
            "says why.",
            needs_action=False,
        )
    return None


def not_mounted(pod: str, words: str) -> Fault:
    return Fault(
        "VolumeNotMounted",
        f"Pod {pod} waits for a volume, and the node tries again: {words}",
        needs_action=False,
    )


def no_new_node(about: About, pod: str, words: str) -> Fault:
    kind = about.gpu or "machine"
    if re.search(r"quota", words, re.I):
        return Fault(
            "NoGPUQuota" if about.gpu else "NoQuota",
            f"Pod {pod} has no node, as the project's quota for {kind} is used up: ask for more under IAM & Admin, Quotas in the "
            f"Google Cloud console, or free some. The autoscaler says: {words}",
        )
    return Fault(
        "OutOfStock",
        f"Pod {pod} has no node, as Google has no {kind} to give right now, and the autoscaler tries again: wait, or try another "
        f"zone, accelerator.type or accelerator.spot. It says: {words}",
        needs_action=False,
    )


def unschedulable(about: About, pod: str, words: str, *, holding: bool) -> Fault:
    what = f"with a free {about.gpu}" if about.gpu else "with room for it"
    waiting = "where nodes are made on demand, one comes within 15 minutes; else add one, or change spec.accelerator, "
    recreate = ""
    if holding and about.without_spare and about.gpu:
        recreate = (
            " The old pods keep their GPUs until the new one runs: where one more is not to be had, set "
            f"{about.without_spare}."
        )
    return Fault(
        "Unschedulable",
        f"Pod {pod} waits for a node {what}: {waiting}spec.resources or spec.scheduling.{recreate} The scheduler says: {words}",
        needs_action=False,
    )
