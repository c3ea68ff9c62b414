"""What Events of type Warning say of an endpoint's objects: which reasons are known, and what of them is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from whisper_operator.observed.foreign_words import shortened

SYNC, TRANSLATE = "Sync", "Translate"
"""The reasons of what a load balancer's controller says of an Ingress."""

TOO_MANY_CERTIFICATES, BACKEND_ERROR = "TooManyCertificates", "BackendError"
"""The reasons of what GKE's certificate controller says of a ManagedCertificate."""

NO_GROUP, NOT_IN_GROUP, NO_SERVICE = "SyncNetworkEndpointGroupFailed", "AttachFailed", "ProcessServiceFailed"
"""The reasons of what GKE says of a Service whose pods don't get behind the load balancer."""

SCALE_UP = "FailedScaleUp"
"""The reason of what the cluster's autoscaler says of a pod."""

PULL_SECRET = "FailedToRetrieveImagePullSecret"
"""The reason where the kubelet pulls without one of the Secrets that the pod names."""

PULL_FAILED = "Failed to pull image"
"""How the kubelet begins when it says why a pod has no image."""

TIMED = {
    SYNC,
    TRANSLATE,
    TOO_MANY_CERTIFICATES,
    BACKEND_ERROR,
    NO_GROUP,
    NOT_IN_GROUP,
    NO_SERVICE,
    SCALE_UP,
    PULL_SECRET,
}
"""The reasons of events whose times tell: old from new, and what passes from what lasts. A warning that is told only while it
stands, as `status/conditions/standing_warnings.py` has it, must be among them: without times it never does."""


@dataclass(frozen=True, slots=True)
class Warning:
    """One Event of type Warning about an object of an endpoint's; the count of its repetitions is nobody's concern."""

    about: str
    """The uid of the object."""
    reason: str
    words: str
    at: str = ""
    """When it was last said, to the second, as 2026-01-31T12:00:00Z; kept only where times tell something."""
    since: str = ""
    """When it was first said, likewise."""

    @staticmethod
    def of(raw: Mapping[str, Any]) -> "Warning":
        reason, words = raw.get("reason") or "", shortened(raw.get("message") or raw.get("note") or "")
        about = raw["involvedObject"].get("uid", "")
        if reason not in TIMED and not words.startswith(PULL_FAILED):
            return Warning(about, reason, words)
        times = _times(raw)
        return Warning(about, reason, words, max(times, default=""), min(times, default=""))

    @property
    def lasted(self) -> float:
        """Seconds from when it was first said to when it was last said."""
        if not self.since:
            return 0.0
        return (datetime.fromisoformat(self.at) - datetime.fromisoformat(self.since)).total_seconds()


def _times(raw: Mapping[str, Any]) -> list[str]:
    series = raw.get("series") or {}
    times = (
        *(raw.get("firstTimestamp"), raw.get("lastTimestamp"), raw.get("eventTime")),
        series.get("lastObservedTime"),
    )
    return [f"{each[:19]}Z" for each in times if each]
