"""The store's part for pods, ReplicaSets and warnings: the newest state of each, cut down to almost nothing.

An endpoint is woken only when what is kept changes. A warning that is repeated, or a pod whose status is written anew without
news, wakes nobody.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from whisper_operator.kube.objects import Key, Raw

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    version: int
    keys: tuple[Key, ...]
    value: T


class Witnesses(Generic[T]):
    """Objects of one kind, filed under the endpoints that they may concern."""

    def __init__(self, trim: Callable[[Raw], T], keys: Callable[[Raw], Iterable[Key]]) -> None:
        self._trim = trim
        self._keys = keys
        self._known: dict[str, _Kept[T]] = {}
        """By the object's uid."""
        self._filed: dict[Key, dict[str, T]] = {}
        self._gone: dict[str, int] = {}
        """By uid, the version at which an object was deleted: a list that was on its way must not bring it back."""

    def of(self, key: Key) -> list[T]:
        """What is known of an endpoint's."""
        return list(self._filed.get(key, {}).values())

    def absorb(self, raw: Raw) -> set[Key]:
        """Take in an object's state; the endpoints that it changes something for."""
        uid, version = raw["metadata"]["uid"], int(raw["metadata"]["resourceVersion"])
        known, keys = self._known.get(uid), tuple(self._keys(raw))
        if version <= max(self._gone.get(uid, -1), known.version if known else -1):
            return set()
        if not keys:
            return self._drop(uid)
        value = self._trim(raw)
        woken: set[Key] = set()
        if known is None or (known.keys, known.value) != (keys, value):
            woken = self._drop(uid) | set(keys)
            for key in keys:
                self._filed.setdefault(key, {})[uid] = value
        self._known[uid] = _Kept(version, keys, value)
        return woken

    def forget(self, raw: Raw) -> set[Key]:
        """Take in a deletion; the endpoints that it changes something for."""
        uid, version = raw["metadata"]["uid"], int(raw["metadata"]["resourceVersion"])
        known = self._known.get(uid)
        if known is None and not any(self._keys(raw)):
            return set()
        self._gone[uid] = version
        return self._drop(uid) if known is not None and known.version <= version else set()

    def drop_others(self, alive: Collection[str], version: int) -> set[Key]:
        """Drop what a complete list as of resourceVersion `version` lacks: it has the uids `alive`, and has been absorbed.

        Returns the endpoints that something changed for.
        """
        woken: set[Key] = set()
        for uid, known in list(self._known.items()):
            if uid not in alive and known.version <= version:
                woken |= self._drop(uid)
        self._gone = {uid: at for uid, at in self._gone.items() if at > version}
        return woken

    def _drop(self, uid: str) -> set[Key]:
        known = self._known.pop(uid, None)
        for key in known.keys if known else ():
            filed = self._filed[key]
            del filed[uid]
            if not filed:
                del self._filed[key]
        return set(known.keys) if known else set()
