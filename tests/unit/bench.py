"""A bench for the applier: the objects of one endpoint, an API server of a few lines that holds them, and the cache."""

import asyncio
import copy
from collections.abc import Mapping
from typing import Any, cast

from whisper_operator import manifests
from whisper_operator.apply import plan as planning
from whisper_operator.apply.applier import Applier
from whisper_operator.apply.outcome import Outcome
from whisper_operator.apply.plan import Plan
from whisper_operator.informer.access import Access
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import Conflict
from whisper_operator.kube.kinds import FIELD_MANAGER, HASH_ANNOTATION, Kind
from whisper_operator.spec.endpoint import parse

from tests.unit.making import SETTINGS

Raw = dict[str, Any]
At = tuple[Kind, str]


class Server:
    """Objects by kind and name. An apply replaces spec and metadata, and makes all of them the operator's."""

    def __init__(self) -> None:
        self.objects: dict[At, Raw] = {}
        self.failing: dict[tuple[str, Kind], list[Exception]] = {}
        """What the next writes of a verb to a kind meet."""
        self.answers: dict[Kind, Raw] = {}
        """What an apply answers in place of the object."""
        self.applied: list[tuple[Kind, Raw]] = []
        self.stopped: list[str] = []
        self._version = 100

    def put(self, kind: Kind, raw: Mapping[str, Any]) -> Raw:
        """A new state of an object."""
        self._version += 1
        held: Raw = copy.deepcopy(dict(raw))
        held["metadata"] |= {"resourceVersion": str(self._version)}
        held["metadata"].setdefault("uid", f"uid-{self._version}")
        self.objects[kind, held["metadata"]["name"]] = held
        return copy.deepcopy(held)

    async def get(self, kind: Kind, _: str, name: str) -> Raw | None:
        return copy.deepcopy(self.objects.get((kind, name)))

    async def apply(self, kind: Kind, body: Raw, *, force: bool) -> Raw:
        self._fail("apply" if force else "create", kind)
        metadata = dict(body["metadata"])
        version, live = metadata.pop("resourceVersion", None), self.objects.get((kind, metadata["name"]))
        if live is None and "uid" in metadata:
            raise Conflict("the object is gone")
        if live is not None:
            expected = (metadata.get("uid"), version or live["metadata"]["resourceVersion"])
            if expected != (live["metadata"]["uid"], live["metadata"]["resourceVersion"]):
                raise Conflict("the object is another one, or in another state")
        self.applied.append((kind, copy.deepcopy(body)))
        before = live["spec"] if live is not None else {}
        kept = {"replicas": before["replicas"]} if "replicas" in before else {}
        own = managed(FIELD_MANAGER, kind, {f"f:{name}": {} for name in body}, "Apply")
        made = self.put(
            kind, {**body, "metadata": {**metadata, "managedFields": [own]}, "spec": {**kept, **body["spec"]}}
        )
        return self.answers.get(kind, made)

    async def hand_over(self, kind: Kind, live: Raw, entries: list[Raw]) -> Raw:
        self._fail("hand over", kind)
        held = copy.deepcopy(live)
        held["metadata"]["annotations"].pop(HASH_ANNOTATION, None)
        held["metadata"]["managedFields"] = list(entries)
        return self.put(kind, held)

    async def scale(self, kind: Kind, _: str, name: str, uid: str, replicas: int) -> None:
        self._fail("scale", kind)
        self.stopped.append(uid)
        held = self.objects[kind, name]
        self.put(kind, {**held, "spec": {**held["spec"], "replicas": replicas}})

    async def delete(self, kind: Kind, _: str, name: str, __: str) -> None:
        self._fail("delete", kind)
        del self.objects[kind, name]

    def _fail(self, verb: str, kind: Kind) -> None:
        if self.failing.get((verb, kind)):
            raise self.failing[verb, kind].pop(0)


class Bench:
    """An endpoint that is reconciled, less its status."""

    def __init__(self, **spec: Any) -> None:
        metadata = {
            "name": "whisper",
            "namespace": "asr",
            "uid": "u-1",
            "resourceVersion": "1",
            "generation": 1,
        }
        self.resource: Raw = {"metadata": metadata, "spec": spec}
        self.server, access = Server(), Access()
        self.cache = Cache(access)
        self.applier = Applier(cast(Api, self.server), self.cache, access)

    def plan(self) -> Plan:
        """What is to be done as far as the cache knows."""
        observed = self.cache.observed(self.resource)
        return planning.plan(manifests.of(parse(self.resource, SETTINGS), observed, SETTINGS), observed)

    def once(self) -> Outcome:
        """One pass."""
        return asyncio.run(self.applier.apply(self.resource, self.plan()))

    def freeze(self) -> Outcome:
        """One pass with a spec that can't be carried out."""
        due = planning.frozen(self.resource, self.cache.observed(self.resource))
        return asyncio.run(self.applier.apply(self.resource, due))

    def settle(self) -> None:
        """Make all that is to be made."""
        for _ in range(3):
            self.once()
        assert self.plan() == Plan()
        self.server.applied.clear()

    def watch(self) -> None:
        """Show the cache all objects as they are."""
        for (kind, _), raw in self.server.objects.items():
            self.cache.upsert(kind, copy.deepcopy(raw))

    def lose(self, kind: Kind, name: str = "whisper") -> None:
        """Somebody deletes an object, and the watch shows it."""
        raw = self.server.put(kind, self.server.objects[kind, name])
        del self.server.objects[kind, name]
        self.cache.delete(kind, raw)

    def sent(self, kind: Kind) -> list[Raw]:
        """What was applied of a kind."""
        return [body for its_kind, body in self.server.applied if its_kind is kind]


def managed(manager: str, kind: Kind, fields: Raw, operation: str = "Update") -> Raw:
    """One of metadata.managedFields."""
    return {"manager": manager, "operation": operation, "apiVersion": kind.api_version, "fieldsV1": fields}
