"""What pods and ReplicaSets say of an endpoint, cut down to what its status is told from.

Of ten kilobytes of a pod remain its owner, whether it serves, and what keeps it from that. Counts, times and back-offs are left
out: a container that crashes every minute looks the same all the time, so that nobody is told the same thing again.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from whisper_operator.kube.kinds import ENDPOINT_LABEL
from whisper_operator.kube.objects import Key, condition
from whisper_operator.observed.foreign_words import shortened

REVISION = "deployment.kubernetes.io/revision"

PULLING = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "ImageInspectError",
}
HOPELESS_PULLS = {"InvalidImageName", "ErrImageNeverPull"}
"""What another try never mends."""
NOT_CREATED = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
CREATING = {None, "ContainerCreating", "PodInitializing"}


@dataclass(frozen=True, slots=True)
class Trouble:
    """What keeps a pod from serving."""

    what: str
    """ImagePull, OutOfMemory, Crash, NotCreated, Unschedulable or Failed."""
    container: str = ""
    about: str = ""
    """The image, the container's exit status, or the pod's reason."""
    words: str = ""
    """What the kubelet, the scheduler or the container itself says."""
    again: bool = False
    """Whether trying once more is in vain: the container has been started again more than once, or its image has no name."""


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod with our label."""

    name: str
    uid: str
    owner: str
    """The uid of its ReplicaSet."""
    ready: bool
    starting: bool
    """On a node, and no container made yet, as its volumes are not all mounted."""
    going: bool
    trouble: Trouble | None
    over: bool = False
    """Whether it has ended for good: it has nothing any more, and is there to be read of."""
    takes: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    """The requests and limits of its server."""

    @staticmethod
    def of(raw: Mapping[str, Any]) -> "Pod":
        metadata, status = raw["metadata"], raw.get("status") or {}
        ready = condition(status, "Ready").get("status") == "True"
        return Pod(
            name=metadata["name"],
            uid=metadata["uid"],
            owner=_owner(metadata),
            ready=ready,
            starting=not ready and _starting(status),
            going="deletionTimestamp" in metadata,
            trouble=None if ready else _trouble(raw.get("spec") or {}, status),
            over=status.get("phase") in ("Failed", "Succeeded"),
            takes=takes(raw.get("spec") or {}),
        )


@dataclass(frozen=True, slots=True)
class ReplicaSet:
    """One ReplicaSet with our label: it ties pods to a Deployment and to one of its revisions."""

    uid: str
    owner: str
    """The uid of its Deployment."""
    revision: int

    @staticmethod
    def of(raw: Mapping[str, Any]) -> "ReplicaSet":
        metadata = raw["metadata"]
        revision = str((metadata.get("annotations") or {}).get(REVISION, "0"))
        return ReplicaSet(metadata["uid"], _owner(metadata), int(revision) if revision.isdecimal() else 0)


def takes(pod: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The requests and limits of the server, by the spec of a pod or of a template."""
    containers = pod.get("containers") or ()
    server: Mapping[str, Any] = next((each for each in containers if each.get("name") == "server"), {})
    given = server.get("resources") or {}
    return {name: given[name] for name in ("requests", "limits") if given.get(name)}


def _owner(metadata: Mapping[str, Any]) -> str:
    references = metadata.get("ownerReferences") or ()
    return next((str(each["uid"]) for each in references if each.get("controller")), "")


def label_of(raw: Mapping[str, Any]) -> Key | None:
    """Namespace and name of the endpoint that an object's label names."""
    metadata = raw["metadata"]
    name = (metadata.get("labels") or {}).get(ENDPOINT_LABEL)
    return None if name is None else (metadata["namespace"], name)


def _containers(status: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _starting(status: Mapping[str, Any]) -> bool:
    if status.get("phase") != "Pending" or condition(status, "PodScheduled").get("status") == "False":
        return False
    if condition(status, "PodReadyToStartContainers").get("status") == "True":
        return False  # mounted: what it waits for now is an image
    return all(
        set(container.get("state") or {}) <= {"waiting"} and _waiting(container).get("reason") in CREATING
        for container in _containers(status)
    )


def _trouble(spec: Mapping[str, Any], status: Mapping[str, Any]) -> Trouble | None:
    if status.get("phase") == "Failed":
        return Trouble(
            "Failed", about=str(status.get("reason") or "Error"), words=shortened(status.get("message") or "")
        )
    scheduled = condition(status, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return Trouble("Unschedulable", words=shortened(scheduled.get("message") or ""))
    images = {each["name"]: each.get("image", "") for each in _declared(spec)}
    for container in _containers(status):
        trouble = _container_trouble(container, images)
        if trouble is not None:
            return trouble
    return None


def _declared(spec: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()


def _container_trouble(container: Mapping[str, Any], images: Mapping[str, str]) -> Trouble | None:
    waiting = _waiting(container)
    name, reason = container["name"], str(waiting.get("reason"))
    if reason in PULLING:
        # Its message goes to and fro between the cause and the back-off; the cause is in a warning.
        hopeless = reason in HOPELESS_PULLS
        return Trouble("ImagePull", name, images.get(name) or container.get("image", ""), again=hopeless)
    if reason in NOT_CREATED:
        return Trouble("NotCreated", name, reason, shortened(waiting.get("message") or ""))
    if container.get("ready"):
        return None
    states = (container.get("state") or {}, container.get("lastState") or {})
    ended = next((state["terminated"] for state in states if state.get("terminated")), None)
    if ended is None or (ended.get("exitCode") == 0 and container.get("restartCount", 0) == 0):
        return None
    again = container.get("restartCount", 0) > 1
    if ended.get("reason") == "OOMKilled":
        return Trouble("OutOfMemory", name, again=again)
    return Trouble(
        "Crash", name, str(ended.get("exitCode", 1)), _last_line(ended.get("message") or ""), again
    )


def _waiting(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return (container.get("state") or {}).get("waiting") or {}


def _last_line(log: str) -> str:
    """The message of the last line of a log that the kubelet kept: of a JSON line, what it says without its time."""
    lines = [line for line in log.splitlines() if line.strip()]
    if not lines:
        return ""
    try:
        line = json.loads(lines[-1])
    except (ValueError, RecursionError):  # whatever somebody's container printed
        line = None
    return shortened(str(line["message"]) if isinstance(line, dict) and "message" in line else lines[-1])
