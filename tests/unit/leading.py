"""Replicas of installations, with the clock and the API server in the test's hands."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self, cast

import pytest
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import Conflict, Forbidden, NotLeading, Unavailable
from whisper_operator.kube.kinds import ACCESS_REVIEW, Kind
from whisper_operator.leader import area, leadership, leases
from whisper_operator.leader.installations import LEADER, MARKS
from whisper_operator.leader.leadership import Leadership


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> datetime:
        return datetime(2026, 1, 2, tzinfo=UTC) + timedelta(seconds=self.now)

    @classmethod
    def of_all(cls, monkeypatch: pytest.MonkeyPatch) -> Self:
        """Have who leads go by one of these."""
        clock = cls()
        for each in (leadership, leases, area):
            monkeypatch.setattr(each, "clock", clock)
        monkeypatch.setattr(leases, "wall", clock.wall)
        return clock


class Server:
    """The Leases of a cluster."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.version = 0
        self.accounts = {"old:whisper-operator", "new:whisper-operator", "whole:whisper-operator"}
        """Which may write everywhere."""
        self.read = 0
        """How many Leases were handed out by lists."""
        self.reviewed = list[str]()

    def lease(self, namespace: str, name: str = LEADER, holder: str = "somebody") -> None:
        """What anybody may make who may write in a namespace."""
        annotations = {"whisper-operator.io/looks-after": "*"} if name == LEADER else {}
        metadata: dict[str, Any] = {
            "namespace": namespace,
            "name": name,
            "uid": f"{namespace}/{name}",
            "resourceVersion": "0",
        }
        metadata |= {"labels": MARKS, "annotations": annotations, "creationTimestamp": "2025"}
        self.objects[namespace, name] = {"metadata": metadata, "spec": {"holderIdentity": holder}}


class Connection(Api):
    """One process's, which can be cut. As a writer it tells what the test says of its writes."""

    def __init__(self, server: Server) -> None:
        self.cluster = server
        self.failure: Exception | None = None
        self.no_list: Exception | None = None
        self.no_review: Exception | None = None
        self.without: set[str] = set()
        """Namespaces without rights."""
        self.lost = False
        """Whether the answer to the next write is."""
        self.has_written = True

    async def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        self._meet(namespace)
        return self.cluster.objects.get((namespace or "", name))

    async def create(self, kind: Kind, body: Any) -> dict[str, Any]:
        self._meet(body["metadata"].get("namespace"))
        if kind is ACCESS_REVIEW:
            if self.no_review is not None:
                raise self.no_review
            account = body["spec"]["user"].removeprefix("system:serviceaccount:")
            self.cluster.reviewed.append(account)
            return {"status": {"allowed": account in self.cluster.accounts}}
        if _key(body) in self.cluster.objects:
            raise Conflict("already exists")
        made = {
            "uid": str(self.cluster.version),
            "creationTimestamp": f"2026-01-01T00:{self.cluster.version:04}",
        }
        return self._put({**body, "metadata": {**body["metadata"], **made}})

    async def update(self, kind: Kind, body: Any) -> dict[str, Any]:
        self._meet(body["metadata"]["namespace"])
        held = self.cluster.objects.get(_key(body), {"metadata": {}})
        if held["metadata"].get("resourceVersion") != body["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified")
        return self._put(body)

    async def list_all(
        self,
        kind: Kind,
        namespace: str | None,
        labels: str | None,
        fields: str | None,
        take: Callable[[dict[str, Any]], None],
        **_: Any,
    ) -> int | None:
        self._meet()
        if self.no_list is not None:
            raise self.no_list
        await asyncio.sleep(0)
        assert labels == "app.kubernetes.io/name=whisper-operator"
        for at, each in list(self.cluster.objects.items()):
            assert each["metadata"]["labels"] == {"app.kubernetes.io/name": "whisper-operator"}
            if fields in (None, f"metadata.name={at[1]}"):
                self.cluster.read += 1
                take(each)
        return self.cluster.version

    async def written(self, seconds: float) -> bool:
        return self.has_written

    def _put(self, body: Any) -> dict[str, Any]:
        self.cluster.version += 1
        new = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.cluster.version)}}
        self.cluster.objects[_key(body)] = new
        if self.lost:
            self.lost = False
            raise Unavailable("the answer was lost")
        return cast(dict[str, Any], new)

    def _meet(self, namespace: str | None = None) -> None:
        if self.failure is not None:
            raise self.failure
        if namespace in self.without:
            raise Forbidden(403, "leases is forbidden")


def _key(body: Any) -> tuple[str, str]:
    return body["metadata"]["namespace"], body["metadata"]["name"]


class Replica:
    def __init__(
        self,
        server: Server,
        namespace: str = "whisper-operator",
        namespaces: tuple[str, ...] = (),
        account: str = "whisper-operator",
    ) -> None:
        self.api = Connection(server)
        self.changed: list[str] = []
        self.leadership = Leadership(
            *(self.api, self.api, namespace, namespaces, self.changed.append), service_account=account
        )

    async def round(self) -> bool:
        """Renew and look once; whether it leads then."""
        await self.leadership._renew()
        await self.leadership._look()
        self.leadership._tell()
        return self.leadership.leads

    def may_write(self, namespace: str = "asr") -> bool:
        try:
            self.leadership.may_write(namespace)
        except NotLeading:
            return False
        return True


async def ends(replica: Replica) -> None:
    """In good order."""
    await replica.leadership._step_down(None)
