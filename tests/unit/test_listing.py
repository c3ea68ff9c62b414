"""Listing everything, when one object among the others can't be read."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from whisper_operator.apply.applier import Cluster
from whisper_operator.informer.cache import Store
from whisper_operator.informer.liveness import Watches
from whisper_operator.kube.client import Api
from whisper_operator.kube.kinds import ENDPOINT, POD, Kind


class Lists(Api):
    """An API server that has only these objects."""

    def __init__(self, objects: dict[Kind, list[dict[str, Any]]]) -> None:
        self._objects = objects

    async def list_all(
        self, kind: Kind, namespace: Any, labels: Any, fields: Any, take: Callable[[dict[str, Any]], Any]
    ) -> tuple[list[Any], int]:
        return [take(raw) for raw in self._objects.get(kind, [])], 9


def named(name: str, **more: Any) -> dict[str, Any]:
    labels = {"whisper-operator.io/endpoint": "whisper"}
    metadata = {"namespace": "asr", "name": name, "uid": name, "resourceVersion": "1", "labels": labels}
    return {"metadata": metadata, **more}


def test_an_object_that_cannot_be_read_is_nobody_elses_trouble(caplog: pytest.LogCaptureFixture) -> None:
    broken = named("broken", status={"containerStatuses": [{"no": "name"}]})
    objects = {ENDPOINT: [named("whisper", spec={})], POD: [broken, named("fine")]}
    store = Store()
    cluster = Cluster(Lists(objects), store, Watches())
    assert asyncio.run(cluster.list_everything()) == {("asr", "whisper")}
    assert store.endpoints() == [("asr", "whisper")]
    assert "Pod asr/broken can't be read" in caplog.text
