"""What came of a plan: the record that the status is told from."""

import random
from dataclasses import dataclass

from whisper_operator.kube.kinds import Kind
from whisper_operator.manifests import Manifest

LOOK_AGAIN_SECONDS = 30.0
"""Until the next look at what no watch reports: a foreign object in the way, a missing kind, a refusal."""


@dataclass(frozen=True)
class Outcome:
    """What came of a plan."""

    names_taken: tuple[Manifest, ...] = ()
    """Children whose name belongs to an object that is not this endpoint's. Nothing was written then."""
    missing_kinds: tuple[Kind, ...] = ()
    """Kinds of wanted children that the cluster does not have."""
    refusals: tuple[tuple[str, str], ...] = ()
    """Writes that the API server would not take: what, such as "Service whisper", and its words."""
    waiting: tuple[str, ...] = ()
    """Names of children that have to go before they can be made again."""

    @property
    def next_look(self) -> float | None:
        """Seconds until the endpoint should be looked at without any event; None: an event will come."""
        if self.names_taken or self.missing_kinds or self.refusals or self.waiting:
            return LOOK_AGAIN_SECONDS * random.uniform(0.8, 1.2)
        return None
