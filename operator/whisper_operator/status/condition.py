"""The forms that every module about conditions speaks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whisper_operator.kube.objects import condition

STOPS_OTHERS = (
    " It fails in an upgrade by the installation, and until it serves again, no other endpoint is upgraded to the same. Put "
    "right or put back what was changed in the operator's configuration or the policy, server.version as a rule; or what is this "
    "endpoint's own, such as a quota, a Secret or an image. The annotation whisper-operator.io/paused=true on it has the others "
    "pass."
)
"""What is added to the fault of an endpoint that stops the upgrade of others."""

SUSPENDED = "Suspended"
"""The reason of Ready=True where nothing runs, as the spec asks."""


@dataclass(frozen=True)
class Condition:
    """One of metav1's conditions, without its times."""

    type: str
    status: str
    reason: str
    message: str
    needs_action: bool = False
    """Whether a person has to act."""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong: a stable reason, and what it is, in which object, and what to do about it."""

    reason: str
    message: str
    needs_action: bool = True
    """Whether nothing will change until a person acts."""


@dataclass(frozen=True)
class Previous:
    """The status before. Events expire after an hour or so; what was learned from one stands until evidence contradicts it."""

    status: Mapping[str, Any]
    generation: int
    """Of the spec now: what was said of an earlier one proves nothing."""

    @staticmethod
    def of(resource: Mapping[str, Any]) -> "Previous":
        return Previous(resource.get("status") or {}, resource["metadata"].get("generation", 0))

    @property
    def stalled(self) -> bool:
        """Whether somebody had to act."""
        return condition(self.status, "Stalled").get("status") == "True"

    def message(self, kind: str, *reasons: str) -> tuple[str, str] | None:
        """Reason and message of a condition that was not True, if it is of this spec and gave one of these reasons."""
        found = condition(self.status, kind)
        if (
            found.get("reason") in reasons
            and found["status"] != "True"
            and found.get("observedGeneration") == self.generation
        ):
            return found["reason"], found["message"].removesuffix(STOPS_OTHERS)
        return None
