"""Listing everything, when one object, kind or namespace among the others can't be read."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any, cast

import pytest
from whisper_operator import controller
from whisper_operator.config import Settings
from whisper_operator.informer import relist
from whisper_operator.informer.access import FAILING, FORBIDDEN, MISSING, Access, Obstacle, Place
from whisper_operator.informer.cache import Cache
from whisper_operator.informer.liveness import Watches
from whisper_operator.informer.relist import AGAIN_SECONDS, GATHER_SECONDS, Lister, WentBack
from whisper_operator.kube.client import PAGE, Api
from whisper_operator.kube.errors import Forbidden, Refused, Retry, Unavailable
from whisper_operator.kube.kinds import (
    COMPUTE_ADDRESS,
    DEPLOYMENT,
    ENDPOINT,
    EVENT,
    POD,
    POD_MONITOR,
    SERVICE,
    Kind,
)
from whisper_operator.kube.metrics import REGISTRY
from whisper_operator.kube.objects import Key
from whisper_operator.policy.live import LivePolicy

KEY = ("asr", "whisper")
SECONDS = 600.0


class Lists(Api):
    """An API server that has only these objects, and answers so where it does not list them."""

    def __init__(self, objects: dict[Kind, list[dict[str, Any]]]) -> None:
        self.objects = objects
        self.version = 9
        self.answers: dict[Place, Exception | None] = {}
        self.asked: list[Place] = []
        self.hung: Place | None = None
        self.goes_on = asyncio.Event()

    async def list_all(
        self,
        kind: Kind,
        namespace: str | None,
        labels: str | None,
        fields: str | None,
        take: Callable[[dict[str, Any]], None],
        *,
        page: int = PAGE,
    ) -> int | None:
        self.asked.append((kind, namespace))
        if (kind, namespace) == self.hung:
            await self.goes_on.wait()
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
        self.watches = Watches(self.access, lambda place: self.lister.soon(place))
        self.woken: set[Key] = set()
        self.lister = Lister(
            self.api, self.cache, self.access, self.watches, SECONDS, lambda key: self.woken.add(key)
        )

    def again(self, kind: Kind | None = None) -> set[Key]:
        """List all, or only this kind; who is woken."""
        for place in self.access.places:
            if kind in (None, place[0]):
                self.lister._due[place] = 0.0
        self.woken = set()
        asyncio.run(self.lister.list())
        return self.woken


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
    assert listed.again() == {
        ("asr", "other"),
        ("nlp", "whisper"),
    }  # which is told why it is not looked after
    assert listed.again() == set()
    # What was known of it stays: nobody has said that it is gone.
    assert set(listed.cache.endpoints()) == {KEY, ("asr", "other"), ("nlp", "whisper")}
    obstacle = listed.access.obstacle(ENDPOINT, "nlp")
    assert obstacle is not None
    assert (obstacle.reason, obstacle.message) == (FORBIDDEN, "whisperendpoints is forbidden")
    assert listed.access.obstacle(ENDPOINT, "asr") is None
    assert unreadable(ENDPOINT, "nlp", FORBIDDEN) == 1
    (line,) = (each for each in caplog.messages if "can't be read" in each)
    assert line.startswith("whisperendpoints.whisper-operator.io, ")
    assert "deployments.apps" in line
    assert (
        "can't be read in namespace nlp (forbidden: whisperendpoints is forbidden); the rest goes on" in line
    )

    listed.api.answers.clear()
    assert listed.again() == {("nlp", "whisper")}
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
    assert listed.access.failing == []  # it is no kind's fault
    listed.api.answers.clear()
    listed.again()
    listed.api.answers = {place: Unavailable("connection refused") for place in listed.access.places}
    with pytest.raises(Retry, match="connection refused"):  # whatever is due
        listed.again(SERVICE)
    assert listed.access.failing == []


def test_a_kind_that_fails_alone_stops_no_other() -> None:
    """Neither when it begins to fail nor later, though it is all that is due then."""
    listed = Listed({ENDPOINT: [named("whisper")], SERVICE: [named("whisper", spec={})]})
    listed.again()
    listed.api.answers = {(SERVICE, None): Unavailable("conversion webhook failed")}
    for _ in range(3):
        listed.again(SERVICE)
        assert listed.access.failing == [(SERVICE, None)]
    assert unreadable(SERVICE, "", FAILING) == 1
    listed.api.answers.clear()
    listed.api.version += 1
    assert listed.again(SERVICE) == {KEY}  # which is told
    assert listed.access.failing == []


@pytest.mark.parametrize(
    ("refusal", "reason"), [(Forbidden(403, "no right"), FORBIDDEN), (Refused(400, "no sense"), FAILING)]
)
def test_only_what_there_is_no_right_to_is_called_forbidden(refusal: Refused, reason: str) -> None:
    listed = Listed({})
    listed.api.answers = {(SERVICE, None): refusal}
    listed.again()
    assert listed.access.obstacle(SERVICE, "asr") == Obstacle(reason, refusal.message)


async def test_a_kind_that_hangs_keeps_no_other_waiting() -> None:
    listed = Listed({ENDPOINT: [named("whisper")]})
    hung = listed.api.hung = (COMPUTE_ADDRESS, None)
    others = {place for place in listed.access.places if place not in (hung, (EVENT, None))}
    listing = asyncio.create_task(listed.lister.list())
    while not all(listed.access.listed(place) for place in others):
        await asyncio.sleep(0)
    assert not listing.done()
    assert listed.woken == {KEY}
    listed.api.goes_on.set()
    await listing
    assert listed.access.listed(hung)


class CutOff(Lists):
    """An API server whose lists of Services fail after a page."""

    failure: Exception | None = None

    async def list_all(self, kind: Kind, *arguments: Any, **options: Any) -> int | None:
        version = await super().list_all(kind, *arguments, **options)
        if kind is SERVICE and self.failure is not None:
            raise self.failure
        return version


@pytest.mark.parametrize(
    ("failure", "reason"), [(Unavailable("503"), FAILING), (Forbidden(403, "no right any more"), FORBIDDEN)]
)
def test_what_a_list_that_fails_has_told_of_wakes_whom_it_concerns(failure: Exception, reason: str) -> None:
    """The next list would find nothing new in it."""
    listed = Listed({ENDPOINT: [named("whisper")]})
    listed.again()
    listed.access.listing((SERVICE, None), Obstacle(reason, "before"))
    listed.access.tell()
    api = CutOff({ENDPOINT: [named("whisper")], SERVICE: [named("whisper", spec={})]})
    listed.lister._api, api.failure = api, failure
    assert listed.again(SERVICE) == {KEY}


async def test_what_events_are_about_is_known_before_them() -> None:
    about = {"kind": "Deployment", "name": "whisper", "namespace": "asr", "uid": "asr/whisper"}
    warning = named("e", involvedObject=about, reason="Failed", message="no")
    listed = Listed({ENDPOINT: [named("whisper")], EVENT: [warning]})
    listed.api.hung = (ENDPOINT, None)
    listing = asyncio.create_task(listed.lister.list())
    while not listed.access.listed((SERVICE, None)):
        await asyncio.sleep(0)
    listed.api.goes_on.set()
    await listing
    assert [each.words for each in listed.cache._warnings.of(KEY)] == ["no"]


def test_no_list_comes_sooner_than_the_api_server_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(list_again_seconds=30.0)
    running = controller._Running(
        Lists({}), settings, LivePolicy(None, settings), Lists({}), "whisper-operator"
    )
    api, pauses = cast(Lists, running.api), list[float]()
    api.answers = {place: Unavailable("429", 20.0) for place in running.access.places}

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        api.answers = {(SERVICE, None): Unavailable("429", 100.0)}

    monkeypatch.setattr(asyncio, "sleep", sleep)
    start = time.monotonic()
    asyncio.run(running._list())
    assert pauses == [20.0]
    assert running.lister._due[SERVICE, None] - start >= 100
    running.lister.soon((SERVICE, None))  # its watch, or whoever waits for it at the start
    assert running.lister._due[SERVICE, None] - start >= 100


def test_objects_of_a_kind_that_is_gone_are_gone() -> None:
    listed = Listed({ENDPOINT: [named("whisper")], DEPLOYMENT: [named("whisper", spec={})]})
    listed.again()
    listed.api.answers = {(ENDPOINT, None): None}
    assert listed.again() == {KEY}
    assert listed.cache.endpoints() == []


def test_what_cannot_be_read_is_listed_again_soon_and_all_the_rest_from_time_to_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    listed = Listed({})
    forbidden: Place = (COMPUTE_ADDRESS, None)
    unwatched: Place = (SERVICE, None)
    listed.api.answers = {forbidden: Forbidden(403, "no")}
    listed.access.watching(unwatched, Obstacle(FORBIDDEN, "no"))
    listed.again()

    def asked() -> set[Place]:
        listed.api.asked.clear()
        asyncio.run(listed.lister.list())
        return set(listed.api.asked)

    assert asked() == set()
    now += 1.1 * AGAIN_SECONDS
    assert asked() == {forbidden, unwatched}
    assert asked() == set()
    # What a watch may have missed comes a moment later, as watches break together.
    listed.lister.soon((POD, None))
    listed.lister.soon((DEPLOYMENT, None))
    assert asked() == set()
    now += GATHER_SECONDS
    assert asked() == {(POD, None), (DEPLOYMENT, None)}
    now += 1.1 * SECONDS
    assert asked() == set(listed.access.places)


def test_what_is_older_than_another_leaders_last_write_is_listed_and_nothing_waits_for_what_hangs() -> None:
    listed = Listed({})
    listed.api.answers = {(SERVICE, None): Unavailable("its conversion webhook hangs")}
    listed.again()
    version = listed.api.version
    assert listed.lister.behind(-1) == listed.lister.behind(version) == []
    assert set(listed.lister.behind(version + 1)) == set(listed.access.places) - {(SERVICE, None)}
    assert len(listed.lister.behind(math.inf)) == len(listed.access.places) - 1
    listed.api.asked.clear()
    asyncio.run(listed.lister.list([(POD, None)]))
    assert listed.api.asked == [(POD, None)]


def test_a_cluster_that_was_put_back_is_noticed() -> None:
    listed = Listed({})
    listed.again()
    listed.api.version = 8
    with pytest.raises(WentBack):
        listed.again()
    shown = Listed({})
    shown.watches.shows(POD, {"metadata": {"namespace": "asr", "resourceVersion": "12"}})
    with pytest.raises(WentBack):
        shown.again()


class Mended(Lists):
    """An API server that lists Services the third time only."""

    async def list_all(self, kind: Kind, *arguments: Any, **options: Any) -> int | None:
        if kind is SERVICE and len([each for each, _ in self.asked if each is SERVICE]) == 2:
            self.answers.clear()
        return await super().list_all(kind, *arguments, **options)


@pytest.mark.parametrize(("api", "comes"), [(Mended, True), (Lists, False)])
async def test_at_first_a_kind_that_fails_is_waited_for_but_not_for_long(
    api: type[Lists], comes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relist, "GATHER_SECONDS", 0.0)
    if not comes:
        monkeypatch.setattr(controller, "PATIENCE_SECONDS", 0.1)
    lists = api({ENDPOINT: [named("whisper")]})
    lists.answers = {(SERVICE, None): Unavailable("etcd has no leader")}
    running = controller._Running(lists, Settings(), LivePolicy(None, Settings()), lists, "whisper-operator")
    await running._list_at_first()
    assert running.access.listed((SERVICE, None)) is comes
    assert running.cache.endpoints() == [KEY]
