"""Who may have what there is not enough of: one namespace's share, and that of all.

Who has something keeps it: what runs counts first, and of those that ask for more, the oldest gets it as long as there is room.
What runs is read off the live Deployments, so that a restart changes nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from whisper_operator.kube.objects import Key, Raw
from whisper_operator.policy.amounts import Amounts, said
from whisper_operator.policy.rules import VIOLATION, Policy
from whisper_operator.spec.endpoint import SpecError

Scope = str | None
"""A namespace, or EVERYWHERE."""
EVERYWHERE = None


@dataclass(frozen=True)
class _Entry:
    """What one endpoint asks for and has."""

    age: tuple[str, str]
    asked: Amounts
    held: Amounts
    granted: Amounts = field(default_factory=dict)
    """What it was told it may have, until the cluster shows it: else two could be told the same."""

    @cached_property
    def has(self) -> Amounts:
        return _most(self.held, self.granted)

    @cached_property
    def at_most(self) -> Amounts:
        return _most(self.asked, self.has)

    @cached_property
    def more(self) -> Amounts:
        """What it asks for beyond what it has."""
        found = {name: amount - self.has.get(name, 0) for name, amount in self.asked.items()}
        return {name: amount for name, amount in found.items() if amount > 0}

    @property
    def shrinks(self) -> bool:
        return not self.more and self.asked != self.has


Lack = tuple[Scope, str]
"""Where there is no room, and of what."""


class Ledger:
    """What all endpoints ask for and have. Not thread-safe."""

    def __init__(self, wake: Callable[[Key], None] = lambda key: None) -> None:
        """`wake` is called with each endpoint that had no room and may have it now."""
        self._wake = wake
        self._entries: dict[Key, _Entry] = {}
        self._has: defaultdict[Scope, Counter[str]] = defaultdict(Counter)
        self._at_most: defaultdict[Scope, Counter[str]] = defaultdict(Counter)
        """Sums by scope."""
        self._waiting: set[Key] = set()
        self._shared: tuple[Policy, dict[Key, list[Lack]]] | None = None
        """Under which policy everything was last shared out, and who got nothing; None: something has changed since."""

    def note(self, resource: Raw, wanted: Amounts, has: Amounts) -> None:
        """Take in what an endpoint asks for and has by now."""
        metadata = resource["metadata"]
        key = (metadata["namespace"], metadata["name"])
        age = (metadata.get("creationTimestamp") or "", metadata.get("uid") or "")
        known = self._entries.get(key)
        entry = _Entry(age, wanted, has)
        if known is not None and (known.asked, known.age) == (wanted, age):
            entry = replace(entry, granted=known.granted)
        if entry != known:
            self._put(key, entry)
            self._shared = None
            if known is not None and not _within(known.at_most, entry.at_most):
                self._wake_others(key)

    def forget(self, key: Key) -> None:
        """Take in that an endpoint is gone."""
        if key in self._entries:
            self._put(key, None)
            self._shared = None
            self._waiting.discard(key)
            self._wake_others(key)

    def grant(self, key: Key, policy: Policy) -> None:
        """Let a noted endpoint have what it asks for. Raises SpecError if there is no room for that."""
        entry = self._entries[key]
        lacks = [] if entry.shrinks else self._lacks(key, policy)
        if lacks:
            self._waiting.add(key)
            raise _no_room(key[0], [_told(scope, name, entry, policy) for scope, name in lacks])
        self._waiting.discard(key)
        # Sharing out again would come to the same, since it has counted on this.
        self._put(key, replace(entry, granted=entry.asked))

    def _lacks(self, key: Key, policy: Policy) -> list[Lack]:
        """Of what there is too little for one endpoint. What is plain is not worked out."""
        entry, bounds = self._entries[key], _bounds(key, policy)
        if all(self._at_most[scope][name] <= most for scope, name, most in bounds):
            return []
        plain = [
            (scope, name) for scope, name, most in bounds if _exceeds(entry, name, self._has[scope], most)
        ]
        if plain:
            return plain
        if self._shared is None or self._shared[0] is not policy:
            self._shared = (policy, self._share_out(policy))
        return self._shared[1].get(key, [])

    def _share_out(self, policy: Policy) -> dict[Key, list[Lack]]:
        """First all that runs, by age; then what is asked for beyond, by age, where all of it fits."""
        in_order = sorted(self._entries, key=lambda key: self._entries[key].age)
        lacks: dict[Key, list[Lack]] = {}
        kept: defaultdict[Scope, Counter[str]] = defaultdict(Counter)
        for key in in_order:
            entry = self._entries[key]
            for scope, name, most in _bounds(key, policy):
                own = min(entry.asked.get(name, 0), entry.has.get(name, 0))
                kept[scope][name] += own
                if own and kept[scope][name] > most:
                    lacks.setdefault(key, []).append((scope, name))
        total = {scope: Counter(sums) for scope, sums in self._has.items()}
        for key in in_order:
            entry = self._entries[key]
            if key in lacks or not entry.more:
                continue
            if missing := [
                (scope, name)
                for scope, name, most in _bounds(key, policy)
                if _exceeds(entry, name, total[scope], most)
            ]:
                lacks[key] = missing
                continue
            for scope in (key[0], EVERYWHERE):
                total[scope].update(entry.more)
        return lacks

    def _put(self, key: Key, entry: _Entry | None) -> None:
        known = self._entries.pop(key, None)
        for scope in (key[0], EVERYWHERE):
            if known is not None:
                self._has[scope].subtract(known.has)
                self._at_most[scope].subtract(known.at_most)
            if entry is not None:
                self._has[scope].update(entry.has)
                self._at_most[scope].update(entry.at_most)
            if not any(self._at_most[scope].values()):  # a namespace that may be gone
                del self._at_most[scope], self._has[scope]
        if entry is not None:
            self._entries[key] = entry

    def _wake_others(self, key: Key) -> None:
        for other in sorted(self._waiting - {key}):
            self._wake(other)


def _bounds(key: Key, policy: Policy) -> list[tuple[Scope, str, int]]:
    """The ceilings that an endpoint is under: scope, what is counted, and how much."""
    return [
        (scope, name, most)
        for scope, ceiling in ((key[0], policy.together(key[0])), (EVERYWHERE, policy.ceilings))
        for name, most in ceiling.items()
    ]


def _exceeds(entry: _Entry, name: str, total: Mapping[str, int], most: int) -> bool:
    more = entry.more.get(name, 0)
    return more > 0 and total.get(name, 0) + more > most


def _told(scope: Scope, name: str, entry: _Entry, policy: Policy) -> str:
    """Of the whole installation no amounts: they are others'."""
    wanted = f"{name} {said(name, entry.asked[name])}"
    if scope is EVERYWHERE:
        return f"{wanted} (all that the installation may use is spoken for)"
    return f"{wanted} (namespace {scope} may ask for {said(name, policy.together(scope)[name])} in all)"


def _most(one: Amounts, other: Amounts) -> Amounts:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {*one, *other}}


def _within(one: Amounts, other: Amounts) -> bool:
    return all(amount <= other.get(name, 0) for name, amount in one.items())


def _no_room(namespace: str, wrong: list[str]) -> SpecError:
    """In the words of a condition."""
    return SpecError(
        VIOLATION,
        f"The installation's policy leaves no room for this: {'; '.join(wrong)}. What runs was left as it is. Ask for less, "
        f"suspend another endpoint, or ask the platform team for a higher ceiling for namespace {namespace}; it goes on by "
        "itself once there is room.",
        waits_for_room=True,
    )
