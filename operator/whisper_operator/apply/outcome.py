"""What came of a plan: the record that the status is told from."""

import random
from dataclasses import dataclass

from whisper_operator.kube.kinds import Kind
from whisper_operator.manifests import Manifest
from whisper_operator.rollouts.turn import Turn

LOOK_AGAIN_SECONDS = 30.0
"""Until the next look at what no watch reports: a foreign object in the way, a missing kind, a refusal."""

TURN_SECONDS = 450.0
"""Until the next look at who waits for its turn, should nobody call it."""

DELAY_LASTS_SECONDS = 30.0
"""A write that fails for that long is told of: most pass with the next try."""


@dataclass(frozen=True)
class Fight:
    """A field that somebody takes back each time that the operator has put it right."""

    what: str
    """The child, such as "Deployment whisper"."""
    field: str
    """Such as spec.replicas; "" if the object is deleted each time."""
    editor: str
    """The field manager that has it in between, such as "kube-controller-manager (scale)", which is an autoscaler; "" if it is
    removed each time."""


@dataclass(frozen=True)
class Held:
    """A change of the pods that is the installation's doing, and not written yet."""

    turn: Turn
    """Why."""
    by: tuple[str, ...] = ()
    """In words, what pauses it."""
    edited: bool = False
    """Whether somebody has changed by hand what is held."""


@dataclass(frozen=True)
class Outcome:
    """What came of a plan. What could be carried out was, whatever else could not."""

    names_taken: tuple[Manifest, ...] = ()
    """Children whose name belongs to an object that is not this endpoint's. It was not touched, and nothing was made that
    names it."""
    missing_kinds: tuple[Kind, ...] = ()
    """Kinds of wanted children that the cluster does not have."""
    refusals: tuple[tuple[str, str], ...] = ()
    """Writes that the API server would not take: what, such as "Service whisper", and its words."""
    waiting: tuple[str, ...] = ()
    """Names of children that have to go before they can be made again."""
    fights: tuple[Fight, ...] = ()
    """Fields that somebody else takes back again and again."""
    repair_in: float | None = None
    """Seconds until a repair is due that was held back as the field is fought about, or until the last one has held."""
    delays: tuple[tuple[str, str], ...] = ()
    """Writes that could not be made for a passing reason, and are tried again soon: what, and the reason."""
    delayed_for: float = 0.0
    """For how many seconds each try has had delays."""
    retry_after: float = 0.0
    """Seconds until the API server wants to be asked again, as the longest of its answers says."""
    fault: Exception | None = None
    """One of the operator's own in one of the writes, which is among `delays`: no waiting mends it."""

    held: Held | None = None
    stops_others: bool = False
    """Whether the endpoint fails in an upgrade, and others wait for that reason."""

    @property
    def delayed(self) -> str:
        """What could not be written, and why; "" if all could."""
        return "; ".join(f"{what}: {why}" for what, why in self.delays)

    @property
    def delay_lasts(self) -> bool:
        """Whether it is time to tell of it, and not only to try again."""
        return self.fault is not None or (bool(self.delays) and self.delayed_for >= DELAY_LASTS_SECONDS)

    @property
    def delay_lasts_in(self) -> float:
        """Seconds until then, should it go on."""
        return max(0.0, DELAY_LASTS_SECONDS - self.delayed_for)

    @property
    def next_look(self) -> float | None:
        """Seconds until the endpoint should be looked at without any event; None: an event will come."""
        looks = [] if self.repair_in is None else [self.repair_in]
        if self.held is not None and self.held.turn is not Turn.PAUSED:
            looks.append(TURN_SECONDS * random.uniform(0.8, 1.2))
        if self.names_taken or self.missing_kinds or self.refusals or self.waiting:
            looks.append(LOOK_AGAIN_SECONDS * random.uniform(0.8, 1.2))
        return min(looks, default=None)
