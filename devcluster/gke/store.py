"""What the stand-in knows of the cluster: a copy of each kind it watches, and who refers to whom."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable

import aiohttp

from devcluster.gke.client import ApiError, Client, Object

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name."""

Changed = Callable[[Object | None, Object | None], None]
"""Called with an object before and after; None where it did not or does not exist."""

WATCH_SECONDS = 290
RETRY_SECONDS = 0.2
"""Short, since a kind that was defined just now can't be listed for a moment."""


class Collection:
    """A copy of all objects of one kind, kept up to date by a watch."""

    def __init__(self, api: str, plural: str, kind: str) -> None:
        self._api_version = api.split("/", 1)[1] if api.startswith("apis/") else "v1"
        self._kind = kind
        self._path = f"/{api}/{plural}"
        self._objects: dict[Key, Object] = {}
        self._changed: Changed = lambda old, new: None
        self.listed = asyncio.Event()
        """Set once the copy is complete."""

    def get(self, key: Key) -> Object | None:
        """The object of that namespace and name, or None. Not to be changed."""
        return self._objects.get(key)

    def all_keys(self) -> list[Key]:
        """All that exist."""
        return list(self._objects)

    async def follow(self, client: Client, changed: Changed) -> None:
        """List, watch, and list again when the watch breaks, for ever."""
        self._changed = changed
        while True:
            try:
                version = await self._list(client)
                while True:
                    version = await self._watch(client, version)
            except ApiError as error:
                if error.code != 410:  # 410: the version to go on from is too old, so list again
                    log.warning("watching %s: %s", self._path, error)
                    await asyncio.sleep(RETRY_SECONDS)
            except (aiohttp.ClientError, TimeoutError) as error:
                log.warning("watching %s: %r", self._path, error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _list(self, client: Client) -> str:
        answer = await client.get(self._path)
        # A list does not say at each item what it is.
        kind = {"apiVersion": self._api_version, "kind": self._kind}
        found = {key_of(item): item | kind for item in answer["items"]}
        for gone in self._objects.keys() - found.keys():
            self._set(gone, None)
        for key, item in found.items():
            self._set(key, item)
        self.listed.set()
        return str(answer["metadata"]["resourceVersion"])

    async def _watch(self, client: Client, version: str) -> str:
        async for event in client.watch(self._path, version, WATCH_SECONDS):
            item = event["object"]
            version = item["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._set(key_of(item), None if event["type"] == "DELETED" else item)
        return version

    def _set(self, key: Key, new: Object | None) -> None:
        old = self._objects.get(key)
        if new is None:
            self._objects.pop(key, None)
        else:
            self._objects[key] = new
        self._changed(old, new)


class References:
    """Who refers to an object: the reverse of `names`, which tells whom an object refers to."""

    def __init__(self, names: Callable[[Object], Iterable[str]]) -> None:
        self._names = names
        self._referrers: dict[Key, set[Key]] = defaultdict(set)

    def update(self, old: Object | None, new: Object | None) -> None:
        """Note that an object which may refer to others has changed."""
        before, after = self._targets(old), self._targets(new)
        for target in before - after:
            self._referrers[target].discard(key_of(old or {}))
            if not self._referrers[target]:
                del self._referrers[target]
        for target in after - before:
            self._referrers[target].add(key_of(new or {}))

    def to(self, key: Key) -> list[Key]:
        """Those that refer to the object of that namespace and name, whether it exists or not."""
        return sorted(self._referrers.get(key, ()))

    def _targets(self, item: Object | None) -> set[Key]:
        return {(item["metadata"]["namespace"], name) for name in self._names(item)} if item else set()


def key_of(item: Object) -> Key:
    """An object's namespace and name."""
    return item["metadata"]["namespace"], item["metadata"]["name"]


def annotations_of(item: Object) -> dict[str, str]:
    """An object's annotations, {} if it has none."""
    return item["metadata"].get("annotations") or {}
