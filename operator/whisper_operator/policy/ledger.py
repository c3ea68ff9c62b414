"""Who may have what there is not enough of: one namespace's share, and that of all.

Who has something keeps it: what runs counts first, and of those that ask for more, the oldest gets it as long as there is room.
What runs is read off live Deployments, Ingresses and pods, whoever stands behind them: an endpoint, one that is being deleted, or
none any more. So a restart changes nothing, and neither orphans nor pods that take long to end make room that is not there.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

from whisper_operator.kube.objects import Key, Raw
from whisper_operator.policy.amounts import NOTHING, Amounts, Running, beyond, said
from whisper_operator.policy.rules import NO_ROOM, Policy
from whisper_operator.policy.sharing import (
    EVERYWHERE,
    Bound,
    Entry,
    Lack,
    Scope,
    Sums,
    bounds,
    freed,
    over,
    share_out,
)
from whisper_operator.spec.endpoint import SpecError

BLANK = Entry()


class Ledger:
    """What all endpoints ask for, and all that runs. What it works out it keeps until something there changes: a namespace whose
    endpoints wait by the thousand makes looks at others' no dearer. Not thread-safe."""

    def __init__(self, wake: Callable[[Key], None] = lambda key: None) -> None:
        """`wake` is called with each endpoint that had no room and may have it now."""
        self._wake = wake
        self._policy = Policy()
        self._entries: dict[Key, Entry] = {}
        self._keys: defaultdict[str, set[Key]] = defaultdict(set)
        """By namespace."""
        self._sums = Sums()
        self._waiting: dict[Key, Lack] = {}
        """Who was told that there is no room, and the first thing that it lacks: without more of that, nothing changes."""
        self._lacking: defaultdict[Lack, set[Key]] = defaultdict(set)
        """The same the other way round."""
        self._takers: set[Key] = set()
        """Who had part in what was shared out, and has not got it yet: on whose account others may wait. Who had none keeps
        nobody waiting by what it asks for, so that a crowd that waits is not gone through for each of it that goes."""
        self._candidates: dict[str, list[Key]] = {}
        self._shared: dict[Scope, dict[Key, list[Lack]]] = {}
        self._over: dict[tuple[Scope, str], set[Key]] = {}

    def begin(self, policy: Policy) -> None:
        """Start a term: with what runs, and nothing that is asked for yet."""
        self.end()
        self._under(policy)

    def end(self) -> None:
        """Forget what was asked for and who waits for room, and not what runs: a term is over. Nobody is woken: whoever leads
        next looks at all. One pass over the entries: meanwhile the loop stands still, on which the Lease is renewed."""
        entries = self._entries
        self._entries, self._sums = {}, Sums()
        for kept in (self._keys, self._waiting, self._lacking, self._takers):
            kept.clear()
        self._forget_what_was_worked_out()
        for key, entry in entries.items():
            self._put(key, Entry(running=entry.running))

    def hold(self, key: Key, running: Running) -> None:
        """Take in what there is in the cluster under an endpoint's name by now."""
        known = self._entries.get(key, BLANK)
        if known.running != running:
            self._put(key, replace(known, running=running))

    def ask(self, resource: Raw, wanted: Amounts) -> None:
        """Take in what an endpoint asks for. NOTHING is what one that is refused may have beyond what it has."""
        metadata = resource["metadata"]
        key = (metadata["namespace"], metadata["name"])
        age = (metadata.get("creationTimestamp") or "", metadata.get("uid") or "")
        known = self._entries.get(key, BLANK)
        if known.asked != wanted:
            self._wait(key, None)
        granted = known.granted if (known.asked, known.age) == (wanted, age) else NOTHING
        self._put(key, Entry(age, wanted, known.running, granted))

    def forget(self, key: Key) -> None:
        """Take in that an endpoint is gone, or another installation's. What runs of it is still there."""
        known = self._entries.get(key)
        if known is not None:
            self._put(key, Entry(running=known.running))
            self._wait(key, None)

    def grant(self, key: Key, policy: Policy, *, new_pods: bool = False) -> None:
        """Let an endpoint have what it asks for. Raises SpecError if there is no room for that.

        `new_pods`: it changes what its pods are. Those before may take long to end; it gets no third kind of pods until then, or
        it would have as many as it makes changes. What it no longer asks for does not hold it up, and where it asks for less,
        that counts already.
        """
        self._under(policy)
        entry = self._entries.get(key, BLANK)
        lacks = self._lacks(key, entry)
        if not lacks and new_pods:
            less = beyond(entry.kept, entry.asked)
            lacks = [
                (scope, name)
                for scope, name, most in bounds(policy, key[0])
                if name in entry.asked
                and name in entry.running.going
                and self._sums.occupied[scope][name] - less.get(name, 0) > most
            ]
        self._wait(key, lacks[0] if lacks else None)
        if lacks:
            if key in self._takers and lacks[0][1] in entry.more:  # it gets nothing any more: others may
                self._takers.discard(key)
                self._wake_others(key, set(entry.more))
            raise _no_room(key[0], [_told(scope, name, entry, policy) for scope, name in lacks])
        # What was shared out is as it was: it has counted on this.
        self._put(key, replace(entry, granted=entry.asked), is_news=False)

    def settle(self, key: Key) -> None:
        """Take in that an endpoint's writes are made, for now. What it was granted and has not taken, others may have."""
        known = self._entries.get(key)
        if known is not None and known.granted:
            after = replace(known, granted=NOTHING)
            self._put(key, replace(after, gives_way=bool(after.more)), is_news=bool(after.more))

    def _under(self, policy: Policy) -> None:
        if policy is not self._policy:
            self._policy = policy
            self._forget_what_was_worked_out()

    def _forget_what_was_worked_out(self) -> None:
        for kept in (self._candidates, self._shared, self._over):
            kept.clear()

    def _lacks(self, key: Key, entry: Entry) -> list[Lack]:
        """Of what there is too little for one endpoint. What is plain is not worked out."""
        if entry.shrinks:
            return []
        limits = bounds(self._policy, key[0])
        if too_many := [bound[:2] for bound in limits if key in self._over_of(bound)]:
            return too_many
        if all(self._sums.at_most[scope][name] <= most for scope, name, most in limits):
            return []
        return entry.lacks(limits, self._sums.occupied) or self._shares(key[0]).get(key, [])

    def _over_of(self, bound: Bound) -> set[Key]:
        scope, name, most = bound
        if self._sums.own[scope][name] <= most:
            return set()
        if (scope, name) not in self._over:
            keys = self._entries if scope is EVERYWHERE else self._keys[scope]
            self._over[scope, name] = over(self._entries, keys, name, most)
        return self._over[scope, name]

    def _shares(self, namespace: str) -> dict[Key, list[Lack]]:
        """Who gets nothing, if what is scarce is so in that namespace only, or else of all namespaces."""
        total = self._sums.at_most[EVERYWHERE]
        here = all(total[name] <= most for name, most in self._policy.ceilings.items())
        scope = namespace if here else EVERYWHERE
        if scope not in self._shared:
            places = [namespace] if here else list(self._keys)
            found = [key for place in places for key in self._candidates_of(place)]
            nothing = share_out(self._entries, found, self._policy, self._sums)
            self._shared[scope] = nothing
            self._takers.update(key for key in found if key not in nothing)
        return self._shared[scope]

    def _candidates_of(self, namespace: str) -> list[Key]:
        """Who asks for more, and would find room in the namespace if nobody else asked."""
        if namespace not in self._candidates:
            limits = [bound for bound in bounds(self._policy, namespace) if bound[0] is not EVERYWHERE]
            occupied = self._sums.occupied
            found = ((key, self._entries[key]) for key in self._keys[namespace])
            self._candidates[namespace] = [
                key
                for key, entry in found
                if entry.more and not entry.gives_way and not entry.lacks(limits, occupied)
            ]
        return self._candidates[namespace]

    def _put(self, key: Key, entry: Entry, *, is_news: bool = True) -> None:
        known, namespace = self._entries.get(key, BLANK), key[0]
        entry = BLANK if entry.is_blank else entry
        if entry == known:
            return
        self._sums.replace(namespace, known, entry)
        if entry is BLANK:
            del self._entries[key]
            self._keys[namespace].discard(key)
        else:
            self._entries[key] = entry
            self._keys[namespace].add(key)
        if entry.own != known.own:
            for scope, name in list(self._over):
                if scope in (namespace, EVERYWHERE):
                    del self._over[scope, name]
        if is_news:
            self._candidates.pop(namespace, None)
            self._shared.pop(namespace, None)
            self._shared.pop(EVERYWHERE, None)
            if key in self._takers or (entry.occupied, entry.own) != (known.occupied, known.own):
                self._wake_others(key, freed(known, entry))
        if not entry.more:
            self._takers.discard(key)
        if not self._keys[namespace]:
            del self._keys[namespace]
            self._sums.drop(namespace)

    def _wait(self, key: Key, lack: Lack | None) -> None:
        before = self._waiting.pop(key, None)
        if before is not None:
            self._lacking[before].discard(key)
            if not self._lacking[before]:
                del self._lacking[before]
        if lack is not None:
            self._waiting[key] = lack
            self._lacking[lack].add(key)

    def _wake_others(self, key: Key, names: set[str]) -> None:
        """Those for which there is room now, the oldest first."""
        found: set[Key] = set()
        for scope in (key[0], EVERYWHERE):
            for name in names:
                found |= self._lacking.get((scope, name), set())
        for other in sorted(found - {key}, key=lambda other: self._entries[other].age):
            lacks = self._lacks(other, self._entries[other])
            self._wait(other, lacks[0] if lacks else None)
            if not lacks:
                self._wake(other)


def _told(scope: Scope, name: str, entry: Entry, policy: Policy) -> str:
    """Of the whole installation no amounts: they are others'."""
    wanted = f"{name} {said(name, entry.asked[name])}"
    if name in entry.running.going:
        wanted += f" beside {said(name, entry.running.going[name])} of its pods that are on their way out"
    if scope is EVERYWHERE:
        return f"{wanted} (all that the installation may use is spoken for)"
    return f"{wanted} (namespace {scope} may ask for {said(name, policy.together(scope)[name])} in all)"


def _no_room(namespace: str, wrong: list[str]) -> SpecError:
    """In the words of a condition."""
    return SpecError(
        NO_ROOM,
        f"The installation's policy leaves no room for this now: {'; '.join(wrong)}. What runs is left as it is. Ask for less, "
        f"suspend another endpoint, or ask the platform team for a higher ceiling for namespace {namespace}; it goes on by "
        "itself once there is room.",
        waits_for_room=True,
    )
