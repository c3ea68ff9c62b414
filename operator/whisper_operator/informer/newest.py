"""The newest known state of each object of one kind, fed by watch events, lists and answers to our own writes, in any order.

One rule for all of them: an object is taken when its resourceVersion is newer than what is held of it or of another of its name,
and not older than its deletion. So an answer that was overtaken by the watch, or a list that was on its way, changes
nothing.

What is kept is cut down to what decisions need. An endpoint is woken only when that changes: a warning that is repeated, or a pod
whose status is written anew without news, wakes nobody.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from whisper_operator.kube.objects import Key, Raw

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    version: int
    name: Key
    """Namespace and name of the object itself."""
    keys: tuple[Key, ...]
    value: T


class Objects(Generic[T]):
    """Objects of one kind, filed under the endpoints that they may concern."""

    def __init__(self, keep: Callable[[Raw, T | None], T], keys: Callable[[Raw], Iterable[Key]]) -> None:
        """`keep`: what is kept of an object, given what was kept of its earlier state."""
        self._keep = keep
        self._keys = keys
        self._held: dict[str, _Held[T]] = {}
        """By the object's uid."""
        self._named: dict[Key, str] = {}
        """The uid of the object that has a name."""
        self._filed: dict[Key, dict[str, T]] = {}
        self._deleted: dict[str, tuple[int, str]] = {}
        """By uid, the resourceVersion at which an object was deleted, and its namespace. No state of it has that
        one, unless it had only left our selectors with it: then a read by name may show it."""

    def of(self, key: Key) -> list[T]:
        """What is known of an endpoint's."""
        return list(self._filed.get(key, {}).values())

    def filed(self) -> list[Key]:
        """Every endpoint of which something is known."""
        return list(self._filed)

    def keys_of(self, uid: str) -> tuple[Key, ...]:
        """The endpoints that the object with this uid concerns, if it is held."""
        held = self._held.get(uid)
        return held.keys if held is not None else ()

    def upsert(self, raw: Raw) -> set[Key]:
        """Take in an object's state; the endpoints that it changes something for."""
        uid, name, version = _identity(raw)
        held, namesake = self._held.get(uid), self._named.get(name, uid)
        newest = held if namesake == uid else self._held[namesake]
        if version < self._deleted.get(uid, (0, ""))[0] or (newest and version <= newest.version):
            return set()
        keys = tuple(self._keys(raw))
        if not keys:
            if held is not None:  # it was an endpoint's: an earlier state must not make it one's again
                self._deleted[uid] = (version, name[0])
            return self._drop(uid)
        value = self._keep(raw, held.value if held else None)
        woken: set[Key] = set()
        if held is None or (held.keys, held.value) != (keys, value):
            woken = self._drop(uid) | self._drop(namesake) | set(keys)
            for key in keys:
                self._filed.setdefault(key, {})[uid] = value
        self._held[uid] = _Held(version, name, keys, value)
        self._named[name] = uid
        return woken

    def amend(self, uid: str, change: Callable[[T], T]) -> None:
        """Change what is kept of an object, if it is held, without news of the object itself."""
        held = self._held.get(uid)
        if held is not None:
            self._held[uid] = amended = replace(held, value=change(held.value))
            for key in amended.keys:
                self._filed[key][uid] = amended.value

    def delete(self, raw: Raw) -> set[Key]:
        """Take in that an object is gone, or has left our selectors; the endpoints that it concerns."""
        uid, name, version = _identity(raw)
        held = self._held.get(uid)
        keys = set(held.keys if held is not None else self._keys(raw))
        if keys:
            self._deleted[uid] = (max(version, self._deleted.get(uid, (0, ""))[0]), name[0])
        if held is not None and held.version > version:
            return set()
        self._drop(uid)
        return keys

    def delete_uid(self, uid: str) -> None:
        """Take in that an object is gone, as the API server has answered: whatever state of it is held is an earlier one."""
        held = self._held.get(uid)
        if held is not None:
            self._deleted[uid] = (held.version + 1, held.name[0])
            self._drop(uid)

    def replace(self, alive: Collection[str], version: int, namespace: str | None = None) -> set[Key]:
        """Drop what a complete list as of resourceVersion `version` lacks: it has the uids `alive`, which were upserted before.

        `namespace`: the only one that was listed. Returns the endpoints that something changed for.
        """
        woken: set[Key] = set()
        for uid, held in list(self._held.items()):
            listed = namespace in (None, held.name[0])
            if listed and uid not in alive and held.version <= version:
                woken |= self._drop(uid)
        for uid, (at, where) in list(self._deleted.items()):
            if namespace in (None, where) and at <= version:
                del self._deleted[uid]  # No list or watch that begins after this one shows it any more.
        return woken

    def _drop(self, uid: str) -> set[Key]:
        held = self._held.pop(uid, None)
        if held is not None:
            del self._named[held.name]
        for key in held.keys if held else ():
            filed = self._filed[key]
            del filed[uid]
            if not filed:
                del self._filed[key]
        return set(held.keys) if held else set()


def _identity(raw: Raw) -> tuple[str, Key, int]:
    metadata = raw["metadata"]
    return metadata["uid"], (metadata["namespace"], metadata["name"]), int(metadata["resourceVersion"])
