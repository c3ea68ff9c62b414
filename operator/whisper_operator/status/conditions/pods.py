"""What keeps pods of the current spec from serving: from their states, and from what kubelet and autoscaler warn of."""

import re

from whisper_operator.observed.children import Observed
from whisper_operator.observed.pods import Pod, Warning
from whisper_operator.status.condition import Fault, Previous
from whisper_operator.status.conditions import advice
from whisper_operator.status.conditions.advice import About

SCALE_UP, MOUNT, PULL, PULL_SECRET = (
    "FailedScaleUp",
    "FailedMount",
    "Failed",
    "FailedToRetrieveImagePullSecret",
)
"""Reasons of the events by the autoscaler and the kubelet."""


def fault(about: About, observed: Observed, previous: Previous) -> Fault | None:
    """Of the pods of the current spec that don't serve, what is wrong with the first."""
    # A pod that has failed for good stays as a corpse while another takes its place: the living tell more.
    pods = sorted(
        (pod for pod in observed.pods if not pod.ready),
        key=lambda pod: (pod.trouble is not None and pod.trouble.what == "Failed", pod.name),
    )
    faults = (_of_pod(about, pod, observed, previous) for pod in pods)
    return next((found for found in faults if found is not None), None)


def _of_pod(about: About, pod: Pod, observed: Observed, previous: Previous) -> Fault | None:
    warnings = observed.warned(pod.uid)
    trouble = pod.trouble
    if trouble is None:
        return _mounting(about, pod, warnings, previous) if pod.starting else None
    match trouble.what:
        case "ImagePull":
            return _pulling(about, pod, trouble.about, warnings, previous)
        case "OutOfMemory":
            return advice.out_of_memory(about, pod.name, trouble)
        case "NotCreated":
            return advice.missing(about, pod.name, trouble.words) or advice.not_created(pod.name, trouble)
        case "Unschedulable":
            return _unschedulable(about, pod, trouble.words, warnings, previous, observed)
        case "Failed":
            return advice.failed(about, trouble)
        case _:
            found = advice.crashed(about, pod.name, trouble)
            return _kept(previous, pod, found, found)


def _mounting(about: About, pod: Pod, warnings: list[Warning], previous: Previous) -> Fault | None:
    """Its containers are not made yet, which is normal unless somebody complains."""
    words = sorted(warning.words for warning in warnings if warning.reason == MOUNT)
    for each in words:
        if found := advice.missing(about, pod.name, each):
            return found
    learned = _learned(previous, pod, "SecretMissing", "VolumeClaimMissing", "VolumeNotMounted")
    if learned is not None:
        return learned
    return advice.not_mounted(pod.name, words[0]) if words else None


def _pulling(about: About, pod: Pod, image: str, warnings: list[Warning], previous: Previous) -> Fault:
    for each in sorted(each.words for each in warnings if each.reason == PULL_SECRET):
        if found := re.search(r"image pull secrets \(([^)]+)\)", each):
            return advice.no_pull_secret(about, pod.name, image, found[1])
    bare = advice.image_pull(about, pod.name, image, "")
    prefix = re.compile(r'Failed to pull image "[^"]*": (.*)')
    causes = sorted(
        match[1] for each in warnings if each.reason == PULL and (match := prefix.match(each.words))
    )
    fresh = advice.image_pull(about, pod.name, image, causes[0]) if causes else bare
    return _kept(previous, pod, fresh, bare)


def _unschedulable(
    about: About, pod: Pod, words: str, warnings: list[Warning], previous: Previous, observed: Observed
) -> Fault:
    claim = advice.missing(about, pod.name, words)
    if claim is not None:
        return claim
    scale_up = sorted(each.words for each in warnings if each.reason == SCALE_UP)
    if scale_up:
        return advice.no_new_node(about, pod.name, scale_up[-1])
    learned = _learned(previous, pod, "NoGPUQuota", "OutOfStock")
    if learned is not None:
        return learned
    holding = any(old.ready for old in observed.old_pods)
    fresh = advice.unschedulable(about, pod.name, words, holding=holding)
    # How many nodes there are, and why each does not do, changes all the time on a large cluster.
    return _kept(previous, pod, fresh, fresh)


def _learned(previous: Previous, pod: Pod, *reasons: str) -> Fault | None:
    """What an event said of this pod that may have expired since."""
    learned = previous.message("Ready", *reasons)
    if learned is None or f"Pod {pod.name} " not in learned[1]:
        return None
    return Fault(*learned, needs_action=learned[0] not in advice.PASSING)


def _kept(previous: Previous, pod: Pod, fresh: Fault, bare: Fault) -> Fault:
    """The message before, where only figures differ or where it gives a cause that is forgotten by now."""
    learned = previous.message("Ready", fresh.reason)
    if learned is None or f"Pod {pod.name} " not in learned[1]:
        return fresh
    forgotten = fresh == bare and learned[1] != bare.message and fresh.reason == "ImagePullFailed"
    if forgotten or _without_figures(learned[1]) == _without_figures(fresh.message):
        return Fault(fresh.reason, learned[1], fresh.needs_action)
    return fresh


def _without_figures(text: str) -> str:
    return re.sub(r"\b(0x)?[0-9a-f]*\d[0-9a-f]*\b", "#", text)
