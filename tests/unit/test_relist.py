"""Listing everything, when one object, kind or namespace among the others can't be read."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from whisper_operator.informer.access import FAILING, FORBIDDEN, MISSING, Access
from whisper_operator.informer.cache import Cache
from whisper_operator.informer.liveness import Watches
from whisper_operator.informer.relist import Lister
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import Forbidden, Retry, Unavailable
from whisper_operator.kube.kinds import COMPUTE_ADDRESS, DEPLOYMENT, ENDPOINT, POD, POD_MONITOR, SERVICE, Kind
from whisper_operator.kube.metrics import REGISTRY

KEY = ("asr", "whisper")


class Lists(Api):
    """An API server that has only these objects, and answers so where it does not list them."""

    def __init__(self, objects: dict[Kind, list[dict[str, Any]]]) -> None:
        self.objects = objects
        self.version = 9
        self.answers: dict[tuple[Kind, str | None], Exception | None] = {}

    async def list_all(
        self, kind: Kind, namespace: Any, labels: Any, fields: Any, take: Callable[[dict[str, Any]], None]
    ) -> int | None:
        if (kind, namespace) in self.answers:
            answer = self.answers[kind, namespace]
            if answer is not None:
                raise answer
            return None
        for raw in self.objects.get(kind, []):
            if namespace in (None, raw["metadata"]["namespace"]):
                take(raw)
        return self.version


class Listed:
    """What comes of listing it."""

    def __init__(self, objects: dict[Kind, list[dict[str, Any]]], *namespaces: str) -> None:
        self.api = Lists(objects)
        self.access = Access(namespaces)
        self.cache = Cache(self.access)
        self.lister = Lister(self.api, self.cache, self.access, Watches())

    def again(self) -> set[tuple[str, str]]:
        return asyncio.run(self.lister.list(self.access.places))


def named(name: str, namespace: str = "asr", **more: Any) -> dict[str, Any]:
    labels = {"whisper-operator.io/endpoint": "whisper"}
    uid = f"{namespace}/{name}"
    metadata = {"namespace": namespace, "name": name, "uid": uid, "resourceVersion": "1", "labels": labels}
    return {"metadata": metadata, **more}


def unreadable(kind: Kind, namespace: str, reason: str) -> float | None:
    labels = {"kind": kind.qualified, "namespace": namespace, "reason": reason}
    return REGISTRY.get_sample_value("whisper_operator_unreadable", labels)


def test_an_object_that_cannot_be_read_is_nobody_elses_trouble(caplog: pytest.LogCaptureFixture) -> None:
    broken = named("broken", status={"containerStatuses": [{"no": "name"}]})
    listed = Listed({ENDPOINT: [named("whisper", spec={})], POD: [broken, named("fine")]})
    assert listed.again() == {KEY}
    assert listed.cache.endpoints() == [KEY]
    assert "Pod asr/broken can't be read" in caplog.text


def test_a_forbidden_namespace_is_nobody_elses_trouble_and_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listed = Listed({ENDPOINT: [named("whisper"), named("whisper", "nlp")]}, "asr", "nlp")
    assert listed.again() == {KEY, ("nlp", "whisper")}
    forbidden = Forbidden(403, "whisperendpoints is forbidden")
    listed.api.answers = {(kind, "nlp"): forbidden for kind, place in listed.access.places if place == "nlp"}
    listed.api.objects[ENDPOINT] = [named("whisper"), named("other")]
    assert listed.again() == {("asr", "other"), ("nlp", "whisper")}  # whose status says so
    assert listed.again() == set()
    # What was known of it stays: nobody has said that it is gone.
    assert set(listed.cache.endpoints()) == {KEY, ("asr", "other"), ("nlp", "whisper")}
    obstacle = listed.access.obstacle(ENDPOINT, "nlp")
    assert obstacle is not None
    assert (obstacle.reason, obstacle.message) == (FORBIDDEN, "whisperendpoints is forbidden")
    assert listed.access.obstacle(ENDPOINT, "asr") is None
    assert unreadable(ENDPOINT, "nlp", FORBIDDEN) == 1
    (line,) = (each for each in caplog.messages if each.startswith("whisperendpoints"))
    assert "can't be read in namespace nlp (forbidden: whisperendpoints is forbidden)" in line
    assert "the rest goes on" in line

    listed.api.answers.clear()
    assert listed.again() == {("nlp", "whisper")}
    assert listed.access.unreadable() == []
    assert unreadable(ENDPOINT, "nlp", FORBIDDEN) is None


def test_a_kind_that_fails_or_is_forbidden_keeps_no_other_from_being_listed() -> None:
    listed = Listed({ENDPOINT: [named("whisper")]})
    listed.api.answers = {
        (COMPUTE_ADDRESS, None): Forbidden(403, "no"),
        (SERVICE, None): Unavailable("conversion webhook failed"),
        (POD_MONITOR, None): None,
    }
    assert listed.again() == {KEY}
    found = {
        kind: listed.access.obstacle(kind, "asr") for kind in (COMPUTE_ADDRESS, SERVICE, POD_MONITOR, POD)
    }
    assert {kind: each and each.reason for kind, each in found.items()} == {
        COMPUTE_ADDRESS: FORBIDDEN,
        SERVICE: FAILING,
        POD_MONITOR: MISSING,
        POD: None,
    }


def test_an_api_server_that_answers_nothing_is_asked_again() -> None:
    listed = Listed({})
    listed.api.answers = {place: Unavailable("connection refused") for place in listed.access.places}
    with pytest.raises(Retry, match="connection refused"):
        listed.again()


def test_objects_of_a_kind_that_is_gone_are_gone() -> None:
    listed = Listed({ENDPOINT: [named("whisper")], DEPLOYMENT: [named("whisper", spec={})]})
    listed.again()
    listed.api.answers = {(ENDPOINT, None): None}
    assert listed.again() == {KEY}
    assert listed.cache.endpoints() == []
