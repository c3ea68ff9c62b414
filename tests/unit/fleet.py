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
from whisper_operator.kube.errors import Retry
from whisper_operator.kube.kinds import DEPLOYMENT, ENDPOINT, UPGRADING_ANNOTATION, Kind
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


class Deployments(Server):
    """Counts generations as the API server does, and lets others run while it answers."""

    async def apply(self, kind: Kind, body: Raw, *, force: bool) -> Raw:
        await asyncio.sleep(0)
        before = self.objects.get((kind, body["metadata"]["name"]))
        answer = await super().apply(kind, body, force=force)
        generation = before["metadata"].get("generation", 1) if before else 0
        changed = before is None or before["spec"] != answer["spec"]
        metadata = {**answer["metadata"], "generation": generation + changed}
        status = {"status": before["status"]} if before is not None and "status" in before else {}
        return self.put(kind, {**answer, **status, "metadata": metadata})


class Fleet:
    """Endpoints by name, all in one namespace."""

    def __init__(self, names: Iterable[str], settings: Settings = SETTINGS, **spec: Any) -> None:
        self.server = Deployments()
        self.settings = settings
        self.resources: dict[str, Raw] = {}
        self.broken: Callable[[str, str], bool] = lambda name, image: False
        """Whether an endpoint's pods of an image never serve."""
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
        access = Access()
        self.cache = Cache(access, self.woken.append)
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

    def delete(self, name: str) -> None:
        self.woken += self.cache.delete(ENDPOINT, self.resources.pop(name))

    def run(self) -> None:
        """Look at everything that is to be looked at, one after the other."""
        for _ in range(10_000):
            if not self.woken:
                return
            self.look(self.woken.pop(0)[1])
        raise AssertionError("it never comes to rest")

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
                await reconcile(
                    *(key, self.cache, self.applier, cast(StatusWriter, self), self.settings),
                    Policy(),
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
            status = {**self.resources[name].get("status", {}), **report.patch}
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

    def lose(self, name: str, serving: int = 0) -> None:
        """Its node is gone: its pods are pods of its template as they were, and don't serve."""
        wanted = self.server.objects[DEPLOYMENT, name]["spec"].get("replicas", 1)
        self._status(name, wanted, wanted, serving, COMPLETE)
        self.run()

    def _status(self, name: str, replicas: int, updated: int, serving: int, reason: str) -> None:
        raw = self.server.objects[DEPLOYMENT, name]
        late = {"type": "Progressing", "status": str(reason != LATE), "reason": reason}
        status = {
            "observedGeneration": raw["metadata"]["generation"],
            **{"replicas": replicas, "updatedReplicas": updated, "availableReplicas": serving},
            "conditions": [late],
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
