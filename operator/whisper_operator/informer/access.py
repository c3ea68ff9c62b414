"""What the operator can read: a fact of each kind in each namespace, of which one that is amiss stops no other."""

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
HOW_TO_HAVE_IT = "apply crds/whisperendpoints.yaml"

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
    """What came of the last list and the last watch of each kind in each namespace."""

    def __init__(self, namespaces: Collection[str] = ()) -> None:
        """`namespaces`: the only ones to look into; empty: all."""
        self._namespaces = frozenset(namespaces)
        self.places: list[Place] = [(kind, each) for kind in WATCHED for each in namespaces or (None,)]
        """All that is to be read."""
        self._listing: dict[Place, Obstacle | None] = {}
        self._watching: dict[Place, Obstacle | None] = {}
        self._told: dict[Place, Obstacle] = {}
        UNREADABLE.clear()  # of what another has found

    def listing(self, place: Place, obstacle: Obstacle | None) -> None:
        """A list met this obstacle, or none."""
        self._note(self._listing, place, obstacle)

    def watching(self, place: Place, obstacle: Obstacle | None) -> None:
        """A watch met this obstacle, or none."""
        self._note(self._watching, place, obstacle)

    def listed(self, place: Place) -> bool:
        """Whether it could be listed last time."""
        return place in self._listing and self._listing[place] is None

    def obstacle(self, kind: Kind, namespace: str | None) -> Obstacle | None:
        """What keeps the kind from being read in a namespace."""
        return self._of(self.place(kind, namespace))

    @property
    def failing(self) -> list[Place]:
        """What went wrong when it was listed last, and may well work the next time."""
        return [place for place, each in self._listing.items() if each is not None and each.reason == FAILING]

    def found(self, kind: Kind, namespace: str) -> None:
        """The cluster has the kind, as a write to it has shown."""
        place = self.place(kind, namespace)
        obstacle = self._listing.get(place)
        if obstacle is not None and obstacle.reason == MISSING:
            self.listing(place, None)

    def missing(self, kind: Kind, namespace: str) -> None:
        """The cluster does not have the kind, as a write to it has shown."""
        self.listing(self.place(kind, namespace), Obstacle(MISSING))

    def place(self, kind: Kind, namespace: str | None) -> Place:
        """Where an object is read."""
        return kind, namespace if self._namespaces else None

    def _of(self, place: Place) -> Obstacle | None:
        return self._listing.get(place) or self._watching.get(place)

    def tell(self) -> list[Place]:
        """Log what has changed since the last time, and where that is: a line for each namespace and reason, however many kinds
        it concerns."""
        now = {place: obstacle for place in self.places if (obstacle := self._of(place)) is not None}
        groups: dict[tuple[str | None, str], list[Place]] = {}
        for place in self.places:
            before, after = self._told.get(place), now.get(place)
            if (before and before.reason) != (after and after.reason):
                reason = after.reason if after else ""
                where = None if reason == MISSING else place[1]  # what the cluster lacks, it lacks everywhere
                groups.setdefault((where, reason), []).append(place)
        self._told = now
        for (namespace, reason), places in groups.items():
            kinds = ", ".join(dict.fromkeys(kind.qualified for kind, _ in places))
            there = f" in namespace {namespace}" if namespace is not None else ""
            if not reason:
                logger.info("%s can be read%s again", kinds, there)
            elif reason == MISSING:
                # Without its own kind the operator can do nothing; others are what some clusters don't have.
                own = ENDPOINT in dict(places)
                hint = f": {HOW_TO_HAVE_IT}" if own else ""
                logger.log(logging.WARNING if own else logging.INFO, "The cluster has no %s%s", kinds, hint)
            else:
                logger.warning(
                    "%s can't be read%s (%s: %s); the rest goes on, and this is tried again",
                    *(kinds, there, reason, now[places[0]].message),
                )
        return [place for places in groups.values() for place in places]

    def _note(self, what: dict[Place, Obstacle | None], place: Place, obstacle: Obstacle | None) -> None:
        before = self._of(place)
        what[place] = obstacle
        after = self._of(place)
        if (before and before.reason) == (after and after.reason):
            return
        labels = place[0].qualified, place[1] or ""
        if before is not None:
            UNREADABLE.remove(*labels, before.reason)
        if after is not None:
            UNREADABLE.labels(*labels, after.reason).set(1)
