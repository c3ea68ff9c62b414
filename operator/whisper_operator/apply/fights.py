"""Who takes back what the operator has put right, again and again: it slows down, and says who.

An autoscaler of one's own on a Deployment with a fixed number of replicas, another tool that keeps an object as it wants it, or
one that deletes what it does not allow, would else be answered as fast as it writes, for ever. Each field of each child counts
for itself, so that a fight about one holds up no repair of another, nor a change of the spec.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from whisper_operator.apply.outcome import Fight

BURST = 3
"""Repairs of a field that are made at once."""
TOLD = 5
"""Repairs from which on a fight is told of while the last one holds: whoever tries something out may need a few."""
FIRST_SECONDS = 5.0
LONGEST_SECONDS = 300.0
SOONEST_SECONDS = 1.0
"""From one repair to the next, doubled from each to the one after."""
HELD_SECONDS = 60.0
"""What holds that long was no fight: an autoscaler looks every 15 s, most controllers at once."""
MADE_HELD_SECONDS = 15.0
"""The same of an object that was made again: what deletes what it does not allow does so within seconds, and of what is slower
each creation costs little, where to hold it back would leave the endpoint without the object."""

FEW = 100
"""Endpoints that are remembered whatever has become of them: of more, twice as many as there was something to put right with."""

ITSELF = ""
"""In place of a path: the object as such, which is deleted and made again."""
REPLICAS = "spec.replicas"
"""The path that an autoscaler sets, and a suspension."""

Field = tuple[str, str]
"""The uid of a child, and a path in it; or what a child that is made anew has in common with the last one, and ITSELF."""


@dataclass
class _Bout:
    what: str
    held_seconds: float
    repairs: int = 0
    repaired_at: float = 0.0
    editor: str = ""
    lost_at: float | None = None
    """Since when it is taken back again, as far as was seen."""

    @property
    def due_at(self) -> float:
        """When it may be put right again."""
        if self.repairs < BURST:
            return self.repaired_at
        return self.repaired_at + min(FIRST_SECONDS * 2.0 ** min(self.repairs - BURST, 30), LONGEST_SECONDS)

    @property
    def held_at(self) -> float:
        """When the last repair will have held."""
        return self.repaired_at + self.held_seconds

    def over(self, now: float) -> bool:
        """Whether the last repair has held."""
        return (now if self.lost_at is None else self.lost_at) >= self.held_at


class Fights:
    """In memory alone: after a restart, it answers as fast as at first."""

    def __init__(self) -> None:
        self._fights: dict[str, dict[Field, _Bout]] = {}
        """By the uid of the endpoint."""
        self._tidy_at = FEW

    def __len__(self) -> int:
        """Endpoints that are remembered."""
        return len(self._fights)

    def look(self, endpoint: str, lost: Collection[Field], now: float) -> None:
        """Take in which fields of an endpoint's children are somebody else's now."""
        fights = self._fights.get(endpoint, {})
        for field, fight in list(fights.items()):
            if field not in lost:
                fight.lost_at = None
            elif fight.lost_at is None:
                fight.lost_at = now
            if fight.over(now):
                del fights[field]
        if not fights:
            self._fights.pop(endpoint, None)

    def wait(self, endpoint: str, child: str, lost: Collection[str], now: float) -> float:
        """Seconds until what is lost of a child may be put right: 0 if nobody fights about one of the fields."""
        fights = self._fights.get(endpoint, {})
        due = [fights[child, path].due_at if (child, path) in fights else now for path in lost]
        return max(0.0, min(due, default=now) - now)

    def repaired(self, endpoint: str, child: str, what: str, editors: Mapping[str, str], now: float) -> None:
        """Take in that fields of a child were put right just now, and who had each."""
        if len(self._fights) >= self._tidy_at:
            self._fights = {
                each: fights
                for each, fights in self._fights.items()
                if any(fight.due_at + HELD_SECONDS > now for fight in fights.values())
            }
            self._tidy_at = max(FEW, 2 * len(self._fights))
        fights = self._fights.setdefault(endpoint, {})
        for path, editor in editors.items():
            held_seconds = MADE_HELD_SECONDS if path == ITSELF else HELD_SECONDS
            fight = fights.setdefault((child, path), _Bout(what, held_seconds))
            fight.repairs += 1
            fight.repaired_at, fight.lost_at = now, None
            fight.editor = editor or fight.editor

    def of(self, endpoint: str) -> tuple[Fight, ...]:
        """What is fought about for good, and what is not as it should be until it may be put right."""
        return tuple(
            Fight(fight.what, path, fight.editor)
            for (_, path), fight in self._fights.get(endpoint, {}).items()
            if fight.repairs >= (TOLD if fight.lost_at is None else BURST)
        )

    def next_look(self, endpoint: str, now: float) -> float | None:
        """Seconds until a repair is due that was held back, or until the last one has held; None: no repair is held back."""
        fights = [each for each in self._fights.get(endpoint, {}).values() if each.repairs >= BURST]
        looks = [each.held_at if each.lost_at is None else each.due_at for each in fights]
        return max(min(looks) - now, SOONEST_SECONDS) if looks else None
