"""What keeps pods of the current spec from serving: from their states, and from what kubelet and autoscaler warn of."""

import re

from whisper_operator.observed.children import Observed
from whisper_operator.observed.pods import Pod, Trouble
from whisper_operator.observed.warnings import PULL_FAILED, PULL_SECRET, SCALE_UP, Warning
from whisper_operator.status.condition import Fault, Previous
from whisper_operator.status.conditions import pod_messages, standing_warnings
from whisper_operator.status.conditions.pod_messages import About

MOUNT = "FailedMount"
"""The reason of an event by the kubelet."""

EXIT = re.compile(r"exit status \d+")
"""The figure that is news."""

PULLED_FOR_SECONDS = 120.0
"""How long an image can't be pulled before somebody has to act: in five tries, a registry that was down for a moment is back."""


def fault(about: About, observed: Observed, previous: Previous) -> Fault | None:
    """Of what is wrong with the pods of the current spec that don't serve: rather what a person has to mend."""
    found: list[tuple[bool, Fault]] = []
    for pod in sorted((pod for pod in observed.pods if not pod.ready), key=lambda pod: pod.name):
        if wrong := _of_pod(about, pod, observed, previous):
            found.append((pod.trouble is not None and pod.trouble.what == "Failed", wrong))
    # A pod that has failed for good stays as a corpse while another takes its place: the living tell more.
    first = min(found, key=lambda each: (each[0], not each[1].needs_action), default=None)
    return first[1] if first else None


def _of_pod(about: About, pod: Pod, observed: Observed, previous: Previous) -> Fault | None:
    warnings = observed.warned(pod.uid)
    trouble = pod.trouble
    if trouble is None:
        return _mounting(about, pod, warnings, previous) if pod.starting else None
    match trouble.what:
        case "ImagePull":
            return _pulling(about, pod, trouble, warnings, previous)
        case "OutOfMemory":
            return pod_messages.out_of_memory(about, pod.name, trouble)
        case "NotCreated":
            return pod_messages.missing(about, pod.name, trouble.words) or pod_messages.not_created(
                pod.name, trouble
            )
        case "Unschedulable":
            return _unschedulable(about, pod, trouble.words, warnings, previous, observed)
        case "Failed":
            return pod_messages.failed(about, trouble)
        case _:
            found = pod_messages.crashed(about, pod.name, trouble)
            return _kept(previous, pod, found, found)


def _mounting(about: About, pod: Pod, warnings: list[Warning], previous: Previous) -> Fault | None:
    """Its containers are not made yet, which is normal unless somebody complains."""
    words = sorted(warning.words for warning in warnings if warning.reason == MOUNT)
    for each in words:
        if found := pod_messages.missing(about, pod.name, each):
            return found
    learned = _learned(previous, pod, "SecretMissing", "VolumeClaimMissing", "VolumeNotMounted")
    if learned is not None:
        return learned
    return pod_messages.not_mounted(pod.name, words[0]) if words else None


def _pulling(about: About, pod: Pod, trouble: Trouble, warnings: list[Warning], previous: Previous) -> Fault:
    image = trouble.about
    said = [each for each in warnings if each.words.startswith(PULL_FAILED)]
    cause = standing_warnings.newest(said)
    # The kubelet says so right before each pull: once it pulls without, the Secret is there.
    missed = [each for each in warnings if each.reason == PULL_SECRET and not _is_over(each, cause)]
    for words in sorted(each.words for each in missed):
        if found := re.search(r"image pull secrets \(([^)]+)\)", words):
            return pod_messages.no_pull_secret(about, pod.name, image, found[1])
    stalled = previous.stalled and _told(previous, pod, "ImagePullFailed") is not None
    lasts = trouble.again or stalled or standing_warnings.lasted(said) >= PULLED_FOR_SECONDS
    bare = pod_messages.image_pull(about, pod.name, image, "", needs_action=lasts)
    if cause is None:
        return _kept(previous, pod, bare, bare)
    words = re.sub(rf'{PULL_FAILED} "[^"]*": ', "", cause.words)
    fresh = pod_messages.image_pull(about, pod.name, image, words, needs_action=lasts)
    return _kept(previous, pod, fresh, bare)


def _is_over(missed: Warning, cause: Warning | None) -> bool:
    """Whether a pull has failed of something else since."""
    return cause is not None and standing_warnings.between(missed, cause) > PULLED_FOR_SECONDS


def _unschedulable(
    about: About, pod: Pod, words: str, warnings: list[Warning], previous: Previous, observed: Observed
) -> Fault:
    claim = pod_messages.missing(about, pod.name, words)
    if claim is not None:
        return claim
    refused = _scale_up(warnings)
    if refused:
        return pod_messages.no_new_node(about, pod.name, refused)
    learned = _learned(previous, pod, "NoGPUQuota", "NoQuota", "OutOfStock")
    if learned is not None:
        return learned
    holding = any(old.ready for old in observed.old_pods)
    fresh = pod_messages.unschedulable(about, pod.name, words, holding=holding)
    # How many nodes there are, and why each does not do, changes all the time on a large cluster.
    return _kept(previous, pod, fresh, fresh)


def _scale_up(warnings: list[Warning]) -> str:
    """Why the autoscaler makes no node: of what it said last in each zone, rather what may pass than what does not."""
    last: dict[str, Warning] = {}
    for each in warnings:
        if each.reason == SCALE_UP:
            zones = re.search(r"in zones? (\S+)", each.words)
            zone = zones[1] if zones else ""
            last[zone] = max(each, last.get(zone, each), key=lambda one: (one.at, one.words))
    said = sorted(each.words for each in last.values())
    return min(said, key=lambda words: "quota" in words.lower(), default="")


def _told(previous: Previous, pod: Pod, *reasons: str) -> tuple[str, str] | None:
    """What Ready said of this pod for one of these reasons: which, and its words from the pod's name on."""
    told = previous.message("Ready", *reasons)
    mark = f"Pod {pod.name} "
    if told is None or mark not in told[1]:
        return None
    return told[0], told[1][told[1].index(mark) :]


def _learned(previous: Previous, pod: Pod, *reasons: str) -> Fault | None:
    """What an event said of this pod that may have expired since."""
    told = _told(previous, pod, *reasons)
    return None if told is None else Fault(*told, needs_action=told[0] not in pod_messages.PASSING)


def _kept(previous: Previous, pod: Pod, fresh: Fault, bare: Fault) -> Fault:
    """The message before, where only figures differ or where it gives a cause that is forgotten by now."""
    told = _told(previous, pod, fresh.reason, "RolloutStuck")
    if told is None:
        return fresh
    forgotten = fresh == bare and told[1] != bare.message and told[0] == "ImagePullFailed"
    same = _gist(told[1]) == _gist(fresh.message) and EXIT.findall(told[1]) == EXIT.findall(fresh.message)
    if forgotten or same:
        return Fault(fresh.reason, told[1], fresh.needs_action)
    return fresh


def _gist(text: str) -> list[str]:
    """What it says without figures, and in no order: the scheduler sorts its reasons with the numbers of nodes in front."""
    parts = re.split(r"[,.:;] ", text.rstrip("."))
    return sorted(re.sub(r"\b(0x)?[0-9a-f]*\d[0-9a-f]*\b", "#", part) for part in parts)
