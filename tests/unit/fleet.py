"""Many endpoints under the operator's own parts: cache, main flow and applier are real, API server and Deployments a few lines.

What a Deployment's controller does happens when a test says so, so that every order can be tried.
"""

import asyncio
import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from whisper_operator.apply.applier import Applier
from whisper_operator.config import Settings
from whisper_operator.informer.access import Access
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import Retry, Unavailable
from whisper_operator.kube.kinds import DEPLOYMENT, ENDPOINT, PAUSED_ANNOTATION, UPGRADING_ANNOTATION, Kind
from whisper_operator.kube.objects import Key, condition
from whisper_operator.policy.rules import Policy
from whisper_operator.reconcile import reconcile
from whisper_operator.rollouts.progress import COMPLETE, LATE
from whisper_operator.status.status import Report
from whisper_operator.status.writer import StatusWriter

from tests.unit.bench import Raw, Server
from tests.unit.making import SETTINGS

NAMESPACE = "asr"
NEXT = replace(SETTINGS, server_version="2.0.0")
AFTER_THAT = replace(SETTINGS, server_version="3.0.0")

ABC = ("a", "b", "c")
PAUSED = {PAUSED_ANNOTATION: "true"}


class Deployments(Server):
    """Counts generations as the API server does, and lets others run while it answers."""

    hanging: frozenset[str] = frozenset()
    """Names of those whose writes get no answer."""
    carries_out = False
    """Whether those are carried out all the same."""

    async def apply(self, kind: Kind, body: Raw, *, force: bool) -> Raw:
        await asyncio.sleep(0)
        name = body["metadata"]["name"]
        if name in self.hanging and not self.carries_out:
            raise Unavailable("no answer")
        before = self.objects.get((kind, name))
        answer = await super().apply(kind, body, force=force)
        generation = before["metadata"].get("generation", 1) if before else 0
        changed = before is None or before["spec"] != answer["spec"]
        metadata = {**answer["metadata"], "generation": generation + changed}
        status = {"status": before["status"]} if before is not None and "status" in before else {}
        made = self.put(kind, {**answer, **status, "metadata": metadata})
        if name in self.hanging:
            raise Unavailable("no answer")
        return made

    async def annotate(
        self, kind: Kind, _: str, name: str, uid: str, annotations: Mapping[str, str | None]
    ) -> Raw:
        self._fail("annotate", kind)
        held = self.objects[kind, name]
        assert held["metadata"]["uid"] == uid
        all_of_them = {**held["metadata"]["annotations"], **annotations}
        left = {key: value for key, value in all_of_them.items() if value is not None}
        return self.put(kind, {**held, "metadata": {**held["metadata"], "annotations": left}})


def merged(before: Any, patch: Any) -> Any:
    """By RFC 7386."""
    if not isinstance(patch, Mapping):
        return patch
    both = {**(before if isinstance(before, Mapping) else {})}
    both |= {name: merged(both.get(name), value) for name, value in patch.items()}
    return {name: value for name, value in both.items() if patch.get(name, value) is not None}


class Fleet:
    """Endpoints by name, all in one namespace."""

    def __init__(self, names: Iterable[str], settings: Settings = SETTINGS, **spec: Any) -> None:
        self.server = Deployments()
        self.settings = settings
        self.resources: dict[str, Raw] = {}
        self.broken: Callable[[str, str], bool] = lambda name, image: False
        """Whether an endpoint's pods of an image never serve."""
        self.policy = Policy()
        self.next_look: dict[str, float | None] = {}
        """When each asked to be looked at again."""
        self.served_at = ""
        """When Deployments say that they have come to serve; "": they don't say."""
        self.rolled: list[str] = []
        """Whose pods were changed, in that order."""
        self.restart(settings)
        for name in names:
            self.apply(name, **spec)
        self.run()
        self.serve()
        self.rolled.clear()

    def restart(self, settings: Settings) -> None:
        """A new process, which knows what the API server tells."""
        self.settings = settings
        self.woken: list[Key] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        access = Access()
        self.cache = Cache(access, self.woken.append)
        self.cache.train.later = lambda seconds, call: self.timers.append((seconds, call))
        self.applier = Applier(cast(Api, self.server), self.cache, access)
        for raw in self.resources.values():
            self.cache.upsert(ENDPOINT, copy.deepcopy(raw))
        for (kind, _), raw in self.server.objects.items():
            self.cache.upsert(kind, copy.deepcopy(raw))
        self.woken[:] = self.cache.endpoints()
        self.cache.train.begin(self.woken)

    def apply(self, name: str, annotations: Mapping[str, str] | None = None, **spec: Any) -> None:
        """Somebody writes an endpoint, in whole."""
        before = self.resources.get(name)
        generation = before["metadata"]["generation"] if before else 0
        metadata = {
            **{"name": name, "namespace": NAMESPACE, "uid": f"u-{name}", "annotations": annotations or {}},
            "generation": generation + (before is None or before["spec"] != spec),
        }
        self._store(name, {"metadata": metadata, "spec": spec, "status": (before or {}).get("status", {})})

    def watch(self, name: str) -> None:
        """News of a Deployment come in."""
        self.woken += self.cache.upsert(DEPLOYMENT, copy.deepcopy(self.server.objects[DEPLOYMENT, name]))

    def delete(self, name: str) -> None:
        self.woken += self.cache.delete(ENDPOINT, self.resources.pop(name))

    def run(self) -> None:
        """Look at everything that is to be looked at, one after the other."""
        for _ in range(10_000):
            if not self.woken:
                return
            self.look(self.woken.pop(0)[1])
        raise AssertionError("it never comes to rest")

    def wait(self, seconds: float) -> None:
        """So long, and see to what is due then."""
        self.expire(seconds)
        self.run()

    def expire(self, seconds: float) -> None:
        """So long, in which nobody is looked at."""
        due = [call for after, call in self.timers if after <= seconds]
        self.timers = [(after - seconds, call) for after, call in self.timers if after > seconds]
        for call in due:
            call()

    def look(self, *names: str) -> None:
        """At these at the same time."""

        async def all_of_them() -> None:
            await asyncio.gather(*(self._look(name) for name in names))

        asyncio.run(all_of_them())

    async def _look(self, name: str) -> None:
        key = (NAMESPACE, name)
        before = self._templates()
        try:
            with self.cache.train.look(key):
                self.next_look[name] = await reconcile(
                    *(key, self.cache, self.applier, cast(StatusWriter, self), self.settings),
                    self.policy,
                )
        except Retry:
            pass
        after = self._templates()
        if name in before and before[name] != after.get(name):
            self.rolled.append(name)

    async def write(self, resource: Raw, report: Report, _: datetime, **__: Any) -> None:
        """A status, as StatusWriter would."""
        if report.patch:
            name = resource["metadata"]["name"]
            status = merged(self.resources[name].get("status", {}), report.patch)
            self._store(name, {**self.resources[name], "status": status}, wake=False)

    def serve(self, *names: str) -> None:
        """Let the Deployments' controller do all that it can, for these or for all, and the operator what follows from it."""
        for name in names or list(self.resources):
            if name not in self._templates():
                continue
            raw = self.server.objects[DEPLOYMENT, name]
            image = raw["spec"]["template"]["spec"]["containers"][0]["image"]
            wanted = raw["spec"].get("replicas", 1)
            old = raw.get("status", {}).get("availableReplicas", 0)
            if not self.broken(name, image):
                self._status(name, wanted, wanted, wanted, COMPLETE)
            elif raw.get("status", {}).get("observedGeneration") != raw["metadata"]["generation"]:
                self._status(name, old + 1, 1, old, "ReplicaSetUpdated")
        self.run()

    def fail(self, name: str) -> None:
        """Kubernetes gives up waiting for its new pods."""
        live = self.server.objects[DEPLOYMENT, name]["status"]
        self._status(name, live["replicas"], live["updatedReplicas"], live["availableReplicas"], LATE)
        self.run()

    def refuse(self, name: str, serving: int = 1) -> None:
        """The namespace's quota has no room for its new pods."""
        words = 'pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
        failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words}
        self._status(name, serving, 0, serving, "ReplicaSetUpdated", failure)
        self.run()

    def lose(self, name: str, serving: int = 0) -> None:
        """Its node is gone: its pods are pods of its template as they were, and don't serve."""
        wanted = self.server.objects[DEPLOYMENT, name]["spec"].get("replicas", 1)
        self._status(name, wanted, wanted, serving, COMPLETE)
        self.run()

    def _status(self, name: str, replicas: int, updated: int, serving: int, reason: str, *more: Raw) -> None:
        raw = self.server.objects[DEPLOYMENT, name]
        late = {"type": "Progressing", "status": str(reason != LATE), "reason": reason}
        if self.served_at and reason == COMPLETE:
            late["lastUpdateTime"] = self.served_at
        status = {
            "observedGeneration": raw["metadata"]["generation"],
            **{"replicas": replicas, "updatedReplicas": updated, "availableReplicas": serving},
            "conditions": [late, *more],
        }
        self.woken += self.cache.upsert(DEPLOYMENT, self.server.put(DEPLOYMENT, {**raw, "status": status}))

    def images(self) -> dict[str, str]:
        """The version of each endpoint's image."""
        return {
            name: template["spec"]["containers"][0]["image"].split(":")[1].split("-")[0]
            for name, template in self._templates().items()
        }

    def on_their_way(self) -> list[str]:
        """Whose Deployment says so."""
        return [
            name
            for (kind, name), raw in sorted(self.server.objects.items(), key=lambda each: each[0][1])
            if kind is DEPLOYMENT and UPGRADING_ANNOTATION in raw["metadata"]["annotations"]
        ]

    def replicas(self, name: str) -> int:
        return int(self.server.objects[DEPLOYMENT, name]["spec"]["replicas"])

    def ready(self, name: str) -> tuple[str, str, str]:
        """Status, reason and message."""
        found = condition(self.resources[name]["status"], "Ready")
        return found["status"], found["reason"], found["message"]

    def reasons(self) -> dict[str, str]:
        return {name: self.ready(name)[1] for name in self.resources}

    def _templates(self) -> dict[str, Raw]:
        return {
            name: raw["spec"]["template"]
            for (kind, name), raw in self.server.objects.items()
            if kind is DEPLOYMENT
        }

    def _store(self, name: str, raw: Raw, *, wake: bool = True) -> None:
        held = self.server.put(ENDPOINT, raw)
        del self.server.objects[ENDPOINT, name]
        self.resources[name] = held
        changed = self.cache.upsert(ENDPOINT, copy.deepcopy(held))
        if wake:
            self.woken += changed


def bad(name: str, image: str) -> bool:
    """The next version starts nowhere."""
    return "2.0.0" in image


def upgraded(names: Any = ABC, **spec: Any) -> Fleet:
    """Endpoints that serve, and an operator that starts anew with another server.version."""
    fleet = Fleet(names, **spec)
    fleet.restart(NEXT)
    return fleet
