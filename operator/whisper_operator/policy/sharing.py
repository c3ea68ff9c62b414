"""How what is scarce is shared out: what runs first, then the oldest that fits. Pure, but for sums that are kept up to date."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from whisper_operator.kube.objects import Key
from whisper_operator.policy.amounts import Amounts, Running, added, beyond, greatest, least
from whisper_operator.policy.rules import Policy

Scope = str | None
"""A namespace, or EVERYWHERE."""
EVERYWHERE = None

Lack = tuple[Scope, str]
"""Where there is no room, and of what."""

Bound = tuple[Scope, str, int]
"""A ceiling: where, of what, and how much."""

IDLE = Running()


@dataclass(frozen=True)
class Entry:
    """What is asked for and what runs under one endpoint's name."""

    age: tuple[str, str] = ("", "")
    asked: Amounts = field(default_factory=dict)
    running: Running = IDLE
    granted: Amounts = field(default_factory=dict)
    """What it was told it may have, until its writes are made: else two could be told the same."""
    gives_way: bool = False
    """It was told that it may have something and has not taken it: until it is looked at again, others come first."""

    @cached_property
    def kept(self) -> Amounts:
        """What nobody takes away from it."""
        return greatest(self.running.kept, self.granted)

    @cached_property
    def occupied(self) -> Amounts:
        """What nobody else can have now."""
        return added(greatest(self.kept, self.running.pods), self.running.going)

    @cached_property
    def at_most(self) -> Amounts:
        """The same, once it has what it asks for."""
        return added(greatest(self.asked, self.kept, self.running.pods), self.running.going)

    @cached_property
    def own(self) -> Amounts:
        """What it has and goes on asking for."""
        return least(self.asked, self.kept)

    @cached_property
    def more(self) -> Amounts:
        """What it asks for beyond what it has."""
        return beyond(self.asked, self.kept)

    @property
    def shrinks(self) -> bool:
        return not self.more and self.asked != self.kept

    @property
    def is_blank(self) -> bool:
        return not (self.asked or self.occupied)

    def lacks(self, bounds: Iterable[Bound], occupied: Mapping[Scope, Mapping[str, int]]) -> list[Lack]:
        """Of what there is too little for it where so much is occupied."""
        return [
            (scope, name)
            for scope, name, most in bounds
            if name in self.more
            and occupied[scope][name] + self.at_most[name] - self.occupied.get(name, 0) > most
        ]


class Sums:
    """Of all entries, by scope."""

    def __init__(self) -> None:
        self.occupied: defaultdict[Scope, Counter[str]] = defaultdict(Counter)
        self.at_most: defaultdict[Scope, Counter[str]] = defaultdict(Counter)
        self.own: defaultdict[Scope, Counter[str]] = defaultdict(Counter)

    def replace(self, namespace: str, before: Entry, after: Entry) -> None:
        """One entry has become another."""
        for scope in (namespace, EVERYWHERE):
            for sums, old, new in self._each(scope, before, after):
                sums.subtract(old)
                sums.update(new)

    def drop(self, namespace: str) -> None:
        """No entry is there any more."""
        for each in (self.occupied, self.at_most, self.own):
            each.pop(namespace, None)

    def _each(
        self, scope: Scope, before: Entry, after: Entry
    ) -> Iterable[tuple[Counter[str], Amounts, Amounts]]:
        yield self.occupied[scope], before.occupied, after.occupied
        yield self.at_most[scope], before.at_most, after.at_most
        yield self.own[scope], before.own, after.own


def freed(before: Entry, after: Entry) -> set[str]:
    """Of what others may have more now."""
    pairs = ((before.occupied, after.occupied), (before.at_most, after.at_most), (before.own, after.own))
    return {name for old, new in pairs for name in beyond(old, new)}


def bounds(policy: Policy, namespace: str) -> list[Bound]:
    """The ceilings that a namespace's endpoints are under: its own, and that of all."""
    return [
        (scope, name, most)
        for scope, each in ((namespace, policy.together(namespace)), (EVERYWHERE, policy.ceilings))
        for name, most in each.items()
    ]


def over(entries: Mapping[Key, Entry], keys: Iterable[Key], name: str, most: int) -> set[Key]:
    """Of what runs, the youngest that would have to go for the rest to be within a ceiling."""
    total, found = 0, set()
    for key in sorted(keys, key=lambda key: entries[key].age):
        own = entries[key].own.get(name, 0)
        total += own
        if own and total > most:
            found.add(key)
    return found


def share_out(
    entries: Mapping[Key, Entry], candidates: Collection[Key], policy: Policy, sums: Sums
) -> dict[Key, list[Lack]]:
    """Those of the candidates for whom there is too little, and of what: by age, each gets all that it asks for, or nothing."""
    limits = {namespace: bounds(policy, namespace) for namespace in {key[0] for key in candidates}}
    occupied: dict[Scope, Counter[str]] = {EVERYWHERE: Counter(sums.occupied[EVERYWHERE])}
    found: dict[Key, list[Lack]] = {}
    for key in sorted(candidates, key=lambda key: entries[key].age):
        namespace, entry = key[0], entries[key]
        if namespace not in occupied:
            occupied[namespace] = Counter(sums.occupied[namespace])
        if lacks := entry.lacks(limits[namespace], occupied):
            found[key] = lacks
            continue
        extra = beyond(entry.at_most, entry.occupied)
        for scope in (namespace, EVERYWHERE):
            occupied[scope].update(extra)
    return found
