"""What the operator can read: a fact of each kind in each namespace, of which one that is amiss stops no other."""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass

from prometheus_client import Gauge

from whisper_operator.kube.kinds import CHILDREN, ENDPOINT, WITNESSES, Kind
from whisper_operator.kube.metrics import REGISTRY

logger = logging.getLogger(__name__)

MISSING, FORBIDDEN, FAILING = "missing", "forbidden", "failing"

UNREADABLE = Gauge(
    "whisper_operator_unreadable",
    "Kinds that can't be listed, by namespace (empty: all) and reason: missing, forbidden or failing.",
    ["kind", "namespace", "reason"],
    registry=REGISTRY,
)

WATCHED = (ENDPOINT, *CHILDREN, *WITNESSES)
HOW_TO_HAVE_IT = ": apply crds/whisperendpoints.yaml"

Place = tuple[Kind, str | None]
"""A kind in a namespace; None: in the whole cluster."""


@dataclass(frozen=True)
class Obstacle:
    """Why a kind can't be read."""

    reason: str
    """missing: the cluster does not have it; forbidden: there is no right to; failing: it goes wrong again and again."""
    message: str = ""
    """The API server's own words."""


class Access:
    """What came of the last list of each kind in each namespace."""

    def __init__(self, namespaces: Collection[str] = ()) -> None:
        """`namespaces`: the only ones to look into; empty: all."""
        self.places: list[Place] = [(kind, each) for kind in WATCHED for each in namespaces or (None,)]
        """All that is to be read."""
        self._found: dict[Place, Obstacle | None] = {}
        self.appeared = asyncio.Event()
        """Set when a kind that was missing turns out to be there."""

    def note(self, kind: Kind, namespace: str | None, obstacle: Obstacle | None) -> None:
        """Reading the kind there met this obstacle, or none. What is new is logged."""
        place = self._place(kind, namespace)
        before = self._found.get(place)
        self._found[place] = obstacle
        if (before and before.reason) == (obstacle and obstacle.reason):
            return
        where = f" in namespace {place[1]}" if place[1] is not None else ""
        if before is not None:
            UNREADABLE.remove(kind.qualified, place[1] or "", before.reason)
            if before.reason == MISSING:
                self.appeared.set()
        if obstacle is None:
            logger.info("%s can be read%s again", kind.qualified, where)
            return
        UNREADABLE.labels(kind.qualified, place[1] or "", obstacle.reason).set(1)
        if obstacle.reason == MISSING:
            logger.info("The cluster has no %s%s", kind.qualified, HOW_TO_HAVE_IT if kind is ENDPOINT else "")
        else:
            logger.warning(
                "%s can't be read%s (%s: %s); the rest goes on, and this is tried again",
                *(kind.qualified, where, obstacle.reason, obstacle.message),
            )

    def found(self, kind: Kind, namespace: str) -> None:
        """The cluster has the kind, as a write to it has shown."""
        obstacle = self.obstacle(kind, namespace)
        if obstacle is not None and obstacle.reason == MISSING:
            self.note(kind, namespace, None)

    def obstacle(self, kind: Kind, namespace: str | None) -> Obstacle | None:
        """What keeps the kind from being read in a namespace."""
        return self._found.get(self._place(kind, namespace))

    def unreadable(self) -> list[Place]:
        """Where something is amiss."""
        return [place for place, obstacle in self._found.items() if obstacle is not None]

    def _place(self, kind: Kind, namespace: str | None) -> Place:
        return (kind, None) if (kind, None) in self.places else (kind, namespace)
