"""How far an endpoint has come with its pods, and with an upgrade of them: from its live objects alone."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from whisper_operator.kube.kinds import AUTOSCALER, DEPLOYMENT, TEMPLATE_ANNOTATION, UPGRADING_ANNOTATION
from whisper_operator.kube.objects import Raw, condition
from whisper_operator.observed.children import Child, Observed

WHOLE, PARTLY, DOWN = range(3)
"""Whether an endpoint serves with all its replicas, with some or with old pods, or not at all: who is upgraded first."""

COMPLETE = "NewReplicaSetAvailable"
"""The reason of Progressing once all pods of a template have served, whatever became of them since."""
LATE = "ProgressDeadlineExceeded"

EVIDENCE = {
    *("ImagePullFailed", "CrashLooping", "OutOfMemory", "RolloutStuck"),
    *("ServerSettingsInvalid", "ModelNotLoaded", "ModelDownloadFailed", "DeviceUnusable"),
}
"""Faults of pods that may be those of every endpoint. All others, such as a Secret or a quota, are of what is around one."""

MOST_DIGITS = 9
"""Of a number of replicas."""


@dataclass(frozen=True)
class Mark:
    """What stands on a Deployment from when its pods were upgraded until they have served for a while."""

    since: str
    """As 2026-01-31T12:00:00Z, for people."""
    template: str
    """Hash of the pods that it is about. With others it means nothing: `kubectl rollout undo` brings old marks back."""
    whole: bool
    """Whether the endpoint was: if not, that it fails proves nothing."""
    needed: int
    """How many replicas it needed: what is asked for since is not the upgrade's to bring."""
    server: str = ""
    """Which its pods have: that is what fails with them, or is proven, whatever the endpoint is to get by now."""

    def __str__(self) -> str:
        whole = "whole" if self.whole else "lacking"
        return "/".join((self.since, self.template, whole, str(self.needed), self.server))

    @staticmethod
    def of(deployment: Child) -> "Mark | None":
        """The one that a live Deployment has, if it is about the pods that were declared last, whatever somebody wrote there."""
        match deployment.annotations.get(UPGRADING_ANNOTATION, "").split("/", 4):
            case [since, template, whole, needed, server] if (
                needed.isdecimal() and len(needed) <= MOST_DIGITS
            ):
                if template == deployment.annotations.get(TEMPLATE_ANNOTATION):
                    return Mark(since, template, whole == "whole", int(needed), server)
        return None


class Standing(Enum):
    """Of an endpoint in an upgrade."""

    NONE = "none"
    """It is not upgraded."""
    ROLLING = "rolling"
    FAILED = "failed"
    """Nobody else may be upgraded to the same."""
    ASIDE = "aside"
    """It gets no further, and others need not wait for it."""
    THROUGH = "through"
    """Its new pods have served for a while."""

    @property
    def takes_place(self) -> bool:
        return self in (Standing.ROLLING, Standing.FAILED)


@dataclass(frozen=True)
class Progress:
    """Of one endpoint."""

    serves: int = DOWN
    """One of WHOLE, PARTLY and DOWN."""
    needed: int = 0
    """How many replicas make it whole."""
    proven: bool = False
    """Whether all pods of its template ever served."""
    mark: Mark | None = None
    settles_in: float | None = None
    """Seconds until an upgrade counts as done, should the endpoint go on serving; None: it is not whole."""
    server: str = ""
    """What server it is to get, as far as the installation decides: endpoints with the same share its fate."""
    fault: str = ""
    """The reason for which somebody has to mend its pods; "": nobody has to."""
    held_by: tuple[str, ...] = ()
    """In words, what has its upgrades paused."""
    passed_over: bool = False
    """Whether somebody said that of this very endpoint, so that nobody is to wait for it should it fail."""

    @staticmethod
    def of(observed: Observed, now: datetime, *, settle_seconds: float = 0.0, **said: Any) -> "Progress":
        """`settle_seconds`: for how long an endpoint has to serve; `said`: the other fields, from `server` on."""
        deployment = next(iter(observed.of_kind(DEPLOYMENT)), None)
        if deployment is None:
            return Progress(**said)
        live, mark = deployment.status, Mark.of(deployment)
        needed: int = deployment.spec.get("replicas", 1)
        for autoscaler in observed.of_kind(AUTOSCALER):  # what it wants beyond its least is not needed
            needed = min(needed, autoscaler.spec.get("minReplicas", 1))
        if mark is not None:
            needed = min(needed, mark.needed)
        updated, serving = live.get("updatedReplicas", 0), live.get("availableReplicas", 0)
        whole = (
            live.get("observedGeneration", 0) >= deployment.generation
            and min(updated, serving) >= needed
            and live.get("replicas", 0) <= updated
        )
        return Progress(
            serves=WHOLE if whole else PARTLY if serving else DOWN,
            needed=needed,
            proven=condition(live, "Progressing").get("reason") == COMPLETE,
            mark=mark,
            settles_in=_settles_in(live, now, settle_seconds) if whole and needed else 0.0 if whole else None,
            **said,
        )

    @property
    def standing(self) -> Standing:
        if self.mark is None:
            return Standing.NONE
        if self.settles_in == 0:
            return Standing.THROUGH
        if self.serves == WHOLE or not self.fault:
            return Standing.ROLLING
        if self.passed_over:  # no sooner: who says that of all his endpoints would have them go all at once
            return Standing.ASIDE
        # Whom it took down by what is around might be the first of many: by a default that asks for more memory, say.
        blames = self.mark.whole and (self.fault in EVIDENCE or self.serves == DOWN)
        return Standing.FAILED if blames else Standing.ASIDE

    @property
    def hopeless(self) -> bool:
        """Whether its pods have never worked, and somebody has to mend them."""
        return self.serves == DOWN and not self.proven and bool(self.fault)


def _settles_in(live: Raw, now: datetime, seconds: float) -> float:
    """By when all pods of the template served first, and when the last of them came back after a fall."""
    first, again = condition(live, "Progressing"), condition(live, "Available")
    since = max(str(first.get("lastUpdateTime") or ""), str(again.get("lastTransitionTime") or ""))
    lasted = (now - datetime.fromisoformat(since)).total_seconds() if since else seconds
    return max(0.0, seconds - lasted)
