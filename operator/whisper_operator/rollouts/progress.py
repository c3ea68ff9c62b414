"""How far a Deployment has come with its pods: what the train of upgrades goes by, from the live objects alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whisper_operator.kube.kinds import UPGRADING_ANNOTATION
from whisper_operator.kube.objects import Raw, condition
from whisper_operator.observed.children import Child

WHOLE, PARTLY, DOWN = range(3)
"""Whether an endpoint serves with all its replicas, with some or with old pods, or not at all: who is upgraded first."""

LACKED = ", was not whole"
"""What is added to the time of an upgrade that proves nothing should it fail."""

COMPLETE = "NewReplicaSetAvailable"
"""The reason of Progressing once all pods of a template have served, whatever became of them since."""
LATE = "ProgressDeadlineExceeded"


@dataclass(frozen=True)
class Progress:
    """Of a live Deployment."""

    serves: int
    """One of WHOLE, PARTLY and DOWN."""
    complete: bool
    """Whether all its pods are of the template, and as many as are needed serve."""
    proven: bool
    """Whether they ever were."""
    late: bool
    """Whether Kubernetes has given up waiting for them."""
    upgrading: str
    """Since when it is on its way to pods that the installation has changed, as 2026-01-31T12:00:00Z, with LACKED if it was not
    WHOLE then; "" if it is not."""

    @staticmethod
    def of(deployment: Child, autoscaler: Child | None) -> "Progress":
        """`autoscaler`: by which the Deployment is scaled, so that more replicas than its least are wanted but not needed."""
        live, wanted = deployment.status, deployment.spec.get("replicas", 1)
        needed = wanted if autoscaler is None else min(wanted, autoscaler.spec.get("minReplicas", 1))
        updated, serving = live.get("updatedReplicas", 0), live.get("availableReplicas", 0)
        taken_up = live.get("observedGeneration", 0) >= deployment.generation
        reason = condition(live, "Progressing").get("reason")
        complete = taken_up and updated >= needed and serving >= needed and live.get("replicas", 0) <= updated
        return Progress(
            serves=WHOLE if complete else PARTLY if serving else DOWN,
            complete=complete,
            proven=reason == COMPLETE,
            late=taken_up and reason == LATE,
            upgrading=deployment.annotations.get(UPGRADING_ANNOTATION, ""),
        )

    @property
    def on_its_way(self) -> bool:
        """Whether it is upgraded just now."""
        return bool(self.upgrading) and not self.complete

    @property
    def is_proof(self) -> bool:
        """Whether the upgrade is to blame if it fails: the endpoint was whole before."""
        return not self.upgrading.endswith(LACKED)

    def failed(self, resource: Raw) -> bool:
        """Whether an upgrade goes no further until somebody acts, as the endpoint's status says or Kubernetes."""
        since = self.upgrading.removesuffix(LACKED)
        return self.on_its_way and (self.late or _stalled_since(resource.get("status") or {}) > since)


def _stalled_since(status: Mapping[str, Any]) -> str:
    """When the endpoint came to need somebody; "" if it does not. What it needed before is no upgrade's fault."""
    stalled = condition(status, "Stalled")
    return str(stalled.get("lastTransitionTime", "")) if stalled.get("status") == "True" else ""
